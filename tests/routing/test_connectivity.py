"""Which providers can be reached: silences, a network that is gone, and the calls lost in them."""

from __future__ import annotations

import math

import pytest

from src.errors import ProviderError, TimedOut, Unreachable
from src.records import Placement, TaskStatus
from src.routing.balancer import ProviderLoadBalancer
from src.routing.connectivity import FRESH_S, HEALTH_CHECK_S, HealthCheckResult
from src.routing.health.circuit_breaker import BreakerState
from src.routing.outcomes import costs_attempt

from .build import NAMES, START, Desk, make_settings, make_task, told_limits
from .virtual import Fault, Provider, World

REFUSED = Unreachable("connection refused", sent=False)


def desk_that_lists_models(**options: object) -> Desk:
    """Every provider has answered its free call a minute ago."""
    desk = Desk(**options)  # type: ignore[arg-type]
    for name in NAMES:
        assert not desk.balancer.record_health_check(
            name, HealthCheckResult.ANSWERS, START - 60.0, START - 60.0
        )
    return desk


def sent(desk: Desk, name: str, count: int = 1) -> list[Placement]:
    """So many calls in flight to one provider."""
    number = len(desk.dispatch) + len(desk.results)
    desk.offer(*[make_task(number + n, providers=(name,)) for n in range(count)])
    placed = desk.go()
    assert [p.provider for p in placed] == [name] * count
    return placed


def failed(desk: Desk, placement: Placement, error: ProviderError, seconds: float = 0.0) -> None:
    """The call has failed, and its task is of no more interest."""
    desk.fail(placement, error, seconds)
    desk.dispatch.withdraw("queue", placement.task.id)


def health_check(desk: Desk, name: str, found: HealthCheckResult, took_s: float = 0.0) -> bool:
    return desk.balancer.record_health_check(name, found, desk.now - took_s, desk.now)


def kinds(balancer: ProviderLoadBalancer) -> list[str]:
    return [event.kind for event in balancer.take_events()]


# ------------------------------------------------------------------ when the free call is due


def test_at_the_start_every_provider_gets_one_health_check() -> None:
    desk = Desk()
    for name in NAMES:
        assert desk.balancer.next_health_check_at(name, -math.inf, START) == START
        assert desk.balancer.next_health_check_at(name, START, START) == math.inf


def test_it_is_made_early_enough_for_its_outcome_to_be_known_when_the_silence_is_suspicious() -> None:
    desk = desk_that_lists_models()
    sent(desk, "gemini")
    due = desk.balancer.next_health_check_at("gemini", START - 60.0, START)
    assert due + HEALTH_CHECK_S == pytest.approx(START + 5.0)


def test_while_the_breaker_is_open_it_is_made_every_three_seconds() -> None:
    desk = desk_that_lists_models()
    desk.provider("openai").breaker.trip(START, "silent")
    assert desk.balancer.next_health_check_at("openai", START + 1.0, START + 2.0) == START + 4.0
    assert desk.balancer.next_health_check_at("anthropic", START + 1.0, START + 2.0) == math.inf


# ------------------------------------------------------------------ one provider is silent


def silent_gemini(found: HealthCheckResult = HealthCheckResult.SILENT) -> tuple[Desk, list[Placement]]:
    """Three calls to gemini are in flight for 5 s, its health check ends with `found`, openai answers."""
    desk = desk_that_lists_models()
    swallowed = sent(desk, "gemini", 3)
    desk.now += 4.0
    other = sent(desk, "openai")[0]
    desk.ok(other, 0.5)
    desk.now += 0.5
    health_check(desk, "gemini", found, HEALTH_CHECK_S)
    return desk, swallowed


def test_a_proven_silence_opens_the_breaker_and_gives_the_calls_up_once() -> None:
    desk, swallowed = silent_gemini()
    assert desk.provider("gemini").breaker.state is BreakerState.OPEN
    assert desk.balancer.take_abandoned(desk.now) == [p.permit for p in swallowed]
    assert desk.balancer.take_abandoned(desk.now + 1.0) == []  # those are on their way back
    for placement in swallowed:
        desk.fail(placement, TimedOut("given up"))
    assert kinds(desk.balancer) == ["provider_open", "calls_lost"]
    assert desk.provider("gemini").in_flight == 0


def test_its_tasks_go_elsewhere_at_once_unless_they_are_pinned() -> None:
    desk = desk_that_lists_models()
    desk.offer(*[make_task(number, "research") for number in range(4)])
    swallowed = desk.go()
    assert {p.provider for p in swallowed} == {"gemini"}
    desk.ok(sent(desk, "openai")[0], 4.9)
    desk.now += 0.1
    health_check(desk, "gemini", HealthCheckResult.SILENT, HEALTH_CHECK_S)
    for permit in desk.balancer.take_abandoned(desk.now):
        desk.fail(next(p for p in swallowed if p.permit == permit), TimedOut("given up"))
    again = desk.go()
    assert len(again) == 4
    assert "gemini" not in {p.provider for p in again}


def test_when_its_health_check_answers_again_a_probe_goes_at_once() -> None:
    desk, swallowed = silent_gemini()
    for placement in swallowed:
        failed(desk, placement, TimedOut("given up"))
    desk.now += 3.0
    assert health_check(desk, "gemini", HealthCheckResult.ANSWERS)
    desk.offer(make_task("probe"))
    (placement,) = [p for p in desk.go() if p.task.id == "probe"]
    assert (placement.provider, placement.choice) == ("gemini", "probe")


@pytest.mark.parametrize("found", [HealthCheckResult.ANSWERS, HealthCheckResult.REFUSES])
def test_a_silence_of_the_calls_alone_proves_nothing(found: HealthCheckResult) -> None:
    desk, _ = silent_gemini(found)
    assert desk.provider("gemini").breaker.state is BreakerState.CLOSED
    assert desk.balancer.take_abandoned(desk.now + 60.0) == []


def test_where_no_health_check_was_ever_answered_its_silence_proves_nothing() -> None:
    desk = Desk()
    sent(desk, "gemini")
    desk.now += 4.5
    desk.ok(sent(desk, "openai")[0], 0.5)
    health_check(desk, "gemini", HealthCheckResult.SILENT, HEALTH_CHECK_S)
    assert desk.provider("gemini").breaker.state is BreakerState.CLOSED
    assert desk.balancer.take_abandoned(desk.now) == []


def test_an_answer_within_the_time_is_no_silence() -> None:
    desk = desk_that_lists_models()
    first, *_ = sent(desk, "gemini", 3)
    desk.ok(sent(desk, "openai")[0], 4.0)
    desk.ok(first, 0.9)
    desk.now += 0.1
    health_check(desk, "gemini", HealthCheckResult.SILENT, HEALTH_CHECK_S)
    assert desk.provider("gemini").breaker.state is BreakerState.CLOSED


def test_an_answer_during_a_health_check_counts_more_than_its_silence() -> None:
    desk = desk_that_lists_models()
    answering = [sent(desk, name)[0] for name in NAMES]
    desk.now += 2.0
    for placement in answering:
        desk.ok(placement, 0.5)
    desk.now += 1.0
    for name in NAMES:
        health_check(desk, name, HealthCheckResult.SILENT, HEALTH_CHECK_S)
    assert desk.balancer.offline_since is None
    assert desk.provider("gemini").connection.unreachable_since is None


def test_our_own_time_limits_are_no_word_from_a_silent_provider() -> None:
    desk = desk_that_lists_models()
    first, *rest = sent(desk, "gemini", 3)
    desk.ok(sent(desk, "openai")[0], 4.5)
    desk.fail(first, TimedOut("no answer in time"), 0.5)
    health_check(desk, "gemini", HealthCheckResult.SILENT, HEALTH_CHECK_S)
    assert desk.balancer.take_abandoned(desk.now) == [p.permit for p in rest]


def test_one_silent_provider_waits_for_word_of_the_idle_others() -> None:
    desk = desk_that_lists_models()
    swallowed = sent(desk, "gemini")
    desk.now += 5.0
    health_check(desk, "gemini", HealthCheckResult.SILENT, HEALTH_CHECK_S)
    assert desk.balancer.take_abandoned(desk.now) == []  # it may be the network
    assert desk.balancer.next_health_check_at("openai", START - 60.0, desk.now) <= desk.now
    health_check(desk, "openai", HealthCheckResult.ANSWERS)
    assert desk.balancer.take_abandoned(desk.now) == [p.permit for p in swallowed]
    assert desk.balancer.offline_since is None


# ------------------------------------------------------------------ the network is gone


def test_an_idle_provider_does_not_hide_that_the_network_is_gone() -> None:
    desk = desk_that_lists_models()
    for name in ("anthropic", "openai"):
        desk.fail(sent(desk, name)[0], REFUSED, 0.01)
    assert desk.balancer.offline_since is None
    assert desk.balancer.next_health_check_at("gemini", START - 60.0, desk.now) <= desk.now
    assert health_check(desk, "gemini", HealthCheckResult.UNREACHABLE)
    assert desk.balancer.offline_since == pytest.approx(START, abs=0.02)


def test_an_idle_provider_that_answers_its_health_check_shows_that_there_is_a_network() -> None:
    desk = desk_that_lists_models()
    for name in ("anthropic", "openai"):
        desk.fail(sent(desk, name)[0], REFUSED, 0.01)
    health_check(desk, "gemini", HealthCheckResult.ANSWERS)
    assert desk.balancer.offline_since is None
    assert desk.balancer.next_health_check_at("gemini", desk.now, desk.now) == math.inf


def test_all_silent_together_is_the_network_and_no_call_is_given_up() -> None:
    desk = desk_that_lists_models()
    for name in NAMES:
        sent(desk, name)
    desk.now += 5.0
    for name in NAMES:
        health_check(desk, name, HealthCheckResult.SILENT, HEALTH_CHECK_S)
    assert desk.balancer.offline_since == START
    assert desk.balancer.take_abandoned(desk.now + 100.0) == []
    assert kinds(desk.balancer) == ["offline"]


def test_what_the_network_swallowed_is_given_up_when_it_is_back_and_costs_no_attempt() -> None:
    desk = desk_that_lists_models()
    (swallowed,) = sent(desk, "gemini")
    for name in ("anthropic", "openai"):
        sent(desk, name)
    desk.now += 5.0
    for name in NAMES:
        health_check(desk, name, HealthCheckResult.SILENT, HEALTH_CHECK_S)
    desk.now += 60.0
    assert health_check(desk, "openai", HealthCheckResult.ANSWERS)
    assert desk.balancer.take_abandoned(desk.now + 4.9) == []  # it may still come
    assert swallowed.permit in desk.balancer.take_abandoned(desk.now + 5.0)
    desk.fail(swallowed, TimedOut("given up"), 5.0)
    entry = desk.dispatch._entries["queue", swallowed.task.id]
    assert [costs_attempt(attempt, START, desk.balancer.registry) for attempt in entry.attempts] == [False]
    assert desk.provider("gemini").history.failures == 0


def test_a_provider_that_was_dead_before_is_not_forgiven_for_the_networks_sake() -> None:
    desk = desk_that_lists_models()
    for placement in sent(desk, "openai", 3):
        failed(desk, placement, REFUSED)
    assert desk.provider("openai").breaker.state is BreakerState.OPEN
    desk.now += 100.0
    health_check(desk, "openai", HealthCheckResult.UNREACHABLE)
    began = desk.now
    for name in ("anthropic", "gemini"):
        failed(desk, sent(desk, name)[0], REFUSED, 0.01)
    assert desk.balancer.offline_since == pytest.approx(began, abs=0.02)  # not since openai went
    desk.now += 10.0
    desk.balancer.record_health_check("gemini", HealthCheckResult.ANSWERS, desk.now, desk.now)
    assert desk.provider("openai").breaker.opened_at == START
    assert desk.provider("openai").breaker.state is not BreakerState.CLOSED
    assert desk.provider("anthropic").breaker.state is BreakerState.CLOSED


def test_connections_that_break_all_at_once_are_no_lost_network_until_health_checks_fail_too() -> None:
    for found, offline in ((HealthCheckResult.ANSWERS, False), (HealthCheckResult.UNREACHABLE, True)):
        desk = desk_that_lists_models()
        out = [sent(desk, name)[0] for name in NAMES]
        for placement in out:
            failed(desk, placement, Unreachable("the connection broke"), 0.01)
        assert desk.balancer.offline_since is None
        for name in NAMES:
            assert desk.balancer.next_health_check_at(name, START - 60.0, desk.now) <= desk.now
            health_check(desk, name, found)
        assert (desk.balancer.offline_since is not None) is offline


def test_while_no_other_provider_was_heard_a_lost_connection_costs_no_attempt() -> None:
    desk = desk_that_lists_models(settings=make_settings(limits=told_limits(), pool={"max_attempts": 1}))
    first, second = sent(desk, "anthropic")[0], sent(desk, "gemini")[0]
    assert desk.fail(first, REFUSED, 0.1).result is None
    (again,) = desk.go(30.0)
    desk.ok(second)  # there is a network: it was the provider
    result = desk.fail(again, REFUSED).result
    assert result is not None
    assert result.status is TaskStatus.FAILED


def test_old_evidence_is_checked_again_and_not_believed() -> None:
    desk = desk_that_lists_models()
    failed(desk, sent(desk, "gemini")[0], REFUSED)
    desk.ok(sent(desk, "openai")[0])
    desk.now += FRESH_S + 1.0
    for name in ("anthropic", "openai"):
        failed(desk, sent(desk, name)[0], REFUSED)
    assert desk.balancer.offline_since is None
    assert desk.balancer.next_health_check_at("gemini", START, desk.now) <= desk.now


def test_after_a_laptops_sleep_calls_from_before_are_given_up_and_after_a_clock_is_set_they_are_not() -> None:
    for slept_s, expected in ((3_600.0, 1), (5.0, 0)):
        desk = desk_that_lists_models()
        sent(desk, "gemini")
        desk.now += slept_s
        desk.balancer.jumped(slept_s, desk.now)
        assert desk.balancer.take_abandoned(desk.now + 4.9) == []
        assert len(desk.balancer.take_abandoned(desk.now + 5.0)) == expected


# ------------------------------------------------------------------ a whole pool


def pool_with(faults: dict[str, list[Fault]], tasks: int, per_s: float, **provider: object) -> World:
    settings = make_settings(limits=told_limits(), providers=dict.fromkeys(NAMES, provider))
    world = World(settings, {name: Provider(lambda: 0.25, faults=faults.get(name, [])) for name in NAMES})
    world.spread([make_task(n) for n in range(tasks)], per_s=per_s)
    return world.run()


def test_three_short_silences_in_turn_cost_their_detection_and_nothing_else() -> None:
    """With the providers' own time limit of two minutes: no task waits for it."""
    starts = dict(zip(NAMES, (1.0, 11.0, 21.0), strict=True))
    world = pool_with({name: [Fault("silent", at, at + 6.0)] for name, at in starts.items()}, 700, 20.0)
    assert {r.status for r in world.results} == {TaskStatus.SUCCEEDED}
    slow = []
    for result in world.results:
        began = result.attempts[0].started_at - START
        if not any(at <= began < at + 5.5 for at in starts.values()):
            slow.append(result.finished_at - START - began)
    assert max(slow) < 1.0
    assert max(r.finished_at - r.attempts[0].started_at for r in world.results) <= 6.5
    for name, at in starts.items():
        first = min(c.at_s for c in world.calls_to(name, at + 6.0) if c.outcome == "ok")
        assert first - (at + 6.0) <= 5.0, name


@pytest.mark.parametrize("kind", ["refused", "silent"])
def test_a_minute_without_a_network_is_waited_out(kind: str) -> None:
    world = pool_with({name: [Fault(kind, 10.0, 70.0)] for name in NAMES}, 1_000, 10.0)
    assert {r.status for r in world.results} == {TaskStatus.SUCCEEDED}
    assert not [c for c in world.calls if 16.0 <= c.at_s < 70.0]
    assert min(c.at_s for c in world.calls if c.at_s >= 70.0) <= 75.5
    events = kinds(world.balancer)
    assert (events.count("offline"), events.count("online"), events.count("provider_open")) == (1, 1, 0)
    costed = [
        sum(costs_attempt(a, START, world.balancer.registry) for a in r.attempts) for r in world.results
    ]
    assert max(costed) == 0
    assert world.makespan_s <= 105.0
