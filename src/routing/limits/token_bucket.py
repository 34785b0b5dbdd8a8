"""Token buckets: one dimension of one limit, refilled continuously as the providers' own are.

    wait_s   seconds until a need fits; infinity: never
    take     charge a call, only after `wait_s` was 0
    correct  replace an estimate by the real charge
    empty    start from nothing at a moment (after a hold, a restart)

Why a margin: a bucket as large as the server's causes 429s by timing alone, since two calls sent one refill
apart may arrive closer together. The network delay differs, so the margin is a time: MARGIN of the bucket,
but at most MARGIN_S of its rate. The rate is the full one, so the margin costs capacity only once.

Why a bucket that was idle refills late: it was full, and so was the server's, which earns nothing until the
first call arrives. New connections, and a loop with many calls to send, delay that arrival. The first return
proves it (`warm`). The bucket waits for it for COLD_S at most, less the time that the margin covers.

A call larger than the capacity but within one window's limit goes at a full bucket and takes it below
zero. Otherwise `take` never does; corrections may, and nothing is admitted until the level is back.
"""

from __future__ import annotations

import math

from ...pacific import next_midnight_pacific

MARGIN = 0.05
MARGIN_S = 0.4
IDLE_S = 2.0  # after so long at full level, connections may be closed
COLD_S = 1.0  # how long a first call over such a connection may take to arrive
TICK_S = 1e-6  # epoch seconds as floats are 2e-7 apart: a shorter wait than this would never end
MINUTE_S = 60.0
DAY_S = 86_400.0

REQUESTS, TOKENS, INPUT, OUTPUT, DAILY = (
    "requests",
    "tokens",
    "input_tokens",
    "output_tokens",
    "requests_per_day",
)

# Where a call's need stands in `limits.Need`, by dimension.
PLACE_IN_NEED = {INPUT: 0, OUTPUT: 1, TOKENS: 2, REQUESTS: 3, DAILY: 3}


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
        "configured",
        "dimension",
        "full_since",
        "level",
        "limit",
        "margin",
        "mark",
        "newest_report",
        "place",
        "rate",
        "refills_from",
        "spent",
        "window_s",
    )
    is_steady = True  # its rate does not change by itself

    def __init__(
        self, dimension: str, limit: float, window_s: float, burst_s: float, now: float, *, configured: bool
    ) -> None:
        self.dimension = dimension
        self.place = PLACE_IN_NEED[dimension]
        self.window_s = window_s
        self.configured = limit if configured else None  # a ceiling for what headers report
        self.at = now
        self.full_since = self.refills_from = -math.inf
        self._size(limit, burst_s)
        self.level = self.capacity
        self.spent = 0.0  # everything ever reserved: two readings differ by the amount reserved between them
        self.mark = Mark(now, 0.0)
        self.newest_report = -math.inf

    def _size(self, limit: float, burst_s: float) -> None:
        self.limit, self.rate = limit, limit / self.window_s
        full = limit * min(burst_s / self.window_s, 1.0)
        self.margin = self.timing(full) if self.window_s < DAY_S else 0.0  # timing is nothing beside a day
        self.capacity = full - self.margin

    def timing(self, units: float) -> float:
        """What differences in the time on the way can amount to, in units."""
        return min(MARGIN * units, MARGIN_S * self.rate)

    def refill(self, now: float) -> None:
        """Add what the rate has earned since the last time, up to the capacity."""
        at = self.at
        if now <= at:
            return
        self.at = now
        if self.refills_from > at:
            at = self.refills_from
            if at >= now:
                return
        level = self.level + (now - at) * self.rate
        if level < self.capacity:
            self.level = level
        elif self.level < self.capacity:
            self.full_since = now - (level - self.capacity) / self.rate
            self.level = self.capacity

    def wait_s(self, need: float, now: float) -> float:
        """Seconds until `need` fits; 0 now, infinity never."""
        if need > self.limit:
            return math.inf
        if now > self.at:
            self.refill(now)
        wanted = need if need < self.capacity else self.capacity
        if self.level >= wanted:
            return 0.0
        wait = (wanted - self.level) / self.rate
        if self.refills_from > now:
            wait += self.refills_from - now
        return wait if wait > TICK_S else 0.0

    def room_s(self, now: float) -> float:
        """The level in seconds of its rate, below zero while it is held; in units where it never refills."""
        self.refill(now)
        if not self.rate:
            return self.level
        return self.level / self.rate - max(self.at - now, self.refills_from - now, 0.0)

    def drain_s(self, amount: float, now: float) -> float:
        """Seconds until `amount` has gone through, call after call; infinity: never."""
        self.refill(now)
        missing = max(amount - self.level, 0.0)
        return max(self.at - now, 0.0) + self._earned_in_s(missing) if missing else 0.0

    def _earned_in_s(self, amount: float) -> float:
        return amount / self.rate if self.rate else math.inf

    def take(self, amount: float) -> None:
        """Charge a call. One above the capacity pays the margin on top: the next is that much later."""
        at, level = self.at, self.level
        if level >= self.capacity and at - self.full_since >= IDLE_S and self.rate:
            self.refills_from = at + COLD_S - self.margin / self.rate
        self.level = level - (amount if amount <= self.capacity else amount + self.timing(amount))
        self.spent += amount
        if at > self.mark.at:
            self.mark.after = Mark(at, self.spent)
            self.mark = self.mark.after
        else:
            self.mark.spent = self.spent

    def warm(self, now: float) -> None:
        """A call has returned: what was sent with it has arrived, and the provider's bucket refills."""
        self.refills_from = min(self.refills_from, max(now, self.at))

    def correct(self, amount: float, now: float) -> None:
        """Give back (positive) or take (negative) what a call's charge differs from its reservation."""
        self.refill(now)
        most = self.capacity if now >= self.at else 0.0  # on hold: it starts empty
        self.level = min(self.level + amount, max(most, self.level))

    def lower(self, level: float) -> None:
        """The provider states that only this much is left."""
        self.level = min(self.level, level)

    def empty(self, at: float) -> None:
        """Start empty at `at`."""
        self.level = min(self.level, 0.0)
        self.at = max(self.at, at)

    def set_limit(self, limit: float, burst_s: float) -> None:
        """The provider states another limit: the rate follows, the level only ever shrinks."""
        if self.configured is not None:
            limit = min(limit, self.configured)
        if limit == self.limit:
            return
        self._size(limit, burst_s)
        self.level = min(self.level, self.capacity)

    def follow(self, before: Bucket) -> None:
        """Replace `before`; its reservations stay counted."""
        self.spent, self.mark, self.full_since = before.spent, before.mark, before.full_since
        self.at = max(before.at, self.at)


class DailyCounter(Bucket):
    """A fixed window to midnight Pacific: exactly `limit` requests pass, then none until it ends."""

    __slots__ = ("resets_at",)

    def __init__(self, limit: float, now: float) -> None:
        super().__init__(DAILY, limit, DAY_S, DAY_S, now, configured=True)
        self.rate = 0.0
        self.capacity = self.level = limit
        self.resets_at = next_midnight_pacific(now)

    def refill(self, now: float) -> None:
        """Fill up at the end of the window."""
        if now >= self.resets_at:
            self.level = self.capacity
            self.resets_at = next_midnight_pacific(now)
        self.at = max(now, self.at)

    def wait_s(self, need: float, now: float) -> float:
        """Seconds until `need` fits: 0, or until the window ends."""
        self.refill(now)
        return 0.0 if self.level >= need else self.resets_at - now
