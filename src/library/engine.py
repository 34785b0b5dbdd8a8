"""The thread that a pool works on: its event loop, its store and its orchestrator.

    submit --> stored --> orchestrator (or a server) --> stored result --> put
                 |
                 +-- known already (a run goes on) ----> put

The pool has a loop of its own, so that it works the same from a notebook, a view and a script. What blocks
the user's loop then delays no call and no lease. Each task is put exactly once: its result, or an error.

A pool ends when it is closed, or by itself: every key is refused, or the store is lost. That error is what
open and later tasks get. A budget that is spent for good ends no pool; its tasks come back as cancelled.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ParamSpec, TypeAlias, TypeVar

from ..bootstrap import Setup, build_orchestrator, open_store, running_providers
from ..core.budget_keeper import keep_cap
from ..core.clock import Clock
from ..core.intake import shown
from ..core.orchestrator import Orchestrator, OrchestratorOptions, RunReport
from ..core.store import Store
from ..core.store.loading import parts
from ..errors import InputError, OrchestratorError, PoolClosed, StoreError
from ..records import Result, Task, TaskStatus
from ..steady import steady
from .lead import Lead, turn_at

CHUNK = 500  # tasks in a transaction
CHECK_EVERY_S = 0.1
WATCH_EVERY_S = 0.2
QUIET_S = 1.0  # without a result: then the database is asked
P = ParamSpec("P")
T = TypeVar("T")
Item: TypeAlias = Result | OrchestratorError


@dataclass(eq=False, slots=True)
class Submission:
    """A submitted task. `put` gets its result, or the error it ends with, once, on the pool's thread."""

    task: Task
    put: Callable[[Item], object]
    cancelled: bool = False


class Engine:
    """One pool's thread. `open`, `submit`, `cancel` and `close` are for other threads."""

    def __init__(
        self, setup: Setup, clock: Clock, batch: str, *, temporary: bool, max_cost_usd: float | None
    ) -> None:
        self._setup, self._clock, self._batch = setup, clock, batch
        self._temporary, self._max_cost_usd = temporary, max_cost_usd
        self._stack = ExitStack()  # what `close` closes
        self._lock = threading.Lock()  # of the next two
        self._incoming: list[Submission] = []
        self._end: OrchestratorError | None = PoolClosed("the pool is not open: use `async with Pool(...)`")
        self._opened = self._closing = False
        self._open: dict[str, Submission] = {}  # by id; for the loop alone
        self._delivered_at = 0.0  # by `steady()`
        self._is_storing = False  # some of them, which may still be there as an earlier run left them
        self._orchestrator: Orchestrator | None = None
        self._background: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------------ for other threads

    def open(self, *, in_turn: bool = False) -> None:
        """Open the store, take the lead or find the server that has it, and start. It blocks.

        `in_turn`: wait for the pools of other threads that were opened so, too. For a pool that this thread
        closes without waiting for anything but its tasks.

        Raises StoreError, ConfigError, and InputError for a cap beside a server, which does not know it.
        """
        if self._opened:
            raise PoolClosed("a pool is opened once: make another one")
        self._opened = True
        with ExitStack() as stack:
            if self._temporary:
                folder = Path(stack.enter_context(TemporaryDirectory(prefix="orchestrator-")))
                self._setup = self._setup.with_settings(state_dir=folder, database_url=None)
            self._store: Store = stack.enter_context(open_store(self._setup))
            if in_turn:
                stack.enter_context(turn_at(self._store))
            self._lead = Lead(self._store, self._setup.settings.pool.lease_s)
            stack.enter_context(self._lead.leadership)
            if not self._lead.take():
                self._refuse_cap_beside_server()
            now = self._clock.now()
            self._store.intake.create_batch(self._batch, now=now, source="python")
            self._caps = keep_cap(self._store, self._batch, self._max_cost_usd)
            # One thread, so that a task is stored before it is cancelled.
            self._writer = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="pool-store"))
            self._stack = stack.pop_all()
        self._end = None
        started = threading.Event()
        self._thread = threading.Thread(
            target=asyncio.run, args=(self._main(started),), name="pool", daemon=True
        )
        self._thread.start()
        started.wait()

    def _refuse_cap_beside_server(self) -> None:
        if self._max_cost_usd is not None and not self._setup.simulated:
            raise InputError(
                f"max_cost_usd does not apply to the running server (process {self._lead.server()}): stop it "
                "first, use another state_dir, or set [budgets] for it"
            )

    def submit(self, submission: Submission) -> None:
        """Answer a task. Raises the error that has ended the pool."""
        with self._lock:
            if self._end is not None:
                raise again(self._end)
            self._incoming.append(submission)
            self._loop.call_soon_threadsafe(self._wake.set)

    def cancel(self, submissions: Collection[Submission]) -> None:
        """Put nothing for these any more, and cancel those that wait. Calls in flight end and are stored."""
        for submission in submissions:
            submission.cancelled = True
        ids = [submission.task.id for submission in submissions]
        if ids:
            self._call(lambda: self._keep(self._cancel(ids)))

    def close(self) -> None:
        """Let calls in flight end, at most `shutdown_grace_s`, cancel what waits, and close the store.

        It blocks. When it is interrupted it stops at once instead.
        """
        self._call(self._drain)
        try:
            self._thread.join()
        except BaseException:
            self.stop()
            self._thread.join()
            raise
        finally:
            self._stack.close()

    def stop(self) -> None:
        """Have `close` wait for calls in flight no longer."""
        self._call(self._stop)

    def _call(self, function: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(function)

    # ------------------------------------------------------------------ on the pool's thread

    async def _main(self, started: threading.Event) -> None:
        self._loop, self._wake = asyncio.get_running_loop(), asyncio.Event()
        started.set()
        end = OrchestratorError("internal error: the pool has ended, and its traceback says why")
        taking_in, serving = asyncio.create_task(self._take_in()), asyncio.create_task(self._serve())
        try:
            await asyncio.wait({taking_in, serving}, return_when=asyncio.FIRST_COMPLETED)
            if taking_in.done():
                taking_in.result()  # it never returns: this raises what ended it
            end = serving.result()
        except OrchestratorError as error:
            end = error
        finally:
            taking_in.cancel()
            with self._lock:
                self._end = end
                left, self._incoming = [*self._open.values(), *self._incoming], []
                self._open.clear()
            with suppress(StoreError):
                await self._write(self._store.admin.cancel, self._batch, now=self._clock.now())
            for submission in left:
                self._put(submission, end)

    async def _serve(self) -> OrchestratorError:
        """Work until the pool ends; returns why it takes no further tasks."""
        if not self._lead.leadership.leads:
            await self._follow_server()
        if not self._closing:
            report = await self._run_orchestrator()
            if report.stopped == "budget":
                await self._decline(report.why)
            elif (error := report.error()) is not None:
                return error
        return PoolClosed("the pool is closed")

    async def _run_orchestrator(self) -> RunReport:
        with running_providers(self._setup) as access:
            options = OrchestratorOptions(
                batch=self._batch,
                on_result=self._deliver,
                batch_caps_usd=self._caps,
                leadership=self._lead.leadership,
            )
            self._orchestrator = build_orchestrator(self._setup, access, self._store, self._clock, options)
            running = asyncio.create_task(self._orchestrator.run(until_done=False))
            while not running.done():
                await asyncio.wait({running}, timeout=CHECK_EVERY_S)
                if self._open:
                    await self._orchestrator.end_if_stuck()
                if self._open and steady() - self._delivered_at >= QUIET_S:
                    with suppress(StoreError):  # the orchestrator outlives an outage of the store
                        await self._deliver_ended()  # the pages cancel there what is not claimed yet
            return running.result()

    async def _follow_server(self) -> None:
        """Deliver what a server answers, until it has ended and this process leads."""
        while not self._closing and not await asyncio.to_thread(self._lead.take):
            await self._deliver_ended()
            await asyncio.sleep(WATCH_EVERY_S)

    async def _deliver_ended(self) -> None:
        """Deliver the tasks that the database says have ended: another process may have cancelled them."""
        for ids in parts([] if self._is_storing else list(self._open), CHUNK):
            found = await asyncio.to_thread(self._store.result_sync.results_of, self._batch, ids)
            self._deliver([stored.result for stored in found])

    async def _decline(self, why: str) -> None:
        """Cancel every task, for want of money, until the pool is closed."""
        while not self._closing:
            ids = list(self._open)
            if ids:
                now = self._clock.now()
                await self._write(
                    self._store.admin.cancel, self._batch, ids, now=now, why=f"cancelled: {why}"
                )
                for some in parts(ids, CHUNK):
                    found = await self._write(self._store.result_sync.results_of, self._batch, some)
                    self._deliver([stored.result for stored in found])
            await asyncio.sleep(CHECK_EVERY_S)

    def _stop(self) -> None:
        if self._orchestrator is not None:
            self._orchestrator.stop_now()

    def _drain(self) -> None:
        self._closing = True
        if self._orchestrator is not None:
            self._orchestrator.drain()

    # ------------------------------------------------------------------ tasks in, results out

    async def _take_in(self) -> None:
        """Store what is submitted. What gathers during one transaction goes into the next."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            with self._lock:
                submissions, self._incoming = self._incoming, []
                self._is_storing = True
                self._open |= {each.task.id: each for each in submissions if not each.cancelled}
            for some in parts([each for each in submissions if not each.cancelled], CHUNK):
                try:
                    known = await self._write(self._store_tasks, [each.task for each in some])
                except StoreError as error:
                    known = dict.fromkeys((each.task.id for each in some), error)
                for task_id, item in known.items():
                    if (submission := self._open.pop(task_id, None)) is not None:
                        self._put(submission, item)
            self._is_storing = False

    def _store_tasks(self, tasks: Sequence[Task]) -> dict[str, Item]:
        """Queue the tasks. Returns what is known of them already: results, and ids with other content."""
        report = self._store.intake.add_tasks(tasks, now=self._clock.now())
        if report.added == len(tasks):
            return {}
        stored = self._store.result_sync.results_of(self._batch, [task.id for task in tasks])
        ended = {each.result.task.id: each.result for each in stored}
        again = [name for name, result in ended.items() if result.status is TaskStatus.CANCELLED]
        self._store.admin.retry(self._batch, again, now=self._clock.now())
        known: dict[str, Item] = {name: result for name, result in ended.items() if name not in again}
        if report.changed_count:
            known |= {task.id: _changed(task) for task in tasks if self._has_changed(task)}
        return known

    def _has_changed(self, task: Task) -> bool:
        return self._store.intake.preview([task])[0].changed_count > 0

    def _deliver(self, results: Iterable[Result]) -> None:
        """Put results that have been stored."""
        self._delivered_at = steady()
        for result in results:
            if (submission := self._open.pop(result.task.id, None)) is not None:
                self._put(submission, result)

    def _put(self, submission: Submission, item: Item) -> None:
        if not submission.cancelled:
            with suppress(RuntimeError):  # the loop that waits for it has ended
                submission.put(item)

    async def _cancel(self, ids: Sequence[str]) -> None:
        for each in ids:
            self._open.pop(each, None)
        now = self._clock.now()
        with suppress(StoreError):
            await self._write(self._store.admin.cancel, self._batch, ids, now=now)
            if self._orchestrator is not None:
                self._orchestrator.cancel(self._batch, ids)
            else:
                command = {"batch": self._batch, "ids": list(ids)}
                await self._write(self._store.controls.add_command, "cancel", command, who="python", now=now)

    def _keep(self, job: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(job)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _write(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._loop.run_in_executor(self._writer, partial(method, *args, **kwargs))


def again(error: OrchestratorError) -> OrchestratorError:
    """The same error for one more caller: each raises an instance of its own, with its own traceback."""
    fresh = type(error).__new__(type(error), *error.args)
    fresh.__dict__.update(error.__dict__)
    return fresh


def _changed(task: Task) -> InputError:
    return InputError(f"id {shown(task.id)}: its content differs from that in the earlier run")
