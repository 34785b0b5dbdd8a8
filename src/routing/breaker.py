"""One provider's circuit breaker.

    state      event                                            next
    ---------  -----------------------------------------------  ---------------------------------
    CLOSED     consecutive_failures in a row, or failure_rate    OPEN, timer = recovery_timeout
               of at least min_calls within window_s
    OPEN       timer runs out                                    HALF_OPEN
    OPEN       health call answers after one that failed         HALF_OPEN
               since it was closed or last came in this way
    HALF_OPEN  probe succeeds                                    CLOSED, with a ramp
    HALF_OPEN  probe fails, or is silent for probe_timeout_s     OPEN, timer x 2 (bounded)
    HALF_OPEN  probe ends neutral (429, refusal)                 HALF_OPEN, the permit is given back
    not CLOSED forced call succeeds                              CLOSED, with a ramp
    not OPEN   trip (it is silent, and so is its health call)    OPEN, timer; the health call has failed
    any        forgive (the pool was offline)                    CLOSED, without a ramp

Rules. `acquire` hands out at most one probe permit at a time. Every permit is numbered: probes from 1 up,
calls of a closed breaker by how often it has been closed, below 0. So the late settle of an expired probe,
or of a call from before the last closing, changes nothing here. NO_PERMIT is that of a forced call.
A neutral outcome never counts. The timer carries jitter so that many pools do not probe together.
What time does (`tick`) depends on when it was due, not on when somebody looks.

Only `ProviderLoadBalancer` calls this. An illegal state can't be reached by any order of calls: a
property test tries. `acquire` without `admits` raises PermitError and changes nothing.
"""

from __future__ import annotations

import random
from collections import deque
from enum import StrEnum

from ..errors import PermitError
from ..settings import BreakerSettings

NO_PERMIT = NO_PROBE = 0
_DOUBLINGS_AT_MOST = 16  # of the timer: after a day of failed probes 2.0**n would overflow


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


# By these names where every decision asks: looking a member up in its class takes ten times as long.
CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


class Breaker:
    """See the table above. All times are UTC epoch seconds passed in as `now`."""

    __slots__ = (
        "_calls",
        "_closings",
        "_failed_health",
        "_failures_in_window",
        "_next_probe",
        "_probe",
        "_probe_until",
        "_ramp_from",
        "_random",
        "_settings",
        "_timeouts",
        "consecutive",
        "open_until",
        "opened_at",
        "opened_count",
        "reason",
        "state",
    )

    def __init__(self, settings: BreakerSettings, jitter: random.Random) -> None:
        self._settings = settings
        self._random = jitter
        self.state = CLOSED
        self.reason = ""
        self.consecutive = 0
        self.opened_at = 0.0
        self.open_until = 0.0
        self.opened_count = 0
        self._timeouts = 0  # openings since it was last closed: the exponent of the timer
        self._calls: deque[tuple[float, bool]] = deque()
        self._failures_in_window = 0
        self._failed_health = False
        self._closings = 1
        self._probe = NO_PROBE  # the number of the probe that is out
        self._next_probe = 1
        self._probe_until = 0.0
        self._ramp_from: float | None = None

    def __repr__(self) -> str:
        return f"<Breaker {self.state} consecutive={self.consecutive} open_until={self.open_until:.1f}>"

    def tick(self, now: float) -> None:
        """Let time pass: an open timer runs out, a silent probe expires."""
        if self.state is HALF_OPEN and self._probe and now >= self._probe_until:
            self._open(self._probe_until, "the probe was not answered")
        if self.state is OPEN and now >= self.open_until:
            self._half_open()

    def admits(self, now: float) -> bool:
        """Whether `acquire` would hand out a permit now."""
        self.tick(now)
        return self.state is CLOSED or (self.state is HALF_OPEN and self._probe == NO_PROBE)

    def next_chance(self, now: float) -> float:
        """When it may admit again; where a probe is out, its settle may come before that."""
        self.tick(now)
        if self.state is OPEN:
            return self.open_until
        return self._probe_until if self._probe else now

    def acquire(self, now: float) -> int:
        """Take a permit; only after `admits`. Its number is above 0 for a probe, below 0 when closed."""
        if self.state is CLOSED:
            return -self._closings
        if not self.admits(now):
            raise PermitError(f"the breaker is {self.state} and has no permit to give")
        self._probe = self._next_probe
        self._next_probe += 1
        self._probe_until = now + self._settings.probe_timeout_s
        return self._probe

    def settle(self, healthy: bool | None, permit: int, now: float, *, forced: bool = False) -> None:
        """One call ended: well, badly, or (None) without saying anything about the provider's health.

        `permit` is what `acquire` returned for it.
        """
        self.tick(now)
        if healthy and forced and self.state is not CLOSED:
            self._close(now)
        elif permit > NO_PERMIT:
            self._settle_probe(healthy, permit, now)
        elif self.state is CLOSED and permit == -self._closings and healthy is not None:
            self._settle_closed(healthy, now)

    def health(self, ok: bool, now: float) -> None:
        """A health call while open: only one that answers after one that failed is news."""
        self.tick(now)
        if self.state is not OPEN:
            return
        if not ok:
            self._failed_health = True
        elif self._failed_health:
            self._failed_health = False  # news once: if the probe fails all the same, the timer decides
            self._half_open()

    def trip(self, now: float, reason: str) -> None:
        """Its silence is proven without any call having failed: its health call is not answered either."""
        self.tick(now)
        if self.state is not OPEN:
            self._open(now, reason)
        self._failed_health = True

    def forgive(self) -> None:
        """The failures were not the provider's: the whole network was gone."""
        self._reset()
        self._ramp_from = None

    def ramp(self, now: float) -> float:
        """The part of its share it may take: grows from ramp_start to 1 over ramp_s after closing."""
        if self._ramp_from is None:
            return 1.0
        settings = self._settings
        passed = (now - self._ramp_from) / settings.ramp_s if settings.ramp_s else 1.0
        if passed >= 1.0:
            self._ramp_from = None
            return 1.0
        return settings.ramp_start + (1.0 - settings.ramp_start) * passed

    @property
    def ramping(self) -> bool:
        """Whether it was closed lately and may not take its whole share yet."""
        return self._ramp_from is not None

    def ramp_reaches(self, share: float, now: float) -> float:
        """When the ramp has grown past `share` of the provider's full share."""
        if self._ramp_from is None:
            return now
        start = self._settings.ramp_start
        passed = (share - start) / (1.0 - start) if start < 1.0 else 1.0
        return self._ramp_from + max(passed, 0.0) * self._settings.ramp_s + 0.001

    def _settle_probe(self, healthy: bool | None, probe: int, now: float) -> None:
        if probe != self._probe or self.state is not HALF_OPEN:
            return  # it expired: its failure is booked already
        if healthy is None:
            self._probe = NO_PROBE
        elif healthy:
            self._close(now)
        else:
            self._open(now, "the probe failed")

    def _settle_closed(self, healthy: bool, now: float) -> None:
        failed = not healthy
        self._calls.append((now, failed))
        self._failures_in_window += failed
        oldest = now - self._settings.window_s
        while self._calls[0][0] < oldest:
            self._failures_in_window -= self._calls.popleft()[1]
        self.consecutive = self.consecutive + 1 if failed else 0
        if not failed:
            return
        if self.consecutive >= self._settings.consecutive_failures:
            self._open(now, f"{self.consecutive} failures in a row")
        elif self._rate_exceeded():
            count = len(self._calls)
            self._open(
                now, f"{self._failures_in_window} of {count} calls failed in {self._settings.window_s:g} s"
            )

    def _rate_exceeded(self) -> bool:
        count = len(self._calls)
        settings = self._settings
        return count >= settings.min_calls and self._failures_in_window >= settings.failure_rate * count

    def _open(self, now: float, reason: str) -> None:
        settings = self._settings
        doubled = settings.recovery_timeout_s * 2.0 ** min(self._timeouts, _DOUBLINGS_AT_MOST)
        timeout = min(doubled, settings.recovery_timeout_max_s)
        timeout *= 1.0 + settings.jitter * (2.0 * self._random.random() - 1.0)
        if self._timeouts == 0:
            self.opened_at = now
            self.opened_count += 1
        self._timeouts += 1
        self.state, self.reason = OPEN, reason
        self.open_until = now + timeout
        self._probe = NO_PROBE
        self._ramp_from = None

    def _half_open(self) -> None:
        self.state = HALF_OPEN
        self._probe = NO_PROBE

    def _close(self, now: float) -> None:
        self._reset()
        self._ramp_from = now

    def _reset(self) -> None:
        self.state, self.reason = CLOSED, ""
        self._closings += 1
        self.consecutive = self._timeouts = self._failures_in_window = 0
        self._calls.clear()
        self._probe = NO_PROBE
        self._failed_health = False
