"""`Pool`, for asyncio, and `answer`, which blocks."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import secrets
import sys
import threading
import warnings
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Self, Unpack

from ..bootstrap import Setup, StartOptions, load
from ..core.budget_keeper import budgets_from
from ..core.clock import Clock
from ..core.intake import check_batch_name
from ..errors import InputError, OrchestratorError
from ..records import Result, Task, TaskStatus
from .engine import Engine, Item, Submission, again
from .given import GivenTask, TaskMaker
from .task_options import TaskOptions, check_options, defaults_of

log = logging.getLogger(__name__)
AHEAD = 1_000  # tasks of a stream that are submitted and not taken yet: more than calls can be in flight
NO_KEY = "no API key was found: the answers are simulated, and nothing is spent"
YIELD_EVERY = 50  # tasks, so that a long list does not hold up the user's loop


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a pool is: tasks submitted, ended and answered so far, and what they have cost, USD.

    `cost_usd` leaves out calls whose price is not known.
    """

    submitted: int = 0
    ended: int = 0
    answered: int = 0
    cost_usd: float = 0.0


class Pool:
    """Agents over all configured providers, on a thread of their own.

        async with Pool() as pool:
            result = await pool.answer("Why is the sky blue?")
            async for result in pool.answers(prompts):
                print(result.status, result.model, result.cost_usd, result.output or result.error)

    A task is a prompt, a mapping with the keys of a line of a task file, or a Task. Its Result says how it
    ended: look at `status`, an error of one task is no exception. Settings and keys are those of the command
    line. With a key it spends at once, within `max_cost_usd` and `[budgets]`.

    `run_name`: keep tasks and answers in the state folder, and never ask again what this run has answered.
    `max_cost_usd`: the most that this pool may cost, or this run with all its earlier pools; a task that the
    money does not reach ends as `cancelled`. `on_progress` is called before each result is passed on, where
    that happens. `config` and `state_dir` are the options of the command line. `task_options`: fields for
    tasks that do not set them, such as `models`, `max_tokens`, `temperature` and `system`.

    Several tasks, streams and event loops may use one pool at once. Raises ConfigError; opening and asking
    raise StoreError, KeyRejected if every provider rejects its key, and InputError for an invalid task.
    """

    def __init__(
        self,
        *,
        run_name: str | None = None,
        max_cost_usd: float | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        simulate: bool = False,
        config: Path | str | None = None,
        state_dir: Path | str | None = None,
        **task_options: Unpack[TaskOptions],
    ) -> None:
        check_options(
            run_name=run_name,
            max_cost_usd=max_cost_usd,
            on_progress=on_progress,
            config=config,
            state_dir=state_dir,
        )
        options = StartOptions(
            None if config is None else Path(config),
            None if state_dir is None else Path(state_dir),
            simulate or None,
        )
        setup = load(options, log.warning)
        if setup.simulated and not simulate:
            is_inside = sys._getframe(1).f_globals is globals()  # `answer` makes the pool
            warnings.warn(NO_KEY, stacklevel=3 if is_inside else 2)
        defaults = defaults_of(task_options, setup.settings)
        clock = Clock()
        random_name = f"python-{int(clock.now())}-{os.getpid()}-{secrets.token_hex(4)}"
        batch = random_name if run_name is None else check_batch_name(run_name, "run_name")
        temporary = run_name is None and state_dir is None and not _has_budgets(setup)
        self._engine = Engine(setup, clock, batch, temporary=temporary, max_cost_usd=max_cost_usd)
        self._maker = TaskMaker(batch, setup.settings, clock.now, defaults, resumable=run_name is not None)
        self._on_progress = on_progress
        self._lock = threading.Lock()  # of the maker and the progress: several loops may use the pool
        self._progress = Progress()

    # ------------------------------------------------------------------ open and close

    async def __aenter__(self) -> Self:
        opening = asyncio.create_task(asyncio.to_thread(self._engine.open))
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            with suppress(OrchestratorError):
                await opening
                await asyncio.to_thread(self._engine.close)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let calls in flight end, at most `shutdown_grace_s`; cancelled meanwhile, stop them at once."""
        closing = asyncio.create_task(asyncio.to_thread(self._engine.close))
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            self._engine.stop()
            await closing
            raise

    # ------------------------------------------------------------------ ask

    async def answer(self, task: GivenTask) -> Result:
        """Answer one task. Cancelled meanwhile, it cancels the task unless its call is in flight."""
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[Item] = loop.create_future()

        def resolve(item: Item) -> None:
            if not arrived.done():
                arrived.set_result(item)

        submission = Submission(self._made(task), lambda item: loop.call_soon_threadsafe(resolve, item))
        self._engine.submit(submission)
        try:
            item = await arrived
        except asyncio.CancelledError:
            self._engine.cancel([submission])
            raise
        return self._taken(item)

    async def answers(self, tasks: Iterable[GivenTask] | AsyncIterable[GivenTask]) -> AsyncIterator[Result]:
        """Answer a stream of tasks; yields each result as it comes, in the order in which they end.

        It reads at most AHEAD tasks further than results are taken. An invalid task, and an error of `tasks`
        itself, is raised when the tasks before it have ended. Closed early, or cancelled, it cancels what
        waits; calls in flight end and are stored.
        """
        loop = asyncio.get_running_loop()
        stream = _Stream(self._engine, loop)
        feeding = asyncio.create_task(self._feed(tasks, stream))
        feeding.add_done_callback(stream.note_end)
        try:
            while stream.open or not feeding.done():
                arrival = await stream.arrived.get()
                if arrival is not None:
                    submission, item = arrival
                    stream.open.discard(submission)
                    stream.room.release()
                    yield self._taken(item)
            feeding.result()
        finally:
            feeding.cancel()
            self._engine.cancel(stream.open)

    async def _feed(self, tasks: Iterable[GivenTask] | AsyncIterable[GivenTask], stream: _Stream) -> None:
        source = aiter(_each(tasks))
        for number in itertools.count(1):
            await stream.room.acquire()
            try:
                task = await anext(source)
            except StopAsyncIteration:
                return
            stream.submit(self._made(task, number))
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)

    def _answer_all(self, tasks: Sequence[GivenTask]) -> list[Result]:
        arrived: SimpleQueue[Item] = SimpleQueue()
        submissions = [
            Submission(self._made(task, number), arrived.put) for number, task in enumerate(tasks, 1)
        ]
        if not submissions:
            return []
        self._engine.open(in_turn=True)
        try:
            for submission in submissions:
                self._engine.submit(submission)
            results = [self._taken(arrived.get()) for _ in submissions]
        finally:
            self._engine.close()
        by_id = {result.task.id: result for result in results}
        return [by_id[submission.task.id] for submission in submissions]

    # ------------------------------------------------------------------ tasks and results

    def _made(self, task: GivenTask, number: int | None = None) -> Task:
        with self._lock:
            try:
                made = self._maker.make(task)
            except InputError as error:
                raise InputError(error.what if number is None else f"task {number}: {error.what}") from None
            self._progress = replace(self._progress, submitted=self._progress.submitted + 1)
        return made

    def _taken(self, item: Item) -> Result:
        """The result for the caller, who hears of the progress first. Raises the error that came instead."""
        if isinstance(item, OrchestratorError):
            raise again(item)
        with self._lock:
            so_far = self._progress
            progress = self._progress = replace(
                so_far,
                ended=so_far.ended + 1,
                answered=so_far.answered + (item.status is TaskStatus.SUCCEEDED),
                cost_usd=so_far.cost_usd + (item.cost_usd or 0.0),
            )
        if self._on_progress is not None:
            self._on_progress(progress)
        return item


class PoolOptions(TaskOptions, total=False):
    """The options of `Pool`, for `answer`."""

    run_name: str | None
    max_cost_usd: float | None
    on_progress: Callable[[Progress], object] | None
    simulate: bool
    config: Path | str | None
    state_dir: Path | str | None


def answer(tasks: Iterable[GivenTask], **options: Unpack[PoolOptions]) -> list[Result]:
    """Answer every task and return the results in the order of the tasks. It takes the options of `Pool`.

    It blocks its thread, also in a notebook, and opens a pool for this call alone: a program that asks often
    keeps a `Pool`. No task is sent unless all are valid. Ctrl-C lets the calls in flight end and raises
    KeyboardInterrupt. Raises what `Pool` does.
    """
    given = list(_checked(tasks))
    return Pool(**options)._answer_all(given)


class _Stream:
    """The tasks of one call of `Pool.answers` that have not been taken yet. For the caller's loop."""

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self._engine, self._loop = engine, loop
        # What has arrived, and None once when no more will be submitted.
        self.arrived: asyncio.Queue[tuple[Submission, Item] | None] = asyncio.Queue()
        self.open: set[Submission] = set()
        self.room = asyncio.Semaphore(AHEAD)

    def submit(self, task: Task) -> None:
        submission = Submission(
            task, lambda item: self._loop.call_soon_threadsafe(self._arrive, submission, item)
        )
        self._engine.submit(submission)
        self.open.add(submission)

    def _arrive(self, submission: Submission, item: Item) -> None:
        self.arrived.put_nowait((submission, item))

    def note_end(self, feeding: asyncio.Task[None]) -> None:
        """Wake the one that takes results: it may wait for one although none is left."""
        if not feeding.cancelled():
            feeding.exception()  # marks it as seen: a stream that is closed early raises none
        self.arrived.put_nowait(None)


async def _each(tasks: Iterable[GivenTask] | AsyncIterable[GivenTask]) -> AsyncIterator[GivenTask]:
    if isinstance(tasks, AsyncIterable):
        async for task in tasks:
            yield task
    else:
        for task in _checked(tasks):
            yield task


def _checked(tasks: Iterable[GivenTask]) -> Iterable[GivenTask]:
    """Raises InputError for a single task: each of its letters, or keys, would be one."""
    if isinstance(tasks, str | bytes | Mapping | Task) or not isinstance(tasks, Iterable):
        raise InputError(
            f"expected a list or stream of tasks, not {type(tasks).__name__}; a single one is [task]"
        )
    return tasks


def _has_budgets(setup: Setup) -> bool:
    return not setup.simulated and budgets_from(setup.settings.budgets, None) is not None
