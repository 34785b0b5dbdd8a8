"""Claim tasks in order, and release them."""

from __future__ import annotations

from collections import Counter

import pytest

from src.core.store import Store
from src.core.store.claim_order import NEAR_S
from src.core.store.queue import ClaimLimit
from src.errors import StoreError
from src.records import TaskStatus

from .makers import NOW, a_result, a_task, ids, register, tasks, with_claims


def test_a_claim_marks_and_counts(store: Store) -> None:
    claimed = with_claims(store, *tasks(3))
    assert ids(claimed) == ids(tasks(3))
    assert {task.claims for task in claimed} == {1}
    assert store.reports.task_counts()[TaskStatus.RUNNING] == 3
    assert store.queue.claim("me", 10, now=NOW) == []


def test_a_claim_needs_a_registration(store: Store) -> None:
    with pytest.raises(StoreError, match="'nobody' is not registered"):
        store.queue.claim("nobody", 1, now=NOW)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_claim_of_nothing_takes_nothing(store: Store, limit: int) -> None:
    store.intake.add_tasks(tasks(1), now=NOW)
    register(store)
    assert store.queue.claim("me", limit, now=NOW) == []


def test_higher_priorities_go_first_then_the_oldest(store: Store) -> None:
    priorities = [("a", 0), ("b", 5), ("c", -3), ("d", 5), ("e", 0)]
    store.intake.add_tasks([a_task(id, priority=priority) for id, priority in priorities], now=NOW)
    register(store)
    assert ids(store.queue.claim("me", 2, now=NOW)) == ["b", "d"]
    assert ids(store.queue.claim("me", 9, now=NOW)) == ["a", "e", "c"]


def test_above_a_priority_only_higher_ones_are_claimed(store: Store) -> None:
    priorities = [("a", 0), ("b", 5), ("c", -3), ("d", 9)]
    store.intake.add_tasks([a_task(id, priority=priority) for id, priority in priorities], now=NOW)
    store.intake.add_tasks([a_task("near", deadline_at=NOW + 5.0)], now=NOW)
    register(store)
    assert ids(store.queue.claim("me", 9, now=NOW, above=5)) == ["d"]
    assert ids(store.queue.claim("me", 9, now=NOW, above=0)) == ["b"]
    assert ids(store.queue.claim("me", 9, now=NOW, above=0)) == []
    assert set(ids(store.queue.claim("me", 9, now=NOW))) == {"near", "a", "c"}


def test_a_single_question_does_not_wait_for_the_end_of_a_file(store: Store) -> None:
    store.intake.add_tasks(tasks(500, batch="file"), now=NOW)
    store.intake.add_tasks([a_task("question", batch="queue")], now=NOW)
    register(store)
    assert "question" in ids(store.queue.claim("me", 2, now=NOW))


def test_batches_share_equally_and_then_their_task_types(store: Store) -> None:
    for kind in ("general", "research", "analysis"):
        store.intake.add_tasks([a_task(f"{kind}{i}", "many", task_type=kind) for i in range(40)], now=NOW)
    store.intake.add_tasks([a_task(f"s{i}", "single") for i in range(80)], now=NOW)
    register(store)
    claimed = store.queue.claim("me", 60, now=NOW)
    assert Counter(task.batch for task in claimed) == {"many": 30, "single": 30}
    types = Counter(task.task_type for task in claimed if task.batch == "many")
    assert types == {"general": 10, "research": 10, "analysis": 10}


def test_submitters_within_a_batch_take_turns(store: Store) -> None:
    store.intake.add_tasks([a_task(f"a{i}", submitter="alice") for i in range(50)], now=NOW)
    store.intake.add_tasks([a_task(f"b{i}", submitter="bob") for i in range(3)], now=NOW)
    register(store)
    claimed = store.queue.claim("me", 6, now=NOW)
    assert Counter(task.submitter for task in claimed) == {"alice": 3, "bob": 3}


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
def test_no_stream_starves_however_small_the_claims_are(store: Store, limit: int) -> None:
    kinds = [f"type{i}" for i in range(5)]
    for kind in kinds:
        store.intake.add_tasks([a_task(f"{kind}-{i}", "many", task_type=kind) for i in range(12)], now=NOW)
    store.intake.add_tasks([a_task(f"s{i}", "single") for i in range(60)], now=NOW)
    register(store)
    served: Counter[str] = Counter()
    while sum(served.values()) < 60:
        served.update(task.task_type for task in store.queue.claim("me", limit, now=NOW))
    assert all(served[kind] >= 3 for kind in kinds), served
    assert served["general"] >= 20, served


def test_a_near_deadline_goes_first_but_takes_half_at_most(store: Store) -> None:
    store.intake.add_tasks(tasks(20), now=NOW)
    for i, away in enumerate([NEAR_S + 1, 50.0, 20.0, -5.0]):
        store.intake.add_tasks([a_task(f"due{i}", deadline_at=NOW + away)], now=NOW)
    register(store)
    assert ids(store.queue.claim("me", 4, now=NOW)) == ["due3", "due2", "t0000", "t0001"]
    assert ids(store.queue.claim("me", 4, now=NOW)) == ["due1", "t0002", "t0003", "t0004"]


def test_a_claim_of_one_batch_leaves_the_others_queued(store: Store) -> None:
    store.intake.add_tasks(tasks(5, batch="mine", task_type="research"), now=NOW)
    store.intake.add_tasks(
        [*tasks(5, batch="other", priority=9), a_task("x", "other", deadline_at=NOW)], now=NOW
    )
    register(store)
    assert {task.batch for task in store.queue.claim("me", 100, now=NOW, batch="mine")} == {"mine"}
    assert store.reports.task_counts("mine")[TaskStatus.QUEUED] == 0


def test_released_tasks_are_claimed_again_and_the_first_claim_does_not_count(store: Store) -> None:
    claimed = with_claims(store, *tasks(3))
    assert store.queue.release("me", claimed[:2], now=NOW) == 2
    assert store.queue.release("me", claimed[:2], now=NOW) == 0
    again = store.queue.claim("me", 10, now=NOW)
    assert ids(again) == ids(claimed[:2])
    assert {task.claims for task in again} == {1}


def test_a_finished_task_is_not_released(store: Store) -> None:
    (task,) = with_claims(store, a_task())
    store.queue.finish("me", [a_result(task)])
    assert store.queue.release("me", [task], now=NOW) == 0


def test_more_tasks_than_one_in_list_are_claimed_and_released(store: Store) -> None:
    store.intake.add_tasks(tasks(1300), now=NOW)
    register(store)
    claimed = store.queue.claim("me", 1200, now=NOW)
    assert ids(claimed) == ids(tasks(1200))
    assert store.queue.release("me", claimed, now=NOW) == 1200


SIZES = {
    "all fit": ([1_000] * 40, 50_000, 40),
    "as many as fit": ([10_000] * 40, 55_000, 5),
    "a huge one goes alone": ([90_000, 10, 10], 50_000, 1),
    "a huge one waits for the next claim": ([10, 90_000, 10], 50_000, 1),
    "small ones taught nothing about large ones": ([100] * 30 + [40_000] * 30, 100_000, 32),
}


@pytest.mark.parametrize(("sizes", "most_bytes", "expected"), SIZES.values(), ids=SIZES)
def test_a_claim_is_bounded_by_what_its_tasks_contain(
    store: Store, sizes: list[int], most_bytes: int, expected: int
) -> None:
    store.intake.add_tasks([a_task(f"t{n}", prompt="x" * size) for n, size in enumerate(sizes)], now=NOW)
    register(store)
    most = ClaimLimit(len(sizes), most_bytes)
    claimed, is_cut, _ = store.queue.claim_part("me", most, now=NOW)
    assert [task.id for task in claimed] == [f"t{n}" for n in range(expected)]
    assert is_cut == (expected < len(sizes))
    assert {task.claims for task in claimed} == {1}
    rest = []
    while more := store.queue.claim_part("me", most, now=NOW).tasks:
        rest += more
    assert [task.id for task in rest] == [f"t{n}" for n in range(expected, len(sizes))]


def test_only_what_was_claimed_is_running(store: Store) -> None:
    store.intake.add_tasks([a_task(f"t{n}", prompt="x" * 10_000) for n in range(9)], now=NOW)
    register(store)
    assert len(store.queue.claim_part("me", ClaimLimit(9, 25_000), now=NOW).tasks) == 2
    assert store.queue.poll().queued == 7
