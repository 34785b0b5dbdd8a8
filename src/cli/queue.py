"""`submit` puts one task on the queue, `status` shows the pool as its orchestrator last described it."""

from __future__ import annotations

import dataclasses
import json
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bootstrap import Setup, open_store
from ..control_characters import terminal_safe
from ..core.clock import Clock
from ..core.event_text import event_text
from ..core.intake import QUEUE, make_task, nobody_to_ask, unknown_type_warning, unpriced_warning
from ..core.leadership import active_orchestrator
from ..core.preferences import PreferenceHeld, preferences_held
from ..core.results import encode_row, result_row
from ..errors import InputError, StoreError
from ..formatting import duration, money, percent, share
from ..logging_setup import set_up_logging
from ..records import Event, PoolSnapshot, Result, Task, TaskStatus
from ..storable import clean
from .exit_codes import SOME_UNANSWERED
from .progress import console, fullness, say, state_text, waiting_lines
from .progress_counts import OPEN_STATUSES, ProgressCounts
from .runner import Sink, work_off
from .setup import Options, headline, prepare
from .watch_server import available_providers

if TYPE_CHECKING:
    from rich.table import Table

    from ..core.store import OrchestratorRow, Store

WAIT_EVERY_S = 0.25
# How long `submit --wait` goes without an orchestrator: a standby takes over within 15 s of a kill, and a
# service starts again after 5.
GONE_AFTER_S = 20.0
STARTING_S = 20.0  # how long an orchestrator may take from its lock to its first sign of life
ALONE = "submit-"  # the batch of a task that its own `submit` answers, followed by its id
DAY_S = 86_400.0
EVENTS_READ = 200
ALERTS_SHOWN = 5


def submit(
    options: Options, fields: Mapping[str, Any], *, wait: bool, as_json: bool, serve: bool = False
) -> int:
    """Queue one task and print its id, or with `wait` or `serve` its answer. The exit code.

    Without an orchestrator that serves the queue, `wait` is refused before anything is queued, and `serve`
    answers this task here, and no other one. Raises InputError for both beside a run, which owns the state.
    That an answer will be simulated is told on standard error: nothing else tells it from a real one.
    """
    setup = prepare(options)
    clock = Clock()
    given = {key: value for key, value in fields.items() if value is not None}
    with open_store(setup) as store:
        unserved = _why_unserved(setup, store, patience_s=STARTING_S if wait or serve else 0.0)
        here = serve and unserved is not None and not unserved.is_led
        if (wait or serve) and unserved is not None and not here:
            raise InputError(unserved.refusal)
        default_id = secrets.token_hex(6)  # the same prompt twice is two tasks
        task_id = str(given.get("id", default_id))
        task = make_task(
            given,
            batch=f"{ALONE}{task_id}" if here else QUEUE,
            settings=setup.settings,
            now=clock.now(),
            default_id=lambda _: default_id,
        )
        _say_warnings(setup, task)
        _add(store, task, clock.now())
        if warning := nobody_to_ask(task, setup.settings, available_providers(setup, store)):
            say(warning)
        if not (wait or serve):
            if unserved is not None:
                say(unserved.note)
            queued = {"batch": QUEUE, "id": task.id, "status": "queued", "simulated": setup.simulated}
            sys.stdout.write((json.dumps(queued) if as_json else task.id) + "\n")
            return 0
        ended = here and _answer_here(setup, store, clock, task, options.level())
        result = _wait_for(setup, store, task, patience_s=0.0 if ended else GONE_AFTER_S)
        return SOME_UNANSWERED if result is None else _show(result, setup, as_json)


def _say_warnings(setup: Setup, task: Task) -> None:
    for warning in (
        unknown_type_warning(task.task_type, setup.settings),
        unpriced_warning(task, setup.settings),
    ):
        if warning:
            say(warning)
    if setup.simulated:
        say(headline(setup))


def _add(store: Store, task: Task, now: float) -> None:
    """Raises InputError where the id is taken, by a task of the queue or one that was answered alone."""
    others = {QUEUE, f"{ALONE}{task.id}"} - {task.batch}
    taken = any(store.tasks.statuses(batch, [task.id]) for batch in others)
    if not taken:
        store.intake.create_batch(task.batch, now=now)
        taken = not store.intake.add_tasks([task], now=now).added
    if taken:
        raise InputError(f"id {task.id!r} is taken; choose another")


@dataclasses.dataclass(frozen=True, slots=True)
class _Unserved:
    """Why no orchestrator serves the queue."""

    why: str
    remedy: str
    is_led: bool  # by another process, so that no other can serve it
    mode: str

    @property
    def note(self) -> str:
        """For a task that is queued anyway."""
        return f"{self.mode}: queued; {self.why}; {self.remedy}"

    @property
    def refusal(self) -> str:
        """For a task that is not queued, since its answer was to be waited for."""
        instead = "or leave --wait out" if self.is_led else "or answer it with this command: --serve"
        return f"not queued: {self.why} ({self.remedy}; {instead})"


def _why_unserved(setup: Setup, store: Store, *, patience_s: float) -> _Unserved | None:
    """Why no orchestrator serves the queue, and what to do; None where one serves it.

    One that is just starting leads before it signs on: this waits for it, at most `patience_s`.
    """
    give_up_at = time.monotonic() + patience_s
    while (row := active_orchestrator(store)) is None and (leads := store.leadership.leader()).alive:
        if time.monotonic() >= give_up_at:
            why = f"an orchestrator is starting ({leads.name})"
            return _Unserved(why, "it answers when it serves", is_led=True, mode=setup.mode)
        time.sleep(WAIT_EVERY_S)
    if row is None:
        remedy = f"start one with: {setup.serve_command}"
        return _Unserved("no orchestrator is running", remedy, is_led=False, mode=setup.mode)
    if row.batch:
        return _Unserved(
            f"a run is at work (process {row.pid}), which does not serve the queue",
            f"when it has ended, start {setup.serve_command} (with --once it ends when all is answered)",
            is_led=True,
            mode=setup.mode,
        )
    return None


def _answer_here(setup: Setup, store: Store, clock: Clock, task: Task, log_level: str) -> bool:
    """Answer this task alone, with an orchestrator that ends then. False: a server began meanwhile."""
    set_up_logging(log_level, setup.log_folder, simulated=setup.simulated)
    try:
        work_off(setup, store, clock, Sink(ProgressCounts(None, clock.now())), batch=task.batch, quiet=True)
    except StoreError:
        if not store.leadership.leader().alive:
            raise
        return False
    return True


def _wait_for(setup: Setup, store: Store, task: Task, *, patience_s: float = GONE_AFTER_S) -> Result | None:
    """The task's result; None where for `patience_s` no orchestrator has shown that it is at work."""
    seen: tuple[str, float] | None = None
    seen_at = time.monotonic()
    while True:
        # Asked before the task is looked at: an orchestrator that has left has stored its answers.
        row = active_orchestrator(store)
        if store.tasks.statuses(task.batch, [task.id])[task.id] not in OPEN_STATUSES:
            break
        if row is not None and not row.batch and (row.incarnation, row.heartbeat_at) != seen:
            seen, seen_at = (row.incarnation, row.heartbeat_at), time.monotonic()
        elif time.monotonic() - seen_at > patience_s:
            _say_given_up(setup, row, task)
            return None
        time.sleep(WAIT_EVERY_S)
    detail = store.tasks.find(task.batch, task.id)
    if detail is None or detail.result is None:
        raise InputError(f"task {task.id!r} was taken off the queue again")
    return detail.result


def _say_given_up(setup: Setup, row: OrchestratorRow | None, task: Task) -> None:
    if row is not None and not row.batch:
        why = f"the orchestrator (process {row.pid}) has shown no sign of life for {GONE_AFTER_S:g} s"
    else:
        why = "no orchestrator serves the queue any more"
    how = f"start one with: {setup.serve_command}"
    say(f"{setup.mode}: not answered: {why}; task {task.id} stays queued ({how})")


def _show(result: Result, setup: Setup, as_json: bool) -> int:
    if as_json:
        _write(encode_row(result_row(result, simulated=setup.simulated)).decode())
    elif result.output is not None:
        _write(result.output + "\n")
    if result.status is not TaskStatus.SUCCEEDED:
        say(f"{result.status}: {result.error}")
        return 1
    return 0


def _write(text: str) -> None:
    """As it is to a file or a pipe; a terminal would obey what stands in an answer."""
    sys.stdout.write(terminal_safe(text) if sys.stdout.isatty() else clean(text))


# ------------------------------------------------------------------ status


def status(options: Options, *, as_json: bool) -> int:
    """Print how things stand. The exit code."""
    setup = prepare(options)
    now = Clock().now()
    pool, row, alive, counts, alerts, held = _stored(setup, now)
    if as_json:
        _print_json(setup, pool, row, alive, counts, held, now)
        return 0
    screen = console(stderr=False)
    screen.print(_who_runs(setup, row, alive, now), soft_wrap=True)
    screen.print("tasks: " + (", ".join(f"{n:,} {s}" for s, n in counts.items() if n) or "none yet"))
    if pool is not None:
        screen.print(_pool_table(pool))
        if any(provider.limits for provider in pool.providers):
            screen.print(_limit_table(pool))
        for line in waiting_lines(pool):
            screen.print(line)
    if held:
        screen.print(_held_line(held), soft_wrap=True)
    for event in alerts:
        screen.print(f"{event.level}, {duration(now - event.at)} ago: {event_text(event)}", soft_wrap=True)
    return 0


def _held_line(held: Sequence[PreferenceHeld]) -> str:
    parts = []
    for each in held:
        preferred = percent(share(each.preferred_answers, each.answers))
        parts.append(f"{each.task_type} {preferred} of {each.answers:,} ({each.provider})")
    return f"answered by the preferred provider in the last 24 hours: {', '.join(parts)}"


def _stored(
    setup: Setup, now: float
) -> tuple[
    PoolSnapshot | None,
    OrchestratorRow | None,
    bool,
    Mapping[TaskStatus, int],
    list[Event],
    Sequence[PreferenceHeld],
]:
    """What the store knows, and whether the orchestrator is alive. Looking makes no database."""
    if isinstance(setup.database, Path) and not setup.database.exists():
        return None, None, False, {}, [], ()
    with open_store(setup) as store:
        pool, row = store.orchestrators.latest_snapshot()
        told = [each.event for each in store.events.recent(EVENTS_READ) if each.event.level != "info"]
        usage = store.reports.usage(now - DAY_S, now + 60, ("task_type", "provider"))
        held = preferences_held(usage, setup.settings)
        alive = store.leadership.leader().is_at_work(row)
        return pool, row, alive, store.reports.task_counts(), told[:ALERTS_SHOWN], held


def _who_runs(setup: Setup, row: OrchestratorRow | None, alive: bool, now: float) -> str:
    if row is None:
        return f"{setup.mode}: no orchestrator has run on this state yet ({setup.settings.state_dir})"
    if not alive:
        return f"{setup.mode}: no orchestrator is running; the last one was seen {_ago(row, now)}"
    what = f"the batch {row.batch}" if row.batch else "the queue"
    return f"{setup.mode}: process {row.pid} serves {what} since {duration(now - row.started_at)}"


def _ago(row: OrchestratorRow, now: float) -> str:
    return f"{duration(max(0.0, now - row.heartbeat_at))} ago"


def _pool_table(pool: PoolSnapshot) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("provider")
    table.add_column("state")
    for name in ("share", "in flight", "calls", "success", "median", "p95", "cost"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in pool.providers:
        table.add_row(
            each.name,
            state_text(each, pool.at) + (f": {each.reason}" if each.reason else ""),
            percent(each.share),
            f"{each.in_flight}",
            f"{each.calls:,}",
            percent(share(each.succeeded, each.succeeded + each.failed)),
            duration(each.p50_s),
            duration(each.p95_s),
            money(each.cost_nanos),
        )
    return table


def _limit_table(pool: PoolSnapshot) -> Table:
    """How full each bucket was when the orchestrator last told, the emptiest first within a provider."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("limits of", "model", "what"):
        table.add_column(name)
    for name in ("left", "limit"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("known")
    for provider in pool.providers:
        for gauge in sorted(provider.limits, key=fullness):
            per = "day" if gauge.window_s > 3600.0 else "minute"
            limit = gauge.capacity if per == "day" else gauge.per_minute
            table.add_row(
                provider.name,
                gauge.group,
                gauge.dimension.replace("_", " "),
                percent(fullness(gauge)),
                f"{limit:,.0f} a {per}",
                gauge.source.replace("_", " "),
            )
    return table


def _print_json(
    setup: Setup,
    pool: PoolSnapshot | None,
    row: OrchestratorRow | None,
    alive: bool,
    counts: Mapping[TaskStatus, int],
    held: Sequence[PreferenceHeld],
    now: float,
) -> None:
    found = {
        "simulated": setup.simulated,
        "running": alive,
        "orchestrator": dataclasses.asdict(row) if row else None,
        "age_s": round(now - pool.at, 3) if pool else None,
        "tasks": {str(s): n for s, n in counts.items()},
        "preferences": [{**dataclasses.asdict(each), "share": each.share} for each in held],
        "pool": dataclasses.asdict(pool) if pool else None,
    }
    sys.stdout.write(json.dumps(found, indent=2, default=str) + "\n")
