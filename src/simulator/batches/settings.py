"""The key "batches" of a provider's configuration. Durations are seconds of the batch clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ..readers import ConfigError, nearest, read_flag, read_number, read_object, read_whole
from .faults import BATCH_FAULTS, ROW_FAULTS

_P90 = 1.2815515655446004  # the 90th percentile of a standard normal distribution


@dataclass(frozen=True, slots=True)
class Turnaround:
    """How long batches take: lognormal, by its median and its 90th percentile."""

    median_s: float = 420.0
    p90_s: float = 3600.0

    def draw(self, gauss: float) -> float:
        """The time that belongs to a draw from a standard normal distribution."""
        if not self.median_s:
            return 0.0
        return self.median_s * math.exp(gauss * math.log(self.p90_s / self.median_s) / _P90)


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """None is the API's own limit, or no limit where the API has none that is the same for everybody."""

    available: bool = True  # else the endpoints are not there, as with many compatible servers
    turnaround: Turnaround = field(default_factory=Turnaround)
    validation_s: float = 5.0  # at most a tenth of the turnaround, like `finalizing_s`
    finalizing_s: float = 10.0
    cancel_s: float = 30.0
    window_s: float | None = None  # until a batch expires
    expiring: float = 0.0  # share of the batches that expire with some of their rows answered
    stuck: float = 0.0  # share of the batches that never get on, and do not expire
    row_faults: Mapping[str, float] = field(default_factory=dict)
    max_rows: int | None = None
    max_bytes: int | None = None
    max_inline_bytes: int | None = None  # Gemini
    max_active_batches: int | None = None  # Gemini
    max_queued_rows: int | None = None  # Anthropic
    enqueued_tokens: Mapping[str, float] = field(default_factory=dict)  # by model; "*": each model not named
    requests_per_minute: float | None = None  # of the batch and file endpoints, in real time
    listing_lag_s: float = 0.0
    faults: Mapping[str, float] = field(default_factory=dict)

    def most_enqueued(self, model: str) -> float | None:
        """The input tokens that may wait in batches of a model. None: any number."""
        return self.enqueued_tokens.get(model, self.enqueued_tokens.get("*"))


def _turnaround(value: Any, where: str) -> Turnaround:
    table = read_object(value, where, [f.name for f in fields(Turnaround)])
    read = Turnaround(**{name: read_number(given, f"{where}.{name}", 0) for name, given in table.items()})
    if read.p90_s < read.median_s:
        raise ConfigError(where, "p90_s is below median_s")
    return read


def _shares(known: Mapping[str, str]) -> Callable[[Any, str], dict[str, float]]:
    def read(value: Any, where: str) -> dict[str, float]:
        table = read_object(value, where)
        for name in table:
            if name not in known:
                raise ConfigError(where, f"unknown fault {name!r}, {nearest(name, known)}")
        return {name: read_number(share, f"{where}.{name}", 0, 1) for name, share in table.items()}

    return read


def _enqueued(value: Any, where: str) -> dict[str, float]:
    if not isinstance(value, dict):
        return {"*": read_number(value, where, 0)}
    return {model: read_number(own, f"{where}.{model}", 0) for model, own in value.items()}


def _seconds(value: Any, where: str) -> float:
    return read_number(value, where, 0)


def _share(value: Any, where: str) -> float:
    return read_number(value, where, 0, 1)


def _count(value: Any, where: str) -> int:
    return read_whole(value, where, 1)


_READERS: Mapping[str, Callable[[Any, str], Any]] = {
    "available": read_flag,
    "turnaround": _turnaround,
    "validation_s": _seconds,
    "finalizing_s": _seconds,
    "cancel_s": _seconds,
    "window_s": _seconds,
    "expiring": _share,
    "stuck": _share,
    "row_faults": _shares(ROW_FAULTS),
    "max_rows": _count,
    "max_bytes": _count,
    "max_inline_bytes": _count,
    "max_active_batches": _count,
    "max_queued_rows": _count,
    "enqueued_tokens": _enqueued,
    "requests_per_minute": lambda value, where: read_number(value, where, 0, above=True),
    "listing_lag_s": _seconds,
    "faults": _shares(BATCH_FAULTS),
}

# A limit that an API does not have would never be reached: a test that sets it would wait in vain.
_FOREIGN = {
    "anthropic": ("max_inline_bytes", "max_active_batches", "enqueued_tokens"),
    "openai": ("max_inline_bytes", "max_active_batches", "max_queued_rows"),
    "gemini": ("max_queued_rows",),
}


def read_batches(value: Any, where: str) -> BatchSettings:
    """The settings from their JSON; null counts as not given. Raises ConfigError."""
    table = read_object(value, where, _READERS)
    given = {name: _READERS[name](own, f"{where}.{name}") for name, own in table.items() if own is not None}
    return BatchSettings(**given)


def check_limits(api_format: str, settings: BatchSettings, where: str) -> None:
    """Raises ConfigError for a limit that the API does not have."""
    for name in _FOREIGN[api_format]:
        if getattr(settings, name):
            raise ConfigError(where, f"{name} is not a limit of {api_format}")
