"""Token limits: how much of each provider's quota is left, by its own rules.

A *model group* is the models of one provider that share their limits. It owns one bucket per dimension
(requests, tokens, input_tokens, output_tokens, requests_per_day); see `token_bucket.py`.

    reserve   before the call: the group's buckets are charged what the provider will charge at most
    settle    after it: charged what the provider really charged (the charge rules below)
    learn     from an answer's headers: the level is lowered to what the provider says is left; only
              the stated limit may raise rate or capacity
    hold      after a 429: nothing is admitted until then, and the bucket starts empty; where a spent quota
              names a time before its reset (`probe_from`), one call goes then, and its success ends the hold

What is counted, and how it is charged, is the API's: the `limits` of its row in `providers/api_formats.py`.
Anthropic, for instance, counts input without cache reads and output as produced, both settled after the call;
OpenAI charges max(max_tokens, characters / 4) on admission, and nothing comes back.

A call above the limit of a whole window is refused. The rate of requests is inferred if neither the settings
nor a header state it, even if they state other limits: one probe at a time goes until an answer has headers.
An answer that states no request limit starts the search of `adaptive_limit.py`. A configured limit that draws
a 429, while no header states another, is inferred in the same way: from DISTRUST of it, and never above it.
So an unstated limit on tokens is kept as a rate of requests.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ...limit_rules import LimitRules
from ...records import LimitGauge, LimitReport, LimitSource, RefusalKind, Usage
from ...settings import LimitSettings
from .adaptive_limit import DISTRUST, START_RATE, AdaptiveLimit
from .attribution import Evidence
from .rejections import Rejections, Stretch
from .token_bucket import DAILY, DAY_S, INPUT, MINUTE_S, OUTPUT, REQUESTS, Bucket, DailyCounter, Mark

HOLD_BASE_S = 1.0
HOLD_MAX_S = 60.0
MEMORY_S = 60.0  # within that, 429s are of one series
SPARE = 0.6  # of a stated limit: with so much unused at a 429 the limit is hardly the cause
MAX_INFERRED_RATE = 10_000.0  # requests a second, where a pace that was never measured is resumed
LONG_HOLD_S = 3_600.0  # a hold for longer is a quota that is spent, not a pace that was too fast
ARRIVAL_S = (
    0.25  # calls sent so soon after another may arrive before it, and count in what it reports as left
)


class Need(NamedTuple):
    """What one call may draw, in the order of `buckets.PLACE_IN_NEED`."""

    input_tokens: int  # estimated
    output_tokens: int  # learned p90 of the output, at most max_tokens
    tokens: int  # what OpenAI charges on admission: max(max_tokens, characters / 4)
    calls: float = 1.0


ONE_CALL = Need(0, 0, 0)  # where no tokens are counted


class Closed(NamedTuple):
    """Why not even the smallest call may go to a group; `until` None: until a call in flight returns."""

    kind: RefusalKind
    until: float | None
    detail: str = ""


_OPEN = (None, 0.0)
_UNKNOWN = Closed(RefusalKind.LIMITS_UNKNOWN, None)


@dataclass(slots=True)
class Reservation:
    """What one call holds in its group's buckets, settled exactly once by the balancer."""

    sent_at: float
    taken: tuple[tuple[Bucket, float, Mark], ...]
    limit_probe: bool = False
    probe: bool = False  # it goes through a hold, to see whether the quota is spent


LearnedLimits = Mapping[
    str, float | bool
]  # limit per window by dimension, as `RateLimitGroup.export` returns it


class RateLimitGroup:
    """The limits of the models of one provider that share them."""

    __slots__ = (
        "_before_429",
        "_burst_s",
        "_calls",
        "_dimensions",
        "_has_spare",
        "_holds",
        "_in_flight",
        "_paced_at",
        "_rules",
        "_shut",
        "_token_burst_s",
        "buckets",
        "cold_until",
        "counts_tokens",
        "evidence",
        "head_of_line",
        "held_detail",
        "held_kind",
        "held_long",
        "held_until",
        "limit_probes",
        "name",
        "probe_at",
        "probing",
        "rejections",
        "token_buckets",
        "unknown",
    )

    def __init__(self, name: str, rules: LimitRules, configured: LimitSettings, now: float) -> None:
        self.name, self._rules = name, rules
        self._dimensions = tuple(dict.fromkeys(rules.counted.values()))
        self._burst_s = configured.burst_s or 1.0
        self._token_burst_s = configured.token_burst_s or MINUTE_S
        self.buckets: dict[str, Bucket] = {}
        self._calls: list[Bucket] = []  # those that every call draws one from
        self.token_buckets: list[Bucket] = []  # those whose draw depends on the call
        self.counts_tokens = False  # whether a call's size matters here
        self.held_until = 0.0
        self.held_long = False
        self.cold_until = 0.0  # until then the first return changes what is admitted
        self.held_kind = RefusalKind.HELD_AFTER_429
        self.held_detail = ""
        self.probe_at = math.inf  # when one call may go although the group is held
        self.probing = False  # and it is in flight
        self._shut: tuple[Closed | None, float] = _OPEN  # what `closed` has said, while only time changes it
        self.rejections = Rejections()
        self.evidence = Evidence()  # for which 429s are their rows' own
        self._before_429: Bucket | float | None = None  # or its pace, where it was inferred
        self._in_flight = 0  # calls reserved and not settled
        self._paced_at = -math.inf  # when that was noted
        self._has_spare = False  # whether most of a stated limit was unused at the newest 429
        self._holds = 0  # 429s without Retry-After in a row: the exponent of the hold
        self.limit_probes = 0  # calls in flight that find out the limits
        # (queue place, until) of the oldest task that waits for room here: a younger one may not pass it
        self.head_of_line: tuple[tuple[float, ...], float] | None = None
        self.unknown = True  # the request limit is neither configured nor reported: probe
        self._configure(configured, now)

    def _put(self, bucket: Bucket) -> None:
        self.buckets[bucket.dimension] = bucket
        self._calls = [b for b in self.buckets.values() if b.dimension in (REQUESTS, DAILY)]
        self.token_buckets = [b for b in self.buckets.values() if b.dimension not in (REQUESTS, DAILY)]
        self.counts_tokens = bool(self.token_buckets)
        self.unknown = REQUESTS not in self.buckets

    def _configure(self, configured: LimitSettings, now: float) -> None:
        for name, dimension in self._rules.counted.items():
            limit = getattr(configured, name)
            if limit is None or dimension in self.buckets:
                continue
            if dimension == DAILY and self._rules.day_ends_in_california:
                self._put(DailyCounter(limit, now))
                continue
            window_s = DAY_S if dimension == DAILY else MINUTE_S
            self._put(Bucket(dimension, limit, window_s, self._burst_of(dimension), now, configured=True))

    def _burst_of(self, dimension: str) -> float:
        if dimension == DAILY:
            return DAY_S
        return self._burst_s if dimension == REQUESTS else self._token_burst_s

    def closed(self, now: float) -> Closed | None:
        """Why not even the smallest call may go now; None when it may."""
        if now < self.held_until:
            if self._lets_probe(now):
                return None
            until = None if self.probing else min(self.held_until + self._first_room_s(), self.probe_at)
            return Closed(self.held_kind, until, self.held_detail)
        if self.unknown and self.limit_probes:
            return _UNKNOWN
        if now < self._shut[1]:
            return self._shut[0]
        for bucket in self._calls:
            if wait := bucket.wait_s(1.0, now):
                found = Closed(RefusalKind.RATE_LIMIT, now + wait, bucket.dimension)
                if bucket.is_steady:
                    self._shut = found, now + wait
                return found
        return None

    def _lets_probe(self, now: float) -> bool:
        return self.probe_at <= now < self.held_until and not self.probing

    def _first_room_s(self) -> float:
        """How long after a hold the first request fits: the bucket starts empty."""
        bucket = self.buckets.get(REQUESTS)
        return (min(1.0, bucket.capacity) - bucket.level) / bucket.rate if bucket is not None else 0.0

    def wait(self, need: Need, now: float) -> tuple[str, float]:
        """Where not `closed`: (tokens that bind, seconds until `need` fits); 0.0: now; infinity: never."""
        worst, name = 0.0, ""
        if self._lets_probe(now):
            return name, worst
        for bucket in self.token_buckets:
            wait = bucket.wait_s(need[bucket.place], now)
            if wait > worst:
                worst, name = wait, bucket.dimension
        return name, worst

    def drain_s(self, calls: int, need: Need, now: float) -> float:
        """How long until so many calls like this one have gone, if nothing but the limits keeps them."""
        return max((b.drain_s(calls * need[b.place], now) for b in self.buckets.values()), default=0.0)

    @property
    def stated_per_s(self) -> float | None:
        """Requests a second as a header or the configuration states them; None: that is not known."""
        bucket = self.buckets.get(REQUESTS)
        return None if bucket is None or isinstance(bucket, AdaptiveLimit) else bucket.rate

    @property
    def is_probing_limits(self) -> bool:
        """Whether a first call is in flight whose answer opens the group or reports its limits."""
        return self.unknown and self.limit_probes > 0

    def reserve(self, need: Need, now: float) -> Reservation:
        """Charge every bucket; only after `wait` said 0."""
        taken = []
        for bucket in self.buckets.values():
            amount = need[bucket.place]
            bucket.refill(now)
            bucket.take(amount)
            if bucket.refills_from > now:
                self.cold_until = max(self.cold_until, bucket.refills_from)
            taken.append((bucket, amount, bucket.mark))
        self._in_flight += 1
        if self.unknown:
            self.limit_probes += 1
        probe = self._lets_probe(now)
        self.probing = self.probing or probe
        return Reservation(now, tuple(taken), limit_probe=self.unknown, probe=probe)

    def settle(self, held: Reservation, usage: Usage | None, *, charged: bool, now: float) -> None:
        """Correct the charge. `usage` None: no answer; then `charged` False gives tokens back."""
        self._in_flight -= 1
        if held.limit_probe:
            self.limit_probes -= 1
        if held.probe:
            self.probing, self.probe_at = False, now + HOLD_MAX_S
        if now < self.cold_until:
            self.cold_until = 0.0
            self._shut = _OPEN
            for bucket in self.buckets.values():
                bucket.warm(now)
        if self._rules.charges_on_admission:
            return  # failures too: nothing ever comes back
        for bucket, amount, _ in held.taken:
            if bucket.dimension == INPUT:
                actual = self._charged_input(usage) if usage else (amount if charged else 0.0)
            elif bucket.dimension == OUTPUT:
                actual = usage.output_tokens if usage else (amount if charged else 0.0)
            else:
                continue
            if actual != amount:
                bucket.correct(amount - actual, now)

    def _charged_input(self, usage: Usage) -> float:
        if self._rules.counts_cache_reads:
            return usage.prompt_tokens
        return usage.input_tokens + usage.cache_write_tokens

    def learn(self, reports: Iterable[LimitReport], held: Reservation, now: float) -> None:
        """Take over what an answer's headers say; only the newest `sent_at` of each dimension counts."""
        marks = {bucket.dimension: mark for bucket, _, mark in held.taken}
        for report in reports:
            if report.limit > 0:
                self._learn_one(report, held.sent_at, marks, now)

    def answered_without_headers(self, now: float) -> None:
        """The probe came back without a request limit: start slowly."""
        if self.unknown:
            self._put(AdaptiveLimit(now))

    def _learn_one(self, report: LimitReport, sent_at: float, marks: dict[str, Mark], now: float) -> None:
        daily = report.window_s is not None and report.window_s > 3600.0
        dimension = DAILY if daily and report.dimension == REQUESTS else report.dimension
        if dimension not in self._dimensions or (daily and dimension != DAILY):
            return  # a daily token limit: the minute's bucket must not be cut to it
        bucket = self.buckets.get(dimension)
        if bucket is None or isinstance(bucket, AdaptiveLimit):
            bucket = self._first_report(dimension, report, now)
        elif sent_at < bucket.newest_report:
            return
        bucket.newest_report = sent_at
        self._shut = _OPEN
        bucket.set_limit(report.limit, self._burst_of(dimension))
        if report.remaining is not None:
            bucket.refill(now)
            mark = marks.get(dimension)
            since = bucket.spent - mark.spent_by(sent_at + ARRIVAL_S) if mark is not None else 0.0
            bucket.lower(report.remaining - bucket.margin + (now - sent_at) * bucket.rate - since)

    def _first_report(self, dimension: str, report: LimitReport, now: float) -> Bucket:
        window_s = DAY_S if dimension == DAILY else MINUTE_S
        bucket = Bucket(
            dimension, float(report.limit), window_s, self._burst_of(dimension), now, configured=False
        )
        if (before := self.buckets.get(dimension)) is not None:  # calls let through by the slow start count
            bucket.follow(before)
            bucket.configured = before.configured
        self._put(bucket)
        return bucket

    def rate_limited(self, retry_after_s: float | None, sent_at: float, now: float) -> None:
        """A 429: hold the group, and start empty after it; see `rejections.py` for where not.

        What was sent before the hold began is held for from then on, not anew.
        """
        rejections = self.rejections
        in_burst = sent_at <= rejections.began_at
        stretch = rejections.refused(sent_at, now, has_spare=self._has_spare, in_flight=self._in_flight)
        if rejections.is_stray(now):
            return
        slow = self.buckets.get(REQUESTS)
        if isinstance(slow, AdaptiveLimit) and slow.is_contradicted(sent_at):
            rejections.begin_stray(now)
            self.go_on_as_before(now)
            return
        if not in_burst:
            self._note_pace(slow, now)
        self._slow_down(slow, sent_at, stretch, now)
        if not retry_after_s or retry_after_s < 0.0:  # no time stated, or none to wait
            fresh = sent_at > self.held_until - self._hold_s()
            self._holds += fresh
            retry_after_s = self._hold_s()
        self.hold((rejections.began_at if in_burst else now) + retry_after_s, RefusalKind.HELD_AFTER_429, now)

    def refused_for_its_task(self) -> None:
        """A 429 that is its task's own, which holds nothing: but its call has not passed either."""
        slow = self.buckets.get(REQUESTS)
        if isinstance(slow, AdaptiveLimit):
            slow.not_passed()

    def _note_pace(self, slow: Bucket | None, now: float) -> None:
        """Remember what is restored where the 429s prove to be stray: the highest pace lately."""
        before = self._before_429
        if before is None or now - self._paced_at > MEMORY_S:
            self._before_429 = slow.rate if isinstance(slow, AdaptiveLimit) else slow
        elif isinstance(before, float) and isinstance(slow, AdaptiveLimit):
            self._before_429 = max(before, slow.rate)
        if slow is not None and not isinstance(slow, AdaptiveLimit):
            self._has_spare = slow.level >= SPARE * slow.capacity
        self._paced_at = now

    def _slow_down(self, slow: Bucket | None, sent_at: float, stretch: Stretch | None, now: float) -> None:
        """Cut the pace, or begin to infer it. `stretch`: of calls that showed that 429s are not stray."""
        if isinstance(slow, AdaptiveLimit):
            if self._has_spare and self.rejections.may_be_stray(self._in_flight):
                return
            self._has_spare = False
            if stretch is not None:
                slow.cut_to_what_passed(stretch, now)
                self._before_429 = None
            else:
                slow.cut(sent_at, now)
        elif self.unknown:
            self._put(AdaptiveLimit(now, met=True))
        elif slow is not None and slow.newest_report == -math.inf:
            inferred = AdaptiveLimit(now, slow.rate * DISTRUST, met=True, configured=slow.configured)
            self._put(inferred)
            inferred.follow(slow)
            inferred.level = min(slow.level, inferred.capacity)

    def go_on_as_before(self, now: float) -> None:
        """The 429s were stray: the hold ends, and the pace is what it was before them."""
        bucket, before, self._before_429 = self.buckets.get(REQUESTS), self._before_429, None
        self._has_spare = False
        if isinstance(bucket, AdaptiveLimit):
            if isinstance(before, Bucket):
                self._put(before)
            else:
                pace = min(max(before or START_RATE, bucket.rate), MAX_INFERRED_RATE)
                fresh = AdaptiveLimit(now, pace, configured=bucket.configured)
                fresh.follow(bucket)
                self._put(fresh)
        self._shut = _OPEN
        self.release(now)

    def _hold_s(self) -> float:
        """The hold after so many 429s in a row."""
        return min(HOLD_BASE_S * 2.0 ** min(max(self._holds - 1, 0), 16), HOLD_MAX_S)

    def hold(self, until: float, kind: RefusalKind, now: float, detail: str = "") -> None:
        """Nothing goes before `until`; a hold is never shortened by a later, shorter one."""
        if until <= max(self.held_until, now):
            return
        if now >= self.held_until:
            self.probe_at = math.inf
        self.held_until, self.held_kind, self.held_detail = until, kind, detail
        self.held_long = until - now > LONG_HOLD_S
        self._shut = _OPEN
        for bucket in self.buckets.values():
            if bucket.dimension != DAILY:
                bucket.empty(until)

    def probe_from(self, at: float, now: float) -> None:
        """One call may go at `at`, or at what was set before where that is later."""
        self.probe_at = max(at, self.probe_at) if now < self.probe_at < math.inf else at

    def release(self, now: float) -> None:
        """End the hold on request (resume)."""
        self.held_until = min(self.held_until, now)
        self._holds = 0
        for bucket in self.buckets.values():  # they refill from now on, not from the end of the hold
            bucket.at = min(bucket.at, now)

    def succeeded(self, held: Reservation | None = None, now: float = 0.0) -> None:
        """A call was answered; one that went through a hold ends it."""
        self._holds = 0
        if held is not None and held.probe:
            self.release(now)
        if held is None or not self.rejections.answered(held.sent_at, now, has_spare=self._has_spare):
            return
        if self.held_kind is RefusalKind.HELD_AFTER_429:
            self.go_on_as_before(now)

    def gauges(self, now: float) -> tuple[LimitGauge, ...]:
        """Every bucket as a gauge, for pages."""
        found = []
        for bucket in self.buckets.values():
            bucket.refill(now)
            per_minute = bucket.rate * MINUTE_S if bucket.rate else bucket.limit
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
            if isinstance(bucket, AdaptiveLimit):
                known["slow_start_rate"] = bucket.rate
                known["slow_start_met"] = bucket.met
            elif bucket.configured is None:
                known[dimension] = bucket.limit
        return known

    def restore(self, known: LearnedLimits, now: float) -> None:
        """Restore an `export`; buckets start empty, since calls made meanwhile are unknown.

        Not the day's: empty, it would let a call through every few seconds until tomorrow. What is left of
        it the next answer tells.
        """
        for dimension in self._dimensions:
            limit = known.get(dimension)
            if limit and dimension not in self.buckets:
                bucket = self._first_report(dimension, LimitReport(dimension, int(limit)), now)
                bucket.level = bucket.capacity if dimension == DAILY else 0.0
        if self.unknown and (rate := known.get("slow_start_rate")):
            bucket = AdaptiveLimit(now, float(rate), met=bool(known.get("slow_start_met")))
            bucket.level = 0.0
            self._put(bucket)


def _source(bucket: Bucket) -> LimitSource:
    if isinstance(bucket, AdaptiveLimit):
        return LimitSource.INFERRED
    return LimitSource.CONFIGURED if bucket.configured is not None else LimitSource.LEARNED
