"""What a new leader takes over of the calls that workers hold, and what it books as uncertain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from src.core.store import Registrant, Store, schema
from src.core.store.rows import HeldByWorker, Inventories, Registration
from src.records import TaskStatus

from .makers import NOW, a_result, a_task, an_attempt, ids, register, with_claims

ACCOUNT = ("openai", "b", "local")


@pytest.fixture
def store(place: str | Path) -> Iterator[Store]:
    with Store.open(place, simulated=False) as opened:
        yield opened


def held(row: int, attempt: int = 1, worker: str = "w1", batch: str = "b") -> HeldByWorker:
    """A call that may cost 100 nano-dollars at most."""
    return HeldByWorker(f"1/{row}.{attempt}", worker, row, attempt, "openai", batch, "local", 100)


def reserve(store: Store, incarnation: str = "me", **nanos: int) -> None:
    """`w1=200`: for the calls of that worker; `own`: of the orchestrator itself."""
    accounts = {(*ACCOUNT, "" if worker == "own" else worker): n for worker, n in nanos.items()}
    store.orchestrators.reserve_cost(incarnation, accounts)


def reserved(store: Store) -> dict[str, int]:
    """By worker, what is reserved for calls of anybody."""
    with store.database.reading() as connection:
        rows = connection.execute(schema.cost_reservations.select()).all()
    return {row.worker: row.nanos for row in rows}


def take_over(store: Store, *calls: HeldByWorker, workers: str = "w1", name: str = "next") -> Registration:
    found = Inventories(frozenset(workers.split()), calls)
    registration: Registration = register(store, name, now=NOW + 60, found=found)
    return registration


def test_a_call_that_a_worker_holds_stays_claimed_and_reserved(store: Store) -> None:
    one, two = with_claims(store, a_task("t1"), a_task("t2"))
    reserve(store, w1=200)
    taken = take_over(store, held(one.row))
    assert [call.row for call in taken.adopted] == [one.row]
    assert (taken.recovered, taken.uncertain_nanos) == (1, 0)  # nothing is out but what the worker has told
    assert ids(store.queue.claimed("next")) == ["t1"]
    assert ids(store.queue.claim("next", 10, now=NOW + 61)) == [two.id]
    assert reserved(store) == {"w1": 100}


def test_what_workers_that_told_nothing_hold_is_uncertain(store: Store) -> None:
    one, _ = with_claims(store, a_task("t1"), a_task("t2"))
    reserve(store, w1=100, w2=70, own=5)
    taken = take_over(store, held(one.row))
    assert taken.uncertain_nanos == 75
    assert reserved(store) == {"w1": 100}


def test_an_attempt_that_is_stored_is_not_adopted_again(store: Store) -> None:
    """Its leader was killed after the commit and before it could tell the worker."""
    (one,) = with_claims(store, a_task("t1"))
    reserve(store, w1=100)
    store.queue.record_attempts("me", [(one, an_attempt(1))])
    taken = take_over(store, held(one.row, attempt=1))
    assert (taken.adopted, taken.recovered, taken.uncertain_nanos) == ((), 1, 0)


def test_a_task_that_has_ended_is_left_alone(store: Store) -> None:
    (one,) = with_claims(store, a_task("t1"))
    reserve(store, w1=100)
    store.queue.finish("me", [a_result(one)])
    taken = take_over(store, held(one.row))
    assert (taken.adopted, taken.recovered, taken.uncertain_nanos) == ((), 0, 0)


def test_of_two_calls_of_a_task_the_later_is_adopted_and_the_earlier_uncertain(store: Store) -> None:
    """The earlier one was given up: its worker did not answer, and its attempt is not stored yet."""
    (one,) = with_claims(store, a_task("t1"))
    reserve(store, w1=100, w2=100)
    taken = take_over(store, held(one.row, 1, "w2"), held(one.row, 2, "w1"), workers="w1 w2")
    assert [(call.attempt, call.worker) for call in taken.adopted] == [(2, "w1")]
    assert taken.uncertain_nanos == 100
    assert reserved(store) == {"w1": 100}


def test_a_run_of_one_batch_adopts_no_other_calls(store: Store) -> None:
    one, two = with_claims(store, a_task("t1"), a_task("t2", batch="other"))
    reserve(store, w1=100)
    found = Inventories(frozenset(["w1"]), (held(one.row), held(two.row, batch="other")))
    taken = store.orchestrators.register(Registrant("run", 2, "here", "run", "b"), now=NOW + 60, found=found)
    assert ([call.row for call in taken.adopted], taken.recovered) == ([one.row], 1)


def test_adopting_may_be_repeated(store: Store) -> None:
    """The connection was lost, and whether the transaction was committed is not known."""
    (one,) = with_claims(store, a_task("t1"))
    reserve(store, w1=100, own=5)
    assert take_over(store, held(one.row)).adopted == take_over(store, held(one.row)).adopted != ()
    assert reserved(store) == {"w1": 100}
    assert store.reports.task_counts("b")[TaskStatus.RUNNING] == 1


def test_a_call_goes_on_over_several_leaders(store: Store) -> None:
    (one,) = with_claims(store, a_task("t1"))
    reserve(store, w1=100)
    take_over(store, held(one.row), name="second")
    taken = take_over(store, held(one.row), name="third")
    assert (len(taken.adopted), taken.recovered, taken.uncertain_nanos) == (1, 0, 0)
    assert reserved(store) == {"w1": 100}
    assert store.queue.finish("third", [a_result(one)]) != []


def test_an_adopted_task_is_not_poisoned_by_its_dead_leaders(store: Store) -> None:
    (one,) = with_claims(store, a_task("t1"))
    found = Inventories(frozenset(["w1"]), (held(one.row),))
    taken = register(store, "next", max_claims=1, found=found)
    assert (taken.poisoned, len(taken.adopted)) == (0, 1)
