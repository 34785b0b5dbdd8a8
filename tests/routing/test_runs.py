"""Runs and direct tasks in the scheduler: places, preferences, ends without a wait, and memory."""

from __future__ import annotations

import heapq
import random
from statistics import mean
from typing import Any

import pytest

from src.errors import ServerError
from src.records import Placement, TaskStatus
from src.routing.cost.budgets import BudgetRule, Budgets
from src.routing.runs import IDLE_S, MOST_TURNS, Runs

from .build import ONE_SLOT, START, Desk, make_settings, make_task, told_limits

TURNS = 6


def ask(desk: Desk, run: str, turn: int = 0, **fields: Any) -> None:
    task = make_task(f"{run}-{turn}", batch=f"runs/local/{run}", **fields)
    desk.dispatch.offer(task, desk.now, direct=True, is_turn=True)


def finish_times(agents: int, *, is_run: bool) -> list[float]:
    """When each of some agents has had its turns, each asked when the last one was answered; one call at a
    time, 1 s each."""
    desk, ends = Desk(ONE_SLOT), []
    due: list[tuple[float, str, int]] = []
    names = [f"r{n}" for n in range(agents)]
    for name in names:
        heapq.heappush(due, (desk.now, name, 0))
    while due or desk.dispatch.waiting:
        while due and due[0][0] <= desk.now:
            _, name, turn = heapq.heappop(due)
            batch = f"runs/local/{name}" if is_run else "gateway"
            desk.dispatch.offer(
                make_task(f"{name}-{turn}", batch=batch), desk.now, direct=True, is_turn=is_run
            )
        for placement in desk.go():
            desk.ok(placement, 1.0)
            name, turn = placement.task.id.split("-")
            if int(turn) + 1 < TURNS:
                heapq.heappush(due, (desk.now, name, int(turn) + 1))
            else:
                ends.append(desk.now - START)
    return ends


def test_agents_at_the_limit_finish_one_after_the_other() -> None:
    together, one_by_one = finish_times(20, is_run=False), finish_times(20, is_run=True)
    assert max(one_by_one) == max(together) == 20 * TURNS
    assert mean(one_by_one) < 0.6 * mean(together)


def test_a_run_that_was_idle_or_long_begins_anew() -> None:
    runs, key = Runs(), ("runs/local/r", "local")
    assert runs.begin_turn(key, 5.0, START) == (5.0, -1)
    runs.end_turn(key, START)
    assert runs.begin_turn(key, 9.0, START + IDLE_S - 1)[0] == 5.0
    runs.end_turn(key, START + IDLE_S - 1)
    assert runs.begin_turn(key, 9.0, START + 2 * IDLE_S)[0] == 9.0
    tags = [runs.begin_turn(key, 20.0, START + 2 * IDLE_S)[0] for _ in range(MOST_TURNS)]
    assert tags == [9.0] * (MOST_TURNS - 1) + [20.0]


def test_a_turn_goes_where_the_last_one_went() -> None:
    desk, dice = Desk(make_settings(limits=told_limits(), routing={"preferences": False})), random.Random(2)
    first: dict[str, str] = {}
    for turn in range(8):
        names = [f"r{n}" for n in range(12)]
        dice.shuffle(names)
        for name in names:
            ask(desk, name, turn)
        for placement in desk.go():
            assert first.setdefault(placement.task.batch, placement.provider) == placement.provider
            desk.ok(placement, 0.1)
    assert len(set(first.values())) == 3, "runs are spread all the same"


def test_a_turn_does_not_wait_for_a_provider_that_is_down() -> None:
    desk = Desk(make_settings(limits=told_limits(), routing={"preferences": False}))
    ask(desk, "r", 0)
    placement = desk.one()
    desk.ok(placement, 0.1)
    desk.provider(placement.provider).set_paused(True)
    ask(desk, "r", 1)
    assert desk.one().provider != placement.provider


def test_memory_stays_flat_over_many_runs() -> None:
    desk = Desk()
    queues, shares = desk.dispatch._queues, desk.dispatch._shares
    most_runs = most_classes = 0
    for number in range(20_000):
        ask(desk, f"r{number}", deadline_at=desk.now + 600)
        for placement in desk.go(0.05):
            desk.ok(placement)
        most_runs = max(most_runs, len(shares.runs))
        most_classes = max(most_classes, len(queues._classes))
    assert most_runs <= IDLE_S / 0.05 + 5
    assert most_classes <= 5 and not len(desk.dispatch) and not len(shares)
    assert len(queues._routes) <= 5


def test_runs_of_a_submitter_take_turns_with_the_files_of_others() -> None:
    desk = Desk(ONE_SLOT)
    for number in range(40):
        desk.offer(make_task(number, batch="file"))
        ask(desk, f"r{number}")
    first = [desk.go()[0] for _ in range(1)]
    for _ in range(19):
        desk.ok(first[-1])
        first += desk.go()
    runs = sum(each.task.batch != "file" for each in first)
    assert 8 <= runs <= 12


# ------------------------------------------------------------------ direct tasks


def spent() -> Budgets:
    return Budgets([BudgetRule("all", "", "day", 1)])


def test_a_spent_budget_ends_a_direct_task_and_keeps_a_claimed_one() -> None:
    desk = Desk(budgets=spent())
    desk.offer(make_task("claimed"))
    desk.dispatch.offer(make_task("direct"), desk.now, direct=True)
    assert not desk.go()
    (result,) = desk.results
    assert result.task.id == "direct" and result.declined is not None and result.declined.budget
    assert result.declined.until is not None and desk.dispatch.waiting == 1


def test_no_route_says_why_for_each_provider() -> None:
    desk = Desk()
    desk.dispatch.offer(make_task(0, models=("unknown",)), desk.now, direct=True)
    assert not desk.go()
    (result,) = desk.results
    assert result.declined is not None and not result.declined.budget
    assert {each.provider for each in result.declined.reasons} == {"anthropic", "openai", "gemini"}


@pytest.mark.parametrize("error", [None, ServerError("it broke", status=500)])
def test_a_task_whose_call_is_its_last_is_not_called_again(error: ServerError | None) -> None:
    desk = Desk()
    desk.dispatch.offer(make_task(0), desk.now, direct=True)
    placement: Placement = desk.one()
    desk.dispatch.end_with_call(placement.permit)
    settled = desk.cancel(placement, 1.0) if error is None else desk.fail(placement, error, 1.0)
    assert settled.result is not None
    assert settled.result.status is (TaskStatus.CANCELLED if error is None else TaskStatus.FAILED)
    assert not len(desk.dispatch) and not desk.go(10.0)


def test_counts_of_claimed_tasks_leave_direct_ones_out() -> None:
    desk = Desk(ONE_SLOT)
    desk.offer(make_task("c", batch="file", priority=3))
    for number in range(3):
        desk.dispatch.offer(make_task(number), desk.now, direct=True)
    dispatch = desk.dispatch
    for _ in range(4):
        waiting = [e for e in dispatch._entries.values() if e.queue is not None]
        claimed = [e for e in waiting if not e.direct]
        assert dispatch.waiting == len(waiting) and dispatch.claimed_waiting == len(claimed)
        assert dispatch.waiting_tasks() == [e.task for e in claimed]
        assert dispatch.claimed == sum(not e.direct for e in dispatch._entries.values())
        desk.ok(desk.one())
    assert dispatch.claimed == dispatch.claimed_waiting == len(dispatch) == 0
    assert dispatch.end_waiting("queue", "0", TaskStatus.CANCELLED, "", desk.now) is None
