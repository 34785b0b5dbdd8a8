"""`submit`: queue one task and print its id or its answer."""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..control_characters import terminal_safe
from ..core.intake import (
    QUEUE,
    TaskContext,
    check_pins,
    make_task,
    unknown_type_warning,
    unpriced_warning,
    unserved_reason,
)
from ..core.leadership import active_orchestrator
from ..core.results import encode_row, result_row
from ..errors import InputError, StoreError
from ..logging_setup import set_up_logging
from ..records import OPEN_STATUSES, Result, Task, TaskStatus
from ..storable import clean
from .console import Console
from .exit_codes import SOME_UNANSWERED
from .progress_counts import ProgressCounts
from .result_sink import ResultSink
from .runner import keep_cap, run_orchestrator
from .session import Options, Session, headline, prepare, session
from .watch_server import available_providers

if TYPE_CHECKING:
    from ..core.store import OrchestratorRow

WAIT_EVERY_S = 0.25
# How long `submit --wait` waits without an orchestrator: a standby takes over within 15 s of a kill, and a
# service restarts after 5.
GONE_AFTER_S = 20.0
STARTING_S = 20.0  # how long an orchestrator may take from its lock to its first heartbeat
ALONE = "submit-"  # the batch of a task that its own `submit` answers, followed by its id


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitOptions:
    """`wait`: print the answer. `serve`: also answer the task here if no orchestrator serves the queue."""

    wait: bool = False
    serve: bool = False
    as_json: bool = False

    @property
    def wants_answer(self) -> bool:
        """Whether to print the answer instead of the id."""
        return self.wait or self.serve


def submit(options: Options, fields: Mapping[str, Any], how: SubmitOptions) -> int:
    """Queue one task and print its id, or its answer. Returns the exit code.

    Without an orchestrator that serves the queue, `wait` is refused before anything is queued, and `serve`
    answers this task here and no other one. Raises InputError for both beside a run, which owns the state.
    """
    setup = prepare(options)
    check_pins(tuple(fields.get("models") or ()), tuple(fields.get("providers") or ()), setup.settings)
    given = {key: value for key, value in fields.items() if value is not None}
    with session(setup, options.console) as opened:
        unserved = _why_unserved(opened, is_patient=how.wants_answer)
        here = _answers_here(unserved, how)
        task = _task(opened, given, here=here)
        _note_warnings(opened, task)
        _add(opened, task)
        if warning := unserved_reason(task, setup.settings, available_providers(setup, opened.store)):
            opened.note(warning)
        if not how.wants_answer:
            _print_queued(opened, task, unserved, as_json=how.as_json)
            return 0
        ended = here and _answer_here(opened, task, options.level())
        result = _wait_for(opened, task, patience_s=0.0 if ended else GONE_AFTER_S)
        if result is None:
            return SOME_UNANSWERED
        return print_result(result, opened.console, as_json=how.as_json)


def _answers_here(unserved: _Unserved | None, how: SubmitOptions) -> bool:
    """Whether this process answers the task. Raises InputError if nothing would answer it in time."""
    if unserved is None or not how.wants_answer:
        return False
    if unserved.is_led or not how.serve:
        raise InputError(unserved.refusal)
    return True


def _print_queued(session: Session, task: Task, unserved: _Unserved | None, *, as_json: bool) -> None:
    if unserved is not None:
        session.note(unserved.note)
    simulated = session.setup.simulated
    queued = {"batch": QUEUE, "id": task.id, "status": "queued", "simulated": simulated}
    sys.stdout.write((json.dumps(queued) if as_json else task.id) + "\n")


def _task(session: Session, given: Mapping[str, Any], *, here: bool) -> Task:
    """Raises InputError for fields that are no task."""
    default_id = secrets.token_hex(6)  # the same prompt twice is two tasks
    task_id = str(given.get("id", default_id))
    return make_task(
        given,
        TaskContext(f"{ALONE}{task_id}" if here else QUEUE, session.setup.settings, session.now()),
        default_id=lambda _: default_id,
    )


def _note_warnings(session: Session, task: Task) -> None:
    settings = session.setup.settings
    for warning in (unknown_type_warning(task.task_type, settings), unpriced_warning(task, settings)):
        if warning:
            session.note(warning)
    if session.setup.simulated:  # nothing else distinguishes a simulated answer from a real one
        session.note(headline(session.setup))


def _add(session: Session, task: Task) -> None:
    """Raises InputError if the id is taken, by a task of the queue or one that was answered alone."""
    store, now = session.store, session.now()
    others = {QUEUE, f"{ALONE}{task.id}"} - {task.batch}
    taken = any(store.tasks.statuses(batch, [task.id]) for batch in others)
    if not taken:
        store.intake.create_batch(task.batch, now=now)
        taken = not store.intake.add_tasks([task], now=now).added
    if taken:
        raise InputError(f"id {task.id!r} is taken; choose another")


@dataclass(frozen=True, slots=True)
class _Unserved:
    """Why no orchestrator serves the queue."""

    why: str
    remedy: str
    is_led: bool  # by another process, so that this one can't serve it
    mode: str

    @property
    def note(self) -> str:
        """For a task that is queued anyway."""
        return f"{self.mode}: queued; {self.why}; {self.remedy}"

    @property
    def refusal(self) -> str:
        """For a task that is not queued, since its answer was wanted."""
        instead = (
            "or submit it without waiting, to queue it" if self.is_led else "or add --serve to answer it here"
        )
        return f"not queued: {self.why} ({self.remedy}; {instead})"


def _why_unserved(session: Session, *, is_patient: bool) -> _Unserved | None:
    """Why no orchestrator serves the queue, and what to do; None if one serves it.

    One that is starting leads before its first heartbeat, and one that was killed may keep its lease for a
    while: `is_patient` waits for both.
    """
    setup, store = session.setup, session.store
    give_up_at = time.monotonic() + (STARTING_S if is_patient else 0.0)
    while (row := active_orchestrator(store)) is None and (leader := store.leadership.leader()).alive:
        if time.monotonic() >= give_up_at:
            why = f"an orchestrator is starting ({leader.name})"
            return _Unserved(why, "it answers when it serves", is_led=True, mode=setup.mode)
        time.sleep(WAIT_EVERY_S)
    if is_patient and row is not None:
        row = session.running_orchestrator()
    if row is None:
        remedy = f"start one with: {setup.serve_command}"
        return _Unserved("no orchestrator is running", remedy, is_led=False, mode=setup.mode)
    if row.batch:
        return _Unserved(
            f"a run is active (process {row.pid}), which does not serve the queue",
            f"when it has ended, start {setup.serve_command} (with --once it ends when all is answered)",
            is_led=True,
            mode=setup.mode,
        )
    return None


def _answer_here(session: Session, task: Task, log_level: str) -> bool:
    """Answer this task alone. False: a server began meanwhile, which answers it."""
    from ..core.orchestrator import OrchestratorOptions

    setup = session.setup
    set_up_logging(log_level, setup.log_folder, simulated=setup.simulated)
    sink = ResultSink(ProgressCounts(None, session.now()), session.note)
    job = OrchestratorOptions(batch=task.batch, batch_caps_usd=keep_cap(session, task.batch, None))
    try:
        run_orchestrator(session, sink, job, quiet=True)
    except StoreError:
        if not session.store.leadership.leader().alive:
            raise
        return False
    return True


def _wait_for(session: Session, task: Task, *, patience_s: float = GONE_AFTER_S) -> Result | None:
    """The task's result; None if no orchestrator has shown a sign of life for `patience_s`."""
    store = session.store
    seen: tuple[str, float] | None = None
    seen_at = time.monotonic()
    while True:
        # Read before the task: an orchestrator that has left has stored its answers.
        row = active_orchestrator(store)
        if store.tasks.statuses(task.batch, [task.id])[task.id] not in OPEN_STATUSES:
            break
        if row is not None and not row.batch and (row.incarnation, row.heartbeat_at) != seen:
            seen, seen_at = (row.incarnation, row.heartbeat_at), time.monotonic()
        elif time.monotonic() - seen_at > patience_s:
            _note_unanswered(session, row, task)
            return None
        time.sleep(WAIT_EVERY_S)
    detail = store.tasks.find(task.batch, task.id)
    if detail is None or detail.result is None:
        raise InputError(f"task {task.id!r} was removed from the queue")
    return detail.result


def _note_unanswered(session: Session, row: OrchestratorRow | None, task: Task) -> None:
    if row is not None and not row.batch:
        why = f"the orchestrator (process {row.pid}) has shown no sign of life for {GONE_AFTER_S:g} s"
    else:
        why = "no orchestrator serves the queue any more"
    remedy = f"start one with: {session.setup.serve_command}"
    session.note(f"{session.setup.mode}: not answered: {why}; task {task.id} stays queued ({remedy})")


def print_result(result: Result, console: Console, *, as_json: bool) -> int:
    """Print an answer, or why there is none; returns the exit code."""
    if as_json:
        row = result_row(result, simulated=bool(console.simulated))
        _write(encode_row(row).decode())
    elif result.output is not None:
        _write(result.output + "\n")
    if result.status is not TaskStatus.SUCCEEDED:
        console.note(f"{result.status}: {result.error}")
        return SOME_UNANSWERED
    return 0


def _write(text: str) -> None:
    """Unchanged to a file or a pipe; a terminal would interpret the control characters of an answer."""
    sys.stdout.write(terminal_safe(text) if sys.stdout.isatty() else clean(text))
