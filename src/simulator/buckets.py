"""Rate limits as each provider enforces them.

Rules:
- A bucket refills continuously and starts full. `now` is epoch seconds of a clock that never goes back.
- A call enters only if every bucket that concerns it has room; then all are charged in the same step.
- A call larger than a bucket's capacity, but within the limit per minute, enters at a full bucket and takes
  it below zero. Above the limit per minute it never enters.
- What is charged differs, see RULES:
    anthropic  requests and uncached input on entry; output as produced, so an entry needs only a level above
               zero and the end may take it below; a failed call gets its tokens back
    openai     requests, and max(max_tokens, characters / 4) on entry, never given back; refused calls count
    gemini     requests and input tokens on entry; the requests of a day are counted to midnight Pacific
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .config import Limits
from .shapes import Level

DAY_S = 86_400.0
_EPSILON = 1e-6  # tokens; a wait computed from a level must end in an entry despite rounding


def _pacific() -> tzinfo:
    try:
        return ZoneInfo("America/Los_Angeles")
    except ZoneInfoNotFoundError:  # Windows without the tzdata package
        return timezone(timedelta(hours=-8))


PACIFIC = _pacific()


def next_pacific_midnight(now: float) -> float:
    """Epoch seconds of the next midnight in California, where Google resets its daily quotas."""
    local = datetime.fromtimestamp(now, PACIFIC)
    tomorrow = local.date() + timedelta(days=1)
    return datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=PACIFIC).timestamp()


def next_utc_midnight(now: float) -> float:
    """Epoch seconds of the next midnight UTC."""
    tomorrow = datetime.fromtimestamp(now, UTC).date() + timedelta(days=1)
    return datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=UTC).timestamp()


@dataclass(frozen=True, slots=True)
class Rules:
    """How one provider counts."""

    tokens: str  # what `tokens_per_minute` takes on entry: "input" or "reserve"
    charges_output: bool  # output is taken when it has been produced
    refunds_errors: bool  # a call that failed gets its tokens back
    counts_refused: bool  # a refused or malformed call is a request all the same
    pacific_day: bool  # the day ends at midnight Pacific; else it refills continuously


RULES: Mapping[str, Rules] = {
    "anthropic": Rules(
        "input", charges_output=True, refunds_errors=True, counts_refused=False, pacific_day=False
    ),
    "openai": Rules(
        "reserve", charges_output=False, refunds_errors=False, counts_refused=True, pacific_day=False
    ),
    "gemini": Rules(
        "input", charges_output=False, refunds_errors=False, counts_refused=False, pacific_day=True
    ),
}


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call asks for: input tokens that count, and OpenAI's max(max_tokens, characters / 4)."""

    input_tokens: int
    reserve: int


@dataclass(frozen=True, slots=True)
class Denied:
    """Why a call did not enter: the bucket that is full again last. `wait_s` is None when it never fits."""

    kind: str
    limit: float
    used: float
    requested: float
    wait_s: float | None


class _Store(Protocol):
    limit: float

    def refill(self, now: float) -> None: ...
    def fits(self, need: float) -> bool: ...
    def take(self, amount: float) -> None: ...
    def wait_s(self, need: float, now: float) -> float | None: ...
    def used(self) -> float: ...
    def reset_s(self, now: float) -> float: ...


class Bucket:
    """Continuous refill. `limit` is per `window_s`, `capacity` the burst."""

    __slots__ = ("at", "capacity", "level", "limit", "rate")

    def __init__(self, limit: float, window_s: float, burst_s: float, now: float) -> None:
        self.limit = limit
        self.rate = limit / window_s
        self.capacity = max(1.0, self.rate * burst_s)
        self.level = self.capacity
        self.at = now

    def refill(self, now: float) -> None:
        """Add what has flowed in by `now`."""
        if now > self.at:
            self.level = min(self.capacity, self.level + (now - self.at) * self.rate)
            self.at = now

    def _entry_level(self, need: float) -> float:
        # Above the capacity a full bucket is enough; output needs only a level above zero.
        return min(need, self.capacity) if need > 0 else _EPSILON * 2

    def fits(self, need: float) -> bool:
        """Whether a call that needs so much may enter."""
        return need <= max(self.limit, self.capacity) and self.level + _EPSILON >= self._entry_level(need)

    def take(self, amount: float) -> None:
        """Charge `amount`; a negative one is given back."""
        self.level = min(self.capacity, self.level - amount)

    def wait_s(self, need: float, now: float) -> float | None:
        """Seconds until it fits; None: never."""
        if need > max(self.limit, self.capacity):
            return None
        return max(0.0, (self._entry_level(need) - self.level) / self.rate)

    def used(self) -> float:
        """How far it is from full."""
        return self.capacity - self.level

    def reset_s(self, now: float) -> float:
        """Seconds until it is full."""
        return max(0.0, self.used() / self.rate)


class PacificDay:
    """A count that resets at midnight Pacific time."""

    __slots__ = ("ends", "limit", "taken")

    def __init__(self, limit: float, now: float) -> None:
        self.limit = limit
        self.taken = 0.0
        self.ends = next_pacific_midnight(now)

    def refill(self, now: float) -> None:
        """Start a new count after midnight."""
        if now >= self.ends:
            self.taken = 0.0
            self.ends = next_pacific_midnight(now)

    def fits(self, need: float) -> bool:
        """Whether a call that needs so much may enter."""
        return self.taken + need <= self.limit

    def take(self, amount: float) -> None:
        """Charge `amount`; a negative one is given back."""
        self.taken = max(0.0, self.taken + amount)

    def wait_s(self, need: float, now: float) -> float | None:
        """Seconds to midnight; None: it never fits."""
        return self.ends - now if need <= self.limit else None

    def used(self) -> float:
        """How much of the day's limit is used."""
        return self.taken

    def reset_s(self, now: float) -> float:
        """Seconds to midnight."""
        return self.ends - now


class Limiter:
    """The buckets of one provider, or of one model of it."""

    def __init__(self, rules: Rules, limits: Limits, now: float) -> None:
        self.rules = rules
        self.stores: dict[str, _Store] = dict(self._build(limits, now))

    def _build(self, limits: Limits, now: float) -> Iterator[tuple[str, _Store]]:
        if limits.requests_per_minute is not None:
            yield "requests", Bucket(limits.requests_per_minute, 60.0, limits.burst_s, now)
        if limits.requests_per_day is not None:
            day = limits.requests_per_day
            yield (
                "requests_per_day",
                PacificDay(day, now) if self.rules.pacific_day else Bucket(day, DAY_S, DAY_S, now),
            )
        for kind in ("tokens", "input_tokens", "output_tokens"):
            limit = getattr(limits, f"{kind}_per_minute")
            if limit is not None:
                yield kind, Bucket(limit, 60.0, limits.token_burst_s, now)

    def carry_over(self, old: Limiter) -> None:
        """Keep what was used under the old limits, clipped to the new capacity."""
        for kind, store in self.stores.items():
            before = old.stores.get(kind)
            if isinstance(store, Bucket) and isinstance(before, Bucket):
                store.level = min(store.capacity, before.level)
                store.at = before.at
            elif isinstance(store, PacificDay) and isinstance(before, PacificDay):
                store.taken, store.ends = before.taken, before.ends

    def charges(self, cost: Cost) -> dict[str, float]:
        """What a call takes on entry, by bucket."""
        return {
            "requests": 1.0,
            "requests_per_day": 1.0,
            "tokens": cost.reserve if self.rules.tokens == "reserve" else cost.input_tokens,
            "input_tokens": cost.input_tokens,
            "output_tokens": 0.0,
        }


class Gate:
    """All limits of a provider: those for every call, and those of single models in addition."""

    def __init__(
        self, api_format: str, limits: Limits, model_limits: Mapping[str, Limits], now: float
    ) -> None:
        self.rules = RULES[api_format]
        self.common = Limiter(self.rules, limits, now)
        self.by_model = {model: Limiter(self.rules, own, now) for model, own in model_limits.items()}
        self.limits_anything = bool(self.common.stores or self.by_model)

    def replaced(
        self, api_format: str, limits: Limits, model_limits: Mapping[str, Limits], now: float
    ) -> Gate:
        """The gate under new limits; what was used stays used."""
        fresh = Gate(api_format, limits, model_limits, now)
        for limiter in (self.common, *self.by_model.values()):
            for store in limiter.stores.values():
                store.refill(now)
        fresh.common.carry_over(self.common)
        for model, limiter in fresh.by_model.items():
            if model in self.by_model:
                limiter.carry_over(self.by_model[model])
        return fresh

    def _limiters(self, model: str) -> tuple[Limiter, ...]:
        own = self.by_model.get(model)
        return (self.common,) if own is None else (self.common, own)

    def _each(self, model: str, cost: Cost) -> Iterator[tuple[str, _Store, float]]:
        for limiter in self._limiters(model):
            if limiter.stores:
                charges = limiter.charges(cost)
                for kind, store in limiter.stores.items():
                    yield kind, store, charges[kind]

    def admit(self, model: str, cost: Cost, now: float) -> Denied | None:
        """Charge the call and let it in, or change nothing and say why not. One synchronous step."""
        lines = list(self._each(model, cost))
        worst: Denied | None = None
        for kind, store, need in lines:
            store.refill(now)
            if not store.fits(need):
                denied = Denied(kind, store.limit, store.used(), need, store.wait_s(need, now))
                if worst is None or _longer(denied, worst):
                    worst = denied
        if worst is not None:
            self.count_refused(model, now)
            return worst
        for _, store, need in lines:
            store.take(need)
        return None

    def count_refused(self, model: str, now: float) -> None:
        """A refused call uses up a request where it counts, but never more than there is.

        So a storm of them keeps the bucket empty, but one request's refill after its end a call enters.
        """
        if not self.rules.counts_refused:
            return
        for limiter in self._limiters(model):
            for kind in ("requests", "requests_per_day"):
                store = limiter.stores.get(kind)
                if isinstance(store, Bucket):
                    store.refill(now)
                    store.level = min(store.level, max(0.0, store.level - 1.0))

    def produced(self, model: str, output_tokens: int, now: float) -> None:
        """Output as it has been produced; a no-op where the provider does not count it."""
        if not self.rules.charges_output:
            return
        for limiter in self._limiters(model):
            for kind in ("output_tokens", "tokens"):
                store = limiter.stores.get(kind)
                if store is not None:
                    store.refill(now)
                    store.take(output_tokens)

    def refund(self, model: str, cost: Cost, now: float, *, with_request: bool) -> None:
        """After an error: tokens where this provider gives them back, and the request of a 429."""
        if not self.rules.refunds_errors and (self.rules.counts_refused or not with_request):
            return
        for kind, store, need in self._each(model, cost):
            is_request = kind.startswith("requests")
            if with_request if is_request else (self.rules.refunds_errors or with_request):
                store.refill(now)
                store.take(-need)

    def levels(self, model: str, now: float) -> list[Level]:
        """Every bucket that concerns the model; its own instead of the common one of the same kind."""
        merged: dict[str, _Store] = {}
        for limiter in self._limiters(model):
            merged.update(limiter.stores)
        found = []
        for kind, store in merged.items():
            store.refill(now)
            limit = math.floor(store.limit)
            found.append(Level(kind, limit, min(limit, max(0.0, limit - store.used())), store.reset_s(now)))
        return found


def _longer(one: Denied, other: Denied) -> bool:
    if other.wait_s is None:
        return False
    return one.wait_s is None or one.wait_s > other.wait_s
