"""The scheduler's memory is bounded by the tasks that have not ended."""

from __future__ import annotations

import gc
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.errors import ServerError
from src.records import Task
from src.routing.queue_groups import SLACK

from .build import ONE_SLOT, Desk, make_task, pause


def heaps_of(desk: Desk) -> list[int]:
    """The length of every heap that holds entries."""
    dispatch = desk.dispatch
    return [len(dispatch._deadlines), *(len(each.heap) for each in dispatch._queues)]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["settle", "settle", "fail", "withdraw", "expire"]),
        st.sampled_from([None, 5.0, 600.0]),  # the deadline of the tasks that come
        st.integers(1, 40),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(steps=STEPS, keep_oldest=st.booleans())
def test_memory_is_bounded_by_what_waits(
    steps: list[tuple[str, float | None, int]], keep_oldest: bool
) -> None:
    """Whatever comes and goes behind a task that waits for long, nothing of it stays."""
    desk = Desk()
    pause(desk.balancer, "gemini")
    if keep_oldest:
        desk.offer(make_task("oldest", deadline_at=desk.now + 1.0e6, providers=("gemini",)))
    numbers = itertools.count(1)
    for what, deadline_s, count in steps:
        at = None if deadline_s is None else desk.now + deadline_s
        only = ("gemini",) if what in ("withdraw", "expire") else ()
        for number in itertools.islice(numbers, count):
            desk.offer(make_task(number, deadline_at=at, batch=f"b{number % 7}-{what}", providers=only))
        placements = desk.go()
        for placement in placements:
            if what == "fail":
                desk.fail(placement, ServerError("no", status=500))
            else:
                desk.ok(placement)
        if what == "withdraw":
            for task in desk.dispatch.waiting_tasks():
                if task.id != "oldest":
                    assert desk.dispatch.withdraw(task.batch, task.id) is task
        desk.go(10.0)  # time-outs of deadlines
        dispatch = desk.dispatch
        open_flows = {(e.task.batch, e.task.submitter) for e in dispatch._entries.values()}
        assert set(dispatch._shares._flows) == open_flows
        assert sum(flow.open for flow in dispatch._shares._flows.values()) == len(dispatch)
        waiting = dispatch.waiting
        assert all(length <= SLACK + 2 * max(waiting, 1) + 1 for length in heaps_of(desk)), heaps_of(desk)


@pytest.mark.parametrize("deadline_s", [None, 1.0e5], ids=["without deadlines", "with deadlines"])
def test_settled_tasks_behind_a_waiting_one_are_freed(deadline_s: float | None) -> None:
    """One task with an early deadline waits; the prompts of later ones that are answered do not stay."""
    desk = Desk()
    pause(desk.balancer, "gemini")
    desk.offer(make_task("early", deadline_at=desk.now + 5_000.0, providers=("gemini",)))
    desk.go()
    for number in range(2_000):
        deadline_at = None if deadline_s is None else desk.now + deadline_s
        desk.offer(make_task(number, batch="later", deadline_at=deadline_at))
        desk.ok(desk.one())
        desk.results.clear()
    gc.collect()
    held = [each for each in gc.get_objects() if isinstance(each, Task) and each.batch == "later"]
    assert len(held) <= SLACK + 4


def test_flows_of_ended_batches_are_forgotten_and_fairness_stays() -> None:
    desk = Desk(ONE_SLOT)
    for batch in range(500):
        desk.offer(make_task(0, batch=f"small-{batch}"))
        desk.ok(desk.one())
    assert not desk.dispatch._shares._flows
    desk.offer(*(make_task(n, batch="large") for n in range(50)))
    desk.ok(desk.one())
    desk.offer(*(make_task(n, batch="other") for n in range(5)))
    served = []
    for _ in range(10):
        placement = desk.one()
        served.append(placement.task.batch)
        desk.ok(placement)
    assert served.count("other") in (4, 5)
