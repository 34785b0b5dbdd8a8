"""What a task was tried with in an earlier life of the orchestrator counts in the next one."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

import pytest

from src.errors import (
    InvalidResponse,
    ProviderError,
    TimedOut,
    Unreachable,
)
from src.records import Attempt, Outcome, Task, TaskStatus
from src.routing.connectivity import HealthCheckResult
from src.settings import Settings

from .build import (
    DOWN,
    MODELS,
    NAMES,
    START,
    WIDE,
    Desk,
    error_of,
    make_settings,
    make_task,
    told_limits,
)


def first_life(*errors: ProviderError, task: Task) -> list[Attempt]:
    """What had been stored of a task when the process was killed."""
    desk = Desk()
    desk.offer(task)
    attempts = []
    for error in errors:
        while not (placements := desk.go()):
            desk.now = desk.wake or math.inf
        attempts.append(desk.fail(placements[0], error).attempt)
        for name in NAMES:
            desk.provider(name).breaker.forgive()
    return attempts


def second_life(task: Task, attempts: list[Attempt], settings: Settings = WIDE) -> Desk:
    desk = Desk(settings)
    desk.now = START + 600.0
    desk.dispatch.offer(task, desk.now, attempts)
    return desk


def test_attempts_before_a_restart_keep_counting_and_the_final_error_lists_them() -> None:
    task = make_task(1)
    empty = [InvalidResponse(f"empty {number}", status=200) for number in range(6)]
    desk = second_life(task, first_life(*empty[:5], task=task))
    placement = desk.one()
    assert placement.attempt == 6
    result = desk.fail(placement, empty[5]).result
    assert result is not None and result.status is TaskStatus.FAILED
    assert result.error.startswith("6 attempts failed: ")
    places = [result.error.index(f"empty {number}") for number in range(6)]
    assert places == sorted(places)
    assert [a.number for a in result.attempts] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("kind", ["Overloaded", "InvalidResponse", "ContextTooLong", "BadRequest"])
def test_the_provider_that_failed_a_task_before_a_restart_is_not_its_first_choice(kind: str) -> None:
    task = make_task(1, "code_generation")
    (failed,) = first_life(error_of(kind), task=task)
    assert failed.provider == "openai"
    assert second_life(task, [failed]).one().provider != "openai"


def test_a_provider_that_refused_the_content_before_a_restart_is_passed_over_where_others_may_serve() -> None:
    task = make_task(1, "code_generation")
    (failed,) = first_life(error_of("Overloaded"), task=task)
    refused = dataclasses.replace(failed, error_kind="ContentRefused", error="not this")
    elsewhere = make_settings(limits=told_limits(), routing={"failover_on_refusal": True})
    desk = second_life(task, [refused], elsewhere)
    placement = desk.one()
    assert placement.provider != "openai"
    result = desk.fail(placement, error_of("ContentRefused")).result
    assert result is not None and result.status is TaskStatus.REFUSED


def test_a_task_with_an_answer_without_text_gets_its_larger_max_tokens_after_a_restart() -> None:
    task = make_task(1)
    (cut,) = first_life(error_of("Truncated"), task=task)
    assert cut.max_tokens == 100
    assert second_life(task, [cut]).one().max_tokens == 2048


@pytest.mark.parametrize("kind", ["Unreachable", "TimedOut"])
def test_what_may_have_been_the_network_of_an_earlier_life_costs_no_attempt(kind: str) -> None:
    task = make_task(1)
    empty = InvalidResponse("empty", status=200)
    stored = [dataclasses.replace(each, error_kind=kind) for each in first_life(*[empty] * 5, task=task)]
    desk = second_life(task, stored)
    desk.fail(desk.one(), empty)
    assert desk.results == []
    assert desk.dispatch.waiting == 1


def test_a_single_task_ends_within_its_attempts_whatever_the_breaker_does() -> None:
    desk = Desk(configured=["openai"])
    desk.offer(make_task(1))
    choices: Counter[str] = Counter()
    while desk.dispatch.waiting:
        placements = desk.go()
        if placements:
            choices[placements[0].choice] += 1
            desk.fail(placements[0], DOWN)
        else:
            assert desk.wake is not None
            desk.now = desk.wake
        assert sum(choices.values()) <= 50
    assert choices["probe"] > 0
    assert sum(choices.values()) - choices["forced"] == 6
    assert desk.now - START <= 120.0
    assert "6 attempts failed" in desk.results[0].error


def test_a_probe_of_the_preferred_provider_is_a_probe() -> None:
    desk = Desk()
    desk.offer(*[make_task(n, providers=("openai",)) for n in range(3)])
    for placement in desk.go():
        desk.fail(placement, TimedOut("silent"))
    for number in range(3):
        desk.dispatch.withdraw("queue", str(number))
    desk.now = desk.provider("openai").breaker.open_until
    desk.offer(make_task("typed", "code_generation"))
    probe = desk.one()
    assert (probe.provider, probe.choice) == ("openai", "probe")


def test_attempts_from_before_a_restart_keep_counting() -> None:
    desk = Desk()
    failed = [
        Attempt(n + 1, "openai", MODELS["openai"], "gpt-engineer", Outcome.FAILED, START - 10, 1.0,
                "weighted", (), error_kind="InvalidResponse", error=f"empty {n}")
        for n in range(5)
    ]  # fmt: skip
    desk.dispatch.offer(make_task(1), desk.now, failed)
    placement = desk.one()
    assert placement.attempt == 6
    desk.fail(placement, InvalidResponse("the last", status=200))
    result = desk.results[-1]
    assert result.status is TaskStatus.FAILED
    assert [a.number for a in result.attempts] == [1, 2, 3, 4, 5, 6]
    assert "empty 0" in result.error


def test_any_answer_that_ends_the_offline_state_wakes_all_tasks() -> None:
    desk = Desk()
    desk.offer(make_task("slow", providers=("anthropic",)))
    slow = desk.one()
    desk.offer(*[make_task(name, providers=(name,)) for name in NAMES])
    for placement in desk.go():
        desk.fail(placement, Unreachable("no route", sent=False))
    assert desk.balancer.offline_since is not None
    assert desk.go() == []
    desk.ok(slow, seconds=1.0)
    assert {p.provider for p in desk.go(1.0)} == set(NAMES)


def test_an_outage_of_the_network_costs_no_attempt() -> None:
    desk = Desk()
    desk.offer(*[make_task(n, providers=(NAMES[n % 3],)) for n in range(9)])
    for placement in desk.go():
        desk.fail(placement, Unreachable("no route", sent=False), seconds=0.01)
    assert desk.balancer.offline_since == START
    assert desk.go(20.0) == []
    assert desk.dispatch.waiting == 9
    desk.balancer.record_health_check("openai", HealthCheckResult.ANSWERS, desk.now, desk.now)
    desk.dispatch.wake_all()
    placements = desk.go()
    assert len(placements) == 9
    for placement in placements:
        assert placement.attempt == 2
        desk.ok(placement)
    assert {r.status for r in desk.results} == {TaskStatus.SUCCEEDED}
