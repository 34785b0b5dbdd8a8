"""A first 401, 403 or 404 proves nothing: a second look decides about the key or the model."""

from __future__ import annotations

import math

import pytest

from src.errors import AuthFailed, ModelUnavailable
from src.records import Placement
from src.routing.connectivity import HealthCheckResult
from src.routing.health.circuit_breaker import BreakerState
from src.routing.health.doubts import SECOND_LOOK_S
from src.routing.verification import REFUSALS, lists

from .build import MODELS, START, Desk, health_check, make_task

NO_KEY = AuthFailed("openai: answered 401 invalid_api_key: no", status=401, code="invalid_api_key")
FORBIDDEN = AuthFailed("openai: answered 403: not this", status=403)
GONE = ModelUnavailable("no such model", status=404)
MODEL = MODELS["openai"]
PROBE_S = 900.0


def desk_with(count: int = 4, *, worked: bool = False) -> tuple[Desk, list[Placement]]:
    """openai alone, with so many calls in flight."""
    desk = Desk(configured=["openai"])
    if worked:
        desk.offer(make_task("first", tier="standard"))
        desk.ok(desk.one())
    desk.offer(*[make_task(number, tier="standard") for number in range(count)])
    placed = desk.go()
    assert len(placed) == count
    return desk, placed


def look(desk: Desk, found: HealthCheckResult, *models: str) -> bool:
    changed = health_check(desk.balancer, "openai", found, desk.now, models)
    desk.dispatch.wake_all()
    return changed


def refuse(desk: Desk, placement: Placement, error: AuthFailed | ModelUnavailable) -> None:
    """Refused; its task is of no more interest."""
    desk.fail(placement, error)
    desk.dispatch.withdraw("queue", placement.task.id)


# ------------------------------------------------------------------ keys


def test_a_first_401_raises_a_doubt_and_the_health_check_is_due_at_once() -> None:
    desk, (first, *_) = desk_with()
    desk.balancer.record_health_check("openai", HealthCheckResult.ANSWERS, START - 1.0, START - 1.0)
    assert desk.balancer.next_health_check_at("openai", START - 1.0, desk.now) > desk.now
    desk.fail(first, NO_KEY)
    assert desk.balancer.next_health_check_at("openai", START - 1.0, desk.now) == desk.now
    assert not desk.provider("openai").key.rejection
    assert desk.go() == []
    assert desk.wake == desk.now + 1.0 or desk.wake == desk.now + SECOND_LOOK_S


def test_one_passing_401_at_a_provider_alone_is_forgotten() -> None:
    desk, (first, *others) = desk_with()
    for placement in (first, *others[:2]):  # what was sent before says nothing more
        desk.fail(placement, NO_KEY)
    assert look(desk, HealthCheckResult.ANSWERS, MODEL)
    assert not desk.provider("openai").key.rejection
    again = desk.go(1.0)
    assert len(again) == 3
    for placement in (*again, others[2]):
        desk.ok(placement)
    assert len(desk.results) == 4
    assert not desk.provider("openai").key.doubt.raised


def test_a_key_that_the_health_check_refuses_too_is_bad_at_once() -> None:
    desk, (first, *_) = desk_with()
    desk.fail(first, NO_KEY)
    assert look(desk, HealthCheckResult.KEY_REFUSED)
    assert desk.balancer.registry.all_misconfigured
    (reported,) = desk.balancer.take_events()
    assert (reported.kind, reported.level) == ("provider_misconfigured", "alert")
    assert reported.message == "openai rejected OPENAI_API_KEY (401 invalid_api_key)"


def test_a_public_list_of_models_does_not_vouch_for_a_key_twice() -> None:
    desk, (first, *_) = desk_with(1)
    desk.fail(first, NO_KEY)
    look(desk, HealthCheckResult.ANSWERS, MODEL)
    desk.fail(desk.one(1.0), NO_KEY)
    assert desk.provider("openai").key.rejection
    assert not look(desk, HealthCheckResult.ANSWERS, MODEL), "the list says nothing about the key"
    desk.now += PROBE_S
    assert look(desk, HealthCheckResult.ANSWERS, MODEL)
    assert not desk.provider("openai").key.rejection


def test_where_the_health_check_says_nothing_the_next_call_decides() -> None:
    desk, (first, *_) = desk_with(1)
    desk.fail(first, NO_KEY)
    look(desk, HealthCheckResult.SILENT)
    look(desk, HealthCheckResult.REFUSES)
    assert desk.go(SECOND_LOOK_S - 0.1) == []
    desk.fail(desk.one(0.1), NO_KEY)
    assert desk.provider("openai").key.rejection


def test_a_403_is_believed_after_several_where_the_list_vouches() -> None:
    desk, (first, *_) = desk_with(1)
    refuse(desk, first, FORBIDDEN)
    look(desk, HealthCheckResult.ANSWERS, MODEL)
    for number in range(REFUSALS):
        assert not desk.provider("openai").key.rejection
        desk.offer(make_task(f"more {number}", tier="standard"))
        refuse(desk, desk.one(), FORBIDDEN)
    assert desk.provider("openai").key.rejection


@pytest.mark.parametrize(
    ("error", "found", "bad"),
    [
        (NO_KEY, HealthCheckResult.KEY_REFUSED, True),
        (NO_KEY, HealthCheckResult.FORBIDDEN, False),  # the key may call and may not list
        (FORBIDDEN, HealthCheckResult.FORBIDDEN, True),
        (FORBIDDEN, HealthCheckResult.KEY_REFUSED, True),
        (FORBIDDEN, HealthCheckResult.REFUSES, False),
    ],
)
def test_what_a_refused_list_says_of_the_key(error: AuthFailed, found: HealthCheckResult, bad: bool) -> None:
    desk, (first, *_) = desk_with()
    desk.fail(first, error)
    look(desk, found)
    assert bool(desk.provider("openai").key.rejection) is bad


def test_a_worked_key_goes_on_and_is_condemned_by_the_health_check_alone() -> None:
    desk, placed = desk_with(3, worked=True)
    refuse(desk, placed[0], NO_KEY)
    assert desk.provider("openai").breaker.consecutive == 1
    desk.offer(make_task("next", tier="standard"))
    desk.ok(desk.one())
    refuse(desk, placed[1], NO_KEY)
    assert look(desk, HealthCheckResult.KEY_REFUSED)
    assert desk.provider("openai").key.rejection


def test_tasks_refused_under_a_key_that_worked_touch_no_health() -> None:
    desk, placed = desk_with(8, worked=True)
    for placement in placed:
        refuse(desk, placement, FORBIDDEN)
    assert desk.provider("openai").breaker.state is BreakerState.CLOSED
    assert not desk.provider("openai").key.rejection


# ------------------------------------------------------------------ models


def test_one_passing_404_does_not_make_the_model_unavailable() -> None:
    desk, (first, *_) = desk_with(1)
    desk.fail(first, GONE)
    assert desk.go() == [], "the next tier may cost ten times as much"
    assert look(desk, HealthCheckResult.ANSWERS, "another", MODEL)
    again = desk.one()
    assert (again.model, again.choice) == (MODEL, "retry")
    desk.ok(again)
    assert desk.balancer.take_events() == []
    assert not desk.provider("openai").models[MODEL].doubt.raised


@pytest.mark.parametrize("error", [NO_KEY, GONE])
def test_an_answer_to_a_call_that_was_in_flight_ends_the_doubt_at_once(
    error: AuthFailed | ModelUnavailable,
) -> None:
    desk, (first, second, *_) = desk_with()
    refuse(desk, first, error)
    desk.offer(make_task("next", tier="standard"))
    assert desk.go() == []
    desk.ok(second, 0.1)
    assert desk.one().model == MODEL


def test_a_model_that_the_list_does_not_have_is_unavailable_and_tried_by_one_call_later() -> None:
    desk, (first, *_) = desk_with(1)
    desk.fail(first, GONE)
    look(desk, HealthCheckResult.ANSWERS, "another")
    other = desk.one()
    assert other.model != MODEL
    desk.ok(other)
    assert [event.kind for event in desk.balancer.take_events()] == ["model_unavailable"]
    desk.now += PROBE_S
    desk.balancer.snapshot(desk.now)
    desk.offer(*[make_task(f"later {number}", tier="standard") for number in range(5)])
    (trial,) = desk.go()
    assert trial.model == MODEL
    desk.fail(trial, GONE)
    models = {placement.model for placement in desk.go()}
    assert models == {other.model}
    assert desk.balancer.take_events() == [], "it was reported before"


def test_a_model_that_is_back_serves_again() -> None:
    desk, (first, *_) = desk_with(1)
    desk.fail(first, GONE)
    look(desk, HealthCheckResult.ANSWERS, "another")
    desk.ok(desk.one())
    desk.now += PROBE_S
    desk.balancer.snapshot(desk.now)
    desk.balancer.take_events()
    desk.offer(*[make_task(f"later {number}", tier="standard") for number in range(5)])
    (trial,) = desk.go()
    desk.ok(trial)
    assert [event.kind for event in desk.balancer.take_events()] == ["model_available"]
    assert {placement.model for placement in desk.go()} == {MODEL}


def test_a_task_that_is_not_found_twice_is_at_fault_itself() -> None:
    """As a router answers for a task that no host of the model can take."""
    desk, placed = desk_with(3, worked=True)
    desk.fail(placed[0], GONE)
    look(desk, HealthCheckResult.ANSWERS, MODEL)
    again = desk.one()
    assert again.task.id == placed[0].task.id
    desk.fail(again, GONE)
    assert desk.go() == []
    assert desk.results[-1].task.id == placed[0].task.id
    assert "no such model" in desk.results[-1].error or "404" in desk.results[-1].error
    assert not desk.provider("openai").models[MODEL].is_out
    for placement in placed[1:]:
        desk.ok(placement)


def test_without_a_list_the_next_call_decides() -> None:
    desk, (first, *_) = desk_with(1)
    desk.fail(first, GONE)
    look(desk, HealthCheckResult.ANSWERS)  # the server has no such list
    desk.fail(desk.one(), GONE)
    assert desk.provider("openai").models[MODEL].is_out
    assert desk.one().model != MODEL


def test_a_model_that_is_served_elsewhere_is_called_there_at_once() -> None:
    desk = Desk()
    desk.offer(make_task(1, "code_generation"))
    first = desk.one()
    desk.fail(first, GONE)
    assert desk.one().provider != first.provider


@pytest.mark.parametrize(
    ("listed", "name", "has"),
    [
        (["gpt-6-luna"], "gpt-6-luna", True),
        (["claude-haiku-5-5-20260101"], "claude-haiku-5-5", True),
        (["llama3.2:latest"], "llama3.2", True),
        (["deepseek/deepseek-chat"], "deepseek/deepseek-chat:free", True),
        (["gpt-6-lun", "gpt-6"], "gpt-6-luna", False),
        (["other"], "gpt-6-luna", False),
    ],
)
def test_a_list_has_a_model_under_its_dated_name_or_its_tag(listed: list[str], name: str, has: bool) -> None:
    assert lists(listed, name) is has


def test_a_doubt_is_due_no_more_once_it_was_looked_at() -> None:
    desk, (first, *_) = desk_with()
    desk.balancer.record_health_check("openai", HealthCheckResult.ANSWERS, START - 10.0, START - 10.0)
    desk.fail(first, NO_KEY)
    look(desk, HealthCheckResult.ANSWERS, MODEL)
    assert desk.balancer.next_health_check_at("openai", desk.now, desk.now) > desk.now
    assert desk.balancer.next_health_check_at("openai", desk.now, desk.now) < math.inf
