"""Pages of batches, those with open tasks, their cost, and why their tasks failed."""

from __future__ import annotations

import pytest

from src.core.store import FailureReason, Store
from src.core.store import batches as batches_module
from src.errors import StoreError
from src.records import Event, Outcome, TaskStatus

from .makers import NOW, a_result, a_task, an_attempt, tasks, with_claims

FAILED, REFUSED = TaskStatus.FAILED, TaskStatus.REFUSED


def test_pages_of_batches_end_and_leave_none_out(store: Store) -> None:
    for n in range(5):
        store.intake.create_batch(f"b{n}", now=NOW + n, submitter="alice" if n % 2 else "bob")
    found, before = [], None
    while True:
        page = store.batches.page(2, before=before)
        found += [row.name for row in page.rows]
        before = page.next_before
        if before is None:
            break
    assert found == ["b4", "b3", "b2", "b1", "b0"]
    assert [row.name for row in store.batches.page(submitter="alice").rows] == ["b3", "b1"]


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("FINAL", ["100 % final"]),
        ("%", ["100 % final"]),
        ("_", ["a_b"]),
        ("nothing", []),
        ("a", ["a_b", "100 % final"]),
    ],
)
def test_batches_are_found_by_a_part_of_their_name(store: Store, part: str, names: list[str]) -> None:
    for name in ("100 % final", "a_b"):
        store.intake.create_batch(name, now=NOW)
    assert [row.name for row in store.batches.page(name=part).rows] == names


def test_only_batches_with_open_tasks_are_running(store: Store) -> None:
    (task,) = with_claims(store, a_task("done", "ended"))
    store.queue.finish("me", [a_result(task)])
    store.intake.add_tasks([*tasks(2, "older"), *tasks(1, "newer")], now=NOW)
    store.intake.create_batch("empty", now=NOW)
    assert [(row.name, row.open_tasks) for row in store.batches.with_open_tasks()] == [
        ("older", 2),
        ("newer", 1),
    ]
    assert [row.name for row in store.batches.with_open_tasks(1)] == ["older"]
    assert store.batches.with_open_tasks(submitter="somebody else") == []


def test_costs_are_those_of_all_calls_of_a_batch(store: Store) -> None:
    one, two = with_claims(store, a_task("a"), a_task("b", "other"))
    cut = an_attempt(1, Outcome.UNCERTAIN, cost_nanos=70)
    store.queue.finish(
        "me", [a_result(one, cut, an_attempt(2)), a_result(two, an_attempt(1, cost_nanos=None))]
    )
    costs = store.batches.costs(["b", "other", "unknown"])
    assert (costs["b"].cost_nanos, costs["b"].uncertain_nanos, costs["b"].calls) == (1000, 70, 2)
    assert costs["other"].unknown_cost_calls == 1
    assert set(costs) == {"b", "other"}


def fail(store: Store, kinds: dict[str, str], batch: str = "b") -> None:
    """Tasks that end after a call with this class of error; empty: before any call."""
    added = with_claims(store, *(a_task(name, batch) for name in kinds))
    store.queue.finish(
        "me",
        [
            a_result(
                task,
                an_attempt(1, Outcome.FAILED, error_kind="Timeout"),
                an_attempt(2, Outcome.FAILED, error_kind=kinds[task.id]),
                status=REFUSED if kinds[task.id] == "ContentRefused" else FAILED,
                output=None,
            )
            for task in added
        ],
    )


KINDS = {"a": "ServerError", "b": "ServerError", "c": "Timeout", "d": "ContentRefused"}


@pytest.mark.parametrize("others", [0, 6], ids=["by status", "by batch"])
def test_failures_are_counted_by_the_error_of_the_last_call(store: Store, others: int) -> None:
    fail(store, KINDS)
    if others:
        fail(store, {f"x{n}": "BadAnswer" for n in range(others)}, "other")
    assert set(store.batches.failures("b")) == {
        FailureReason(FAILED, "ServerError", 2),
        FailureReason(FAILED, "Timeout", 1),
        FailureReason(REFUSED, "ContentRefused", 1),
    }
    assert store.batches.failures("b")[0].tasks == 2
    with pytest.raises(StoreError, match="no batch"):
        store.batches.failures("unknown")


def test_a_search_for_failures_ends_after_so_many_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(store, KINDS)
    monkeypatch.setattr(batches_module, "SEARCHED", 2)
    assert sum(reason.tasks for reason in store.batches.failures("b") if reason.status is FAILED) == 2


def test_tasks_that_ended_for_one_reason_run_again(store: Store) -> None:
    fail(store, KINDS)
    assert store.admin.retry_failed("b", FailureReason(FAILED, "ServerError", 2), now=NOW) == 2
    assert {reason.error_kind for reason in store.batches.failures("b")} == {"Timeout", "ContentRefused"}
    assert store.admin.retry_failed("b", FailureReason(REFUSED, "", 0), now=NOW) == 1
    assert store.admin.retry_failed("b", FailureReason(FAILED, "Unknown", 0), now=NOW) == 0


def test_events_of_a_batch_are_those_that_name_it(store: Store) -> None:
    names = ["b", "b2", 'quo"te', "100%"]
    store.events.add([Event(NOW, "retried", f"of {name}", fields={"batch": name}) for name in names])
    store.events.add([Event(NOW, "started", "b")])
    for name in names:
        assert [row.event.message for row in store.events.of_batch(name)] == [f"of {name}"]
