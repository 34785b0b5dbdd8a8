"""One provider's circuit breaker.

    state      event                                            next
    ---------  -----------------------------------------------  ---------------------------------
    CLOSED     consecutive_failures in a row, and fewer calls    OPEN, timer = recovery_timeout
               in flight that were sent since the first of them
    CLOSED     failure_rate of at least min_calls within         OPEN, timer = recovery_timeout
               window_s, calls in flight counted as well,
               while another provider serves
    OPEN       timer runs out                                    HALF_OPEN
    OPEN       health check answers after one that failed        HALF_OPEN
               since it was closed or last came in this way
    HALF_OPEN  the same, while a probe is silent                 HALF_OPEN, another probe may go
    OPEN       a call sent after consecutive_failures of         HALF_OPEN
               those that opened it is answered
    HALF_OPEN  probe succeeds                                    CLOSED, with a slow start
    HALF_OPEN  probe fails, or is silent for probe_timeout_s     OPEN, timer x 2.5 (bounded)
    HALF_OPEN  probe ends neutral (429, refusal)                 HALF_OPEN, the permit is given back
    not CLOSED forced call succeeds                              CLOSED, with a slow start
    not OPEN   trip (it is silent, and so is its health check)   OPEN, timer; the health check has failed
    any        forgive (the pool was offline)                    CLOSED, without a slow start

Theory of operation. `acquire` gives a permit for a call, `settle` returns it with what the call showed: True,
False, or None for nothing. Every permit has a number: probes from 1 up, calls of a closed breaker from -1
down, and NO_PERMIT for a forced call. So the late settle of an expired probe, or of a call from before the
last closing, changes nothing. At most one probe permit is in use at a time. Time acts through `tick`, which
applies a transition at its due time, whenever it is called.

Evidence. Failures are in a row when no call that was sent after them has been answered: the order in which
calls were sent counts, not the order in which they end, since a refusal is faster than an answer. Calls in
flight beside a failure may still be answered, so with dozens in flight three failures may be chance, and half
of the calls are not. A failure that is its task's own (`blamed`) never counts, and neither does a neutral
outcome. If no other provider serves, an opening stops all work. Then it takes more than
`consecutive_failures`: so many in a row that the share of failing calls makes them unlikely (BY_CHANCE). An
opening that the first probe or a canary refutes was caused by single tasks: within window_s of it twice as
many failures in a row are needed, to FALSE_ALARMS_AT_MOST doublings. `doubtful` keeps new calls out while the
verdict is near.

Timer. A dead provider gets CALLS_A_MINUTE calls in any minute. The timer grows to recovery_timeout_max_s;
from then on what is left of the minute is spread evenly, which comes to 15 s. (A maximum of half a minute or
more is kept.) The calls that opened the breaker count, as one where they came in one series, less than about
recovery_timeout_s apart; where all came within that time, none does, since they were sent before it could be
known. While its health check fails too, the timer is recovery_timeout_max_s at least. It carries jitter, so
that many pools do not probe together.

Early probes cost late ones: of four in any minute, one at 3.5 and one at 12 s leave a gap of 20 s once. Even
steps of 15 s would be the best for long outages and the worst for the many that last a few seconds.

`acquire` without `admits` raises PermitError and changes nothing. A property test tries to reach an illegal
state by calls in any order.
"""

from __future__ import annotations

import math
import random
from collections import deque
from enum import StrEnum

from ...errors import PermitError
from ...settings import BreakerSettings

NO_PERMIT = NO_PROBE = 0
TIMER_GROWTH = 2.5
_STEPS_AT_MOST = 16  # of the timer: after a day of failed probes its power would overflow
CALLS_A_MINUTE = 4  # to a dead provider
ONE_OBSERVATION = 1.1  # times recovery_timeout_s: failures closer together count as one call
FALSE_ALARMS_AT_MOST = 3
BY_CHANCE = 1e-4  # the probability below which failures in a row are no accident
YOUNG_S = 5.0  # a call in flight for longer shows nothing about the provider now
_MINUTE_S = 60.0


class BreakerState(StrEnum):
    """The state of a circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


# Module names: a decision looks them up ten times as fast as members of a class.
CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


class CircuitBreaker:
    """The breaker of one provider: the table above. All times are UTC epoch seconds passed in as `now`."""

    __slots__ = (
        "_alone",
        "_answered",
        "_calls",
        "_closed_at",
        "_failed_health",
        "_failures_in_window",
        "_false_alarms",
        "_in_flight",
        "_next_probe",
        "_opened_last",
        "_probe",
        "_probe_until",
        "_proven",
        "_random",
        "_run",
        "_run_times",
        "_sent",
        "_settings",
        "_spent",
        "_timeouts",
        "by_timer",
        "consecutive",
        "open_until",
        "opened_at",
        "opened_count",
        "reason",
        "slow_start_from",
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
        self.by_timer = False  # half-open since the timer ran out, without a sign of recovery
        self._timeouts = 0  # openings since it was last closed: the exponent of the timer
        self._calls: deque[tuple[float, bool]] = deque()
        self._failures_in_window = 0
        self._failed_health = False
        self._proven = False  # a health check has shown the outage as well
        self._alone = False  # no other provider takes the tasks
        self._sent = 0  # the number of the newest call while it was closed
        self._in_flight: dict[int, float] = {}  # number -> sent at, since the last closing, in that order
        self._answered = 0  # the newest call that was answered
        self._run: list[int] = []  # the failures in a row, by number
        self._run_times: deque[float] = deque(maxlen=CALLS_A_MINUTE)
        self._spent: deque[float] = deque(maxlen=CALLS_A_MINUTE)  # when calls of this outage failed last
        self._false_alarms = 0
        self._closed_at = float("-inf")
        self._opened_last = 0.0
        self._probe = NO_PROBE  # the number of the probe in flight
        self._next_probe = 1
        self._probe_until = 0.0
        self.slow_start_from: float | None = None

    def __repr__(self) -> str:
        return (
            f"<CircuitBreaker {self.state} consecutive={self.consecutive} open_until={self.open_until:.1f}>"
        )

    def tick(self, now: float) -> None:
        """Apply what time has brought: the timer has run out, a silent probe has expired."""
        if self.state is HALF_OPEN and self._probe and now >= self._probe_until:
            self._open(self._probe_until, "the probe was not answered")
        if self.state is OPEN and now >= self.open_until:
            self._half_open()
            self.by_timer = True

    def admits(self, now: float) -> bool:
        """Whether `acquire` would give a permit now."""
        self.tick(now)
        return self.state is CLOSED or (self.state is HALF_OPEN and self._probe == NO_PROBE)

    def next_chance(self, now: float) -> float:
        """When it may admit a call again; a probe in flight may be settled before that."""
        self.tick(now)
        if self.state is OPEN:
            return self.open_until
        return self._probe_until if self._probe else now

    def acquire(self, now: float) -> int:
        """Take a permit; only after `admits`. Its number is above 0 for a probe, below 0 when closed."""
        if self.state is CLOSED:
            self._sent += 1
            self._in_flight[self._sent] = now
            return -self._sent
        if not self.admits(now):
            raise PermitError(f"the breaker is {self.state} and has no permit to give")
        self._probe = self._next_probe
        self._next_probe += 1
        self._probe_until = now + self._settings.probe_timeout_s
        return self._probe

    def settle(
        self,
        healthy: bool | None,
        permit: int,
        now: float,
        *,
        blamed: bool = False,
        others_serve: bool = True,
        canary: bool = False,
    ) -> None:
        """One call has ended: `healthy` True or False, or None where it shows nothing about the provider.

        `permit` is what `acquire` returned for it, or NO_PERMIT. `blamed`: its failure is its task's own; a
        probe's failure counts all the same. `others_serve`: tasks may go to another provider meanwhile.
        `canary`: see `canaries.py`.
        """
        self.tick(now)
        if permit < NO_PERMIT:
            in_time = (
                self._in_flight.pop(-permit, None) is not None
            )  # else it is from before the last closing
            if in_time and healthy is not None and not (blamed and not healthy):
                self._settle_call(healthy, -permit, now, others_serve)
        elif healthy and permit == NO_PERMIT and self.state is not CLOSED:
            self._close(now)
        elif permit > NO_PERMIT:
            self._settle_probe(healthy, permit, now, canary)

    def doubtful(self, now: float) -> bool:
        """Whether its failures in a row may open it soon: the calls in flight decide, and no new one goes."""
        failures = self.consecutive
        if failures < self._enough(now):
            return False
        return 0 < self._beside(min(self._run), now, 3 * failures) < 3 * failures

    def health(self, ok: bool, now: float) -> None:
        """A health check has ended. While it is not closed, one that answers after one that failed is
        news."""
        self.tick(now)
        if self.state is CLOSED:
            return
        if ok and self._failed_health:
            self._failed_health = False  # once only: if the probe still fails, the timer decides again
            self._half_open()
        elif not ok and self.state is OPEN:
            self._note_failed_health()

    def trip(self, now: float, reason: str) -> None:
        """Open it: calls and health checks are silent, although no call has failed."""
        self.tick(now)
        if self.state is not OPEN:
            self._open(now, reason)
        self._note_failed_health()

    def forgive(self) -> None:
        """Close it without a slow start: the failures were the network's."""
        self._reset()
        self.slow_start_from = None

    def slow_start_share(self, now: float) -> float:
        """The part of its share it may take: grows from slow_start_min_share to 1 over slow_start_s."""
        if self.slow_start_from is None:
            return 1.0
        settings = self._settings
        passed = (now - self.slow_start_from) / settings.slow_start_s if settings.slow_start_s else 1.0
        if passed >= 1.0:
            self.slow_start_from = None
            return 1.0
        return settings.slow_start_min_share + (1.0 - settings.slow_start_min_share) * passed

    @property
    def failed_probes(self) -> int:
        """Probes that failed since it was last closed."""
        return max(0, self._timeouts - 1)

    @property
    def stage(self) -> tuple[int, int]:
        """A value that changes with each opening, and with each probe that fails."""
        return self.opened_count, self._timeouts

    @property
    def in_slow_start(self) -> bool:
        """Whether it was closed lately and may not take its whole share yet: `slow_start_share` is below
        1."""
        return self.slow_start_from is not None

    def slow_start_reaches(self, share: float, now: float) -> float:
        """When the slow start has grown past `share` of the provider's full share."""
        if self.slow_start_from is None:
            return now
        start = self._settings.slow_start_min_share
        passed = (share - start) / (1.0 - start) if start < 1.0 else 1.0
        return self.slow_start_from + max(passed, 0.0) * self._settings.slow_start_s + 0.001

    def _note_failed_health(self) -> None:
        """The next health check that answers ends the outage; the timer serves where none does."""
        if not self._failed_health:
            longest_s = self._settings.recovery_timeout_max_s
            self.open_until = max(self.open_until, self._opened_last + longest_s)
        self._failed_health = self._proven = True

    def _settle_probe(self, healthy: bool | None, probe: int, now: float, canary: bool) -> None:
        if probe != self._probe or self.state is not HALF_OPEN:
            return  # it has expired, and its failure is counted already
        if healthy is None:
            self._probe = NO_PROBE
        elif healthy:
            self._close(now, refuted=canary)
        else:
            self._open(now, "the probe failed")

    def _settle_call(self, healthy: bool, number: int, now: float, others_serve: bool) -> None:
        if self.state is CLOSED:
            self._count(now, not healthy)
            if healthy:
                self._note_answer(number)
            else:
                self._note_failure(number, now, others_serve)
        elif self.state is OPEN and healthy and self._refutes(number):
            self._half_open()

    def _count(self, now: float, failed: bool) -> None:
        self._calls.append((now, failed))
        self._failures_in_window += failed
        oldest = now - self._settings.window_s
        while self._calls[0][0] < oldest:
            self._failures_in_window -= self._calls.popleft()[1]

    def _note_answer(self, number: int) -> None:
        if number > self._answered:
            self._answered = number
            if self._run:
                self._run = [each for each in self._run if each > number]
                self.consecutive = len(self._run)

    def _note_failure(self, number: int, now: float, others_serve: bool) -> None:
        settings = self._settings
        if number > self._answered:
            self._run.append(number)
            self._run_times.append(now)
            failures = self.consecutive = len(self._run)
            self._alone = not others_serve
            if failures >= self._enough(now) and failures > self._beside(min(self._run), now, failures):
                self._open(now, f"{failures} failures in a row")
                return
        if others_serve and len(self._calls) >= settings.min_calls:
            self._open_by_rate(now)

    def _open_by_rate(self, now: float) -> None:
        settings, failures, ended = self._settings, self._failures_in_window, len(self._calls)
        if failures < settings.failure_rate * ended:
            return
        if failures >= settings.failure_rate * (ended + self._beside(0, now, 2 * ended)):
            self._open(now, f"{failures} of {ended} calls failed in {settings.window_s:g} s")

    def false_alarm(self, now: float) -> bool:
        """Whether it was opened lately by single tasks."""
        if now - self._closed_at > self._settings.window_s:
            self._false_alarms = 0
        return self._false_alarms > 0

    def _enough(self, now: float) -> int:
        """Failures in a row that open it: more after false openings, and where no other provider serves."""
        self.false_alarm(now)
        enough = self._settings.consecutive_failures << self._false_alarms
        ended, failed = len(self._calls) - len(self._run), self._failures_in_window - len(self._run)
        if self._alone and failed > 0 and ended >= self._settings.min_calls:
            share = min(failed / ended, 0.5)
            enough = max(enough, math.ceil(math.log(BY_CHANCE) / math.log(share)))
        return enough

    def _beside(self, first: int, now: float, enough: int) -> int:
        """How many calls in flight were sent after `first` and may still be answered; up to `enough`."""
        count = 0
        for number in reversed(self._in_flight):
            if number < first or now - self._in_flight[number] > YOUNG_S or count >= enough:
                break
            count += 1
        return count

    def _refutes(self, number: int) -> bool:
        """Whether a call was sent after so many of those that opened it that they were no outage."""
        return sum(each < number for each in self._run) >= self._settings.consecutive_failures

    def _open(self, now: float, reason: str) -> None:
        settings = self._settings
        grown = settings.recovery_timeout_s * TIMER_GROWTH ** min(self._timeouts, _STEPS_AT_MOST)
        longest = settings.recovery_timeout_max_s
        timeout = min(grown, longest)
        if self._timeouts == 0:
            self.opened_at = now
            self.opened_count += 1
            self._spent.extend(self._opening_calls(now))
        else:
            self._spent.append(now)
        if grown >= longest * TIMER_GROWTH and longest < _MINUTE_S / 2.0:
            timeout = min(timeout, self._even_share_s(now))
        timeout *= 1.0 + settings.jitter * (2.0 * self._random.random() - 1.0)
        self._opened_last = now
        self._timeouts += 1
        self.state, self.reason = OPEN, reason
        self.open_until = now + timeout
        if len(self._spent) == CALLS_A_MINUTE:
            self.open_until = max(self.open_until, self._spent[0] + _MINUTE_S)
        if self._failed_health:
            self.open_until = max(self.open_until, now + settings.recovery_timeout_max_s)
        self._probe = NO_PROBE
        self.slow_start_from = None

    def _opening_calls(self, now: float) -> list[float]:
        """When the calls failed that opened it, the last series as one; none where all came in one burst."""
        at_most = ONE_OBSERVATION * self._settings.recovery_timeout_s
        times, last = list(self._run_times), now
        if len(times) >= self._settings.consecutive_failures and now - times[0] <= at_most:
            return []
        while times and last - times[-1] <= at_most:
            last = times.pop()
        return [*times, now]

    def _even_share_s(self, now: float) -> float:
        """What is left of the minute since the oldest of the last calls, per call that may still go."""
        recent = [at for at in self._spent if now - at < _MINUTE_S]
        left_s = _MINUTE_S - (now - recent[0] if recent else 0.0)
        return max(_MINUTE_S / CALLS_A_MINUTE, left_s / (CALLS_A_MINUTE + 1 - len(recent)))

    def _half_open(self) -> None:
        self.state = HALF_OPEN
        self.by_timer = False
        self._probe = NO_PROBE

    def _close(self, now: float, *, refuted: bool = False) -> None:
        refuted = refuted or (self._timeouts == 1 and not self._proven)
        false_alarms = self._false_alarms + 1 if refuted else 0
        self._reset()
        self._false_alarms = min(false_alarms, FALSE_ALARMS_AT_MOST)
        self._closed_at = now
        self.slow_start_from = now

    def _reset(self) -> None:
        self.state, self.reason = CLOSED, ""
        self.consecutive = self._timeouts = self._failures_in_window = 0
        self._calls.clear()
        self._in_flight.clear()
        self._run.clear()
        self._run_times.clear()
        self._spent.clear()
        self._false_alarms = 0
        self._probe = NO_PROBE
        self._failed_health = self._proven = False
