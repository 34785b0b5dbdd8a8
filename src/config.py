"""Settings: the defaults of `orchestrator.toml`, a user's file over them, the environment over both.

`load_settings()` is the one door. Every value is validated once, here; the rest of the house trusts it.
Numbers live in `orchestrator.toml` alone: the models below state kinds and bounds, not defaults, wherever
the file carries the number.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from .errors import ConfigError

PROJECT_ROOT = Path(__file__).resolve().parent.parent
DEFAULTS_FILE = PROJECT_ROOT / "orchestrator.toml"
TIERS = ("economy", "standard", "premium")

Wire = Literal["anthropic", "openai", "gemini"]
Tier = Literal["economy", "standard", "premium"]
Positive = Field(gt=0, allow_inf_nan=False)
NotNegative = Field(ge=0, allow_inf_nan=False)
Fraction = Field(ge=0, le=1, allow_inf_nan=False)


class _Row(BaseModel):
    """Base of all rows: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerSettings(_Row):
    host: str
    port: int = Field(ge=0, le=65535)


class PoolSettings(_Row):
    drain_s: float = NotNegative
    window_tasks: int = Field(ge=1)
    claim_attempts: int = Field(ge=1)
    attempts: int = Field(ge=1)
    max_calls: int = Field(ge=1)
    backoff_base_s: float = Positive
    backoff_max_s: float = Positive


class RoutingSettings(_Row):
    preferences: bool
    spill_after_s: float = NotNegative
    emergency_provider: str
    emergency_after_s: float = NotNegative
    max_share_of_slots: float = Field(gt=0, le=1)
    suspect_after_s: float = Positive
    history_window_s: float = Positive
    credit_clamp: float = Positive
    offline_probe_s: float = Positive
    cost_weight: float = NotNegative


class BreakerSettings(_Row):
    consecutive_failures: int = Field(ge=1)
    failure_rate: float = Fraction
    min_calls: int = Field(ge=1)
    window_s: float = Positive
    recovery_timeout_s: float = Positive
    recovery_timeout_max_s: float = Positive
    jitter: float = Field(ge=0, lt=1)
    probe_timeout_s: float = Positive
    ramp_s: float = NotNegative
    ramp_start: float = Field(gt=0, le=1)
    health_interval_s: float = Positive


class LimitSettings(_Row):
    """Limits that the user tells. Absent: learned."""

    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    input_tokens_per_minute: float | None = Field(default=None, gt=0)
    output_tokens_per_minute: float | None = Field(default=None, gt=0)
    requests_per_day: float | None = Field(default=None, gt=0)
    burst_s: float | None = Field(default=None, gt=0, description="seconds of requests at once")
    token_burst_s: float | None = Field(default=None, gt=0, description="seconds of tokens at once")


class TierModels(_Row):
    economy: str
    standard: str
    premium: str

    def of(self, tier: str) -> str:
        return {"economy": self.economy, "standard": self.standard, "premium": self.premium}[tier]


class ProviderRow(_Row):
    """One provider: a wire format, a place, a key, and what it is worth."""

    wire: Wire
    weight: float = NotNegative
    base_url: str
    base_url_env: str = ""
    api_key_env: tuple[str, ...] = ()
    models: TierModels
    enabled: bool = True
    timeout_s: float = Field(default=120.0, gt=0)
    connect_timeout_s: float = Field(default=10.0, gt=0)
    limits: LimitSettings = LimitSettings()
    model_limits: Mapping[str, LimitSettings] = Field(default_factory=dict)

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return url.rstrip("/")


class TaskTypeRow(_Row):
    prefer: str = ""
    tier: Tier


class TierSettings(_Row):
    economy_max_tokens: int = Field(ge=1)
    standard_max_tokens: int = Field(ge=1)
    premium_max_tokens: int = Field(ge=1)
    economy_chars: int = Field(ge=0)
    premium_chars: int = Field(ge=0)

    def max_tokens(self, tier: str) -> int:
        return {
            "economy": self.economy_max_tokens,
            "standard": self.standard_max_tokens,
            "premium": self.premium_max_tokens,
        }[tier]


class PriceRow(_Row):
    """USD per million tokens."""

    input: float = NotNegative
    output: float = NotNegative
    cache_read: float | None = None
    cache_write: float | None = None


class ModelRow(_Row):
    """What is known of the models whose name starts with the row's key."""

    wire: Wire | None = None
    successor: str = ""
    context_window: int | None = Field(default=None, ge=1)
    refuses: tuple[Literal["temperature", "stop"], ...] = ()
    max_tokens_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    thinking_headroom_tokens: int = Field(default=0, ge=0)
    group: str = ""  # models with the same group share their limits; empty: the model's own name
    price: PriceRow | None = None


class BudgetAmounts(_Row):
    daily_usd: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    monthly_usd: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    total_usd: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class BudgetSettings(BudgetAmounts):
    time_zone: str = "UTC"
    alert_percent: tuple[int, ...]
    min_max_tokens: int = Field(ge=1)
    confirm_above_usd: float = NotNegative
    providers: Mapping[str, BudgetAmounts] = Field(default_factory=dict)
    submitters: Mapping[str, BudgetAmounts] = Field(default_factory=dict)


class AgentRow(_Row):
    name: str = Field(min_length=1)
    home: str
    task_types: tuple[str, ...] = ()
    calls_in_flight: int = Field(ge=1)
    count: int = Field(default=1, ge=0)
    system_prompt: str = ""


class Settings(_Row):
    """Everything that can be set. Built by `load_settings`."""

    state_dir: Path
    database_url: str
    baseline_model: str
    agent_prompts: bool
    strict_params: bool
    server: ServerSettings
    pool: PoolSettings
    routing: RoutingSettings
    breaker: BreakerSettings
    providers: Mapping[str, ProviderRow]
    task_types: Mapping[str, TaskTypeRow]
    tiers: TierSettings
    models: Mapping[str, ModelRow]
    budgets: BudgetSettings
    agents: tuple[AgentRow, ...]

    @model_validator(mode="after")
    def _names_exist(self) -> Settings:
        known = ", ".join(self.providers)
        for kind, row in self.task_types.items():
            if row.prefer and row.prefer not in self.providers:
                raise ValueError(f"task_types.{kind}.prefer: no provider {row.prefer!r}; known: {known}")
        for agent in self.agents:
            if agent.home not in self.providers:
                raise ValueError(f"agents: {agent.name!r} has home {agent.home!r}; known: {known}")
        wanted = self.routing.emergency_provider
        if wanted and wanted not in self.providers:
            raise ValueError(f"routing.emergency_provider: no provider {wanted!r}; known: {known}")
        if not any(row.enabled and row.weight > 0 for row in self.providers.values()):
            raise ValueError("providers: at least one needs a weight above 0")
        if not any(agent.count for agent in self.agents):
            raise ValueError("agents: at least one is needed")
        return self

    def model_row(self, model: str) -> ModelRow:
        """The row with the longest key that `model` starts with; an empty row where none does."""
        best = ""
        for key in self.models:
            if model.startswith(key) and len(key) > len(best):
                best = key
        return self.models[best] if best else _EMPTY_MODEL

    def resolve_model(self, model: str) -> tuple[str, str]:
        """`(current model, warning)`: a retired name resolves to its successor, the warning names both.

        A successor row counts for the exact name and for its dated or `-latest` variants.
        """
        for key, row in self.models.items():
            if row.successor and (model == key or _is_variant(model, key)):
                return row.successor, f"model {model!r} is retired; its successor {row.successor!r} is used"
        return model, ""


def _is_variant(model: str, key: str) -> bool:
    """`gpt-4-0613` and `claude-3-5-sonnet-latest` are variants of their key; `gpt-4-turbo` is not."""
    rest = model.removeprefix(key)
    return rest != model and (rest == "-latest" or (rest[:1] == "-" and rest[1:].replace("-", "").isdigit()))


_EMPTY_MODEL = ModelRow()


@dataclass(frozen=True, slots=True)
class ProviderAccess:
    """How one provider is reached in this process. `key` never leaves it: its repr is masked."""

    name: str
    row: ProviderRow
    base_url: str
    key: SecretStr
    key_source: str  # the variable's name and where it was found; empty without a key
    simulated: bool = False

    @property
    def configured(self) -> bool:
        return self.row.enabled and (bool(self.key.get_secret_value()) or not self.row.api_key_env)


def load_settings(path: Path | str | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the defaults, `path` (or ORCHESTRATOR_CONFIG) over them, and validate. Raises ConfigError."""
    environ = os.environ if environ is None else environ
    merged = _read_toml(DEFAULTS_FILE)
    user_file = path or environ.get("ORCHESTRATOR_CONFIG")
    where = str(DEFAULTS_FILE.name)
    if user_file:
        where = str(user_file)
        merged = _merge(merged, _read_toml(Path(user_file)))
    if url := environ.get("DATABASE_URL"):
        merged["database_url"] = url
    if state_dir := environ.get("ORCHESTRATOR_STATE_DIR"):
        merged["state_dir"] = state_dir
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        raise _explain(error, where) from error


def read_environment(dotenv: Path | None = None) -> dict[str, str]:
    """The environment, with the variables of `.env` below it (a set variable always wins)."""
    from dotenv import dotenv_values

    found = {k: v for k, v in dotenv_values(dotenv or Path.cwd() / ".env").items() if v}
    return {**found, **os.environ}


def provider_access(settings: Settings, environ: Mapping[str, str]) -> dict[str, ProviderAccess]:
    """Each provider with its base URL and key as the environment gives them."""
    access: dict[str, ProviderAccess] = {}
    for name, row in settings.providers.items():
        source = next((var for var in row.api_key_env if environ.get(var, "").strip()), "")
        key = environ.get(source, "").strip() if source else ""
        found = f"{source} ({'environment' if source in os.environ else '.env'})" if source else ""
        base_url = (environ.get(row.base_url_env, "") if row.base_url_env else "") or row.base_url
        access[name] = ProviderAccess(name, row, base_url.rstrip("/"), SecretStr(key), found)
    return access


def simulated_access(settings: Settings, base_urls: Mapping[str, str]) -> dict[str, ProviderAccess]:
    """The same providers, served by the simulator at `base_urls`; a provider it does not serve has no key."""
    return {
        name: ProviderAccess(
            name,
            row,
            base_urls.get(name, row.base_url),
            SecretStr("simulated" if name in base_urls else ""),
            "simulator" if name in base_urls else "",
            simulated=True,
        )
        for name, row in settings.providers.items()
    }


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError as error:
        raise ConfigError("no such file", where=str(path)) from error
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", where=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"is not valid TOML: {error}", where=str(path)) from error


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _explain(error: ValidationError, where: str) -> ConfigError:
    """The first problem as one line: what, where, what is allowed."""
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _known_keys(first["loc"][:-1])
        close = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
        return ConfigError(f"unknown setting {path!r}; {hint}", where=where)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return ConfigError(f"{path!r} is missing", where=where)
    if not path:
        return ConfigError(message, where=where)
    return ConfigError(f"{path} = {first['input']!r}: {message}", where=where)


def _known_keys(loc: tuple[str | int, ...]) -> list[str]:
    """The field names of the row at `loc`, found by walking the models' annotations."""
    shapes: dict[str, type[_Row]] = {
        "server": ServerSettings,
        "pool": PoolSettings,
        "routing": RoutingSettings,
        "breaker": BreakerSettings,
        "tiers": TierSettings,
        "budgets": BudgetSettings,
        "providers": ProviderRow,
        "task_types": TaskTypeRow,
        "models": ModelRow,
        "agents": AgentRow,
    }
    nested: dict[str, type[_Row]] = {
        "limits": LimitSettings,
        "model_limits": LimitSettings,
        "price": PriceRow,
    }
    if not loc:
        return list(Settings.model_fields)
    row = shapes.get(str(loc[0]), Settings)
    for part in loc[1:]:
        row = nested.get(str(part), row)
    return list(row.model_fields)
