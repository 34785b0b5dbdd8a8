"""A result that the database rejects for its content fails alone, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from src.core.result_writer import ResultWriter
from src.core.store import Registrant, Store
from src.core.store_thread import StoreThread
from src.core.supervisor import Supervisor
from src.errors import StoreError, UnstorableError
from src.messages import Message
from src.records import Attempt, Event, Outcome, Result, Task, TaskStatus, Usage

ME = Registrant("me", 1, "here", "simulated")


def attempt(**changes: Any) -> Attempt:
    usual = Attempt(
        1, "openai", "gpt-6-luna", "only", Outcome.OK, 100.0, 0.5, "weighted", (),
        usage=Usage(12, 0, 0, 9, 0), cost_nanos=4_200, max_tokens=100,
    )  # fmt: skip
    return replace(usual, **changes)


def good(task: Task, **changes: Any) -> Result:
    return replace(Result(task, TaskStatus.SUCCEEDED, 101.0, (attempt(),), output="Yes."), **changes)


BAD: dict[str, dict[str, Any]] = {
    "a count beyond 64 bits": {"attempts": (attempt(usage=Usage(12, 0, 0, 2**64 - 1, 0)),)},
    "a count beyond every float": {"attempts": (attempt(usage=Usage(10**400, 0, 0, 9, 0)),)},
    "a status beyond 64 bits": {"attempts": (attempt(status=2**70),)},
    "half a surrogate as a name": {"attempts": (attempt(model="gpt-\ud83d"),)},
    "half a surrogate as a reason": {"finish_reason": "\ud83d"},
    "a value of no kind": {"tier": object()},
    "our own code fails on it": {"warnings": (object(),)},
    "an infinite latency": {"attempts": (attempt(latency_s=float("inf")),)},
}


async def stored_by_result_writer(
    store: Store, results: Sequence[Result], attempts: Sequence[tuple[Task, Attempt]] = ()
) -> tuple[list[Result], list[Event]]:
    """What the writer wrote, and the events it wrote beside."""
    thread, written, events = StoreThread(), [], []
    supervisor = Supervisor(events.extend, lambda: 5.0)
    writer = ResultWriter(store, thread, "me", written.extend, supervisor)
    for task, each in attempts:
        writer.add_attempt(task, each)
    for result in results:
        writer.add_result(result)
    running = asyncio.create_task(writer.run())
    async with asyncio.timeout(60):
        await writer.flush()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    thread.close()
    return written, events


@pytest.fixture
def tasks(store: Store) -> list[Task]:
    store.intake.add_tasks([Task(f"t{n}", "b", (Message("user", "Hi"),)) for n in range(9)], now=1.0)
    store.orchestrators.register(ME, now=2.0)
    return store.queue.claim("me", 20, now=3.0)


@pytest.mark.parametrize("changes", [pytest.param(changes, id=name) for name, changes in BAD.items()])
async def test_a_row_that_the_database_refuses_fails_alone_and_its_cost_is_kept(
    changes: dict[str, Any], store: Store, tasks: list[Task]
) -> None:
    results = [good(task) for task in tasks]
    results[4] = good(tasks[4], **changes)
    written, _ = await stored_by_result_writer(store, results)
    by_id = {result.task.id: result for result in written}
    assert len(written) == len(by_id) == len(tasks), "each is written once"
    assert by_id.pop("t4").status is TaskStatus.FAILED
    assert {result.status for result in by_id.values()} == {TaskStatus.SUCCEEDED}
    row = store.tasks.find("b", "t4")
    assert row is not None and row.result is not None
    assert row.result.error.startswith("the answer cannot be stored: ")
    assert row.result.cost_nanos == 4_200
    assert store.reports.summary("b").calls.cost_nanos == 9 * 4_200
    assert "answer_refused" in {each.event.kind for each in store.events.recent()}


async def test_an_attempt_that_is_refused_is_stored_without_what_was_refused(
    store: Store, tasks: list[Task]
) -> None:
    odd = attempt(usage=Usage(12, 0, 0, 2**64 - 1, 0), outcome=Outcome.FAILED, error_kind="ServerError")
    await stored_by_result_writer(store, [], [(tasks[0], attempt()), (tasks[1], odd)])
    assert store.reports.summary("b").calls.calls == 2
    assert store.reports.summary("b").calls.cost_nanos == 2 * 4_200


def test_a_rejected_value_and_a_lost_database_differ_by_class(store: Store, tasks: list[Task]) -> None:
    with pytest.raises(UnstorableError):
        store.queue.finish("me", [good(tasks[0], attempts=(attempt(status=2**70),))])
    with pytest.raises(StoreError) as gone, store.database.writing() as connection:
        connection.execute(sa.text("select * from no_such_table"))
    assert store.database.is_sqlite or not isinstance(gone.value, UnstorableError)
