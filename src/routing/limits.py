"""Token limits: how much of each provider's quota is left, by its own rules.

A *model group* is the models of one provider that share their limits. It owns one bucket per dimension
(requests, tokens, input_tokens, output_tokens, requests_per_day); each refills continuously, as the
providers' own do.

    reserve   before the call: the group's buckets are charged what the provider will charge at most
    settle    after it: charged what the provider really charged (see `ChargeRule`)
    learn     from an answer's headers: the level is lowered to what the provider says is left; only
              the stated limit may raise rate or capacity
    hold      after a 429: nothing is admitted until then, and the bucket starts empty

Charge rules, one a wire format:

    anthropic  requests; input without cache reads; output as really produced: both corrected after
    openai     requests; max(max_tokens, estimate) per call: never given back, failures count
    gemini     requests; input, corrected after; requests per day to midnight Pacific

Why 0.95 (MARGIN): a bucket as large as the server's draws 429s by timing alone, since two calls sent
one refill apart may arrive closer together than that. The rate is the full one, so nothing is lost.

A call larger than the capacity but within one window's limit goes when the bucket is full and takes it
below zero; only what no window can hold is refused. `reserve` never takes a bucket below zero otherwise;
settling and learning may, and then nothing is admitted until it is back.

Where nothing is known: one scout call at a time until an answer brings headers; an answer without any
starts slow start: START_RATE per second, x GROWTH per clean second of real use up to the first 429, then
x CUT at each and +RECOVERY per second after CLEAN_S clean seconds. A told limit that draws a 429 although
no header says another is felt for in the same way, from x CUT of it and never above it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from ..records import LimitGauge, LimitReport, Usage
from ..settings import LimitSettings

MARGIN = 0.95
START_RATE = 2.0
GROWTH = 1.5
SLOW_START_BURST_S = 0.5
CUT = 0.7
RECOVERY = 1.02
CLEAN_S = 5.0
HOLD_BASE_S = 1.0
HOLD_MAX_S = 60.0
TICK_S = 1e-6  # epoch seconds as floats are 2e-7 apart: a shorter wait than this would never end
ARRIVAL_S = 0.25  # calls sent so soon after another may arrive before it, and be in what it is told is left
DAY_S = 86_400.0
PACIFIC = ZoneInfo("America/Los_Angeles")

REQUESTS, TOKENS, INPUT, OUTPUT, DAILY = (
    "requests",
    "tokens",
    "input_tokens",
    "output_tokens",
    "requests_per_day",
)
_DIMENSIONS_OF = {
    "anthropic": (REQUESTS, INPUT, OUTPUT, DAILY),
    "openai": (REQUESTS, TOKENS, DAILY),
    "gemini": (REQUESTS, INPUT, DAILY),
}


class Need(NamedTuple):
    """What one call may draw: an estimate of its input tokens, and of its output."""

    input_tokens: int
    output_tokens: int  # learned p90 of the output, at most max_tokens
    max_tokens: int

    def of(self, dimension: str) -> float:
        """The charge in one dimension, in its own unit."""
        if dimension == INPUT:
            return self.input_tokens
        if dimension == OUTPUT:
            return self.output_tokens
        if dimension == TOKENS:
            return max(self.max_tokens, self.input_tokens)
        return 1.0


class Mark:
    """How much had been reserved in a bucket by the end of a moment, and the next such moment."""

    __slots__ = ("after", "at", "spent")

    def __init__(self, at: float, spent: float) -> None:
        self.at, self.spent = at, spent
        self.after: Mark | None = None

    def spent_by(self, at: float) -> float:
        """How much had been reserved at that later moment."""
        mark = self
        while mark.after is not None and mark.after.at <= at:
            mark = mark.after
        return mark.spent


class Bucket:
    """One dimension of one group. `rate` is units per second, `limit` units per `window_s`."""

    __slots__ = (
        "at",
        "capacity",
        "dimension",
        "level",
        "limit",
        "mark",
        "newest_report",
        "rate",
        "spent",
        "told",
        "window_s",
    )

    def __init__(
        self, dimension: str, limit: float, window_s: float, burst_s: float, now: float, *, told: bool
    ) -> None:
        self.dimension = dimension
        self.window_s = window_s
        self.told = limit if told else None  # a told limit is a ceiling for what headers say
        self.limit = limit
        self.rate = limit / window_s
        self.capacity = _capacity(limit, window_s, burst_s)
        self.level = self.capacity
        self.at = now
        self.spent = 0.0  # everything ever reserved: the difference of two readings is what went between
        self.mark = Mark(now, 0.0)
        self.newest_report = float("-inf")

    def refill(self, now: float) -> None:
        if now > self.at:
            level = self.level + (now - self.at) * self.rate
            self.level = level if level < self.capacity else self.capacity
            self.at = now

    def wait_s(self, need: float, now: float) -> float:
        """Seconds until `need` fits; 0 now, infinity never."""
        if need > self.limit:
            return math.inf
        self.refill(now)
        wanted = need if need < self.capacity else self.capacity
        wait = (wanted - self.level) / self.rate
        return wait if wait > TICK_S else 0.0

    def take(self, amount: float) -> None:
        """Charge a call. One above the capacity pays the margin on top: the next is that much later."""
        self.level -= amount if amount <= self.capacity else amount / MARGIN
        self.spent += amount
        if self.at > self.mark.at:
            self.mark.after = Mark(self.at, self.spent)
            self.mark = self.mark.after
        else:
            self.mark.spent = self.spent

    def give_back(self, amount: float, now: float) -> None:
        """Correct downwards (positive) or upwards (negative) what a call had reserved."""
        self.refill(now)
        most = self.capacity if now >= self.at else 0.0  # on hold: it starts empty
        self.level = min(self.level + amount, max(most, self.level))

    def empty(self, at: float) -> None:
        """Start from nothing at `at`."""
        self.level = min(self.level, 0.0)
        self.at = max(self.at, at)

    def set_limit(self, limit: float, burst_s: float) -> None:
        """The provider states another limit: the rate follows, the level only ever shrinks."""
        if self.told is not None:
            limit = min(limit, self.told)
        if limit == self.limit:
            return
        self.limit, self.rate = limit, limit / self.window_s
        self.capacity = _capacity(limit, self.window_s, burst_s)
        self.level = min(self.level, self.capacity)


def _capacity(limit: float, window_s: float, burst_s: float) -> float:
    margin = MARGIN if window_s < DAY_S else 1.0  # timing is nothing beside a day
    return margin * limit * min(burst_s / window_s, 1.0)


class DailyCounter(Bucket):
    """A fixed window to midnight Pacific: exactly `limit` requests pass, then none until it ends."""

    __slots__ = ("resets_at",)

    def __init__(self, limit: float, now: float) -> None:
        super().__init__(DAILY, limit, DAY_S, DAY_S, now, told=True)
        self.rate = 0.0
        self.capacity = self.level = limit
        self.resets_at = next_midnight_pacific(now)

    def refill(self, now: float) -> None:
        if now >= self.resets_at:
            self.level = self.capacity
            self.resets_at = next_midnight_pacific(now)
        self.at = max(now, self.at)

    def wait_s(self, need: float, now: float) -> float:
        self.refill(now)
        return 0.0 if self.level >= need else self.resets_at - now


def next_midnight_pacific(now: float) -> float:
    """The next midnight in California, as UTC epoch seconds: when Gemini's daily quota comes back."""
    day = datetime.fromtimestamp(now, UTC).astimezone(PACIFIC).date() + timedelta(days=1)
    return datetime.combine(day, time(), PACIFIC).timestamp()


class SlowStart(Bucket):
    """Requests per second of a group that tells no limit: grows while it is really used and clean."""

    __slots__ = ("_admitted", "_clean_since", "_cut_at", "_second_at", "met")

    def __init__(
        self, now: float, rate: float = START_RATE, *, met: bool = False, told: float | None = None
    ) -> None:
        super().__init__(REQUESTS, rate * 60.0, 60.0, SLOW_START_BURST_S, now, told=False)
        self.told = told
        self._clean_since = now
        self._second_at = now
        self._admitted = 0
        self._cut_at = now if met else float("-inf")
        self.met = met  # whether a 429 has shown where the limit is
        self._set_rate(rate)

    def take(self, amount: float) -> None:
        super().take(amount)
        self._admitted += 1

    def refill(self, now: float) -> None:
        if now - self._second_at >= 1.0:
            self._grow(now)
        super().refill(now)

    def cut(self, sent_at: float, now: float) -> None:
        """A 429: less. Calls that were sent before the last cut say nothing new."""
        if sent_at < self._cut_at:
            return
        self.met = True
        self._cut_at = self._clean_since = now
        self._set_rate(max(self.rate * CUT, START_RATE / 20.0))

    def _grow(self, now: float) -> None:
        used = self._admitted >= 0.5 * self.rate
        if used and now - self._clean_since >= (CLEAN_S if self.met else 1.0):
            self._set_rate(self.rate * (RECOVERY if self.met else GROWTH))
        self._second_at, self._admitted = now, 0

    def _set_rate(self, rate: float) -> None:
        if self.told is not None:
            rate = min(rate, self.told / 60.0)
        self.rate = rate
        self.limit = rate * 60.0
        self.capacity = max(1.0, rate * SLOW_START_BURST_S)
        self.level = min(self.level, self.capacity)


@dataclass(slots=True)
class Reservation:
    """What one call holds in its group's buckets, settled exactly once by the balancer."""

    sent_at: float
    taken: tuple[tuple[Bucket, float, Mark], ...]
    scout: bool = False


class ModelGroup:
    """The limits of the models of one provider that share them."""

    __slots__ = (
        "_burst_s",
        "_dimensions",
        "_holds",
        "_token_burst_s",
        "buckets",
        "claim",
        "held_until",
        "hold_reason",
        "name",
        "scouting",
        "unknown",
        "wire",
    )

    def __init__(self, name: str, wire: str, told: LimitSettings, now: float) -> None:
        self.name, self.wire = name, wire
        self._dimensions = _DIMENSIONS_OF[wire]
        self._burst_s = told.burst_s or 1.0
        self._token_burst_s = told.token_burst_s or 60.0
        self.buckets: dict[str, Bucket] = {}
        self.held_until = 0.0
        self.hold_reason = ""
        self._holds = 0  # 429s without Retry-After in a row: the exponent of the hold
        self.scouting = 0  # scout calls that are out
        # (queue place, until) of the oldest task that waits for room here: a younger one may not pass it
        self.claim: tuple[tuple[float, ...], float] | None = None
        self._tell(told, now)
        self.unknown = not self.buckets  # nothing told, nothing learned: scout

    def _tell(self, told: LimitSettings, now: float) -> None:
        per_minute = {
            REQUESTS: told.requests_per_minute,
            TOKENS: told.tokens_per_minute,
            INPUT: told.input_tokens_per_minute
            or (told.tokens_per_minute if self.wire == "gemini" else None),
            OUTPUT: told.output_tokens_per_minute,
        }
        for dimension in self._dimensions:
            if limit := per_minute.get(dimension):
                self.buckets[dimension] = Bucket(
                    dimension, limit, 60.0, self._burst_of(dimension), now, told=True
                )
        if told.requests_per_day:
            self.buckets[DAILY] = (
                DailyCounter(told.requests_per_day, now)
                if self.wire == "gemini"
                else Bucket(DAILY, told.requests_per_day, DAY_S, DAY_S, now, told=True)
            )

    def _burst_of(self, dimension: str) -> float:
        if dimension == DAILY:
            return DAY_S
        return self._burst_s if dimension == REQUESTS else self._token_burst_s

    def closed(self, now: float) -> tuple[str, float | None]:
        """Why not even the smallest call may go now, and until when (None: until a scout returns).

        ("", now) when it may.
        """
        if now < self.held_until:
            return self.hold_reason, self.held_until + self._first_room_s()
        if self.unknown and self.scouting:
            return "waiting for the first answer to learn the limits", None
        for dimension in (REQUESTS, DAILY):
            bucket = self.buckets.get(dimension)
            if bucket is not None and (wait := bucket.wait_s(1.0, now)):
                return dimension, now + wait
        return "", now

    def _first_room_s(self) -> float:
        """How long after a hold the first request fits: the bucket starts empty."""
        bucket = self.buckets.get(REQUESTS)
        return (min(1.0, bucket.capacity) - bucket.level) / bucket.rate if bucket is not None else 0.0

    def wait(self, need: Need, now: float) -> tuple[str, float]:
        """(dimension that binds, seconds until `need` fits): ("", 0.0) now; infinity: never."""
        worst, name = 0.0, ""
        for dimension, bucket in self.buckets.items():
            wait = bucket.wait_s(need.of(dimension), now)
            if wait > worst:
                worst, name = wait, dimension
        return name, worst

    def reserve(self, need: Need, now: float) -> Reservation:
        """Charge every bucket; only after `wait` said 0."""
        taken = []
        for dimension, bucket in self.buckets.items():
            amount = need.of(dimension)
            bucket.refill(now)
            bucket.take(amount)
            taken.append((bucket, amount, bucket.mark))
        if self.unknown:
            self.scouting += 1
        return Reservation(now, tuple(taken), scout=self.unknown)

    def settle(self, held: Reservation, usage: Usage | None, *, charged: bool, now: float) -> None:
        """Correct the charge. `usage` None: no answer; then `charged` False gives tokens back."""
        if held.scout:
            self.scouting -= 1
        if self.wire == "openai":
            return  # charged on admission, failures too: nothing ever comes back
        for bucket, amount, _ in held.taken:
            if bucket.dimension == INPUT:
                actual = _charged_input(self.wire, usage) if usage else (amount if charged else 0.0)
            elif bucket.dimension == OUTPUT:
                actual = usage.output_tokens if usage else (amount if charged else 0.0)
            else:
                continue
            if actual != amount:
                bucket.give_back(amount - actual, now)

    def learn(self, reports: Iterable[LimitReport], held: Reservation, now: float) -> None:
        """Take over what an answer's headers say; only the newest `sent_at` of each dimension counts."""
        marks = {bucket.dimension: mark for bucket, _, mark in held.taken}
        for report in reports:
            if report.limit > 0:
                self._learn_one(report, held.sent_at, marks, now)

    def answered_without_headers(self, now: float) -> None:
        """The scout came back and told nothing: start slowly."""
        if self.unknown:
            self.buckets[REQUESTS] = SlowStart(now)
            self.unknown = False

    def _learn_one(self, report: LimitReport, sent_at: float, marks: dict[str, Mark], now: float) -> None:
        daily = report.window_s is not None and report.window_s > 3600.0
        dimension = DAILY if daily and report.dimension == REQUESTS else report.dimension
        if dimension not in self._dimensions or (daily and dimension != DAILY):
            return  # a daily token limit: the minute's bucket must not be cut to it
        bucket = self.buckets.get(dimension)
        if bucket is None or isinstance(bucket, SlowStart):
            bucket = self._first_report(dimension, report, now)
        elif sent_at < bucket.newest_report:
            return
        bucket.newest_report = sent_at
        bucket.set_limit(report.limit, self._burst_of(dimension))
        if report.remaining is not None:
            bucket.refill(now)
            mark = marks.get(dimension)
            since = bucket.spent - mark.spent_by(sent_at + ARRIVAL_S) if mark is not None else 0.0
            slack = bucket.limit * min(self._burst_of(dimension) / bucket.window_s, 1.0) - bucket.capacity
            left = report.remaining - slack + (now - sent_at) * bucket.rate - since
            bucket.level = min(bucket.level, left)

    def _first_report(self, dimension: str, report: LimitReport, now: float) -> Bucket:
        window_s = DAY_S if dimension == DAILY else 60.0
        bucket = Bucket(dimension, float(report.limit), window_s, self._burst_of(dimension), now, told=False)
        if (before := self.buckets.get(dimension)) is not None:  # what went through the slow start went
            bucket.spent, bucket.mark, bucket.told = before.spent, before.mark, before.told
            bucket.at = max(before.at, now)
        self.buckets[dimension] = bucket
        self.unknown = False
        return bucket

    def rate_limited(self, retry_after_s: float | None, sent_at: float, now: float) -> None:
        """A 429: hold the group, and start empty after it."""
        slow = self.buckets.get(REQUESTS)
        if isinstance(slow, SlowStart):
            slow.cut(sent_at, now)
        elif self.unknown:
            self.buckets[REQUESTS] = SlowStart(now, met=True)
            self.unknown = False
        elif slow is not None and slow.newest_report == float("-inf"):
            self.buckets[REQUESTS] = felt = SlowStart(now, slow.rate * CUT, met=True, told=slow.told)
            felt.spent, felt.mark, felt.level = slow.spent, slow.mark, min(slow.level, felt.capacity)
        if not retry_after_s or retry_after_s < 0.0:  # told nothing, or to come back at once
            fresh = sent_at > self.held_until - self._hold_s()
            self._holds += fresh
            retry_after_s = self._hold_s()
        self.hold(now + retry_after_s, "429", now)

    def _hold_s(self) -> float:
        """The hold after so many 429s in a row."""
        return min(HOLD_BASE_S * 2.0 ** min(max(self._holds - 1, 0), 16), HOLD_MAX_S)

    def hold(self, until: float, reason: str, now: float) -> None:
        """Nothing goes before `until`; a hold is never shortened by a later, shorter one."""
        if until <= max(self.held_until, now):
            return
        self.held_until, self.hold_reason = until, reason
        for bucket in self.buckets.values():
            if bucket.dimension != DAILY:
                bucket.empty(until)

    def release(self, now: float) -> None:
        """Someone says that it may go on (resume)."""
        self.held_until = min(self.held_until, now)
        self._holds = 0
        for bucket in self.buckets.values():  # they refill from now on, not from the end of the hold
            bucket.at = min(bucket.at, now)

    def succeeded(self) -> None:
        self._holds = 0

    def gauges(self, now: float) -> tuple[LimitGauge, ...]:
        """Every bucket as a gauge, for pages."""
        found = []
        for bucket in self.buckets.values():
            bucket.refill(now)
            per_minute = bucket.rate * 60.0 if bucket.rate else bucket.limit
            found.append(
                LimitGauge(
                    self.name, bucket.dimension, bucket.level, bucket.capacity, per_minute,
                    _source(bucket), bucket.window_s,
                )
            )  # fmt: skip
        return tuple(found)

    def export(self) -> dict[str, float | bool]:
        """What is worth knowing after a restart: `{dimension: limit per window}` of what was learned."""
        known: dict[str, float | bool] = {}
        for dimension, bucket in self.buckets.items():
            if isinstance(bucket, SlowStart):
                known["slow_start_rate"] = bucket.rate
                known["slow_start_met"] = bucket.met
            elif bucket.told is None:
                known[dimension] = bucket.limit
        return known

    def restore(self, known: Mapping[str, float | bool], now: float) -> None:
        """Take over an `export`; buckets start empty, since nobody knows what went meanwhile.

        Not the day's: empty, it would let a call through every few seconds until tomorrow. What is left of
        it the next answer tells.
        """
        for dimension in self._dimensions:
            limit = known.get(dimension)
            if limit and dimension not in self.buckets:
                bucket = self._first_report(dimension, LimitReport(dimension, int(limit)), now)
                bucket.level = bucket.capacity if dimension == DAILY else 0.0
        if not self.buckets and (rate := known.get("slow_start_rate")):
            self.buckets[REQUESTS] = SlowStart(now, float(rate), met=bool(known.get("slow_start_met")))
            self.buckets[REQUESTS].level = 0.0
            self.unknown = False


def _source(bucket: Bucket) -> str:
    if isinstance(bucket, SlowStart):
        return "slow_start"
    return "told" if bucket.told is not None else "learned"


def _charged_input(wire: str, usage: Usage) -> float:
    """Input tokens that count: Anthropic leaves cache reads out, Gemini counts the whole prompt."""
    if wire == "anthropic":
        return usage.input_tokens + usage.cache_write_tokens
    return usage.prompt_tokens
