"""Where nothing is known of a limit: feel for it, with few 429s.

    START_RATE requests per second, x GROWTH per clean second of real use up to the first 429. That one says
    only that the pace was too high, and not since when: a bucket had to be emptied before. So FIRST_CUT of
    it, or EXCESS x what went through on average, whichever is less.

    From then on the pace can be measured: between two 429s the provider's bucket goes from empty to empty,
    so what went through meanwhile is what it earned. SAFE of that at each further 429 (CUT of the pace while
    too little has gone through to measure, down to FIRST_CUT where what went came to less), and x RECOVERY
    per second after CLEAN_S clean seconds; before the first measurement x CATCH_UP.

START_RATE and GROWTH by simulation over 60 s, true limits from 0.25/s to 100/s and answers after 0.5 and 2 s:
2/s and 1.5 use 0.86 to 0.88 of 10/s and 15/s, 4/s and 1.5 use 0.91, both with at most 3 answers 429; a growth
of 2 draws more of them (15 at 100/s instead of 9) and uses no more.

Half a second of burst. A second counts as real use when at least half of what it allowed was sent, so an
idle provider's rate does not grow on its own.
"""

from __future__ import annotations

import math

from .token_bucket import MINUTE_S, REQUESTS, Bucket

START_RATE = 4.0
GROWTH = 1.5
BURST_S = 0.5
FIRST_CUT = 0.5
EXCESS = 1.2  # growth wastes what the provider's bucket earned while it was full: the average is too low
CUT = 0.7
DISTRUST = 0.85  # of a configured limit that has drawn a 429: it may have been timing
SAFE = 0.95
ENOUGH = 4  # calls between two 429s from which a pace is taken
CATCH_UP = 1.06
RECOVERY = 1.01
CLEAN_S = 5.0


class AdaptiveLimit(Bucket):
    """Infers requests per second where none are reported: grows while used in full and without a 429."""

    __slots__ = (
        "_admitted",
        "_clean_since",
        "_count",
        "_counted_from",
        "_cut_at",
        "_measured",
        "_second_at",
        "met",
    )
    is_steady = False

    def __init__(
        self, now: float, rate: float = START_RATE, *, met: bool = False, configured: float | None = None
    ) -> None:
        super().__init__(REQUESTS, rate * MINUTE_S, MINUTE_S, BURST_S, now, configured=False)
        self.configured = configured
        self._clean_since = now
        self._second_at = now
        self._admitted = 0  # in this second
        self._count, self._counted_from = 0, now  # since the last 429, or since the start
        self._cut_at = now if met else -math.inf
        self.met = met  # whether a 429 has shown where the limit is
        self._measured = met
        self._set_rate(rate)

    def take(self, amount: float) -> None:
        super().take(amount)
        self._admitted += 1
        self._count += 1

    def refill(self, now: float) -> None:
        if now - self._second_at >= 1.0:
            self._grow(now)
        super().refill(now)

    def _earned_in_s(self, amount: float) -> float:
        """As if it were used to the full and drew no 429: while the limit is not met the rate grows."""
        if self.met:
            return super()._earned_in_s(amount)
        return math.log1p(amount * math.log(GROWTH) / self.rate) / math.log(GROWTH)

    def cut(self, sent_at: float, now: float) -> None:
        """A 429: less. Calls that were sent before the last cut say nothing new."""
        if sent_at < self._cut_at:
            return
        self._set_rate(max(self._pace_after_429(now), START_RATE / 20.0))
        self.met = True
        self._cut_at = self._clean_since = self._counted_from = now
        self._count = 0

    def _pace_after_429(self, now: float) -> float:
        passed = self._count - 1  # the one that was refused did not
        measured = passed / max(now - self._counted_from, 0.5) if passed >= ENOUGH else math.inf
        if not self.met:
            return min(self.rate * FIRST_CUT, EXCESS * measured)
        self._measured = True
        if measured < math.inf:
            return SAFE * min(self.rate, measured)
        since_s = now - self._counted_from
        went = self._count / since_s if since_s >= 1.0 else math.inf  # with the one that was refused
        return min(CUT * self.rate, max(FIRST_CUT * self.rate, went))

    def _grow(self, now: float) -> None:
        used = self._admitted >= 0.5 * self.rate
        if used and now - self._clean_since >= (CLEAN_S if self._measured else 1.0):
            self._set_rate(self.rate * self._growth())
        self._second_at, self._admitted = now, 0

    def _growth(self) -> float:
        if not self.met:
            return GROWTH
        return RECOVERY if self._measured else CATCH_UP

    def _set_rate(self, rate: float) -> None:
        if self.configured is not None:
            rate = min(rate, self.configured / MINUTE_S)
        self.rate = rate
        self.limit = rate * MINUTE_S
        self.margin = 0.0
        self.capacity = max(1.0, rate * BURST_S)
        self.level = min(self.level, self.capacity)
