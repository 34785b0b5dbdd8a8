"""Silence at calls while the model list answers: one task is tried elsewhere, and its answer decides."""

from __future__ import annotations

import itertools

import pytest

from src.records import TaskStatus
from src.routing.health.circuit_breaker import BreakerState
from src.routing.stalls import FEW_FLOOR_S, FLOOR_S, HUNG, HUNG_FLOOR_S

from .build import NAMES, START, make_settings, make_task, told_limits
from .virtual import Fault, Provider, World

WIDE = make_settings(limits=told_limits())
PROBED_S = WIDE.breaker.probe_timeout_s + 2.0  # the longest: a probe that is silent too


def silent(from_s: float, to_s: float) -> list[Fault]:
    return [Fault("silent", from_s, to_s, shows=False)]


@pytest.mark.parametrize("name", NAMES)
def test_calls_that_a_provider_is_silent_on_go_elsewhere_long_before_their_time_limit(name: str) -> None:
    """65 tasks hung for 120 s beside two idle healthy providers."""
    world = World(WIDE, {name: Provider(faults=silent(5.0, 1e9))})
    world.spread([make_task(n) for n in range(600)], per_s=20.0)
    world.run()
    assert world.statuses == {TaskStatus.SUCCEEDED: 600}
    longest = max(
        at - START - i / 20.0 for at, i in zip(world.finished_at, map(_number, world.results), strict=True)
    )
    assert longest <= PROBED_S
    late = sum(a.latency_s > FLOOR_S + 3.0 for r in world.results for a in r.attempts)
    assert late <= 4
    moments = sorted(at - START for at in world.finished_at if at <= START + 30.0)
    assert max(b - a for a, b in itertools.pairwise(moments)) <= 1.0
    assert len(world.calls_to(name, 10.5, 40.0)) <= 4


def _number(result: object) -> int:
    return int(result.task.id)  # type: ignore[attr-defined]


def test_at_a_cold_start_it_takes_twice_as_long() -> None:
    world = World(WIDE, {"openai": Provider(faults=silent(0.0, 1e9))})
    world.offer(0.0, *[make_task(n) for n in range(60)])
    world.run()
    assert world.statuses == {TaskStatus.SUCCEEDED: 60}
    assert FEW_FLOOR_S <= world.makespan_s <= FEW_FLOOR_S + 5.0


def test_long_answers_everywhere_open_no_breaker_and_cost_few_calls() -> None:
    """Work that has become longer looks like a silence; the same task elsewhere shows that it is none."""
    slow_from = 30.0
    world = World(WIDE)
    for provider in world.providers.values():
        provider.latency_s = lambda: 60.0 if world.started_s > slow_from else 0.5
    world.spread([make_task(n) for n in range(400)], per_s=10.0)
    world.run()
    assert world.statuses == {TaskStatus.SUCCEEDED: 400}
    given_up = [c for c in world.calls if c.outcome == "TimedOut"]
    assert len(given_up) <= 12
    assert all(p.breaker.opened_count == 0 for p in world.balancer.providers)


@pytest.mark.parametrize("usual_s", [0.5, 8.0])
def test_one_call_that_hangs_beside_others_that_are_answered_goes_elsewhere(usual_s: float) -> None:
    world = World(WIDE, {n: Provider(latency_s=lambda: usual_s) for n in NAMES}, poisoned={"300": "hangs"})
    world.spread([make_task(n) for n in range(900)], per_s=10.0)
    world.run()
    assert world.statuses == {TaskStatus.SUCCEEDED: 900}
    (hung,) = [r for r in world.results if r.task.id == "300"]
    latencies = [round(a.latency_s) for a in hung.attempts]
    assert max(HUNG_FLOOR_S, HUNG * usual_s) <= latencies[0] <= max(HUNG_FLOOR_S, HUNG * usual_s) + 2.0
    assert len(hung.attempts) == 2
    assert hung.attempts[0].provider != hung.attempts[1].provider
    assert world.outcomes() == {"ok": 900, "TimedOut": 1}
    assert all(p.breaker.opened_count == 0 for p in world.balancer.providers)
    assert all(not p.history.failures for p in world.balancer.providers)


def test_tasks_that_take_long_wherever_they_go_cost_few_calls_given_up() -> None:
    world = World(WIDE, poisoned={str(number): "long" for number in range(5, 2_000, 25)})
    world.spread([make_task(n) for n in range(2_000)], per_s=10.0)
    world.run()
    assert world.statuses == {TaskStatus.SUCCEEDED: 2_000}
    assert world.outcomes()["TimedOut"] <= 15


def test_one_call_that_hangs_with_nowhere_else_to_go_waits_for_its_time_limit() -> None:
    world = World(WIDE, poisoned={"300": "hangs"}, configured=("openai",))
    world.spread([make_task(n) for n in range(900)], per_s=10.0)
    world.run()
    (hung,) = [r for r in world.results if r.task.id == "300"]
    assert hung.status is TaskStatus.SUCCEEDED
    assert hung.attempts[0].latency_s >= 119.0


def test_with_nowhere_else_to_go_a_task_waits_for_its_time_limit() -> None:
    world = World(WIDE, {"openai": Provider(faults=silent(5.0, 100.0))})
    world.spread([make_task(n) for n in range(100)], per_s=20.0)
    world.offer(6.0, make_task("pinned", providers=("openai",)))
    world.run()
    assert world.statuses == {TaskStatus.SUCCEEDED: 101}
    (pinned,) = [r for r in world.results if r.task.id == "pinned"]
    assert not [a for a in pinned.attempts if a.error_kind == "TimedOut" and a.latency_s < 119.0]


def test_alone_nothing_is_given_up_and_it_is_back_when_it_answers() -> None:
    world = World(WIDE, {"openai": Provider(faults=silent(5.0, 12.0))}, configured=("openai",))
    world.spread([make_task(n) for n in range(200)], per_s=10.0)
    world.run()
    assert world.statuses == {TaskStatus.SUCCEEDED: 200}
    assert [a.latency_s >= 119.0 for r in world.results for a in r.attempts if a.error_kind] == [True] * sum(
        bool(a.error_kind) for r in world.results for a in r.attempts
    )


def test_time_outs_lift_no_suspicion() -> None:
    """The first of them let ten more calls in before the breaker opened."""
    settings = make_settings(limits=told_limits(), providers={n: {"timeout_s": 30.0} for n in NAMES})
    world = World(settings, {"openai": Provider(faults=silent(5.0, 1e9))}, configured=("openai", "gemini"))
    world.spread([make_task(n, providers=("openai",)) for n in range(200)], per_s=20.0)
    world.run(34.9)
    assert len(world.balancer.registry.permits) >= 8
    world.run(36.0)
    assert world.balancer.by_name["openai"].breaker.state is not BreakerState.CLOSED
    since = [p for p in world.balancer.registry.permits.values() if p.placed_at >= START + 34.9]
    assert len(since) <= 4
