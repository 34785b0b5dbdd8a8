"""Run an orchestrator under a progress view, and stop it in two steps.

The first stop signal lets the calls in flight finish and stores them. The second stops at once and still
stores the answers that have arrived, if the database accepts them (`stopping.py`).
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from ..bootstrap import Setup, build_orchestrator, running_providers
from ..core.clock import Clock
from ..core.results import ResultsFile
from ..errors import ConfigError, InputError, OrchestratorError, StoreError
from ..formatting import plural
from ..records import Result, TaskStatus
from ..stop_signals import HANGUP, drop_lost_terminals, stop_signals
from .exit_codes import STOPPED as STOPPED_AT_ONCE
from .exit_codes import STORE_UNAVAILABLE
from .progress import View, make_view, say
from .progress_counts import ProgressCounts
from .stopping import StopListener

if TYPE_CHECKING:
    from ..core.leadership import Leadership
    from ..core.orchestrator import Orchestrator, RunReport
    from ..core.store import Store

DRAINED, STOPPED, BUDGET = "drained", "stopped", "budget"  # how a run reports that somebody ended it
SUPERSEDED, STORE_LOST = "superseded", "store_lost"
LOOK_EVERY_S = 1.0  # at a results file
WAITING_AT_MOST = 1_000  # rows in memory; beyond, they come from the store


class Sink:
    """Where finished tasks go: the tally and, for one batch, its results file.

    A result is in the store before it comes here. So a file that takes no rows ends nothing: they wait, and
    are written when it takes them again. `complete` writes every row that the file lacks, from the store; by
    it a file that was deleted or replaced meanwhile is made again.
    """

    def __init__(
        self,
        progress: ProgressCounts,
        batch: str | None = None,
        results: ResultsFile | None = None,
        complete: Callable[[], None] | None = None,
    ) -> None:
        self.progress = progress
        self._batch, self._results, self._complete = batch, results, complete
        self._error: str = ""
        self._waiting: list[Result] = []
        self._lacks_more = False  # than what waits in memory
        self._next_look_s = 0.0  # monotonic

    @property
    def lacking(self) -> str:
        """Why the results file lacks rows that are stored; empty where it lacks none."""
        return self._error

    @property
    def is_closed(self) -> bool:
        """Whether rows go to a pipe whose reader is gone, as that of `| head` is: nothing brings it back."""
        return self._results is not None and self._results.is_closed

    def __call__(self, results: Sequence[Result]) -> None:
        mine = [r for r in results if self._batch is None or r.task.batch == self._batch]
        self.progress.add(mine)
        if self._results is None or self.is_closed:
            return
        self._waiting += mine
        if not self._error:
            self._write(self._results)
        elif self._complete is not None and len(self._waiting) > WAITING_AT_MOST:
            self._waiting.clear()
            self._lacks_more = True

    def tick(self, view: View) -> None:
        """Called on the loop several times a second; what it prints stands aside of the view."""
        self.look()

    def look(self) -> None:
        """Once a second: write what waits, and see whether the file is still there."""
        if self._results is not None and not self.is_closed and time.monotonic() >= self._next_look_s:
            self._write(self._results)

    def _write(self, results: ResultsFile) -> None:
        self._next_look_s = time.monotonic() + LOOK_EVERY_S
        try:
            if not results.is_there:
                results.reopen()
                self._lacks_more = self._complete is not None
                say(f"{results.name} was deleted or replaced while it was in use; it is written again")
            if self._waiting:
                results.append(self._waiting)
                self._waiting.clear()
            if self._lacks_more and self._complete is not None:
                self._complete()
                self._lacks_more = False
        except (StoreError, InputError, OSError) as error:
            if not self._error:
                say(f"{error}; {'ending' if self.is_closed else 'trying again until the file takes them'}")
            self._error = str(error)
            return
        if self._error:
            self._error = ""
            say(f"{results.name} takes rows again and is complete")


def work_off(
    setup: Setup,
    store: Store,
    clock: Clock,
    sink: Sink,
    *,
    batch: str | None,
    quiet: bool = False,
    agent_prompts: bool | None = None,
    until_done: bool = True,
    max_cost_usd: float | None = None,
    leadership: Leadership | None = None,
) -> RunReport:
    """Serve `batch`, or the whole queue, to the end or to a stop: by somebody, or by a budget.

    Raises ConfigError where no provider takes its key, StoreError where another orchestrator leads, from the
    start or since it has taken over, or the results can't be written.
    """
    from ..core.leadership import Leadership
    from ..core.orchestrator import OrchestratorOptions

    leadership = leadership or Leadership(store, setup.settings.pool.lease_s)
    with leadership, running_providers(setup) as access:
        leadership.acquire(say=say)
        job = OrchestratorOptions(
            batch=batch,
            agent_prompts=agent_prompts,
            on_result=sink,
            batch_caps_usd=caps(store, batch, max_cost_usd, clock.now()),
            leadership=leadership,
        )
        orchestrator = build_orchestrator(setup, access, store, clock, job)
        view = make_view(quiet)
        try:
            with _stopping(orchestrator, view, setup.settings.pool.shutdown_grace_s) as stop:
                report = asyncio.run(_watch(orchestrator, view, sink, stop, until_done=until_done))
        finally:
            view.close()
    if sink.lacking:
        remedy = (
            "name a file with -o to go on" if sink.is_closed else "run the same command again to write them"
        )
        raise StoreError(f"{sink.lacking}: {remedy}")
    if report.stopped == BUDGET:
        left = store.reports.task_counts(batch).get(TaskStatus.QUEUED, 0)
        say(f"{report.why}; {plural(left, 'task')} left, which stay queued")
    elif report.stopped not in {"", DRAINED, STOPPED}:
        raise failure(report)
    return report


def failure(report: RunReport) -> OrchestratorError:
    """What a run ended with that nobody asked to end."""
    return (StoreError if report.stopped in {SUPERSEDED, STORE_LOST} else ConfigError)(
        report.why or report.stopped
    )


def caps(store: Store, batch: str | None, max_cost_usd: float | None, now: float) -> dict[str, float]:
    """What each batch may cost in all. A run's cap is kept: a server that goes on with its rows obeys it."""
    from ..core.budget_keeper import CAP, kept_caps

    kept = store.controls.current_settings()
    if batch is None:
        return kept_caps(kept)
    if kept.get(CAP + batch) != max_cost_usd:
        store.controls.put_setting(CAP + batch, max_cost_usd, who="run", now=now)
    return {} if max_cost_usd is None else {batch: max_cost_usd}


async def _watch(
    orchestrator: Orchestrator, view: View, sink: Sink, stop: StopListener, *, until_done: bool
) -> RunReport:
    """Run it, drawing until it ends."""
    stop.loop = asyncio.get_running_loop()
    running = asyncio.create_task(orchestrator.run(until_done))
    noted = False
    while not running.done():
        await asyncio.wait({running}, timeout=view.interval_s)
        sink.tick(view)
        if sink.is_closed:
            orchestrator.drain()
        pool = orchestrator.snapshot()
        sink.progress.mark(pool.at)
        view.update(pool, sink.progress)
        if orchestrator.is_ending and not noted and (held := orchestrator.unstored_text):
            noted = True
            view.note(f"{held}; still trying to store them; Ctrl-C once more ends without them")
    while sink.lacking and not (stop.presses or sink.is_closed):  # waited for like the database
        await asyncio.sleep(LOOK_EVERY_S)
        sink.look()
    return running.result()


def _stopping(orchestrator: Orchestrator, view: View, shutdown_grace_s: float) -> StopListener:
    """Signals drain, then stop."""

    def press(number: int) -> None:
        if number == 1:
            orchestrator.drain()
            view.note(
                f"stopping: calls in flight may finish (up to {shutdown_grace_s:g} s); once more stops now"
            )
        else:
            orchestrator.stop_now()
            view.note("stopping now: calls in flight are cancelled, what has come in is stored")

    def last_words() -> tuple[int, str]:
        lost, in_flight = orchestrator.unstored_answers, orchestrator.in_flight
        text = f"ended at once: {lost:,} paid answers are lost" if lost else "ended at once"
        if in_flight:
            text += f", {in_flight:,} calls in flight may be billed"
        rerun_note = "; the next run asks these tasks again" if lost or in_flight else ""
        return (STORE_UNAVAILABLE if lost else STOPPED_AT_ONCE), f"{text}{rerun_note}"

    return StopListener(press, last_words, lambda: bool(orchestrator.unstored_text))


@contextmanager
def listening(press: Callable[[int], None]) -> Iterator[None]:
    """Call `press` on the running loop for each stop signal while the block runs."""

    def pressed(number: int) -> None:
        if number == HANGUP:
            drop_lost_terminals()
        press(number)

    undo = [_listen(number, pressed) for number in stop_signals()]
    try:
        yield
    finally:
        for each in undo:
            each()


def _listen(number: int, press: Callable[[int], None]) -> Callable[[], object]:
    loop, previous = asyncio.get_running_loop(), signal.getsignal(number)
    try:
        loop.add_signal_handler(number, press, number)
    except NotImplementedError:  # Windows: a plain handler, which hands over to the loop
        signal.signal(number, _handing_over(loop, press))
        return lambda: signal.signal(number, previous)

    def undo() -> None:
        loop.remove_signal_handler(number)
        signal.signal(number, previous)

    return undo


def _handing_over(
    loop: asyncio.AbstractEventLoop, press: Callable[[int], None]
) -> Callable[[int, FrameType | None], object]:
    return lambda number, _frame: loop.call_soon_threadsafe(press, number)
