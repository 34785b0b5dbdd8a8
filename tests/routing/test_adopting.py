"""A new leader goes on with calls in flight: they count like its own, whether or not they fit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from src.config import load_settings
from src.core.budget_keeper import budgets_from
from src.errors import PermitError, ServerError
from src.records import Outcome, Placement, TaskStatus

from .build import START, WIDE, Desk, answer, make_task

AGE_S = 3.0


def handed_over(
    count: int = 1, *, desk: Desk | None = None, budgets: object = None
) -> tuple[Desk, list[Placement]]:
    """A new leader's desk, with calls that an earlier one has placed."""
    before = Desk()
    before.offer(*(make_task(number) for number in range(count)))
    placed = [replace(each, at=START - AGE_S) for each in before.go()]
    assert len(placed) == count
    after = desk or Desk(WIDE, budgets=budgets)
    adopted = [after.dispatch.adopt(each, after.now) for each in placed]
    return after, [each for each in adopted if each is not None]


def test_an_adopted_call_is_settled_like_any_other() -> None:
    desk, (placed,) = handed_over()
    assert (desk.balancer.in_flight, desk.dispatch.waiting, desk.dispatch.claimed) == (1, 0, 1)
    settled = desk.ok(placed)
    assert settled.result is not None and settled.result.status is TaskStatus.SUCCEEDED
    assert desk.balancer.in_flight == 0
    assert desk.balancer.registry.free_slots == desk.balancer.slots
    with pytest.raises(PermitError):
        desk.balancer.settle(placed.permit, None, desk.now)  # type: ignore[arg-type]


def test_its_task_goes_on_elsewhere_after_a_failure() -> None:
    desk, (placed,) = handed_over()
    assert desk.fail(placed, ServerError("it broke", status=500)).result is None
    assert desk.one().attempt == 2


def test_permits_of_adopted_and_new_calls_are_never_the_same() -> None:
    desk, adopted = handed_over(5)
    desk.offer(*(make_task(number) for number in range(100, 105)))
    permits = [each.permit for each in (*adopted, *desk.go())]
    assert len(set(permits)) == 10


def test_more_calls_than_slots_are_adopted_and_nothing_is_placed_until_there_is_room() -> None:
    small = WIDE.model_copy(update={"agents": tuple(replace_slots(WIDE.agents))})
    desk, adopted = handed_over(20, desk=Desk(small))
    assert len(adopted) == 20
    assert desk.balancer.registry.free_slots < 0
    desk.offer(make_task(100))
    assert desk.go() == []
    for each in adopted[:-1]:
        desk.ok(each)
    assert len(desk.go()) == 1


def replace_slots(agents: object) -> list[object]:
    """One call at a time for each agent."""
    return [each.model_copy(update={"calls_in_flight": 1}) for each in agents]  # type: ignore[attr-defined]


def test_what_an_adopted_call_may_cost_is_reserved_even_beyond_the_budget() -> None:
    tight = load_settings(environ={}).budgets.model_copy(update={"daily_usd": 0.000001})
    budgets = budgets_from(tight, None)
    assert budgets is not None
    desk, (placed,) = handed_over(budgets=budgets)
    gauge = budgets.snapshot(desk.now)[0]
    assert gauge.reserved_nanos == placed.reserved_nanos > gauge.limit_nanos
    desk.offer(make_task(100))
    assert desk.go() == []
    desk.ok(placed)
    assert budgets.snapshot(desk.now)[0].reserved_nanos == 0


def test_a_call_whose_provider_is_not_configured_any_more_is_not_adopted_and_its_task_waits() -> None:
    (placed,) = handed_over()[1]
    others = [name for name in WIDE.providers if name != placed.provider]
    desk = Desk(WIDE, configured=others)
    assert desk.dispatch.adopt(placed, desk.now) is None
    assert (desk.balancer.in_flight, desk.dispatch.waiting) == (0, 1)
    assert desk.one().provider in others


def test_its_latency_counts_from_when_it_was_sent() -> None:
    desk, (placed,) = handed_over()
    settled = desk.dispatch.settle(placed, desk.now, completion=answer(placed))
    assert settled.attempt.outcome is Outcome.OK
    assert settled.attempt.latency_s == pytest.approx(AGE_S)
