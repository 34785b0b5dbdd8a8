"""A running orchestrator deletes the contents of tasks that ended long ago, beside its calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.core.retention import DAY_S, STEP_EVERY_S
from src.core.store import Store
from src.core.store.contents import STEP
from src.messages import Message
from src.records import Event, Task, TaskStatus

from .pools import adapters_for, new_store, pool_over, settings_with, tasks
from .virtual_time import START, VirtualLoop, answered, run_virtually

OLD = 2 * STEP + 10
CALL_S = 5.0
FRESH = 30


def with_old_tasks(store: Store) -> None:
    old = [Task(f"old{n}", "old", (Message("user", f"Question {n}"),)) for n in range(OLD)]
    store.intake.add_tasks(old, now=START - 3 * DAY_S)
    store.admin.cancel("old", now=START - 2 * DAY_S)
    store.events.add([Event(START - 2 * DAY_S, "started", "long ago")])
    store.intake.add_tasks(tasks(FRESH), now=START)


@pytest.mark.parametrize("days", [0.0, 1.0, 2.5])
def test_contents_are_deleted_after_their_time(days: float, tmp_path: Path) -> None:
    settings = settings_with()
    settings = settings.model_copy(
        update={"store": settings.store.model_copy(update={"retention_days": days})}
    )

    async def run(loop: VirtualLoop) -> float:
        adapters = adapters_for(settings, lambda _request: (CALL_S, answered()))
        await pool_over(store, loop, settings, adapters).run(until_done=True)
        return loop.elapsed_s

    with new_store(tmp_path) as store:
        with_old_tasks(store)
        took_s = run_virtually(run)
        kept = store.contents.purgeable(START + DAY_S)
        counts = store.reports.task_counts()
        purged = [row.event for row in store.events.recent() if row.event.kind == "purged"]
        messages = {row.event.message for row in store.events.recent()}
    assert counts[TaskStatus.SUCCEEDED] == FRESH and counts[TaskStatus.CANCELLED] == OLD
    is_due = days == 1.0
    assert kept == ({} if is_due else {"old": OLD}) | {"queue": FRESH}
    assert ("long ago" in messages) != is_due
    assert [event.fields["tasks"] for event in purged] == [OLD] * is_due
    assert took_s < 2 * CALL_S + STEP_EVERY_S, "the queue waits for no step"
