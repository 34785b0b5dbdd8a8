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
from ..records import Event, Task, TaskStatus
from .bodies import LARGEST, RebalanceBody
from .presenters.pool import pool_view, who_is_called
from .presenters.tasks import OPEN
from .presenters.weights import WEIGHT_STEPS, current_weights, normalised, preset, weight_steps
from .problems import Problem, not_found
from .roles import MOST_PRIORITY
from .site import Site, own_only, role
from .words import percent

MOST_WAITING = 64  # requests that wait for an answer, so that the others find a thread: see `serving.THREADS`
MOST_TAKING = 40  # requests that bring tasks, whose schemas are checked one after the other
WARNINGS_TOLD = 20
MOST_DIGITS = 19  # of a row
_ROW = re.compile(rf"[1-9][0-9]{{0,{MOST_DIGITS - 1}}}")
RUNNING_ASKED = 5_000  # running tasks of a batch that one cancel reaches
_steering = threading.Lock()  # two who pause different providers at once
_waiting = threading.BoundedSemaphore(MOST_WAITING)
_taking = threading.BoundedSemaphore(MOST_TAKING)


# ------------------------------------------------------------------ providers


def wanted_weights(site: Site, body: RebalanceBody) -> dict[str, float]:
    """The weights a rebalance asks for, normalised.

    Raises Problem 422 for an unknown provider or version.
    """
    if body.preset is not None:
        return preset(site, body.preset)
    if body.version is not None:
        return _weights_of_version(site, body.version)
    given = dict(body.weights or {})
    known = site.settings.providers
    for name in given:
        if name not in known:
            message = f"weights.{name}: no provider has this name; known: {', '.join(known)}"
            raise Problem(422, "invalid", message, {"field": f"weights.{name}", "known": list(known)})
    return normalised(_completed(site, given))


def _completed(site: Site, given: Mapping[str, float]) -> dict[str, float]:
    """Who is not named keeps the weight they have."""
    return {name: given.get(name, weight) for name, weight in current_weights(site).items()}


def _weights_of_version(site: Site, version: int) -> dict[str, float]:
    for change in site.store.settings_history(1000):
        if change.version == version and change.key == "weights":
            configured = {n: row.weight for n, row in site.settings.providers.items()}
            return normalised(configured | {n: float(w) for n, w in (change.value or {}).items()})
    raise Problem(422, "invalid", f"version: no change of weights has number {version}", {"field": "version"})


def apply_weights(site: Site, weights: Mapping[str, float], who: str) -> int:
    """Set the weights; the number of the change in the history."""
    rounded = {name: round(weight, 6) for name, weight in weights.items()}
    version = site.store.put_setting("weights", rounded, who=who, now=site.now())
    shown = ", ".join(f"{name} {percent(weight, 1)}" for name, weight in rounded.items())
    note(site, "weights_changed", f"{who} set the weights: {shown}")
    return version


def undo_weights(site: Site, who: str) -> int:
    """One step back in the changes of weights. Raises Problem 409 where there is none."""
    with _steering:
        steps = weight_steps(site)
        if not steps.done:
            raise Problem(409, "nothing_to_undo", "No change of weights is left to undo.")
        *done, last = steps.done
        change = steps.changes[last]
        return _take_step(site, change.previous, done, [*steps.undone, last], who, "took back", change)


def redo_weights(site: Site, who: str) -> int:
    """The change that was undone last, once more. Raises Problem 409 where there is none."""
    with _steering:
        steps = weight_steps(site)
        if not steps.undone:
            raise Problem(409, "nothing_to_redo", "No change of weights was undone since the last new one.")
        *undone, next_one = steps.undone
        change = steps.changes[next_one]
        return _take_step(site, change.value, [*steps.done, next_one], undone, who, "made again", change)


def _take_step(
    site: Site, weights: Any, done: list[int], undone: list[int], who: str, verb: str, change: SettingChange
) -> int:
    version = site.store.put_setting("weights", weights, who=who, now=site.now())
    steps = {"at": version, "done": done, "undone": undone}
    site.store.put_setting(WEIGHT_STEPS, steps, who=who, now=site.now())
    note(site, "weights_changed", f"{who} {verb} change {change.version} of the weights")
    return version


def steer(site: Site, provider: str, verb: str, who: str) -> None:
    """pause, resume or reset a provider. Raises Problem 404 for an unknown one."""
    if provider not in site.settings.providers:
        raise not_found(f"provider {provider!r}")
    now = site.now()
    with _steering:
        paused = set(site.store.current_settings().get("paused", ()))
        changed = paused | {provider} if verb == "pause" else paused - {provider}
        if verb in ("pause", "resume") and changed != paused:
            site.store.put_setting("paused", sorted(changed), who=who, now=now)
    if verb in ("resume", "reset"):
        site.store.add_command(verb, {"provider": provider}, who=who, now=now)
    words = {"pause": "paused", "resume": "resumed", "reset": "closed the breaker of"}
    note(site, f"provider_{verb}", f"{who} {words[verb]} {provider}", provider=provider)


def note(site: Site, kind: str, message: str, provider: str = "", task_id: str = "") -> None:
    """Tell it in the events, and who did it; what pages remember is out of date now."""
    site.store.add_events([Event(site.now(), kind, message, provider, task_id)])
    site.recent.forget()


# ------------------------------------------------------------------ whose


def is_own(site: Site, batch: str, submitter: str) -> bool:
    """Whether who asks may have to do with this submitter's task in this batch."""
    name = own_only()
    return not name or submitter == name or _is_own_batch(site.store.batch(batch), name)


def _is_own_batch(batch: BatchRow | None, name: str) -> bool:
    """The queue is everybody's, whoever began it."""
    return batch is not None and batch.name != QUEUE and batch.submitter == name


def find_batch(site: Site, name: str) -> BatchRow:
    """Raises Problem 404, also for a batch of others where who asks may see their own alone."""
    batch, own = site.store.batch(name), own_only()
    if batch is None or (own and name != QUEUE and not _is_own_batch(batch, own)):
        raise not_found(f"batch {name!r}")
    return batch


def batches(site: Site, limit: int = 200) -> list[BatchRow]:
    """The newest batches that who asks may see."""
    name = own_only()
    found = site.store.batches(limit, submitter=name)
    return [batch for batch in found if _is_own_batch(batch, name)] if name else found


def begin_batch(site: Site, name: str, who: str) -> None:
    """Make the batch where it is missing. Raises Problem 409 where who asks may not add to it."""
    own = own_only()
    if not own or name == QUEUE:
        return
    site.store.create_batch(name, now=site.now(), submitter=who)  # before the look: two may begin it at once
    if not _is_own_batch(site.store.batch(name), own):
        message = f"Batch {shown(name)} is another submitter's; choose another name."
        raise Problem(409, "batch_taken", message, {"field": "batch"})


def check_priority(task: Task) -> None:
    """Raises InputError for one that the role of who asks may not give."""
    most = MOST_PRIORITY[role()]
    if task.priority > most:
        raise InputError(f"'priority' is {task.priority}; the role {role()} may give {most} at most")


def _refuse_ids_of_others(site: Site, batch: str, tasks: Sequence[Task], report: AddReport) -> None:
    """An id that another submitter has is taken, whatever its content: the answer is not for who asks now."""
    if not own_only() or not (report.existing or report.changed_count):
        return
    of_others = [
        task_id
        for task_id, submitter in site.store.submitters(batch, [task.id for task in tasks]).items()
        if not is_own(site, batch, submitter)
    ]
    if of_others:
        raise _ids_exist(of_others, len(of_others), report.added)


def _ids_exist(ids: Sequence[str], count: int, added: int) -> Problem:
    details = {"field": "id", "ids": list(ids[:WARNINGS_TOLD]), "added": added}
    message = f"{count} ids exist with another content: {', '.join(ids[:3])}"
    return Problem(409, "id_exists", message, details)


# ------------------------------------------------------------------ tasks


def submit(
    site: Site, rows: Sequence[Mapping[str, Any]], batch: str, who: str
) -> tuple[list[Task], AddReport]:
    """Store tasks as queued. All or none: raises InputError for the first that is wrong, Problem 422 for an
    id that comes twice, and 503 where too many do so at once.
    """
    if not _taking.acquire(blocking=False):
        message = f"{MOST_TAKING} requests bring tasks at this moment; send it again."
        raise Problem(503, "busy", message, headers={"Retry-After": "1"})
    try:
        return _submit(site, rows, batch, who)
    finally:
        _taking.release()


def _submit(
    site: Site, rows: Sequence[Mapping[str, Any]], batch: str, who: str
) -> tuple[list[Task], AddReport]:
    now = site.now()
    tasks: list[Task] = []
    ids: set[str] = set()
    for number, row in enumerate(rows, 1):
        try:
            task = make_task(
                row, batch=batch, settings=site.settings, now=now, submitter=who, default_id=fresh_id
            )
            check_priority(task)
        except InputError as error:
            raise InputError(f"task {number}: {error.what}" if len(rows) > 1 else error.what) from None
        if task.id in ids:
            raise _comes_twice(f"tasks.{number - 1}.id", task.id)
        ids.add(task.id)
        tasks.append(task)
    begin_batch(site, batch, who)
    report = site.store.add_tasks(tasks, now=now)
    _refuse_ids_of_others(site, batch, tasks, report)
    if report.changed_count:
        raise _ids_exist(report.changed, report.changed_count, report.added)
    site.recent.forget()
    return tasks, report


def _comes_twice(field: str, task_id: str) -> Problem:
    message = f"duplicate id {shown(task_id)}: an earlier task of this request has it"
    details = {"field": field, "fields": [{"field": field, "message": message}]}
    return Problem(422, "invalid", f"{field}: {message}", details)


def warnings_of(site: Site, tasks: Sequence[Task]) -> list[str]:
    """What is odd about tasks that were taken all the same, each thing once."""
    configured = who_is_called(site) if any(task.models or task.providers for task in tasks) else ()
    found: dict[str, None] = {}
    if not pool_view(site).orchestrator.running:
        found[f"no orchestrator is running, so these tasks wait; start one with: {site.serving}"] = None
    named: set[tuple[str, ...]] = {()}
    for task in tasks:
        told = (
            unknown_type_warning(task.task_type, site.settings),
            nobody_to_ask(task, site.settings, configured),
            unpriced_warning(task, site.settings) if task.models not in named else "",
        )
        named.add(task.models)
        found |= dict.fromkeys(filter(None, told))
    return list(found)[:WARNINGS_TOLD]


def fresh_id(_content: str = "") -> str:
    """For a task that brings none: the same words asked twice are two tasks."""
    return f"web-{secrets.token_hex(5)}"


def wait_for(
    site: Site, batch: str, ids: Collection[str], wait_s: float
) -> tuple[dict[str, TaskStatus], bool]:
    """The status of each, once all are final or the time is over; False where too many wait already."""
    deadline = time.monotonic() + wait_s
    found = site.store.statuses(batch, ids)
    if not wait_s or not _any_open(found):
        return found, True
    if not _waiting.acquire(blocking=False):
        return found, False
    try:
        with site.store.watch() as watch:
            while _any_open(found) and time.monotonic() < deadline:
                time.sleep(watch.look_every_s)
                if watch.changed():
                    found = site.store.statuses(batch, ids)
    finally:
        _waiting.release()
    return found, True


def _any_open(found: Mapping[str, TaskStatus]) -> bool:
    return any(status in OPEN for status in found.values())


def find_task(site: Site, row: str) -> TaskDetail:
    """The task in the row of this number. Raises Problem 404."""
    number = int(row) if _ROW.fullmatch(row) else 0
    detail = site.store.task_at(number) if 0 < number <= LARGEST else None
    if detail is None or not is_own(site, detail.row.batch, detail.row.submitter):
        raise not_found(f"task in row {row[:MOST_DIGITS]}")
    return detail


def find_task_named(site: Site, name: str) -> TaskDetail:
    """The task of the queue that has this id, else the one in the row of this number. Raises Problem 404.

    Numbers are common ids, and nobody who hands one in knows the row that it gets.
    """
    detail = site.store.task(QUEUE, name)
    if detail is not None and is_own(site, QUEUE, detail.row.submitter):
        return detail
    if _ROW.fullmatch(name):
        return find_task(site, name)
    raise not_found(f"task {name!r} in batch {QUEUE!r}")


def find_task_by_id(site: Site, batch: str, task_id: str) -> TaskDetail:
    detail = site.store.task(batch, task_id)
    if detail is None or not is_own(site, batch, detail.row.submitter):
        raise not_found(f"task {task_id!r} in batch {batch!r}")
    return detail


def cancel_task(site: Site, detail: TaskDetail, who: str) -> str:
    """Take it out if it still waits: `cancelled`, or `asked` where an orchestrator has it.

    Raises Problem 409 for one that has ended.
    """
    row = detail.row
    if row.status not in OPEN:
        raise Problem(
            409, "already_final", f"This task has ended: {row.status}.", {"status": str(row.status)}
        )
    done = site.store.cancel(row.batch, [row.id], now=site.now())
    if not done:
        site.store.add_command("cancel", {"batch": row.batch, "ids": [row.id]}, who=who, now=site.now())
    note(site, "task_cancelled", f"{who} cancelled {_named(detail)}", task_id=row.id)
    return "cancelled" if done else "asked"


def _named(detail: TaskDetail) -> str:
    row = detail.row
    return f"task {shown(row.id)} of batch {shown(row.batch)}, of {row.submitter}"


def cancel_batch(site: Site, batch: str, who: str) -> dict[str, int]:
    """Take out all that wait. What is being called at the moment is finished: it is paid for already.

    Who may see their own alone cancels their own alone, in the queue that they share with others.
    """
    only = _only_in(find_batch(site, batch))
    done = site.store.cancel(batch, now=site.now(), submitter=only)
    asked: list[str] = []
    statuses = [TaskStatus.RUNNING]
    page = site.store.tasks(500, statuses=statuses, batch=batch, submitter=only)
    while len(asked) < RUNNING_ASKED:
        asked += [row.id for row in page.rows]
        if page.next_before is None:
            break
        page = site.store.tasks(500, statuses=statuses, batch=batch, submitter=only, before=page.next_before)
    if asked:
        site.store.add_command("cancel", {"batch": batch, "ids": asked}, who=who, now=site.now())
    note(site, "batch_cancelled", f"{who} cancelled what waits of {batch}: {done + len(asked)} tasks")
    return {"cancelled": done, "asked": len(asked)}


def _only_in(batch: BatchRow) -> str:
    return own_only() if batch.name == QUEUE else ""


def retry_task(site: Site, detail: TaskDetail, who: str) -> None:
    """Ask again, at the cost of who asks. Raises Problem 409 while it is open."""
    row = detail.row
    if row.status in OPEN:
        raise Problem(
            409, "still_open", f"This task has not ended: {row.status}.", {"status": str(row.status)}
        )
    site.store.requeue(row.batch, ids=[row.id], now=site.now(), asked_by=who)
    note(site, "task_retried", f"{who} asked again for {_named(detail)}", task_id=row.id)


def retry_batch(site: Site, batch: str, who: str) -> int:
    """Ask again what failed, expired or was cancelled, at the cost of who asks. Returns how many that are."""
    only = _only_in(find_batch(site, batch))
    statuses = [TaskStatus.FAILED, TaskStatus.EXPIRED, TaskStatus.CANCELLED]
    count = site.store.requeue(batch, statuses=statuses, now=site.now(), submitter=only, asked_by=who)
    note(site, "batch_retried", f"{who} asked again for what did not succeed of {batch}: {count} tasks")
    return count
