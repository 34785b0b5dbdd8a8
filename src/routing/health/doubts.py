"""What one answer can't prove: that a key is bad (401, 403), or that a model is not there (404).

Both may pass: a gateway restarts, a deployment is being changed, a firewall dislikes one request. So the
first such answer raises a doubt, and a second look decides. The second look is the health check (the list of
models), which is due at once; where it shows nothing, the next call decides.

    state      event                                                        next
    ---------  -----------------------------------------------------------  ---------
    trusted    a call is refused                                            doubted
    doubted    the health check is refused as well, or lists other models   condemned
    doubted    the health check answers, and lists the model                vouched
    doubted    nothing from it for SECOND_LOOK_S                            lapsed
    lapsed     a call that was sent later is refused                        condemned
    vouched    a number of calls that were sent later are refused           condemned
    any        a call is answered                                           trusted

While it is doubted, no call goes there; but calls go on to a key or a model that has worked. A key that has
worked is condemned by the health check alone: else its refusals count for the breaker, or are the request's.

A condemned key is accepted again once the health check answers; where calls have condemned it although the
list of models is public, after `quota_probe_s`. A condemned model is tried by one call every `quota_probe_s`.
"""

from __future__ import annotations

import math

SECOND_LOOK_S = 5.0  # a health check takes 3 s at most


class Doubt:
    """Whether a key or a model is doubted. All times are UTC epoch seconds passed in as `now`."""

    __slots__ = ("needed", "newest_permit", "raised_at", "refusals", "status", "until")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Back to trusted."""
        self.raised_at = math.inf
        self.until = 0.0  # no call goes there before then
        self.newest_permit = 0  # calls sent up to then prove nothing more
        self.refusals = 0
        self.needed = 1
        self.status: int | None = None

    @property
    def raised(self) -> bool:
        """Whether the state is other than trusted."""
        return self.raised_at < math.inf

    def wants_look(self, asked_at: float) -> bool:
        """Whether no health check has begun since it was raised. `asked_at`: when the last one began."""
        return self.raised and asked_at < self.raised_at

    def refused(self, status: int | None, permit: int, newest_permit: int, now: float, *, wait: bool) -> bool:
        """A call was refused with `status`. Whether that is proof.

        `wait`: no call goes there until the second look. `newest_permit`: of all calls in flight.
        """
        if not self.raised:
            self.raised_at, self.newest_permit, self.status = now, newest_permit, status
            self.until = now + SECOND_LOOK_S if wait else 0.0
            return False
        if permit <= self.newest_permit:
            return False
        self.refusals += 1
        return self.refusals >= self.needed

    def vouched(self, needed: int) -> None:
        """The health check contradicts the refusal: `needed` more are proof."""
        self.until, self.needed = 0.0, needed
