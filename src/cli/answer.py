"""The pool from Python: `answer` takes prompts and returns results."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from ..bootstrap import Setup, build_orchestrator, open_store, running_providers
from ..core.clock import Clock
from ..core.intake import make_task, shown
from ..errors import InputError, StoreError
from ..records import Result, Task
from .progress import say
from .progress_counts import OPEN_STATUSES
from .runner import BUDGET, caps, failure
from .setup import Options, headline, prepare
from .watch_server import find_server, refuse_cap_beside_server

if TYPE_CHECKING:
    from ..core.store import Store

POLL_S = 0.2
CAP_OPTION = "max_cost_usd"
_numbers = itertools.count(1)


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
    Settings and keys are those of the command line. Raises OrchestratorError: InputError for a task that is
    none and for an id that comes twice, ConfigError, StoreError where the state can't be used or a `run` of
    another process is at work on it. Ctrl-C lets the calls in flight finish and raises KeyboardInterrupt.
    Whatever it raises, no task stays queued.

    Several threads may call it at once: one pool works at a time, in turn, unless a server answers for all.
    It blocks its thread; in a running event loop use `await asyncio.to_thread(answer, tasks)`.

    With a key it spends at once: nobody is asked first, and `confirm_above_usd` does not hold. The tasks cost
    `max_cost_usd` at most; None is no cap but those of `[budgets]`. What there is no money left for comes
    back as `cancelled`, with the budget as its error. A running server knows no such cap: beside one it is
    refused.
    """
    if isinstance(tasks, str | bytes | Mapping):  # each letter, or key, would be a task
        raise InputError("answer takes a list of tasks; a single one is answer([task])")
    if max_cost_usd is not None and not max_cost_usd > 0:
        raise InputError(f"max_cost_usd is {max_cost_usd!r}; it must be above 0")
    options = Options(simulate=simulate)
    options.config = None if config is None else Path(config)
    options.state_dir = None if state_dir is None else Path(state_dir)
    setup = prepare(options)
    if setup.simulated:
        say(headline(setup))
    clock = Clock()
    batch = f"python-{int(clock.now())}-{os.getpid()}-{next(_numbers)}"
    wanted = _made(tasks, batch, setup, clock.now())
    if not wanted:
        return []
    with open_store(setup) as store:
        job = _Job(setup, store, clock, batch, max_cost_usd)
        try:
            job.do(wanted)
        except BaseException:
            job.give_up()
            raise
        return [stored.result for stored in store.result_sync.all_results(batch)]


def _made(tasks: Iterable[str | Mapping[str, Any]], batch: str, setup: Setup, now: float) -> list[Task]:
    """All tasks. Raises InputError for the first that is none, and for an id that comes twice."""
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
    """A task without an id is called by its number, unless another one is named like that."""
    names = itertools.chain([str(number)], (f"{number}-{n}" for n in itertools.count(2)))
    free = next(name for name in names if name not in named)
    return make_task(
        row, batch=batch, settings=setup.settings, now=now, line=number, default_id=lambda _: free
    )


_turns: dict[str, threading.Lock] = {}  # by database: one pool at a time


@dataclass(frozen=True, slots=True)
class _Job:
    """The tasks of one call of `answer`, from the store's door to their end."""

    setup: Setup
    store: Store
    clock: Clock
    batch: str
    max_cost_usd: float | None

    def do(self, wanted: list[Task]) -> None:
        """Here, or by the server that runs already. Raises StoreError beside a run of another process."""
        store, now = self.store, self.clock.now()
        with self._turn():
            served = find_server(store, stored=False) is not None
            if self.max_cost_usd is not None and not self.setup.simulated:
                refuse_cap_beside_server(store, CAP_OPTION)
            store.intake.create_batch(self.batch, now=now, source="python")
            capped = caps(store, self.batch, self.max_cost_usd, now)
            store.intake.add_tasks(wanted, now=now)
            if not served:
                _work_off(self.setup, store, self.clock, self.batch, capped)
        while served and any(store.reports.task_counts(self.batch)[status] for status in OPEN_STATUSES):
            time.sleep(POLL_S)
            with self._turn():
                served = find_server(store, stored=False) is not None
                if not served:  # it has ended
                    _work_off(self.setup, store, self.clock, self.batch, capped)

    def give_up(self) -> None:
        """Leave nothing behind that a later server would pay for: the batch has no name outside this call."""
        with suppress(StoreError):
            if self.store.reports.batch(self.batch) is not None:
                self.store.admin.cancel(self.batch, now=self.clock.now())

    def _turn(self) -> threading.Lock:
        return _turns.setdefault(str(self.setup.database), threading.Lock())


def _work_off(setup: Setup, store: Store, clock: Clock, batch: str, capped: Mapping[str, float]) -> None:
    stop: SimpleQueue[Callable[[], object]] = SimpleQueue()
    with ThreadPoolExecutor(1) as thread:  # a notebook has a running loop of its own
        running = thread.submit(asyncio.run, _run(setup, store, clock, batch, capped, stop))
        running.add_done_callback(lambda _: stop.put(lambda: None))  # there is always something to get
        try:
            running.result()
        except KeyboardInterrupt:
            # It reaches the main thread alone: without this the other one would go on to the last task.
            with suppress(RuntimeError):  # its loop has just ended
                stop.get()()
            raise


async def _run(
    setup: Setup,
    store: Store,
    clock: Clock,
    batch: str,
    capped: Mapping[str, float],
    stop: SimpleQueue[Callable[[], object]],
) -> None:
    """Work the batch off; into `stop` goes what ends it from another thread."""
    from ..core.orchestrator import OrchestratorOptions

    with running_providers(setup) as access:
        job = OrchestratorOptions(batch=batch, agent_prompts=False, batch_caps_usd=capped)
        orchestrator = build_orchestrator(setup, access, store, clock, job)
        loop = asyncio.get_running_loop()
        stop.put(lambda: loop.call_soon_threadsafe(orchestrator.drain))
        report = await orchestrator.run(until_done=True)
    if report.stopped == BUDGET:  # nobody would ever ask for the rest of this batch
        store.admin.cancel(batch, now=clock.now(), why=f"cancelled: {report.why}")
    elif report.stopped:
        raise failure(report)
