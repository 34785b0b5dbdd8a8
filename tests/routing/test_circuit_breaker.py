"""The breaker's table row by row, what must change nothing, and that no order of events blocks it."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from src.config import load_settings
from src.errors import PermitError
from src.routing.health.circuit_breaker import NO_PERMIT, BreakerState, CircuitBreaker
from src.settings import BreakerSettings

from .build import START

SETTINGS = load_settings(environ={}).breaker
CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
LONGEST_S = 60.0  # until the calls of the last minute are fewer than CALLS_A_MINUTE


def make_breaker(seed: int = 1, **changes: float) -> CircuitBreaker:
    return CircuitBreaker(SETTINGS.model_copy(update=changes), random.Random(seed))


def call(breaker: CircuitBreaker, healthy: bool | None, now: float = START) -> None:
    breaker.settle(healthy, breaker.acquire(now), now)


def opened(now: float = START, **changes: float) -> CircuitBreaker:
    breaker = make_breaker(**changes)
    for _ in range(3):
        call(breaker, False, now)
    assert breaker.state is OPEN
    return breaker


def half_opened(**changes: float) -> tuple[CircuitBreaker, float]:
    breaker = opened(**changes)
    now = breaker.open_until
    breaker.tick(now)
    assert breaker.state is HALF_OPEN
    return breaker, now


def looks(breaker: CircuitBreaker) -> tuple[object, ...]:
    """All that can be seen of it."""
    return tuple(
        getattr(breaker, name) for name in CircuitBreaker.__slots__ if name not in ("_random", "_calls")
    )


# ------------------------------------------------------------------ closed


def test_three_failures_in_a_row_open_it() -> None:
    breaker = make_breaker()
    for count in (1, 2):
        call(breaker, False)
        assert (breaker.state, breaker.consecutive) == (CLOSED, count)
    call(breaker, False)
    assert breaker.state is OPEN
    assert breaker.reason == "3 failures in a row"
    assert (breaker.opened_at, breaker.opened_count) == (START, 1)
    assert not breaker.admits(START)


def test_an_answer_ends_a_run_of_failures() -> None:
    breaker = make_breaker()
    for healthy in (False, False, True, False, False):
        call(breaker, healthy)
    assert (breaker.state, breaker.consecutive) == (CLOSED, 2)


def test_a_neutral_outcome_neither_counts_nor_ends_a_run() -> None:
    breaker = make_breaker()
    for healthy in (False, None, False, None):
        call(breaker, healthy)
    assert (breaker.state, breaker.consecutive) == (CLOSED, 2)
    call(breaker, False)
    assert breaker.state is OPEN


def test_half_of_at_least_ten_calls_in_the_window_open_it() -> None:
    breaker = make_breaker()
    for second in range(9):  # T F T F T F T F T: 4 of 9
        call(breaker, second % 2 == 0, START + second)
    assert breaker.state is CLOSED
    call(breaker, False, START + 9)
    assert breaker.state is OPEN
    assert breaker.reason == "5 of 10 calls failed in 30 s"


def test_half_of_nine_calls_do_not_open_it() -> None:
    breaker = make_breaker()
    for number in range(9):
        call(breaker, number % 2 == 1)
    assert breaker.state is CLOSED


def test_calls_older_than_the_window_do_not_count() -> None:
    breaker = make_breaker()
    for number in range(8):
        call(breaker, number % 2 == 1, START)
    for second in (31, 32):
        call(breaker, False, START + second)
    assert breaker.state is CLOSED


def many(breaker: CircuitBreaker, count: int, now: float = START) -> list[int]:
    return [breaker.acquire(now) for _ in range(count)]


def test_with_dozens_in_flight_three_failures_are_an_accident_and_half_of_them_are_not() -> None:
    breaker = make_breaker()
    burst = many(breaker, 60)
    for permit in burst[:30]:
        breaker.settle(False, permit, START + 0.05, others_serve=False)
        assert breaker.state is CLOSED
    breaker.settle(False, burst[30], START + 0.05, others_serve=False)
    assert breaker.state is OPEN


def test_calls_in_flight_count_for_the_rate_of_failures_too() -> None:
    breaker = make_breaker()
    burst = many(breaker, 40)
    for permit in burst[:19]:
        breaker.settle(False, permit, START + 0.05)
        assert breaker.state is CLOSED
    breaker.settle(False, burst[19], START + 0.05)
    assert breaker.state is OPEN


def test_calls_in_flight_from_before_the_failures_do_not_keep_it_closed() -> None:
    breaker = make_breaker()
    many(breaker, 60)
    for permit in many(breaker, 3):
        breaker.settle(False, permit, START + 0.05)
    assert breaker.state is OPEN


def test_calls_that_hang_do_not_keep_it_closed() -> None:
    breaker = make_breaker()
    first, *_ = many(breaker, 40)
    breaker.settle(False, first, START + 0.05)
    for _ in range(2):
        assert breaker.state is CLOSED
        call(breaker, False, START + 6.0)
    assert breaker.state is OPEN


@pytest.mark.parametrize("order", ["the answer first", "the failures first"])
def test_an_answer_to_a_call_sent_later_ends_a_run_of_failures_in_whatever_order_they_end(
    order: str,
) -> None:
    breaker = make_breaker()
    one, other, later = many(breaker, 3)
    ends = [(one, False), (other, False), (later, True)]
    for permit, healthy in ends if order == "the failures first" else reversed(ends):
        breaker.settle(healthy, permit, START + 0.1)
    assert breaker.consecutive == 0


def test_an_answer_to_a_call_sent_earlier_does_not_end_a_run_of_failures() -> None:
    breaker = make_breaker()
    before = breaker.acquire(START)
    for _ in range(2):
        call(breaker, False)
    breaker.settle(True, before, START + 0.3)
    assert breaker.consecutive == 2


def test_a_failure_that_is_its_tasks_own_never_counts() -> None:
    breaker = make_breaker()
    for _ in range(20):
        breaker.settle(False, breaker.acquire(START), START, blamed=True)
    assert (breaker.state, breaker.consecutive) == (CLOSED, 0)


def test_half_of_all_failing_opens_it_only_while_another_serves() -> None:
    breaker = make_breaker()
    for number in range(100):
        breaker.settle(number % 2 == 0, breaker.acquire(START), START, others_serve=False)
    assert breaker.state is CLOSED
    for healthy in (True, False):
        call(breaker, healthy)
    assert breaker.state is OPEN


@pytest.mark.parametrize(("every", "needed"), [(8, 5), (4, 7), (2, 14)])
def test_without_an_alternative_failures_in_a_row_must_exceed_chance(every: int, needed: int) -> None:
    """log(1/10,000) / log(share that fails), rounded up."""
    breaker = make_breaker()
    for number in range(40):
        breaker.settle(number % every != 0, breaker.acquire(START), START, others_serve=False)
    for _ in range(needed):
        assert breaker.state is CLOSED
        breaker.settle(False, breaker.acquire(START), START, others_serve=False)
    assert breaker.state is OPEN


def test_an_answer_that_refutes_the_opening_half_opens_it_at_once() -> None:
    breaker = make_breaker()
    burst = many(breaker, 20)
    for permit in burst[:12]:
        breaker.settle(False, permit, START + 0.05)
    assert breaker.state is OPEN
    breaker.settle(True, burst[-1], START + 0.3)
    assert breaker.state is HALF_OPEN


def test_after_a_false_alarm_more_failures_are_needed_until_the_window_has_passed() -> None:
    breaker, now = half_opened()
    for needed in (6, 12, 24, 24):
        call(breaker, True, now)
        for _ in range(needed):
            assert breaker.state is CLOSED
            breaker.settle(False, breaker.acquire(now), now, others_serve=False)
        assert breaker.state is OPEN
        now = breaker.open_until
    call(breaker, True, now)
    now += SETTINGS.window_s + 1.0
    for _ in range(3):
        call(breaker, False, now)
    assert breaker.state is OPEN


@pytest.mark.parametrize(("failures", "doubtful"), [(2, False), (9, False), (11, True)])
def test_while_failures_in_a_row_may_be_an_outage_the_calls_in_flight_decide(
    failures: int, doubtful: bool
) -> None:
    breaker = make_breaker()
    burst = many(breaker, 40)
    for permit in burst[:failures]:
        breaker.settle(False, permit, START + 0.05)
    assert (breaker.state, breaker.doubtful(START + 0.05)) == (CLOSED, doubtful)
    assert not breaker.doubtful(START + 10.0)  # nothing comes back: then a new call is better


# ------------------------------------------------------------------ open


@pytest.mark.parametrize("seed", range(20))
def test_the_timer_grows_to_its_maximum_and_then_spreads_the_calls_of_a_minute(seed: int) -> None:
    breaker = make_breaker(seed)
    now = START
    for _ in range(3):
        call(breaker, False, now)
    probes = []
    for base_s in (3.5, 8.75, 20.0, 15.6, 15.6, 15.0, 15.0, 15.0, 15.0):
        timer_s = breaker.open_until - now
        assert base_s * 0.9 <= timer_s <= base_s * 1.1
        assert not breaker.admits(breaker.open_until - 0.001)
        now = breaker.open_until
        assert breaker.admits(now)
        probes.append(now - START)
        call(breaker, False, now)
    assert 30.0 <= probes[2] <= 38.0  # an outage of half a minute is over within ten seconds ...
    assert 60.0 <= probes[4] <= 67.0  # ... and one of a minute too


@pytest.mark.parametrize("longest_s", [40.0, 300.0])
def test_a_maximum_of_half_a_minute_or_more_is_kept(longest_s: float) -> None:
    breaker, now = opened(recovery_timeout_max_s=longest_s, jitter=0.0), START
    for _ in range(10):
        timer_s, now = breaker.open_until - now, breaker.open_until
        call(breaker, False, now)
    assert timer_s == longest_s


@pytest.mark.parametrize("apart_s", [0.0, 1.0, 4.0, 12.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_dead_provider_gets_four_calls_in_any_minute(seed: int, apart_s: float) -> None:
    """Those that opened it count too, unless they came in one burst, before it could be known."""
    breaker = make_breaker(seed)
    now, calls = START, []
    while now < START + 600.0:
        calls.append(now)
        call(breaker, False, now)
        now = now + apart_s if breaker.state is CLOSED else breaker.open_until
    if apart_s < SETTINGS.recovery_timeout_s:
        del calls[:3]
    assert all(fifth - first >= 60.0 - 1e-6 for first, fifth in zip(calls, calls[4:], strict=False))


def test_a_timer_that_begins_above_its_maximum_opens_it_for_no_longer_than_that() -> None:
    breaker = opened(recovery_timeout_s=60.0, recovery_timeout_max_s=20.0)
    assert START < breaker.open_until <= START + 20.0 * (1.0 + SETTINGS.jitter)


def test_timers_of_many_breakers_differ() -> None:
    jitter = random.Random(1)
    ends = set()
    for _ in range(20):
        breaker = CircuitBreaker(SETTINGS, jitter)
        for _ in range(3):
            call(breaker, False)
        ends.add(round(breaker.open_until, 3))
    assert len(ends) > 15


def test_the_timer_starts_anew_after_it_was_closed() -> None:
    breaker, now = half_opened()
    call(breaker, False, now)  # 60 s now
    now = breaker.open_until
    call(breaker, True, now)
    for _ in range(3):
        call(breaker, False, now)
    assert breaker.open_until - now <= 1.1 * SETTINGS.recovery_timeout_s
    assert breaker.opened_count == 2


def test_days_of_failed_probes_do_no_harm() -> None:
    breaker, now = half_opened()
    for _ in range(3000):
        call(breaker, False, now)
        assert breaker.open_until - now <= LONGEST_S
        now = breaker.open_until
    assert breaker.opened_count == 1  # one outage


def test_a_health_call_that_answers_after_one_that_failed_half_opens_it_at_once() -> None:
    breaker = opened()
    breaker.health(False, START + 3)
    assert breaker.state is OPEN
    breaker.health(True, START + 6)
    assert breaker.state is HALF_OPEN
    assert breaker.admits(START + 6)


def test_health_calls_that_never_failed_leave_it_to_the_timer() -> None:
    breaker = opened()
    for second in (1, 2, 3):
        breaker.health(True, START + second)
        assert breaker.state is OPEN
    assert breaker.admits(breaker.open_until)


def test_a_health_call_that_led_to_a_failed_probe_does_not_count_twice() -> None:
    breaker = opened()
    breaker.health(False, START + 3)
    breaker.health(True, START + 6)
    call(breaker, False, START + 7)  # it lists its models and can't do more
    breaker.health(True, START + 9)
    assert breaker.state is OPEN
    breaker.health(False, START + 12)
    breaker.health(True, START + 15)
    assert breaker.state is HALF_OPEN


def test_a_failed_health_call_is_remembered_through_a_probe_that_failed() -> None:
    """The timer lets a probe go just before the recovery: the next health check shows that."""
    breaker = opened()
    breaker.health(False, START + 3)
    now = breaker.open_until
    call(breaker, False, now)
    breaker.health(True, now + 3)
    assert breaker.state is HALF_OPEN


def test_an_outage_that_is_over_leaves_nothing_to_the_next() -> None:
    breaker = opened()
    breaker.health(False, START + 3)
    now = breaker.open_until
    call(breaker, True, now)
    for _ in range(3):
        call(breaker, False, now)
    breaker.health(True, now + 3)
    assert breaker.state is OPEN


def test_a_health_call_says_nothing_while_closed_or_half_open() -> None:
    for breaker in (make_breaker(), half_opened()[0]):
        before = looks(breaker)
        breaker.health(False, START)
        breaker.health(True, START)
        assert looks(breaker) == before


# ------------------------------------------------------------------ half-open


def test_one_probe_at_a_time() -> None:
    breaker, now = half_opened()
    assert breaker.admits(now)
    probe = breaker.acquire(now)
    assert probe > NO_PERMIT
    assert not breaker.admits(now)
    assert breaker.next_chance(now) == now + SETTINGS.probe_timeout_s


def test_a_probe_that_succeeds_closes_it_with_a_slow_start() -> None:
    breaker, now = half_opened()
    call(breaker, True, now)
    assert (breaker.state, breaker.consecutive, breaker.reason) == (CLOSED, 0, "")
    shares = [breaker.slow_start_share(now + second) for second in (0.0, 5.0, 10.0, 20.0)]
    assert shares == pytest.approx([0.1, 0.55, 1.0, 1.0])


def test_a_probe_that_fails_opens_it_again() -> None:
    breaker, now = half_opened()
    call(breaker, False, now)
    assert (breaker.state, breaker.reason) == (OPEN, "the probe failed")
    assert (breaker.opened_at, breaker.opened_count) == (START, 1)  # still the same outage


def test_a_probe_that_ends_neutral_gives_its_permit_back() -> None:
    breaker, now = half_opened()
    first = breaker.acquire(now)
    breaker.settle(None, first, now + 1)
    assert breaker.state is HALF_OPEN
    assert breaker.admits(now + 1)
    assert breaker.acquire(now + 1) != first


def test_a_probe_that_expires_counts_as_a_failure() -> None:
    breaker, now = half_opened()
    breaker.acquire(now)
    breaker.tick(now + SETTINGS.probe_timeout_s - 0.01)
    assert breaker.state is HALF_OPEN
    breaker.tick(now + SETTINGS.probe_timeout_s)
    assert (breaker.state, breaker.reason) == (OPEN, "the probe was not answered")
    assert breaker.open_until >= now + SETTINGS.probe_timeout_s + 7.8


def test_an_expired_probe_opens_it_from_when_it_expired_and_not_from_when_that_was_noticed() -> None:
    breaker, now = half_opened()
    breaker.acquire(now)
    breaker.tick(now + 1000.0)
    assert breaker.state is HALF_OPEN
    assert breaker.admits(now + 1000.0)


@pytest.mark.parametrize("healthy", [True, False, None])
def test_the_late_end_of_an_expired_probe_changes_nothing(healthy: bool | None) -> None:
    breaker, now = half_opened()
    late = breaker.acquire(now)
    breaker.tick(now + SETTINGS.probe_timeout_s)
    before = looks(breaker)
    breaker.settle(healthy, late, now + SETTINGS.probe_timeout_s + 1)
    assert looks(breaker) == before
    now = breaker.open_until
    other = breaker.acquire(now)  # nor in the next half-open, whose probe is another
    before = looks(breaker)
    breaker.settle(healthy, late, now)
    assert looks(breaker) == before
    breaker.settle(True, other, now)
    assert breaker.state is CLOSED


# ------------------------------------------------------------------ what changes nothing


def test_a_permit_that_is_not_to_be_had_raises_and_changes_nothing() -> None:
    half_open, now = half_opened()
    half_open.acquire(now)
    for breaker, at in ((opened(), START), (half_open, now)):
        before = looks(breaker)
        with pytest.raises(PermitError):
            breaker.acquire(at)
        assert looks(breaker) == before


@pytest.mark.parametrize("healthy", [True, False, None])
def test_a_call_from_before_the_opening_changes_nothing_however_late_it_ends(healthy: bool | None) -> None:
    breaker = make_breaker()
    hanging = [breaker.acquire(START) for _ in range(5)]
    for _ in range(3):
        call(breaker, False)

    def end_one(now: float) -> None:
        before = looks(breaker)
        breaker.settle(healthy, hanging.pop(), now)
        assert looks(breaker) == before

    end_one(START + 1)  # open
    now = breaker.open_until
    breaker.tick(now)
    end_one(now)  # half-open
    call(breaker, True, now)
    for _ in range(3):  # closed again: three old failures must not open it
        end_one(now + 1)
    assert breaker.state is CLOSED


def test_a_neutral_end_changes_nothing_but_a_probe() -> None:
    for breaker in (make_breaker(), opened()):
        before = looks(breaker)
        breaker.settle(None, -1, START)
        breaker.settle(None, NO_PERMIT, START)
        assert looks(breaker) == before


def test_tripped_it_is_open_as_after_failures_and_one_answered_health_call_ends_it() -> None:
    breaker = make_breaker()
    breaker.trip(START, "silent for 5 s")
    assert (breaker.state, breaker.reason, breaker.opened_count) == (OPEN, "silent for 5 s", 1)
    until = breaker.open_until
    breaker.trip(START + 1, "still silent")
    assert (breaker.open_until, breaker.opened_count) == (until, 1)
    breaker.health(True, START + 3)
    assert breaker.state is HALF_OPEN


# ------------------------------------------------------------------ forced calls, offline


@pytest.mark.parametrize("make", [opened, lambda: half_opened()[0]], ids=["open", "half-open"])
def test_a_forced_call_that_succeeds_closes_it_with_a_slow_start(make: Callable[[], CircuitBreaker]) -> None:
    breaker = make()
    breaker.settle(True, NO_PERMIT, START + 1)
    assert breaker.state is CLOSED
    assert breaker.slow_start_share(START + 1) == pytest.approx(0.1)


def test_a_forced_call_that_fails_changes_nothing() -> None:
    breaker = opened()
    before = looks(breaker)
    breaker.settle(False, NO_PERMIT, START + 1)
    assert looks(breaker) == before


def test_forgiven_it_is_closed_without_a_slow_start_and_old_failures_do_not_count() -> None:
    breaker = make_breaker()
    old = [breaker.acquire(START) for _ in range(6)]
    for _ in range(3):
        breaker.settle(False, old.pop(), START)
    breaker.forgive()
    assert (breaker.state, breaker.consecutive) == (CLOSED, 0)
    assert breaker.slow_start_share(START) == 1.0
    for permit in old:  # they left when the network was gone
        breaker.settle(False, permit, START + 1)
    assert breaker.state is CLOSED


# ------------------------------------------------------------------ the ramp


@given(st.floats(0.0, 20.0), st.floats(0.0, 20.0))
def test_the_slow_start_only_grows_from_its_start_to_one(one: float, other: float) -> None:
    early, late = sorted((one, other))
    breaker, now = half_opened()
    call(breaker, True, now)
    assert 0.1 - 1e-9 <= breaker.slow_start_share(now + early) <= breaker.slow_start_share(now + late) <= 1.0


@given(st.floats(0.0, 1.0))
def test_the_slow_start_knows_when_it_will_have_grown_past_a_share(share: float) -> None:
    breaker, now = half_opened()
    call(breaker, True, now)
    at = breaker.slow_start_reaches(share, now)
    assert breaker.slow_start_share(at) > share or breaker.slow_start_share(at) == 1.0
    if at > now + 0.01:
        fresh, then = half_opened()
        call(fresh, True, then)
        assert fresh.slow_start_share(then + (at - now) - 0.01) <= share


def test_without_a_ramp_all_of_the_share_is_back_at_once() -> None:
    breaker, now = half_opened(slow_start_s=0.0)
    call(breaker, True, now)
    assert breaker.slow_start_share(now) == 1.0


# ------------------------------------------------------------------ any order of events


class AnyOrder(RuleBasedStateMachine):
    """Calls begin and end in any order, early, late or never; time passes; health calls come."""

    @initialize(seed=st.integers(0, 2**16), jitter=st.sampled_from([0.0, 0.2, 0.9]))
    def begin(self, seed: int, jitter: float) -> None:
        self.settings: BreakerSettings = SETTINGS.model_copy(update={"jitter": jitter})
        self.breaker = CircuitBreaker(self.settings, random.Random(seed))
        self.longest_s = max(self.settings.recovery_timeout_max_s * (1 + jitter), LONGEST_S)
        self.now = START
        self.out: list[tuple[int, float]] = []  # permits and when they were taken

    def living_probes(self) -> list[int]:
        oldest = self.now - self.settings.probe_timeout_s
        return [permit for permit, at in self.out if permit > NO_PERMIT and at > oldest]

    @rule(seconds=st.one_of(st.floats(0.0, 5.0), st.floats(0.0, 200.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def a_call_begins_if_it_may(self) -> None:
        breaker = self.breaker
        was_open_until = breaker.open_until if breaker.state is OPEN else None
        if not breaker.admits(self.now):
            assert breaker.state is not CLOSED
            assert breaker.next_chance(self.now) > self.now
            with pytest.raises(PermitError):
                breaker.acquire(self.now)
            return
        if was_open_until is not None:
            assert self.now >= was_open_until, "open, and before its timer"
        permit = breaker.acquire(self.now)
        assert (permit > NO_PERMIT) == (breaker.state is HALF_OPEN)
        if permit > NO_PERMIT:
            assert permit not in [each for each, _ in self.out], "a probe's number comes once"
            self.out.append((permit, self.now))
            assert not breaker.admits(self.now), "a second probe"
        else:
            self.out.append((permit, self.now))

    @precondition(lambda self: self.out)
    @rule(data=st.data(), healthy=st.sampled_from([True, False, False, None]))
    def a_call_ends(self, data: st.DataObject, healthy: bool | None) -> None:
        permit, _ = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        self.breaker.settle(healthy, permit, self.now)

    @rule(healthy=st.booleans())
    def a_forced_call_ends(self, healthy: bool) -> None:
        self.breaker.settle(healthy, NO_PERMIT, self.now)
        if healthy:
            assert self.breaker.state is CLOSED

    @rule(ok=st.booleans())
    def a_health_call_ends(self, ok: bool) -> None:
        self.breaker.health(ok, self.now)

    @rule()
    def its_silence_is_proven(self) -> None:
        self.breaker.trip(self.now, "silent")
        assert self.breaker.state is OPEN

    @rule()
    def the_network_comes_back(self) -> None:
        self.breaker.forgive()
        assert self.breaker.admits(self.now)

    @invariant()
    def what_is_seen_makes_sense(self) -> None:
        breaker = self.breaker
        assert breaker.consecutive >= 0
        assert 0.1 <= breaker.slow_start_share(self.now) <= 1.0
        if breaker.state is OPEN:
            assert breaker.open_until - self.now <= self.longest_s

    @invariant()
    def it_is_never_stuck(self) -> None:
        breaker = self.breaker
        if breaker.state is not CLOSED and not breaker.admits(self.now):
            longest_s = max(self.longest_s, self.settings.probe_timeout_s)
            assert self.now < breaker.next_chance(self.now) <= self.now + longest_s
            if breaker.state is HALF_OPEN:
                assert self.living_probes(), "half-open without a probe, but admits no call"

    def teardown(self) -> None:
        """Whatever hangs: once a probe has expired and the timer has run out, a call is admitted."""
        if hasattr(self, "breaker"):
            assert self.breaker.admits(self.now + self.settings.probe_timeout_s + self.longest_s)


TestAnyOrderOfEvents = AnyOrder.TestCase
