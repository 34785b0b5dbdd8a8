"""Whether a failure is its task's own or its provider's, and which task is the probe."""

from __future__ import annotations

from collections import Counter

import pytest

from src.routing.health.circuit_breaker import BreakerState
from src.settings import Settings

from .build import DOWN, Desk, make_settings, make_task, told_limits

WIDE: Settings = make_settings(limits=told_limits(), routing={"preferences": False})


def alone(seed: int = 1) -> Desk:
    return Desk(WIDE, configured=["openai"], seed=seed)


def test_a_task_that_fails_beside_answers_sent_later_opens_no_breaker_and_ends_within_its_attempts() -> None:
    desk = alone()
    desk.offer(make_task("bad"))
    bad = desk.one()
    for number in range(5):
        desk.fail(bad, DOWN)
        desk.offer(make_task(f"good {number}"))
        placed = {p.task.id: p for p in desk.go(20.0)}
        desk.ok(placed.pop(f"good {number}"))
        (bad,) = placed.values()
    desk.fail(bad, DOWN)
    assert "6 attempts failed" in desk.results[-1].error
    assert desk.provider("openai").breaker.opened_count == 0
    assert desk.provider("openai").breaker.consecutive == 0


def test_a_task_that_another_provider_fails_beside_its_answers_does_not_count_against_the_next() -> None:
    desk = Desk(WIDE)
    for name in ("anthropic", "openai", "gemini"):
        desk.offer(make_task(name, providers=(name,)))
    placed = {p.provider: p for p in desk.go()}
    desk.offer(make_task("bad"))
    bad = desk.one()
    desk.fail(bad, DOWN)
    (again,) = desk.go()  # where it failed first, once
    assert again.provider == bad.provider
    desk.fail(again, DOWN)
    desk.ok(placed[bad.provider])  # sent before: says nothing
    elsewhere = desk.one()
    desk.fail(elsewhere, DOWN)
    assert desk.provider(elsewhere.provider).breaker.consecutive == 1
    desk.offer(make_task("good", providers=(bad.provider,)))
    placed = {p.task.id: p for p in desk.go()}
    desk.ok(placed["good"])
    third = placed["bad"]
    assert third.provider not in (bad.provider, elsewhere.provider)
    desk.fail(third, DOWN)
    assert desk.provider(third.provider).breaker.consecutive == 0


def test_failures_of_different_tasks_count_against_the_provider() -> None:
    desk = alone()
    desk.offer(*[make_task(number) for number in range(3)])
    for placement in desk.go():
        desk.fail(placement, DOWN)
    assert desk.provider("openai").breaker.state is BreakerState.OPEN


@pytest.mark.parametrize("seed", range(10))
def test_the_probe_is_a_task_that_has_not_failed(seed: int) -> None:
    desk = alone(seed)
    desk.offer(*[make_task(f"bad {number}") for number in range(3)])
    for placement in desk.go():
        desk.fail(placement, DOWN)
    desk.offer(*[make_task(f"waits {number}") for number in range(3)])
    desk.now = desk.provider("openai").breaker.open_until
    probe = desk.one()
    assert (probe.choice, probe.task.id.split()[0]) == ("probe", "waits")


def test_probes_are_drawn_evenly_whatever_their_class_and_place_in_the_queue() -> None:
    drawn: Counter[str] = Counter()
    for seed in range(400):
        desk = alone(seed)
        desk.offer(*[make_task(f"bad {number}") for number in range(3)])
        for placement in desk.go():
            desk.fail(placement, DOWN)
        desk.offer(*[make_task(f"urgent {number}", "research", priority=9) for number in range(10)])
        desk.offer(*[make_task(f"small {number}") for number in range(30)])
        desk.now = desk.provider("openai").breaker.open_until
        drawn[desk.one().task.id.split()[0]] += 1
    assert drawn["bad"] == 0
    assert 70 <= drawn["urgent"] <= 130  # a quarter


def test_where_only_failed_tasks_wait_one_of_them_is_the_probe_and_it_costs_an_attempt() -> None:
    desk = alone()
    desk.offer(*[make_task(number) for number in range(3)])
    for placement in desk.go():
        desk.fail(placement, DOWN)
    desk.now = desk.provider("openai").breaker.open_until
    for _ in range(40):
        placed = desk.go()
        for placement in placed:
            desk.fail(placement, DOWN)
        if desk.results:
            break
        assert desk.wake is not None
        desk.now = desk.wake
    assert "6 attempts failed" in desk.results[0].error
