"""The sections of the configuration: frozen and validated, without a file or an environment in sight.

They state kinds and bounds. The defaults are in `orchestrator.toml`, which says what each setting does.
`config.py` reads them from files; `routing/` takes them as values.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from .errors import hint
from .model_catalogue import api_of
from .providers.api_formats import API_FORMATS, ApiFormat
from .setting_types import (
    ApiFormatName,
    BaseUrl,
    Fraction,
    Name,
    NotNegative,
    Percent,
    Positive,
    ProviderName,
    Section,
    is_variable,
    zone_of,
)

LogFormat = Literal["text", "json"]
LOG_FORMATS: tuple[LogFormat, ...] = get_args(LogFormat)
LOCAL_WORKERS = "local"
_RAY = re.compile(r"ray:(auto|[A-Za-z0-9._-]+:[0-9]{1,5}|\[[0-9A-Fa-f:.]+\]:[0-9]{1,5})")
TIERS = ("economy", "standard", "premium")
Tier = Literal["economy", "standard", "premium"]
MAX_PROBLEMS_SHOWN = 5
MAX_PRICE = 1_000_000  # USD per million tokens: the databases can hold the cost of any answer then
PRICE = Field(ge=0, le=MAX_PRICE)


class ServerSettings(Section):
    """`[server]`: where the pages listen."""

    host: str
    port: int = Field(ge=0, le=65535)


class GatewaySettings(Section):
    """`[gateway]`: where clients of the OpenAI and Anthropic APIs connect, and what they may send."""

    host: str
    port: int = Field(ge=0, le=65535)
    advertise_url: str = ""
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    max_body_mb: float = Field(gt=0, le=1_000)
    max_waiting: int = Field(ge=1)
    max_waiting_mb: float = Field(gt=0)
    max_waiting_per_submitter: int = Field(ge=1)
    store_content: Literal["auto", "none", "errors", "all"]
    daily_usd: Annotated[float, Field(gt=0, allow_inf_nan=False)] | Literal["none"]
    fallbacks: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where clients on this machine find it, without a path; empty where any free port is taken."""
        host = f"[{self.local_host}]" if ":" in self.local_host else self.local_host
        return f"http://{host}:{self.port}" if self.port else ""

    @property
    def local_host(self) -> str:
        """The address that a client on this machine connects to."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104

    @field_validator("advertise_url")
    @classmethod
    def _is_base_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and not (parts.scheme in ("http", "https") and parts.hostname and not parts.query):
            raise ValueError('must be an address such as "http://10.0.0.5:5001"')
        return url

    @field_validator("allowed_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            parts = urlsplit(origin)
            if not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
                raise ValueError('must list origins such as "https://app.example.com", without a path')
        return origins


class WorkerSettings(Section):
    """`[workers]`: where the calls of tasks are made."""

    run_on: str
    fall_back: bool

    @property
    def address(self) -> str:
        """Of the Ray cluster: `auto` or HOST:PORT; empty: the orchestrator makes the calls."""
        return "" if self.run_on == LOCAL_WORKERS else self.run_on.removeprefix("ray:")

    @field_validator("run_on")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value != LOCAL_WORKERS and not _RAY.fullmatch(value):
            raise ValueError("must be local, ray:auto or ray:HOST:PORT")
        return value


class StoreSettings(Section):
    """`[store]`: how long the database keeps what."""

    retention_days: float = Field(ge=0, le=36_500)


class PagesSettings(Section):
    """`[pages]`: what the pages offer."""

    search: bool


class PoolSettings(Section):
    """`[pool]`: how tasks are claimed, called and repeated."""

    shutdown_grace_s: float = NotNegative
    prefetch_limit: int = Field(ge=1)
    max_claims: int = Field(ge=1)
    max_attempts: int = Field(ge=1)
    max_calls: int = Field(ge=1)
    backoff_base_s: float = Positive
    backoff_max_s: float = Positive
    lease_s: float = Field(ge=0.5, le=600)
    max_answer_mb: float = Field(gt=0, le=1_000)


class RoutingSettings(Section):
    """`[routing]`: how a provider is chosen."""

    preferences: bool
    preferred_wait_s: float = NotNegative
    emergency_provider: str
    emergency_after_s: float = NotNegative
    max_concurrency_share: float = Field(gt=0, le=1)
    stall_timeout_s: float = Positive
    history_window_s: float = Positive
    credit_clamp: float = Positive
    offline_probe_s: float = Positive
    quota_probe_s: float = Positive
    max_hold_s: float = Positive
    cost_weight: float = NotNegative
    failover_on_refusal: bool


class BreakerSettings(Section):
    """`[breaker]`: when a circuit breaker opens and closes."""

    consecutive_failures: int = Field(ge=1)
    failure_rate: float = Fraction
    min_calls: int = Field(ge=1)
    window_s: float = Positive
    recovery_timeout_s: float = Positive
    recovery_timeout_max_s: float = Positive
    jitter: float = Field(ge=0, lt=1)
    probe_timeout_s: float = Positive
    slow_start_s: float = NotNegative
    slow_start_min_share: float = Field(gt=0, le=1)
    health_interval_s: float = Positive
    probe_spend: bool


class LimitSettings(Section):
    """Configured limits of a provider. Those that are absent are learned."""

    requests_per_minute: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    tokens_per_minute: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    input_tokens_per_minute: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    output_tokens_per_minute: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    requests_per_day: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    burst_s: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="seconds' worth of requests at once"
    )
    token_burst_s: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="seconds' worth of tokens at once"
    )

    def not_counted(self, counted: Collection[str]) -> list[str]:
        """The limits set here that are not among an API's `counted` ones: they would limit nothing."""
        given = (name for name in self.model_dump(exclude_none=True) if not name.endswith("burst_s"))
        return [name for name in given if name not in counted]


class TierModels(Section):
    """The model of a provider for each tier."""

    economy: Name
    standard: Name
    premium: Name

    def of(self, tier: str) -> str:
        """The model of `tier`."""
        return {"economy": self.economy, "standard": self.standard, "premium": self.premium}[tier]


class ProviderConfig(Section):
    """One provider: its API format, address, key, models, weight and limits.

    `family` names the provider that this is another key or endpoint of. Rows with the same `limit_group`
    share one organisation's limits, and so each limit that they learn.
    """

    api_format: ApiFormatName
    family: str = ""
    limit_group: str = ""
    weight: float = NotNegative
    base_url: BaseUrl
    base_url_env: str = ""
    api_key_env: tuple[str, ...] = ()
    models: TierModels
    enabled: bool = True
    timeout_s: float = Field(default=120.0, gt=0, allow_inf_nan=False)
    connect_timeout_s: float = Field(default=4.0, gt=0, allow_inf_nan=False)
    first_token_timeout_s: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    stall_timeout_s: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    responses_api: bool = False  # it has OpenAI's Responses API beside Chat Completions
    batch_api: bool = False  # it has the batch API of its format, at half price
    flex: bool = False  # it has OpenAI's service tier flex, for models whose row says so
    limits: LimitSettings = LimitSettings()
    model_limits: Mapping[str, LimitSettings] = Field(default_factory=dict)

    @property
    def limits_stated(self) -> tuple[LimitSettings, Mapping[str, LimitSettings]]:
        """The configured limits: of the provider, and of single models."""
        return self.limits, self.model_limits

    @property
    def states_limits(self) -> bool:
        """Whether any limit is configured."""
        return self.limits_stated != (LimitSettings(), {})

    def all_limits(self) -> Iterator[tuple[str, LimitSettings]]:
        """The configured limits, each with the name of its section."""
        yield "limits", self.limits
        for model, limits in self.model_limits.items():
            yield f'model_limits."{model}"', limits

    @property
    def api(self) -> ApiFormat:
        """The provider API that it speaks."""
        return API_FORMATS[self.api_format]

    @property
    def native_forms(self) -> tuple[str, ...]:
        """The forms of `Native` whose requests it gets as their callers wrote them."""
        return (*self.api.native_forms, "responses") if self.responses_api else self.api.native_forms

    @property
    def keyless(self) -> bool:
        """Whether it needs no key. Its calls are free then, unless a model has a price."""
        return not self.api_key_env

    @property
    def why_not_configured(self) -> str:
        """The reason, in a few words, why a provider cannot be called at all."""
        if not self.enabled:
            return "switched off in the configuration"
        return f"no key in {' or '.join(self.api_key_env)}" if self.api_key_env else "no key"

    @field_validator("api_key_env", mode="before")
    @classmethod
    def _names_variables(cls, names: object) -> object:
        if isinstance(names, list | tuple) and all(map(is_variable, names)):
            return names
        raise ValueError(
            'must list names of environment variables, as ["OPENAI_API_KEY"] does; '
            "a key itself belongs into the environment or into .env"
        )

    @field_validator("base_url_env")
    @classmethod
    def _names_a_variable(cls, name: str) -> str:
        if name and not is_variable(name):
            raise ValueError("must be the name of an environment variable; the address itself is base_url")
        return name


class TaskTypeConfig(Section):
    """`[task_types.NAME]`: preferred provider and tier of a task type."""

    prefer: str = ""
    tier: Tier


class CachingSettings(Section):
    """Whether prefixes that tasks share are kept in the providers' prompt caches."""

    enabled: bool
    min_prefix_tokens: int = Field(ge=1)
    cache_writer_wait_s: float = NotNegative


class TierSettings(Section):
    """`[tiers]`: the default max_tokens of tiers and choices, the prompt lengths that decide `auto`."""

    economy_max_tokens: int = Field(ge=1)
    standard_max_tokens: int = Field(ge=1)
    premium_max_tokens: int = Field(ge=1)
    choice_max_tokens: int = Field(ge=1)
    economy_chars: int = Field(ge=0)
    premium_chars: int = Field(ge=0)

    def max_tokens(self, tier: str) -> int:
        """The default max_tokens of `tier`."""
        return {
            "economy": self.economy_max_tokens,
            "standard": self.standard_max_tokens,
            "premium": self.premium_max_tokens,
        }[tier]


class PriceConfig(Section):
    """A price in USD per million tokens."""

    input: float = PRICE
    output: float = PRICE
    cache_read: float | None = Field(default=None, ge=0, le=MAX_PRICE)
    cache_write: float | None = Field(default=None, ge=0, le=MAX_PRICE)


class ModelConfig(Section):
    """Facts about the models whose name starts with the section's key."""

    api_format: ApiFormatName | None = None
    successor: str = ""
    context_window: int | None = Field(default=None, ge=1)
    refuses: tuple[
        Literal["temperature", "top_p", "seed", "stop", "reasoning_effort", "response_schema"], ...
    ] = ()
    lacks: tuple[Literal["images", "documents", "tools"], ...] = ()  # a task with these goes elsewhere
    max_tokens_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    thinking_headroom_tokens: int = Field(default=0, ge=0)
    thinking: Literal["effort", "budget"] = "effort"  # how it takes a reasoning effort: by name, or as tokens
    prompt_cache: Literal["", "key", "marks"] = (
        ""  # how it caches a prefix: not at all, by key, at marks in the prompt
    )
    group: str = ""  # models with the same group share their limits; empty: the model's own name
    price: PriceConfig | None = None
    flex: float | None = Field(default=None, gt=0, le=1)  # its price with service tier flex, of the usual one

    @property
    def price_list(self) -> str | None:
        """The price list of the API's inventor; None where the API is not known, or has no list."""
        return API_FORMATS[self.api_format].price_list or None if self.api_format else None


class BudgetAmounts(Section):
    """Budgets in USD; 0 is none."""

    daily_usd: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    monthly_usd: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    total_usd: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class BudgetSettings(BudgetAmounts):
    """`[budgets]`: of everything, of providers and of submitters."""

    time_zone: str = "UTC"
    alert_percent: tuple[Percent, ...]
    min_max_tokens: int = Field(ge=1)
    providers: Mapping[str, BudgetAmounts] = Field(default_factory=dict)
    submitters: Mapping[str, BudgetAmounts] = Field(default_factory=dict)

    @field_validator("time_zone")
    @classmethod
    def _is_a_zone(cls, name: str) -> str:
        zone_of(name)
        return name


class AgentConfig(Section):
    """`[[agents]]`: an agent's home provider, task types, slots and system prompt."""

    name: Name
    home: str
    task_types: tuple[str, ...] = ()
    calls_in_flight: int = Field(ge=1, le=100_000)
    count: int = Field(default=1, ge=0, le=10_000)
    system_prompt: str = ""

    @property
    def names(self) -> list[str]:
        """The names of its agents: numbered where there are several."""
        if self.count == 1:
            return [self.name]
        return [f"{self.name}-{copy + 1}" for copy in range(self.count)]


def with_slots(agents: Sequence[AgentConfig], total: int) -> tuple[AgentConfig, ...]:
    """The agents with `total` slots in all, spread evenly. Each is listed once more with a count of 0, since
    tasks may name one that got no slot."""
    copies = [agent.model_copy(update={"name": name, "count": 1}) for agent in agents for name in agent.names]
    seen: Counter[str] = Counter()
    order: list[tuple[int, int]] = []  # with few slots, one agent of each provider before a second of one
    for place, copy in enumerate(copies):
        order.append((seen[copy.home], place))
        seen[copy.home] += 1
    slots = dict.fromkeys(range(len(copies)), 0)
    for rank, (_, place) in enumerate(sorted(order)):
        slots[place] = total // len(copies) + (rank < total % len(copies))
    busy = [copies[place].model_copy(update={"calls_in_flight": n}) for place, n in slots.items() if n]
    return (*busy, *(agent.model_copy(update={"count": 0}) for agent in agents))


class Settings(Section):
    """All settings. Built by `load_settings`."""

    state_dir: Path
    database_url: str
    baseline_model: str
    strict_params: bool
    log_format: LogFormat
    confirm_above_usd: float = NotNegative
    server: ServerSettings
    gateway: GatewaySettings
    workers: WorkerSettings
    store: StoreSettings
    pages: PagesSettings
    pool: PoolSettings
    routing: RoutingSettings
    breaker: BreakerSettings
    providers: Mapping[ProviderName, ProviderConfig]
    task_types: Mapping[Name, TaskTypeConfig]
    tiers: TierSettings
    caching: CachingSettings
    models: Mapping[str, ModelConfig]
    budgets: BudgetSettings
    agents: tuple[AgentConfig, ...]

    @field_validator("providers", mode="after")
    @classmethod
    def _share_limits(cls, rows: Mapping[str, ProviderConfig]) -> Mapping[str, ProviderConfig]:
        """The rows, each with the limits of its group; they are stated in one row of a group, or alike."""
        found = dict(rows)
        for name, row in rows.items():
            if not row.limit_group:
                continue
            others = [other for other in rows.values() if other.limit_group == row.limit_group]
            if any(other.api_format != row.api_format for other in others):
                raise ValueError(f"limit_group {row.limit_group!r}: its providers need one api_format")
            stated = [other for other in others if other.states_limits]
            if any(other.limits_stated != stated[0].limits_stated for other in stated):
                raise ValueError(
                    f"limit_group {row.limit_group!r}: state its limits in one provider, or the same in each"
                )
            if stated:
                limits, model_limits = stated[0].limits_stated
                found[name] = row.model_copy(update={"limits": limits, "model_limits": model_limits})
        return found

    @model_validator(mode="after")
    def _makes_sense(self) -> Settings:
        if problems := list(islice(self._problems(), MAX_PROBLEMS_SHOWN)):
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> Iterator[str]:
        """Errors that no section can see by itself: unknown names, limits that the API does not count."""
        for where, provider in self._named_providers():
            if provider not in self.providers:
                yield f"{where}: no provider {provider!r}; {hint(provider, self.providers)}"
        yield from self._unfit_families()
        yield from self._unknown_task_types()
        yield from self._repeated_agents()
        yield from self._unknown_fallbacks()
        yield from self._limits_not_counted()
        if self.workers.address and not self.database_url.startswith("postgres"):
            yield f"workers.run_on: {self.workers.run_on!r} needs a PostgreSQL database (set DATABASE_URL)"
        if not any(provider.enabled and provider.weight > 0 for provider in self.providers.values()):
            yield "providers: at least one needs a weight above 0"
        if not any(agent.count for agent in self.agents):
            yield "agents: at least one is needed"

    def _unfit_families(self) -> Iterator[str]:
        for name, row in self.providers.items():
            head = self.providers.get(row.family) if row.family else None
            if head is not None and (head.family or head.api_format != row.api_format):
                yield (
                    f"providers.{name}.family: {row.family!r} must be a provider of the same api_format that "
                    "has no family itself"
                )

    def _unknown_task_types(self) -> Iterator[str]:
        for agent in self.agents:
            for kind in agent.task_types:
                if kind not in self.task_types:
                    where = f"task_types of agent {agent.name!r}"
                    yield f"{where}: no task type {kind!r}; {hint(kind, self.task_types)}"

    def _repeated_agents(self) -> Iterator[str]:
        names = Counter(name for agent in self.agents for name in agent.names)
        yield from (f"agents: several are named {name!r}" for name, number in names.items() if number > 1)

    def _unknown_fallbacks(self) -> Iterator[str]:
        for model, others in self.gateway.fallbacks.items():
            for each in (model, *others):
                if not self.left_by([each], ()):
                    yield f"gateway.fallbacks: no provider serves the model {each!r}"

    def _limits_not_counted(self) -> Iterator[str]:
        for name, row in self.providers.items():
            for where, limits in row.all_limits():
                counted = row.api.limits.counted
                for each in limits.not_counted(counted):
                    problem = f"{row.api_format} does not count that, but {', '.join(counted)}"
                    yield f"providers.{name}.{where}.{each}: {problem}"

    def _named_providers(self) -> Iterator[tuple[str, str]]:
        """`(setting, provider)` for every setting that names a provider."""
        for kind, row in self.task_types.items():
            if row.prefer:
                yield f"task_types.{kind}.prefer", row.prefer
        for agent in self.agents:
            yield f"home of agent {agent.name!r}", agent.home
        if self.routing.emergency_provider:
            yield "routing.emergency_provider", self.routing.emergency_provider
        for name in self.budgets.providers:
            yield "budgets.providers", name
        for name, config in self.providers.items():
            if config.family:
                yield f"providers.{name}.family", config.family

    def agent_named(self, name: str) -> AgentConfig | None:
        """The agent with this name, or one of its numbered copies; None if there is none."""
        return next((agent for agent in self.agents if name == agent.name or name in agent.names), None)

    def lookup_model(self, model: str) -> ModelConfig:
        """The section with the longest key that `model` starts with; an empty one where none does.

        A section with a successor is about one retired model, not about others that start alike.
        """
        best = ""
        for key, row in self.models.items():
            if model.startswith(key) and len(key) > len(best) and (not row.successor or _names(model, key)):
                best = key
        return self.models[best] if best else _EMPTY_MODEL

    def serves(self, provider: str, model: str) -> bool:
        """Whether `provider` serves `model` (a current name).

        Each provider serves the models of its tiers. The inventor of an API format, the provider of the same
        name and its family, also serves all models that a section of `[models]` or the installed price list
        counts to that format; compatible servers do not.
        """
        row = self.providers[provider]
        if model in {row.models.of(tier) for tier in TIERS}:
            return True
        inventor = row.family or provider
        return inventor == row.api_format == (self.lookup_model(model).api_format or api_of(model))

    def with_families(self, names: Iterable[str]) -> list[str]:
        """These providers, each followed by those of its family."""
        found: dict[str, None] = {}
        for name in names:
            found[name] = None
            found.update(dict.fromkeys(other for other, row in self.providers.items() if row.family == name))
        return list(found)

    def unsent(self, provider: str, model: str, given: Collection[str]) -> dict[str, str]:
        """Those of the `given` parameters that a call leaves out, each with its words for a warning."""
        refused, api = self.lookup_model(model).refuses, self.providers[provider].api
        found = {name: name for name in given if name in refused or name in api.lacks}
        sent = [name for name in api.exclusive if name in given and name not in found]
        return found | {name: f"{name} beside {sent[0]}" for name in sent[1:]}

    def missing(self, provider: str, model: str, needs: Collection[str]) -> str:
        """The first of a task's needs that the model, or its API, does not meet; empty: none."""
        lacks, takes = self.lookup_model(model).lacks, self.providers[provider].api.takes
        return next((need for need in needs if need in lacks or need not in takes), "")

    def lowered_temperature(self, provider: str, given: float | None) -> float | None:
        """The highest temperature that `provider` takes if the `given` one is above it, else None."""
        highest = self.providers[provider].api.max_temperature
        return highest if given is not None and given > highest else None

    def left_by(self, models: Collection[str], providers: Collection[str]) -> list[str]:
        """The providers, configured or not, that a task pinned to these may go to. Empty: not pinned."""
        current = [self.resolve_model(model)[0] for model in models]
        allowed = self.with_families(providers)
        return [
            name
            for name in self.providers
            if (not allowed or name in allowed)
            and (not current or any(self.serves(name, model) for model in current))
        ]

    def without_caches(self) -> Settings:
        """The same without prompt caches, for runs in virtual time, whose answers report none."""
        return self.model_copy(update={"caching": self.caching.model_copy(update={"enabled": False})})

    def resolve_model(self, model: str) -> tuple[str, str]:
        """`(current model, warning)`: a retired name resolves to its successor, and the warning names both.

        A successor holds for the exact name and for its dated or `-latest` variants.
        """
        for key, row in self.models.items():
            if row.successor and _names(model, key):
                return row.successor, f"model {model!r} is retired; its successor {row.successor!r} is used"
        return model, ""


def _names(model: str, key: str) -> bool:
    """Whether `model` is `key`, or a dated or `-latest` variant of it as `gpt-4-0613` is of `gpt-4`."""
    if not model.startswith(key):
        return False
    rest = model[len(key) :]
    return rest in ("", "-latest") or (rest[0] == "-" and rest[1:].replace("-", "").isdigit())


_EMPTY_MODEL = ModelConfig()
