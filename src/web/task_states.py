"""The states of a task, as pages and API name them.

The store knows `queued` and `running`, which means claimed by an orchestrator. Most claimed tasks still
wait there, so people see `waiting` and `in_flight` instead. Tasks that may go into a provider's batch are
`deferred` until they do, and `batched` while they are there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum

from ..core.store import TaskRow
from ..records import LIVE_STATUSES, TaskStatus


class TaskState(StrEnum):
    """A task as people see it. The other states are those of the store."""

    WAITING = "waiting"
    IN_FLIGHT = "in_flight"
    DEFERRED = "deferred"
    BATCHED = "batched"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUSED = "refused"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


def state_of(row: TaskRow, in_flight: Collection[int]) -> TaskState:
    """The state of a task. `in_flight` are the rows of all tasks whose call has left."""
    if row.status not in LIVE_STATUSES:
        return TaskState(row.status.value)
    return TaskState.IN_FLIGHT if row.row in in_flight else TaskState.WAITING


def statuses_of(wanted: TaskStatus | TaskState | None) -> Sequence[TaskStatus]:
    """The statuses of the store that tasks of this status or state can have; empty: any."""
    match wanted:
        case None:
            return ()
        case TaskState.WAITING:
            return LIVE_STATUSES
        case TaskState.IN_FLIGHT:
            return (TaskStatus.RUNNING,)
        case _:
            return (TaskStatus(wanted.value),)
