"""The rows of the configuration: frozen, validated, and without a file or an environment in sight.

They state kinds and bounds, not defaults, wherever `orchestrator.toml` carries the number. `config.py`
reads them from files; `routing/` takes them as values.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

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
    quota_probe_s: float = Positive
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


class CachingSettings(_Row):
    """Prompt caches of providers: whether beginnings that tasks share are kept in them."""

    enabled: bool
    min_prefix_tokens: int = Field(ge=1)
    hold_s: float = NotNegative


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
    refuses: tuple[Literal["temperature", "stop", "response_schema"], ...] = ()
    max_tokens_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    thinking_headroom_tokens: int = Field(default=0, ge=0)
    prompt_cache: Literal["", "key", "marks"] = ""  # what it takes: nothing, a key, marks in the prompt
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
    confirm_above_usd: float = NotNegative
    server: ServerSettings
    pool: PoolSettings
    routing: RoutingSettings
    breaker: BreakerSettings
    providers: Mapping[str, ProviderRow]
    task_types: Mapping[str, TaskTypeRow]
    tiers: TierSettings
    caching: CachingSettings
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

    def serves(self, provider: str, model: str) -> bool:
        """Whether `model` (a current name) may be asked of `provider`: its own tiers, or its home's models.

        A compatible server shares a wire format but not the models of that format's inventor.
        """
        row = self.providers[provider]
        if model in {row.models.of(tier) for tier in TIERS}:
            return True
        return provider == row.wire == self.model_row(model).wire

    def without_caches(self) -> Settings:
        """For virtual time, whose answers tell of no cache: nobody waits for one there."""
        return self.model_copy(update={"caching": self.caching.model_copy(update={"enabled": False})})

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


def known_keys(loc: tuple[str | int, ...]) -> list[str]:
    """The field names of the row at `loc`, found by walking the models' annotations."""
    shapes: dict[str, type[_Row]] = {
        "server": ServerSettings,
        "pool": PoolSettings,
        "routing": RoutingSettings,
        "breaker": BreakerSettings,
        "tiers": TierSettings,
        "caching": CachingSettings,
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
