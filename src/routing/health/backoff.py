"""How long a provider that was overloaded gets no calls.

    each overload in a row    BACKOFF_BASE_S x 2 ** count, at most BACKOFF_MAX_S, spread by 20 % either way;
                              or the time that the provider named, at most STATED_MAX_S
    after the wait            one call goes first, and the others wait for its end
    an answer                 ends it, if its call was sent after the one that began it

Calls that were sent before the back-off began are of the burst that began it, and count once. An overload is
ignored where back-offs were needless lately, as with single rows that always meet one. A time-out counts as
an overload without a wait.
"""

from __future__ import annotations

BACKOFF_BASE_S = 0.4
BACKOFF_MAX_S = 4.0  # the third overload in a row opens the breaker, whose timer takes over
STATED_MAX_S = 60.0
NEEDLESS_AT_MOST = 3  # doublings of the overloads in a row that make it back off
_COUNT_AT_MOST = 7
_GOLDEN = 0.618033988749895  # multiples of it, modulo 1, are spread evenly (Weyl)


class BackOff:
    """The back-off of one provider. All times are UTC epoch seconds passed in as `now`."""

    __slots__ = ("_needless", "_permit", "began_at", "count", "is_stated", "trial", "trial_until", "until")

    def __init__(self) -> None:
        self.until = 0.0
        self.count = 0  # overloads in a row, a burst counted once: the exponent of the wait
        self.began_at = float("-inf")  # calls sent before are of the burst that began it
        self.is_stated = False  # the provider named the time itself
        self.trial = 0  # the permit of the one call that goes first after it ...
        self.trial_until = 0.0  # ... and until when the others wait for it
        self._permit = 0  # of the call that began it
        self._needless = 0  # back-offs lately that the first call after them ended

    def call_placed(self, permit: int, trial_until: float) -> None:
        """A call goes to the provider; during a back-off it is the one that goes first."""
        if self.count:
            self.trial, self.trial_until = permit, trial_until

    def call_ended(self, permit: int) -> None:
        """A call has ended, in any way."""
        if permit == self.trial:
            self.trial = 0

    def overloaded(
        self, permit: int, placed_at: float, stated_s: float, now: float, *, ignores: bool
    ) -> None:
        """A call met an overload. `stated_s`: the wait that the provider named, 0.0 where it named none.

        `ignores`: overloads without such a time begin no back-off now, see `is_needless`.
        """
        stated_s = min(stated_s, STATED_MAX_S)
        if placed_at > self.began_at:
            if not stated_s and ignores:
                return
            self.count = min(self.count + 1, _COUNT_AT_MOST)
            self.began_at, self._permit = now, permit
            wait_s = stated_s or min(BACKOFF_BASE_S * 2.0**self.count, BACKOFF_MAX_S)
            self.until = max(self.until, now + wait_s * _spread(permit))
            self.is_stated = stated_s > 0.0
        elif stated_s:  # sent before: counted from when the back-off began
            self.until = max(self.until, self.began_at + stated_s)
            self.is_stated = True

    def timed_out(self, permit: int, placed_at: float, now: float) -> None:
        """A call was not answered in time: without a wait, but one call goes first."""
        if placed_at > self.began_at:
            self.count = max(self.count, 1)
            self.began_at, self._permit = now, permit

    def answered(self, permit: int, placed_at: float) -> None:
        """A call was answered."""
        if permit <= self._permit:
            return  # sent before the call that began it
        if self.count == 1:
            self._needless = min(self._needless + 1, NEEDLESS_AT_MOST)
        self.count = 0
        if not self.is_stated:
            self.until = min(self.until, placed_at)

    def is_needless(self, failures_in_row: int, window_s: float, now: float) -> bool:
        """Whether so few failures in a row are no reason to back off, after back-offs that were needless."""
        if now - self.began_at > window_s:
            self._needless = 0
        return 0 < failures_in_row < 1 << self._needless


def _spread(permit: int) -> float:
    """A factor of 0.8 to 1.2 by the permit's number, so that calls do not come back together."""
    return 0.8 + 0.4 * ((permit * _GOLDEN) % 1.0)
