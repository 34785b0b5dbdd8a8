"""The pool as a Python function: `answer` takes prompts and returns results."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bootstrap import Setup, build_orchestrator, running_providers
from ..core.clock import Clock
from ..core.intake import TaskContext, make_task, shown
from ..errors import InputError, StoreError
from ..records import Result, Task
from .progress_counts import OPEN_STATUSES
from .runner import BUDGET, failure, keep_cap
from .session import Options, Session, headline, prepare, session
from .watch_server import find_server, refuse_cap_beside_server

if TYPE_CHECKING:
    from ..core.leadership import Leadership

POLL_S = 0.2
CAP_OPTION = "max_cost_usd"


def answer(
    tasks: Iterable[str | Mapping[str, Any]],
    *,
    simulate: bool = False,
    config: Path | str | None = None,
    state_dir: Path | str | None = None,
    max_cost_usd: float | None = None,
) -> list[Result]:
    """Answer every task and return the results in the order of the tasks.

    A task is a prompt, or a mapping with the keys of a line of a task file: JSON values, metadata too.
    Settings and keys are those of the command line.

    With a key it spends at once, without a question; `confirm_above_usd` does not apply. `max_cost_usd` is
    the most that the tasks may cost; without it only `[budgets]` applies. A task that the budget
    does not cover comes back as `cancelled`, with the budget as its error.

    Several threads may call it at once: one pool works at a time, unless a server answers for all. The call
    blocks its thread; in a running event loop use `await asyncio.to_thread(answer, tasks)`.

    Raises InputError for an invalid task, for a duplicate id, and for `max_cost_usd` beside a running server,
    which would not apply it; ConfigError; StoreError if the state can't be used or another process runs on
    it. Ctrl-C lets the calls in flight finish and raises KeyboardInterrupt. No task stays queued after an
    exception.
    """
    if isinstance(tasks, str | bytes | Mapping):  # else each letter, or key, would be a task
        raise InputError("answer takes a list of tasks; a single one is answer([task])")
    if max_cost_usd is not None and not max_cost_usd > 0:
        raise InputError(f"max_cost_usd is {max_cost_usd!r}; it must be above 0")
    options = Options(simulate=simulate)
    options.config = None if config is None else Path(config)
    options.state_dir = None if state_dir is None else Path(state_dir)
    setup = prepare(options)
    if setup.simulated:
        options.console.note(headline(setup))
    clock = Clock()
    batch = f"python-{int(clock.now())}-{os.getpid()}-{secrets.token_hex(4)}"
    made = _made(tasks, batch, setup, clock.now())
    if not made:
        return []
    with session(setup, options.console, clock) as opened:
        job = _Job(opened, batch, max_cost_usd)
        try:
            job.do(made)
        except BaseException:
            job.give_up()
            raise
        return [stored.result for stored in opened.store.result_sync.all_results(batch)]


def _made(tasks: Iterable[str | Mapping[str, Any]], batch: str, setup: Setup, now: float) -> list[Task]:
    """All tasks. Raises InputError for the first invalid one, and for a duplicate id."""
    try:
        given = list(tasks)
    except TypeError as error:
        raise InputError(f"answer takes a list of tasks: {error}") from None
    rows = [_row(task, number) for number, task in enumerate(given, 1)]
    named = {str(row["id"]) for row in rows if isinstance(row.get("id"), str | int)}
    ids: dict[str, int] = {}
    made = []
    for number, row in enumerate(rows, 1):
        try:
            task = _task(row, number, named, batch, setup, now)
        except InputError as error:
            raise InputError(f"task {number}: {error.what}") from None
        earlier = ids.setdefault(task.id, number)
        if earlier != number:
            raise InputError(f"task {number}: duplicate id {shown(task.id)}: task {earlier} has it too")
        made.append(task)
    return made


def _row(task: Any, number: int) -> dict[str, Any]:
    if isinstance(task, str):
        return {"prompt": task}
    if isinstance(task, Mapping):
        return dict(task)
    raise InputError(
        f"task {number}: must be a prompt, or a mapping such as {{'prompt': ...}}, not {type(task).__name__}"
    )


def _task(
    row: Mapping[str, Any], number: int, named: Collection[str], batch: str, setup: Setup, now: float
) -> Task:
    """A task without an id gets its number as id, unless another task has that id."""
    names = itertools.chain([str(number)], (f"{number}-{n}" for n in itertools.count(2)))
    free = next(name for name in names if name not in named)
    return make_task(row, TaskContext(batch, setup.settings, now), line=number, default_id=lambda _: free)


@dataclass(frozen=True, slots=True)
class _Job:
    """The tasks of one call of `answer`, from storing them to their end."""

    session: Session
    batch: str
    max_cost_usd: float | None

    def do(self, tasks: list[Task]) -> None:
        """Answer the tasks here, or wait for a running server. Raises StoreError beside another run."""
        setup, store, now = self.session.setup, self.session.store, self.session.now()
        with self.session.leadership() as leadership:
            leads = self._lead(leadership)
            if self.max_cost_usd is not None and not setup.simulated:
                refuse_cap_beside_server(self.session, CAP_OPTION)
            store.intake.create_batch(self.batch, now=now, source="python")
            caps = keep_cap(self.session, self.batch, self.max_cost_usd)
            store.intake.add_tasks(tasks, now=now)
            while not leads:
                if not any(store.reports.task_counts(self.batch)[status] for status in OPEN_STATUSES):
                    return
                time.sleep(POLL_S)
                leads = self._lead(leadership)
            _run_in_thread(self.session, self.batch, caps, leadership)

    def _lead(self, leadership: Leadership) -> bool:
        """Lead; False if a server does. Waits for other threads of this process. Raises StoreError."""
        while True:
            if not self._led_here():
                if find_server(self.session, stored=False) is not None:
                    return False
                try:
                    leadership.acquire(say=self.session.note)
                except StoreError:
                    if not self._led_here():
                        raise
                else:
                    return True
            time.sleep(POLL_S)

    def _led_here(self) -> bool:
        """Whether another thread of this process leads, or may: a new leader has no name for a moment."""
        leader = self.session.store.leadership.leader()
        own = (leader.pid, leader.host) == (os.getpid(), socket.gethostname())
        return leader.alive and (own or not leader.holder)

    def give_up(self) -> None:
        """Cancel what is left: no other command knows the batch, and a server would pay for it."""
        store = self.session.store
        with suppress(StoreError):
            if store.reports.batch(self.batch) is not None:
                store.admin.cancel(self.batch, now=self.session.now())


class _DrainSwitch:
    """Drains an orchestrator that another thread runs, or is about to run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_pressed = False
        self._drain: Callable[[], object] | None = None

    def connect(self, drain: Callable[[], object]) -> None:
        """What to call when it is pressed; if it was already, at once."""
        with self._lock:
            self._drain, is_pressed = drain, self._is_pressed
        if is_pressed:
            drain()

    def press(self) -> None:
        """Let the calls in flight finish, and start no other one."""
        with self._lock:
            self._is_pressed, drain = True, self._drain
        if drain is not None:
            with suppress(RuntimeError):  # its loop has just ended
                drain()


def _run_in_thread(session: Session, batch: str, caps: Mapping[str, float], leadership: Leadership) -> None:
    """Run the orchestrator on a loop of its own: a notebook already runs one in this thread."""
    switch = _DrainSwitch()
    with ThreadPoolExecutor(1) as thread:
        try:
            thread.submit(asyncio.run, _run(session, batch, caps, leadership, switch)).result()
        except KeyboardInterrupt:
            # Only the main thread gets it: without this the other one would go on to the last task.
            switch.press()
            raise


async def _run(
    session: Session,
    batch: str,
    caps: Mapping[str, float],
    leadership: Leadership,
    switch: _DrainSwitch,
) -> None:
    """Answer the batch. `switch` drains it from another thread."""
    from ..core.orchestrator import OrchestratorOptions

    setup = session.setup
    with running_providers(setup) as access:
        options = OrchestratorOptions(
            batch=batch, agent_prompts=False, batch_caps_usd=caps, leadership=leadership
        )
        orchestrator = build_orchestrator(setup, access, session.store, session.clock, options)
        loop = asyncio.get_running_loop()
        switch.connect(lambda: loop.call_soon_threadsafe(orchestrator.drain))
        report = await orchestrator.run(until_done=True)
    if report.stopped == BUDGET:  # no later command would resume this batch
        session.store.admin.cancel(batch, now=session.now(), why=f"cancelled: {report.why}")
    elif report.stopped:
        raise failure(report)
