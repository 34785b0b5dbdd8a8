"""Where nothing is known of a limit: feel for it, with few 429s.

    START_RATE requests per second, x GROWTH per clean second of real use up to the first 429. That one says
    only that the pace was too high, and not since when: a bucket had to be emptied before. So FIRST_CUT of
    it, or EXCESS x what went through on average, whichever is less.

    From then on the pace can be measured: at a 429 the provider's bucket is empty, so what passes until the
    next one is what it earned at the least. SAFE of that at each further 429, and after CLEAN_S clean seconds
    x RECOVERY per second, or more where few calls were measured. While fewer than ENOUGH have passed, they
    count on to the next 429, and the pace is cut by CUT, down to FIRST_CUT where what went came to less;
    before the first measurement it grows by CATCH_UP.

What has passed is proven for PROVEN_S. A later measurement of fewer than SURELY calls does not undercut it:
where single calls are refused by chance, two of them come soon after one another too. A 429 at a pace that is
not above the proven one contradicts the inference: see `rejections.py`.

START_RATE and GROWTH by simulation over 60 s, true limits from 0.25/s to 100/s and answers after 0.5 and 2 s:
8/s and 1.8 draw 3 or 4 answers 429 at 10/s and 15/s, use 0.92, and pass 200 calls without a limit in 6.2 s.
10/s and 1.8 need 5.9 s and draw one more.

BURST_S is short, and the pace grows in steps of STEP_S: a burst that overruns the limit draws a 429 with each
call. A step counts as real use when at least USED of what it allowed was sent, so an idle provider's rate
does not grow on its own.
"""

from __future__ import annotations

import math

from .rejections import Stretch
from .token_bucket import MINUTE_S, REQUESTS, Bucket

START_RATE = 8.0
GROWTH = 1.8
BURST_S = 0.1
STEP_S = 0.25
USED = 0.8
FIRST_CUT = 0.5
EXCESS = 1.2  # growth wastes what the provider's bucket earned while it was full: the average is too low
CUT = 0.7
DISTRUST = 0.85  # of a configured limit that has drawn a 429: it may have been timing
SAFE = 0.95
ENOUGH = 4  # calls between two 429s from which a pace is taken
CATCH_UP = 1.06
RECOVERY = 1.01
CLEAN_S = 5.0
CLEAN_CALLS = 8
SURELY, PROVEN_S = 12, 60.0
SLACK = 1.05  # SAFE x SLACK is below 1
LEAST_RATE = 0.2
LEAST_OF_CONFIGURED = 0.02


class AdaptiveLimit(Bucket):
    """Infers requests per second where none are reported: grows while used in full and without a 429."""

    __slots__ = (
        "_admitted",
        "_clean_calls",
        "_clean_since",
        "_count",
        "_counted_from",
        "_cut_at",
        "_cut_passed",
        "_cut_span_s",
        "_least_rate",
        "_measured",
        "_proven",
        "_proven_at",
        "_step_at",
        "met",
    )
    is_steady = False

    def __init__(
        self, now: float, rate: float = START_RATE, *, met: bool = False, configured: float | None = None
    ) -> None:
        super().__init__(REQUESTS, rate * MINUTE_S, MINUTE_S, BURST_S, now, configured=False)
        self.configured = configured
        self._least_rate = max(LEAST_RATE, LEAST_OF_CONFIGURED * (configured or 0.0) / MINUTE_S)
        self._clean_since = now
        self._clean_calls = 0
        self._step_at = now
        self._admitted = 0  # in this second
        self._count, self._counted_from = 0, now  # since the last 429, or since the start
        self._cut_at = now if met else -math.inf
        self.met = met  # whether a 429 has shown where the limit is
        self._measured = met
        self._cut_passed, self._cut_span_s = 0, 0.0  # of the last cut, where it was measured
        self._proven, self._proven_at = 0.0, now  # the pace that passed at the least
        self._set_rate(rate)

    def take(self, amount: float) -> None:
        super().take(amount)
        self._admitted += 1
        self._count += 1
        self._clean_calls += 1

    def refill(self, now: float) -> None:
        if now - self._step_at >= STEP_S:
            self._grow(now)
        super().refill(now)

    def _earned_in_s(self, amount: float) -> float:
        """As if it were used to the full and drew no 429: while the limit is not met the rate grows."""
        if self.met:
            return super()._earned_in_s(amount)
        return math.log1p(amount * math.log(GROWTH) / self.rate) / math.log(GROWTH)

    def cut(self, sent_at: float, now: float) -> None:
        """A 429: less. Calls that were sent before the last cut were refused too, and say nothing else."""
        if sent_at < self._cut_at:
            if self._cut_passed:
                self._cut_passed -= 1
                self._set_rate(self._least(self._cut_passed, self._cut_span_s))
                if self._proven_at == self._cut_at:
                    self._proven = self.rate
            return
        self._cut_passed, was_met = 0, self.met
        self._set_rate(max(self._pace_after_429(now), self._least_rate))
        if was_met and not self._cut_passed:
            self._count -= 1  # the one that was refused did not pass; those before it count on
        self._begin_again(now, counting=self._cut_passed > 0 or not was_met)

    def not_passed(self) -> None:
        """A call was refused for a reason that is not the pace."""
        self._count = max(0, self._count - 1)

    def cut_to_what_passed(self, stretch: Stretch, now: float) -> None:
        """Down to what has passed in a stretch in which most calls were refused."""
        self._measured = True
        span_s = now - stretch.began_at
        if stretch.passed >= ENOUGH and span_s > 0.0:
            self._set_rate(min(self.rate * FIRST_CUT, stretch.passed / span_s))
        else:
            self._set_rate(self.rate * FIRST_CUT)
        self._cut_passed, self._proven = 0, 0.0
        self._begin_again(now)

    def is_contradicted(self, sent_at: float) -> bool:
        """Whether a 429 comes although the pace is not above what was measured to pass."""
        return sent_at >= self._cut_at and self.rate <= SLACK * self._proven

    def _begin_again(self, now: float, *, counting: bool = True) -> None:
        self.met = True
        self._cut_at = self._clean_since = now
        self._clean_calls = 0
        if counting:
            self._count, self._counted_from = 0, now

    def _pace_after_429(self, now: float) -> float:
        passed, span_s = self._count - 1, now - self._counted_from  # the one that was refused did not
        if not self.met:
            measured = passed / max(span_s, 0.5) if passed >= ENOUGH else math.inf
            return min(self.rate * FIRST_CUT, EXCESS * measured)
        self._measured = True
        if passed >= ENOUGH and span_s > 0.0:
            self._cut_passed, self._cut_span_s = passed, span_s
            least = self._least(passed, span_s)
            if passed >= SURELY or now - self._proven_at > PROVEN_S:
                self._proven = 0.0
            if least >= self._proven:
                self._proven, self._proven_at = least, now
            return min(self.rate, self._proven)
        went = (passed + 1) / span_s if span_s >= 1.0 else math.inf
        return min(CUT * self.rate, max(FIRST_CUT * self.rate, went))

    def _least(self, passed: int, span_s: float) -> float:
        """What the provider lets through at the least, where so many calls passed between two 429s."""
        return max(min(self.rate, SAFE * (passed - 1) / span_s), self._least_rate)

    def _grow(self, now: float) -> None:
        passed_s = now - self._step_at
        used = self._admitted >= USED * self.rate * passed_s
        clean = now - self._clean_since >= CLEAN_S and self._clean_calls >= CLEAN_CALLS
        if used and (clean if self._measured else now - self._clean_since >= 1.0):
            self._set_rate(self.rate * self._growth() ** min(passed_s, 1.0))
        self._step_at, self._admitted = now, 0

    def _growth(self) -> float:
        if not self.met:
            return GROWTH
        if not self._measured or not self._cut_passed:
            return CATCH_UP
        return max(RECOVERY, min(CATCH_UP, 1.0 + 0.2 / self._cut_passed))

    def _set_rate(self, rate: float) -> None:
        if self.configured is not None:
            rate = min(rate, self.configured / MINUTE_S)
        self.rate = rate
        self.limit = rate * MINUTE_S
        self.margin = 0.0
        self.capacity = max(1.0, rate * BURST_S)
        self.level = min(self.level, self.capacity)
