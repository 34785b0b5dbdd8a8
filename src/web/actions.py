"""What a person does to the pool, from a form or by a program: written to the store, told in the events."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..core.intake import QUEUE, make_task, nobody_to_ask, shown, unknown_type_warning, unpriced_warning
from ..core.store import AddReport, BatchRow, SettingChange, TaskDetail
from ..errors import InputError
from ..formatting import percent
from ..records import Event, Task, TaskStatus
from .bodies import MAX_ROW, RebalanceBody
from .context import AppContext, caller_role, visible_submitter
from .presenters.pool import callable_providers, pool_view
from .presenters.tasks import OPEN_STATUSES
from .presenters.weights import WEIGHT_STEPS, current_weights, normalised, preset, weight_steps
from .problems import Problem, not_found
from .roles import MAX_PRIORITY

MAX_WAITING = 64  # requests that wait for an answer, so that the others find a thread: see `serving.THREADS`
MAX_SUBMITTING = 40  # requests that bring tasks, whose schemas are checked one after the other
MAX_WARNINGS = 20
MAX_ROW_DIGITS = 19  # of a row
_ROW = re.compile(rf"[1-9][0-9]{{0,{MAX_ROW_DIGITS - 1}}}")
MAX_RUNNING_CANCELLED = 5_000  # running tasks of a batch that one cancel reaches
_steering = threading.Lock()  # two who pause different providers at once
_waiting = threading.BoundedSemaphore(MAX_WAITING)
_submitting = threading.BoundedSemaphore(MAX_SUBMITTING)


# ------------------------------------------------------------------ providers


def wanted_weights(context: AppContext, body: RebalanceBody) -> dict[str, float]:
    """The weights a rebalance asks for, normalised.

    Raises Problem 422 for an unknown provider or version.
    """
    if body.preset is not None:
        return preset(context, body.preset)
    if body.version is not None:
        return _weights_of_version(context, body.version)
    given = dict(body.weights or {})
    known = context.settings.providers
    for name in given:
        if name not in known:
            message = f"weights.{name}: no provider has this name; known: {', '.join(known)}"
            raise Problem(422, "invalid", message, {"field": f"weights.{name}", "known": list(known)})
    return normalised(_completed(context, given))


def _completed(context: AppContext, given: Mapping[str, float]) -> dict[str, float]:
    """Who is not named keeps the weight they have."""
    return {name: given.get(name, weight) for name, weight in current_weights(context).items()}


def _weights_of_version(context: AppContext, version: int) -> dict[str, float]:
    for change in context.store.settings_history(1000):
        if change.version == version and change.key == "weights":
            configured = {n: row.weight for n, row in context.settings.providers.items()}
            return normalised(configured | {n: float(w) for n, w in (change.value or {}).items()})
    raise Problem(422, "invalid", f"version: no change of weights has number {version}", {"field": "version"})


def apply_weights(context: AppContext, weights: Mapping[str, float], who: str) -> int:
    """Set the weights; the number of the change in the history."""
    rounded = {name: round(weight, 6) for name, weight in weights.items()}
    version = context.store.put_setting("weights", rounded, who=who, now=context.now())
    shown = ", ".join(f"{name} {percent(weight, 1)}" for name, weight in rounded.items())
    record_event(context, "weights_changed", f"{who} set the weights: {shown}")
    return version


def undo_weights(context: AppContext, who: str) -> int:
    """One step back in the changes of weights. Raises Problem 409 where there is none."""
    with _steering:
        steps = weight_steps(context)
        if not steps.done:
            raise Problem(409, "nothing_to_undo", "No change of weights is left to undo.")
        *done, last = steps.done
        change = steps.changes[last]
        return _take_step(context, change.previous, done, [*steps.undone, last], who, "took back", change)


def redo_weights(context: AppContext, who: str) -> int:
    """The change that was undone last, once more. Raises Problem 409 where there is none."""
    with _steering:
        steps = weight_steps(context)
        if not steps.undone:
            raise Problem(409, "nothing_to_redo", "No change of weights was undone since the last new one.")
        *undone, next_one = steps.undone
        change = steps.changes[next_one]
        return _take_step(context, change.value, [*steps.done, next_one], undone, who, "made again", change)


def _take_step(
    context: AppContext,
    weights: Any,
    done: list[int],
    undone: list[int],
    who: str,
    verb: str,
    change: SettingChange,
) -> int:
    version = context.store.put_setting("weights", weights, who=who, now=context.now())
    steps = {"at": version, "done": done, "undone": undone}
    context.store.put_setting(WEIGHT_STEPS, steps, who=who, now=context.now())
    record_event(context, "weights_changed", f"{who} {verb} change {change.version} of the weights")
    return version


def steer(context: AppContext, provider: str, verb: str, who: str) -> None:
    """pause, resume or reset a provider. Raises Problem 404 for an unknown one."""
    if provider not in context.settings.providers:
        raise not_found(f"provider {provider!r}")
    now = context.now()
    with _steering:
        paused = set(context.store.current_settings().get("paused", ()))
        changed = paused | {provider} if verb == "pause" else paused - {provider}
        if verb in ("pause", "resume") and changed != paused:
            context.store.put_setting("paused", sorted(changed), who=who, now=now)
    if verb in ("resume", "reset"):
        context.store.add_command(verb, {"provider": provider}, who=who, now=now)
    words = {"pause": "paused", "resume": "resumed", "reset": "closed the breaker of"}
    record_event(context, f"provider_{verb}", f"{who} {words[verb]} {provider}", provider=provider)


def record_event(context: AppContext, kind: str, message: str, provider: str = "", task_id: str = "") -> None:
    """Tell it in the events, and who did it; what pages remember is out of date now."""
    context.store.add_events([Event(context.now(), kind, message, provider, task_id)])
    context.cache.forget()


# ------------------------------------------------------------------ whose


def is_visible(context: AppContext, batch: str, submitter: str) -> bool:
    """Whether who asks may have to do with this submitter's task in this batch."""
    name = visible_submitter()
    return not name or submitter == name or _is_own_batch(context.store.batch(batch), name)


def _is_own_batch(batch: BatchRow | None, name: str) -> bool:
    """The queue is everybody's, whoever began it."""
    return batch is not None and batch.name != QUEUE and batch.submitter == name


def find_batch(context: AppContext, name: str) -> BatchRow:
    """Raises Problem 404, also for a batch of others where who asks may see their own alone."""
    batch, own = context.store.batch(name), visible_submitter()
    if batch is None or (own and name != QUEUE and not _is_own_batch(batch, own)):
        raise not_found(f"batch {name!r}")
    return batch


def batches(context: AppContext, limit: int = 200) -> list[BatchRow]:
    """The newest batches that who asks may see."""
    name = visible_submitter()
    found = context.store.batches(limit, submitter=name)
    return [batch for batch in found if _is_own_batch(batch, name)] if name else found


def begin_batch(context: AppContext, name: str, who: str) -> None:
    """Make the batch where it is missing. Raises Problem 409 where who asks may not add to it."""
    own = visible_submitter()
    if not own or name == QUEUE:
        return
    context.store.create_batch(
        name, now=context.now(), submitter=who
    )  # before the look: two may begin it at once
    if not _is_own_batch(context.store.batch(name), own):
        message = f"Batch {shown(name)} is another submitter's; choose another name."
        raise Problem(409, "batch_taken", message, {"field": "batch"})


def check_priority(task: Task) -> None:
    """Raises InputError for one that the role of who asks may not give."""
    most = MAX_PRIORITY[caller_role()]
    if task.priority > most:
        raise InputError(f"'priority' is {task.priority}; the role {caller_role()} may give {most} at most")


def _refuse_ids_of_others(context: AppContext, batch: str, tasks: Sequence[Task], report: AddReport) -> None:
    """An id that another submitter has is taken, whatever its content: the answer is not for who asks now."""
    if not visible_submitter() or not (report.existing or report.changed_count):
        return
    of_others = [
        task_id
        for task_id, submitter in context.store.submitters(batch, [task.id for task in tasks]).items()
        if not is_visible(context, batch, submitter)
    ]
    if of_others:
        raise _ids_exist(of_others, len(of_others), report.added)


def _ids_exist(ids: Sequence[str], count: int, added: int) -> Problem:
    details = {"field": "id", "ids": list(ids[:MAX_WARNINGS]), "added": added}
    message = f"{count} ids exist with another content: {', '.join(ids[:3])}"
    return Problem(409, "id_exists", message, details)


# ------------------------------------------------------------------ tasks


def submit(
    context: AppContext, rows: Sequence[Mapping[str, Any]], batch: str, who: str
) -> tuple[list[Task], AddReport]:
    """Store tasks as queued. All or none: raises InputError for the first that is wrong, Problem 422 for an
    id that comes twice, and 503 where too many do so at once.
    """
    if not _submitting.acquire(blocking=False):
        message = f"{MAX_SUBMITTING} requests bring tasks at this moment; send it again."
        raise Problem(503, "busy", message, headers={"Retry-After": "1"})
    try:
        return _submit(context, rows, batch, who)
    finally:
        _submitting.release()


def _submit(
    context: AppContext, rows: Sequence[Mapping[str, Any]], batch: str, who: str
) -> tuple[list[Task], AddReport]:
    now = context.now()
    tasks: list[Task] = []
    ids: set[str] = set()
    for number, row in enumerate(rows, 1):
        try:
            task = make_task(
                row, batch=batch, settings=context.settings, now=now, submitter=who, default_id=fresh_id
            )
            check_priority(task)
        except InputError as error:
            raise InputError(f"task {number}: {error.what}" if len(rows) > 1 else error.what) from None
        if task.id in ids:
            raise _comes_twice(f"tasks.{number - 1}.id", task.id)
        ids.add(task.id)
        tasks.append(task)
    begin_batch(context, batch, who)
    report = context.store.add_tasks(tasks, now=now)
    _refuse_ids_of_others(context, batch, tasks, report)
    if report.changed_count:
        raise _ids_exist(report.changed, report.changed_count, report.added)
    context.cache.forget()
    return tasks, report


def _comes_twice(field: str, task_id: str) -> Problem:
    message = f"duplicate id {shown(task_id)}: an earlier task of this request has it"
    details = {"field": field, "fields": [{"field": field, "message": message}]}
    return Problem(422, "invalid", f"{field}: {message}", details)


def warnings_of(context: AppContext, tasks: Sequence[Task]) -> list[str]:
    """What is odd about tasks that were taken all the same, each thing once."""
    configured = callable_providers(context) if any(task.models or task.providers for task in tasks) else ()
    found: dict[str, None] = {}
    if not pool_view(context).orchestrator.running:
        found[f"no orchestrator is running, so these tasks wait; start one with: {context.serving}"] = None
    named: set[tuple[str, ...]] = {()}
    for task in tasks:
        told = (
            unknown_type_warning(task.task_type, context.settings),
            nobody_to_ask(task, context.settings, configured),
            unpriced_warning(task, context.settings) if task.models not in named else "",
        )
        named.add(task.models)
        found |= dict.fromkeys(filter(None, told))
    return list(found)[:MAX_WARNINGS]


def fresh_id(_content: str = "") -> str:
    """For a task that brings none: the same words asked twice are two tasks."""
    return f"web-{secrets.token_hex(5)}"


def wait_for(
    context: AppContext, batch: str, ids: Collection[str], wait_s: float
) -> tuple[dict[str, TaskStatus], bool]:
    """The status of each, once all are final or the time is over; False where too many wait already."""
    deadline = time.monotonic() + wait_s
    found = context.store.statuses(batch, ids)
    if not wait_s or not _any_open(found):
        return found, True
    if not _waiting.acquire(blocking=False):
        return found, False
    try:
        with context.store.watch() as watch:
            while _any_open(found) and time.monotonic() < deadline:
                time.sleep(watch.look_every_s)
                if watch.changed():
                    found = context.store.statuses(batch, ids)
    finally:
        _waiting.release()
    return found, True


def _any_open(found: Mapping[str, TaskStatus]) -> bool:
    return any(status in OPEN_STATUSES for status in found.values())


def find_task(context: AppContext, row: str) -> TaskDetail:
    """The task in the row of this number. Raises Problem 404."""
    number = int(row) if _ROW.fullmatch(row) else 0
    detail = context.store.task_at(number) if 0 < number <= MAX_ROW else None
    if detail is None or not is_visible(context, detail.row.batch, detail.row.submitter):
        raise not_found(f"task in row {row[:MAX_ROW_DIGITS]}")
    return detail


def find_task_named(context: AppContext, name: str) -> TaskDetail:
    """The task of the queue that has this id, else the one in the row of this number. Raises Problem 404.

    Numbers are common ids, and nobody who hands one in knows the row that it gets.
    """
    detail = context.store.task(QUEUE, name)
    if detail is not None and is_visible(context, QUEUE, detail.row.submitter):
        return detail
    if _ROW.fullmatch(name):
        return find_task(context, name)
    raise not_found(f"task {name!r} in batch {QUEUE!r}")


def find_task_by_id(context: AppContext, batch: str, task_id: str) -> TaskDetail:
    detail = context.store.task(batch, task_id)
    if detail is None or not is_visible(context, batch, detail.row.submitter):
        raise not_found(f"task {task_id!r} in batch {batch!r}")
    return detail


def cancel_task(context: AppContext, detail: TaskDetail, who: str) -> str:
    """Take it out if it still waits: `cancelled`, or `asked` where an orchestrator has it.

    Raises Problem 409 for one that has ended.
    """
    row = detail.row
    if row.status not in OPEN_STATUSES:
        raise Problem(
            409, "already_final", f"This task has ended: {row.status}.", {"status": str(row.status)}
        )
    done = context.store.cancel(row.batch, [row.id], now=context.now())
    if not done:
        context.store.add_command("cancel", {"batch": row.batch, "ids": [row.id]}, who=who, now=context.now())
    record_event(context, "task_cancelled", f"{who} cancelled {_named(detail)}", task_id=row.id)
    return "cancelled" if done else "asked"


def _named(detail: TaskDetail) -> str:
    row = detail.row
    return f"task {shown(row.id)} of batch {shown(row.batch)}, of {row.submitter}"


def cancel_batch(context: AppContext, batch: str, who: str) -> dict[str, int]:
    """Take out all that wait. What is being called at the moment is finished: it is paid for already.

    Who may see their own alone cancels their own alone, in the queue that they share with others.
    """
    only = _only_in(find_batch(context, batch))
    done = context.store.cancel(batch, now=context.now(), submitter=only)
    asked: list[str] = []
    statuses = [TaskStatus.RUNNING]
    page = context.store.tasks(500, statuses=statuses, batch=batch, submitter=only)
    while len(asked) < MAX_RUNNING_CANCELLED:
        asked += [row.id for row in page.rows]
        if page.next_before is None:
            break
        page = context.store.tasks(
            500, statuses=statuses, batch=batch, submitter=only, before=page.next_before
        )
    if asked:
        context.store.add_command("cancel", {"batch": batch, "ids": asked}, who=who, now=context.now())
    record_event(
        context, "batch_cancelled", f"{who} cancelled what waits of {batch}: {done + len(asked)} tasks"
    )
    return {"cancelled": done, "asked": len(asked)}


def _only_in(batch: BatchRow) -> str:
    return visible_submitter() if batch.name == QUEUE else ""


def retry_task(context: AppContext, detail: TaskDetail, who: str) -> None:
    """Ask again, at the cost of who asks. Raises Problem 409 while it is open."""
    row = detail.row
    if row.status in OPEN_STATUSES:
        raise Problem(
            409, "still_open", f"This task has not ended: {row.status}.", {"status": str(row.status)}
        )
    context.store.requeue(row.batch, ids=[row.id], now=context.now(), asked_by=who)
    record_event(context, "task_retried", f"{who} asked again for {_named(detail)}", task_id=row.id)


def retry_batch(context: AppContext, batch: str, who: str) -> int:
    """Ask again what failed, expired or was cancelled, at the cost of who asks. Returns how many that are."""
    only = _only_in(find_batch(context, batch))
    statuses = [TaskStatus.FAILED, TaskStatus.EXPIRED, TaskStatus.CANCELLED]
    count = context.store.requeue(batch, statuses=statuses, now=context.now(), submitter=only, asked_by=who)
    record_event(
        context, "batch_retried", f"{who} asked again for what did not succeed of {batch}: {count} tasks"
    )
    return count
