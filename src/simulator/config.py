"""The configuration: JSON in, frozen values out. An error names the place and what is allowed there.

    {"seed": 1, "providers": {"anthropic": {...}, "groq": {"api_format": "openai", ...}}}

Without "providers" there are three: anthropic, openai, gemini. Their keys are the fields of ProviderConfig.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .batches.settings import BatchSettings, check_limits, read_batches
from .faults import FAULTS, FaultWindow
from .readers import (
    ConfigError,
    nearest,
    read_flag,
    read_names,
    read_number,
    read_object,
    read_whole,
    shown,
)

API_FORMATS = ("anthropic", "openai", "gemini")


@dataclass(frozen=True, slots=True)
class Limits:
    """None is no limit. `burst_s` and `token_burst_s`: how many seconds' worth the buckets hold."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    input_tokens_per_minute: float | None = None
    output_tokens_per_minute: float | None = None
    requests_per_day: float | None = None
    burst_s: float = 1.0
    token_burst_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds; `jitter` is the sigma of a lognormal factor with mean 1."""

    first_token_s: float = 0.15
    per_token_s: float = 0.0008
    jitter: float = 0.3


@dataclass(frozen=True, slots=True)
class OutputTokens:
    """How long answers are: lognormal, by their mean in tokens and the sigma of the logarithm."""

    mean: float = 150.0
    sigma: float = 0.5


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """One provider. `port` 0 is any free one."""

    api_format: str = "openai"
    port: int = 0
    limits: Limits = field(default_factory=Limits)
    model_limits: Mapping[str, Limits] = field(default_factory=dict)  # in addition to `limits`
    headers: bool = True
    latency: Latency = field(default_factory=Latency)
    keys: tuple[str, ...] | None = None  # None: any key but an empty one
    models: tuple[str, ...] | None = None  # None: any model
    context_window: int = 1_000_000
    chars_per_token: float = 4.0
    refuses_temperature: tuple[str, ...] = ()  # prefixes of model names; true in JSON is ("",): all
    wants_max_completion_tokens: tuple[str, ...] = ()
    refuses_effort: tuple[str, ...] = ()
    requires_signatures: tuple[str, ...] = ("gemini-3", "gemini-4")  # of function calls; Gemini only
    thinking_tokens: int = 0
    output_tokens: OutputTokens = field(default_factory=OutputTokens)
    caching: bool = False
    echo: bool = False
    retry_after_s: float = 1.0
    chunk_tokens: int | None = None  # in a chunk of a stream; None: as the API does
    slow_start_s: float = 30.0  # of the fault `stream_slow_start`
    flex_models: tuple[str, ...] = ("o3", "o4", "gpt-5", "gpt-6")  # prefixes of models that take it; OpenAI
    flex_unavailable: float = 0.0  # share of the calls with it that find no room
    flex_slowness: float = 1.0  # times the latency of other calls
    faults: Mapping[str, float] = field(default_factory=dict)
    schedule: tuple[FaultWindow, ...] = ()
    batches: BatchSettings = field(default_factory=BatchSettings)


@dataclass(frozen=True, slots=True)
class Config:
    """The whole simulator."""

    seed: int
    providers: Mapping[str, ProviderConfig]
    batch_clock_factor: float = 1.0


def _prefixes(value: Any, where: str) -> tuple[str, ...]:
    if isinstance(value, bool):
        return ("",) if value else ()
    return read_names(value, where)


def _api_format(value: Any, where: str) -> str:
    if value not in API_FORMATS:
        raise ConfigError(where, f"expected one of {', '.join(API_FORMATS)}, got {shown(value)}")
    return str(value)


def _limits(value: Any, where: str) -> Limits:
    table = read_object(value, where, [f.name for f in fields(Limits)])
    found = {}
    for name, number in table.items():
        if number is not None:  # null is no limit, or the default burst
            found[name] = read_number(number, f"{where}.{name}", 0, above=True)
    return Limits(**found)


def _model_limits(value: Any, where: str) -> dict[str, Limits]:
    return {model: _limits(own, f"{where}.{model}") for model, own in read_object(value, where).items()}


def _latency(value: Any, where: str) -> Latency:
    table = read_object(value, where, [f.name for f in fields(Latency)])
    return Latency(**{name: read_number(number, f"{where}.{name}", 0) for name, number in table.items()})


def _output_tokens(value: Any, where: str) -> OutputTokens:
    table = read_object(value, where, [f.name for f in fields(OutputTokens)])
    lowest = {"mean": 1.0, "sigma": 0.0}
    return OutputTokens(
        **{name: read_number(number, f"{where}.{name}", lowest[name]) for name, number in table.items()}
    )


def _fault(value: Any, where: str) -> str:
    if value not in FAULTS:
        raise ConfigError(where, f"unknown fault {shown(value)}, {nearest(str(value), FAULTS)}")
    return str(value)


def _faults(value: Any, where: str) -> dict[str, float]:
    table = read_object(value, where)
    return {_fault(name, where): read_number(rate, f"{where}.{name}", 0, 1) for name, rate in table.items()}


def _window(value: Any, where: str) -> FaultWindow:
    table = read_object(value, where, [f.name for f in fields(FaultWindow)])
    if "fault" not in table:
        raise ConfigError(where, 'the key "fault" is missing')
    from_s = read_number(table.get("from_s", 0), f"{where}.from_s", 0)
    to_s = table.get("to_s")
    if to_s is not None:
        to_s = read_number(to_s, f"{where}.to_s", from_s, above=True)
    fault = _fault(table["fault"], f"{where}.fault")
    return FaultWindow(from_s, to_s, fault, read_number(table.get("rate", 1.0), f"{where}.rate", 0, 1))


def _schedule(value: Any, where: str) -> tuple[FaultWindow, ...]:
    if not isinstance(value, list):
        raise ConfigError(where, f"expected a list of windows, got {shown(value)}")
    return tuple(_window(window, f"{where}[{i}]") for i, window in enumerate(value))


_READERS: Mapping[str, Callable[[Any, str], Any]] = {
    "api_format": _api_format,
    "port": lambda value, where: read_whole(value, where, 0, 65_535),
    "limits": _limits,
    "model_limits": _model_limits,
    "headers": read_flag,
    "latency": _latency,
    "keys": read_names,
    "models": read_names,
    "context_window": lambda value, where: read_whole(value, where, 1),
    "chars_per_token": lambda value, where: read_number(value, where, 0, above=True),
    "refuses_temperature": _prefixes,
    "wants_max_completion_tokens": _prefixes,
    "refuses_effort": _prefixes,
    "requires_signatures": _prefixes,
    "thinking_tokens": lambda value, where: read_whole(value, where, 0),
    "output_tokens": _output_tokens,
    "caching": read_flag,
    "echo": read_flag,
    "retry_after_s": lambda value, where: read_number(value, where, 0),
    "chunk_tokens": lambda value, where: read_whole(value, where, 1),
    "slow_start_s": lambda value, where: read_number(value, where, 0),
    "flex_models": _prefixes,
    "flex_unavailable": lambda value, where: read_number(value, where, 0, 1),
    "flex_slowness": lambda value, where: read_number(value, where, 1),
    "faults": _faults,
    "schedule": _schedule,
    "batches": read_batches,
}

# What a provider does not count can't be limited: a test that sets it would wait for a 429 that never comes.
_NOT_COUNTED = {
    "anthropic": (),
    "openai": ("input_tokens_per_minute", "output_tokens_per_minute"),
    "gemini": ("output_tokens_per_minute",),
}


def _check_counted(api_format: str, limits: Limits, where: str) -> None:
    for name in _NOT_COUNTED[api_format]:
        if getattr(limits, name) is not None:
            raise ConfigError(where, f"{name} is not a limit of {api_format}, use tokens_per_minute")


def parse_provider(name: str, value: Any) -> ProviderConfig:
    """One provider from its JSON. A key that is null counts as not given. Raises ConfigError."""
    where = f"providers.{name}"
    table = read_object(value, where, _READERS)
    read = {key: _READERS[key](given, f"{where}.{key}") for key, given in table.items() if given is not None}
    if "api_format" not in read:
        if name not in API_FORMATS:
            raise ConfigError(where, f'"api_format" is needed for this name: one of {", ".join(API_FORMATS)}')
        read["api_format"] = name
    config = ProviderConfig(**read)
    check_limits(config.api_format, config.batches, f"{where}.batches")
    _check_counted(config.api_format, config.limits, f"{where}.limits")
    for model, limits in config.model_limits.items():
        _check_counted(config.api_format, limits, f"{where}.model_limits.{model}")
    return config


def parse(value: Any, *, seed: int | None = None) -> Config:
    """The whole configuration from its JSON; a `seed` given goes before the one in it. Raises ConfigError."""
    table = read_object(value, "configuration", ("seed", "providers", "batch_clock_factor"))
    own_seed = table.get("seed")
    if own_seed is not None:
        read_whole(own_seed, "seed", 0)
    providers = table.get("providers")
    if providers is None:
        providers = {name: {} for name in API_FORMATS}
    providers = read_object(providers, "providers")
    if not providers:
        raise ConfigError("providers", f"expected at least one, for instance {', '.join(API_FORMATS)}")
    for name in providers:
        if not name or not name.translate({ord(mark): None for mark in "-_."}).isalnum():
            raise ConfigError("providers", f"{name!r}: letters, digits, - _ and . are allowed")
    parsed = {name: parse_provider(name, own) for name, own in providers.items()}
    return Config(next((s for s in (seed, own_seed) if s is not None), 1), parsed, _factor(table))


def _factor(table: dict[str, Any]) -> float:
    name = "batch_clock_factor"
    return 1.0 if table.get(name) is None else read_number(table[name], name, 0)


def merge(current: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """`change` laid over `current` (JSON merge patch): objects merge, null removes, all else replaces."""
    merged = dict(current)
    for key, value in change.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        elif isinstance(value, dict):
            merged[key] = merge({}, value)
        else:
            merged[key] = value
    return merged
