"""Submit, wait for, cancel and retry tasks. Each is a transaction of the store, and an event."""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ..access import MAX_PRIORITY
from ..core.event_text import purged_event
from ..core.intake import (
    QUEUE,
    TaskContext,
    make_task,
    shown,
    unknown_type_warning,
    unpriced_warning,
    unserved_reason,
)
from ..core.store import AddReport, BatchRow, FailureReason, TaskDetail, TaskSelection
from ..errors import InputError
from ..records import OPEN_STATUSES, RUNS, Task, TaskStatus
from .context import MAX_SUBMITTING, AppContext, caller_role, visible_submitter
from .presenters.batches import RETRIED
from .presenters.pool import callable_providers, pool_view
from .problems import Problem
from .visibility import find_batch, is_own_batch, is_visible

MAX_WARNINGS = 20
PURGE_AT_MOST_S = 10.0  # a request; a larger batch takes several
MAX_RUNNING_CANCELLED = 5_000  # running tasks of a batch that one cancel reaches
_PAGE = 500


# ------------------------------------------------------------------ submit


def submit(
    context: AppContext, rows: Sequence[Mapping[str, Any]], batch: str, caller: str
) -> tuple[list[Task], AddReport]:
    """Store the rows as queued tasks, all or none.

    Raises InputError for the first wrong row, Problem 422 for an id that occurs twice, 409 for an id that
    exists with another content, and 503 while too many other requests do the same.
    """
    if not context.submitting.acquire(blocking=False):
        message = f"{MAX_SUBMITTING} other requests are submitting tasks; try again."
        raise Problem(503, "busy", message, headers={"Retry-After": "1"})
    try:
        return _submit(context, rows, batch, caller)
    finally:
        context.submitting.release()


def _submit(
    context: AppContext, rows: Sequence[Mapping[str, Any]], batch: str, caller: str
) -> tuple[list[Task], AddReport]:
    tasks = _tasks_of(context, rows, batch, caller)
    start_batch(context, batch, caller)
    report = context.store.intake.add_tasks(tasks, now=context.now())
    _refuse_ids_of_others(context, batch, tasks, report)
    if report.changed_count:
        raise _ids_exist(report.changed, report.changed_count, report.added)
    context.cache.forget()
    return tasks, report


def _tasks_of(context: AppContext, rows: Sequence[Mapping[str, Any]], batch: str, caller: str) -> list[Task]:
    tasks: dict[str, Task] = {}
    now = context.now()
    for number, row in enumerate(rows, 1):
        try:
            task = make_task(
                row,
                TaskContext(batch, context.settings, now, caller),
                default_id=fresh_id,
            )
            check_priority(task)
        except InputError as error:
            if len(rows) == 1:
                raise InputError(error.what, field=error.field) from None
            where = ".".join(filter(None, (f"tasks.{number - 1}", error.field)))
            raise InputError(f"task {number}: {error.what}", field=where) from None
        if task.id in tasks:
            raise _duplicate_id(f"tasks.{number - 1}.id", task.id)
        tasks[task.id] = task
    return list(tasks.values())


def fresh_id(_content: str = "") -> str:
    """An id for a task without one. Equal prompts get different ids: each is run."""
    return f"web-{secrets.token_hex(5)}"


def check_priority(task: Task) -> None:
    """Raises InputError for a priority above what the caller's role may set."""
    highest = MAX_PRIORITY[caller_role()]
    if task.priority > highest:
        raise InputError(
            f"'priority' is {task.priority}; the highest for the role {caller_role()} is {highest}",
            field="priority",
        )


def start_batch(context: AppContext, name: str, caller: str) -> None:
    """Create the batch if needed. Raises Problem 409 if it exists and the caller may not add to it."""
    own = visible_submitter()
    if not own or name == QUEUE:
        return
    context.store.intake.create_batch(
        name, now=context.now(), submitter=caller
    )  # first: two may start it at once
    if not is_own_batch(context.store.reports.batch(name), own):
        message = f"Batch {shown(name)} belongs to another submitter; choose another name."
        raise Problem(409, "batch_taken", message, {"field": "batch"})


def _refuse_ids_of_others(context: AppContext, batch: str, tasks: Sequence[Task], report: AddReport) -> None:
    """Raises Problem 409 for an id of another submitter, even with the same content: the answer is theirs."""
    if not visible_submitter() or not (report.existing or report.changed_count):
        return
    submitters = context.store.tasks.submitters(batch, [task.id for task in tasks])
    foreign = [task_id for task_id, name in submitters.items() if not is_visible(context, batch, name)]
    if foreign:
        raise _ids_exist(foreign, len(foreign), report.added)


def _ids_exist(ids: Sequence[str], count: int, added: int) -> Problem:
    details = {"field": "id", "ids": list(ids[:MAX_WARNINGS]), "added": added}
    exist = "1 id exists" if count == 1 else f"{count:,} ids exist"
    message = f"{exist} with another content: {', '.join(ids[:3])}"
    return Problem(409, "id_exists", message, details)


def _duplicate_id(field: str, task_id: str) -> Problem:
    message = f"duplicate id {shown(task_id)}: an earlier task of this request has it"
    details = {"field": field, "fields": [{"field": field, "message": message}]}
    return Problem(422, "invalid", f"{field}: {message}", details)


def warnings_of(context: AppContext, tasks: Sequence[Task]) -> list[str]:
    """Warnings about accepted tasks, each once."""
    found = dict.fromkeys(_warnings(context, tasks))
    return list(found)[:MAX_WARNINGS]


def _warnings(context: AppContext, tasks: Sequence[Task]) -> Iterator[str]:
    if not pool_view(context).orchestrator.running:
        yield f"no orchestrator is running, so these tasks wait; start one with: {context.start_command}"
    is_pinned = any(task.models or task.providers for task in tasks)
    configured = callable_providers(context) if is_pinned else ()
    priced: set[tuple[str, ...]] = {()}
    for task in tasks:
        yield from filter(None, (unknown_type_warning(task.task_type, context.settings),))
        yield from filter(None, (unserved_reason(task, context.settings, configured),))
        if task.models not in priced:
            yield from filter(None, (unpriced_warning(task, context.settings),))
        priced.add(task.models)


# ------------------------------------------------------------------ wait


def wait_for(
    context: AppContext, batch: str, ids: Collection[str], wait_s: float
) -> tuple[dict[str, TaskStatus], bool]:
    """The status of each task, once all are final or `wait_s` has passed.

    The second value is False if the call did not wait because too many other requests do.
    """
    deadline = time.monotonic() + wait_s
    found = context.store.tasks.statuses(batch, ids)
    if not wait_s or not _any_open(found):
        return found, True
    if not context.waiting.acquire(blocking=False):
        return found, False
    try:
        with context.store.watch() as watch:
            while _any_open(found) and time.monotonic() < deadline:
                time.sleep(watch.look_every_s)
                if watch.changed():
                    found = context.store.tasks.statuses(batch, ids)
    finally:
        context.waiting.release()
    return found, True


def _any_open(found: Mapping[str, TaskStatus]) -> bool:
    return any(status in OPEN_STATUSES for status in found.values())


# ------------------------------------------------------------------ cancel and retry


def cancel_task(context: AppContext, detail: TaskDetail, caller: str) -> str:
    """Cancel the task unless its call is in flight.

    Returns `cancelled`, or `requested` if an orchestrator has claimed it and decides. Raises Problem 409 for
    a task that has ended.
    """
    row = detail.row
    if row.status not in OPEN_STATUSES:
        raise _wrong_status(409, "already_final", f"This task has ended: {row.status}.", row.status)
    done = context.store.admin.cancel(row.batch, [row.id], now=context.now())
    if not done:
        args = {"batch": row.batch, "ids": [row.id]}
        context.store.controls.add_command("cancel", args, who=caller, now=context.now())
    text = f"{caller} cancelled {_named(detail)}"
    context.record_event("task_cancelled", text, task_id=row.id, batch=row.batch)
    return "cancelled" if done else "requested"


def retry_task(context: AppContext, detail: TaskDetail, caller: str) -> None:
    """Queue a task that has ended once more, at the caller's cost. Raises Problem 409 while it is open."""
    row = detail.row
    if row.status in OPEN_STATUSES:
        raise _wrong_status(409, "still_open", f"This task has not ended: {row.status}.", row.status)
    if detail.is_purged:
        raise _wrong_status(409, "purged", "Its prompt was purged, so it can't run again.", row.status)
    context.store.admin.retry(row.batch, [row.id], now=context.now(), retried_by=caller)
    text = f"{caller} retried {_named(detail)}"
    context.record_event("task_retried", text, task_id=row.id, batch=row.batch)


def _wrong_status(status: int, code: str, message: str, found: TaskStatus) -> Problem:
    return Problem(status, code, message, {"status": str(found)})


def _named(detail: TaskDetail) -> str:
    row = detail.row
    return f"task {shown(row.id)} of batch {shown(row.batch)}, submitted by {row.submitter}"


def cancel_batch(context: AppContext, name: str, caller: str) -> dict[str, int]:
    """Cancel all tasks of a batch that wait. Calls in flight finish: they are paid for already.

    In the queue, a caller that may see only their own tasks cancels only those.
    """
    only = _submitter_filter(find_batch(context, name))
    cancelled = context.store.admin.cancel(name, now=context.now(), submitter=only)
    claimed = _running_ids(context, name, only)
    is_run = name.startswith(RUNS)  # its waiting requests are not in the store
    if claimed or is_run:
        args = {"batch": name, "ids": claimed, "direct": is_run}
        context.store.controls.add_command("cancel", args, who=caller, now=context.now())
    text = f"{caller} cancelled the waiting tasks of {name}: {cancelled + len(claimed)} tasks"
    context.record_event("batch_cancelled", text, batch=name)
    return {"cancelled": cancelled, "requested": len(claimed)}


def _running_ids(context: AppContext, batch: str, submitter: str) -> list[str]:
    found: list[str] = []
    running = TaskSelection([TaskStatus.RUNNING], batch=batch, submitter=submitter)
    before: int | None = None
    while len(found) < MAX_RUNNING_CANCELLED:
        page = context.store.tasks.page(_PAGE, running, before=before)
        found += [row.id for row in page.rows]
        before = page.next_before
        if before is None:
            break
    return found


def retry_batch(context: AppContext, name: str, caller: str, reason: FailureReason | None = None) -> int:
    """Queue ended tasks once more, at the caller's cost. Returns how many.

    Without `reason` these are all failed, expired and cancelled tasks, with it those that ended so.
    """
    only = _submitter_filter(find_batch(context, name))
    admin, now = context.store.admin, context.now()
    if reason is None:
        count = admin.retry_ended(name, RETRIED, now=now, submitter=only, retried_by=caller)
        which = "failed, expired and cancelled tasks"
    else:
        count = admin.retry_failed(name, reason, now=now, submitter=only, retried_by=caller)
        which = f"tasks that ended as {reason.status}" + (f" ({reason.error_kind})" * bool(reason.error_kind))
    context.record_event("batch_retried", f"{caller} retried {which} of {name}: {count} tasks", batch=name)
    return count


def purge_batch(context: AppContext, name: str, caller: str, older_than_s: float = 0.0) -> tuple[int, int]:
    """Delete prompts and answers of ended tasks of a batch, for up to `PURGE_AT_MOST_S`.

    Returns of how many tasks, and how many still have theirs.
    """
    before = context.now() - older_than_s
    contents, deadline = context.store.contents, time.monotonic() + PURGE_AT_MOST_S
    purged, after = 0, 0
    while time.monotonic() < deadline:
        step = contents.purge_step(before, after, name)
        purged += step.purged
        if step.after is None:
            break
        after = step.after
    context.store.events.add([purged_event(context.now(), caller, purged, name)])
    context.cache.forget()
    return purged, purgeable(context, name, older_than_s)


def purgeable(context: AppContext, name: str, older_than_s: float = 0.0) -> int:
    """How many tasks of a batch ended so long ago and still have prompt and answer."""
    return sum(context.store.contents.purgeable(context.now() - older_than_s, name).values())


def _submitter_filter(batch: BatchRow) -> str:
    return visible_submitter() if batch.name == QUEUE else ""
