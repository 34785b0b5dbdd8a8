"""Run an orchestrator under a progress view, and stop it in two steps.

The first stop signal lets the calls in flight finish and stores them. The second stops at once and still
stores the answers that have arrived, if the database accepts them (`stopping.py`).
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import TYPE_CHECKING, TypeAlias

from ..bootstrap import build_orchestrator, running_providers
from ..core.budget_keeper import keep_cap as keep_cap_of
from ..core.budget_keeper import kept_caps
from ..errors import StoreError
from ..formatting import plural
from ..records import NANOS_PER_USD, OPEN_STATUSES
from ..stop_signals import HANGUP, drop_lost_terminals, stop_signals
from .exit_codes import STOPPED as EXIT_STOPPED
from .exit_codes import STORE_UNAVAILABLE
from .result_sink import CHECK_EVERY_S, ResultSink
from .session import Session
from .stopping import StopListener
from .views import View, make_view

if TYPE_CHECKING:
    from ..core.orchestrator import Orchestrator, OrchestratorOptions, RunReport

Beside: TypeAlias = "Callable[[Orchestrator], AbstractAsyncContextManager[None]]"
BUDGET = "budget"  # the end of a run that has spent one


@dataclass(frozen=True, slots=True)
class ServerParts:
    """What a server has beside its orchestrator.

    `beside`: what runs in its loop. `hang_up` takes SIGHUP, unless it returns False.
    """

    beside: Sequence[Beside] = ()
    hang_up: Callable[[], bool] | None = None


def run_orchestrator(
    session: Session,
    sink: ResultSink,
    options: OrchestratorOptions,
    *,
    quiet: bool = False,
    until_done: bool = True,
    server: ServerParts | None = None,
) -> RunReport:
    """Serve the batch of `options`, or the whole queue, until it is done, stopped or out of budget.

    Raises ConfigError if no provider accepts its key, StoreError if another orchestrator leads, now or
    later, or if the results can't be written.
    """
    setup = session.setup
    leadership = options.leadership or session.leadership()
    with leadership, running_providers(setup) as access:
        leadership.acquire(say=session.note)
        orchestrator = build_orchestrator(
            setup,
            access,
            session.store,
            session.clock,
            replace(options, on_result=sink, leadership=leadership),
        )
        view = make_view(session.console, quiet=quiet)
        try:
            grace_s = setup.settings.pool.shutdown_grace_s
            server = server or ServerParts()
            with _stop_listener(orchestrator, view, grace_s, server.hang_up) as stop:
                watched = _watch(orchestrator, view, sink, stop, server.beside, until_done=until_done)
                report = asyncio.run(watched)
        finally:
            view.close()
    if sink.error:
        remedy = "use -o FILE to go on" if sink.is_closed else "run the same command again to write them"
        raise StoreError(f"{sink.error}: {remedy}")
    if report.stopped == BUDGET:
        counts = session.store.reports.task_counts(options.batch)
        left = sum(counts[status] for status in OPEN_STATUSES)
        session.note(_spent_text(report, left, is_one_batch=options.batch is not None))
    elif (error := report.error()) is not None:
        raise error
    return report


def _spent_text(report: RunReport, left: int, *, is_one_batch: bool) -> str:
    """`stopped: --max-cost $0.05 reached; 248 tasks left`. The line on the results says how to go on."""
    rule = report.spent
    if rule is None:
        return f"stopped: {report.why}; {plural(left, 'task')} left"
    if rule.scope != "batch":
        return f"stopped: {rule} is spent; {plural(left, 'task')} left"
    if not is_one_batch:
        return f"stopped: {rule} is spent; {plural(left, 'task')} left; raise it with --max-cost to go on"
    limit = f"${rule.limit_nanos / NANOS_PER_USD:.12g}"
    return f"stopped: --max-cost {limit} reached; {plural(left, 'task')} left"


def all_caps(session: Session) -> Mapping[str, float]:
    """The caps of all batches, USD, for a server that goes on with their rows."""
    return kept_caps(session.store)


def keep_cap(session: Session, batch: str, max_cost_usd: float | None) -> Mapping[str, float]:
    """Store what this batch may cost in all, USD, so that a server obeys it too; None: no cap."""
    return keep_cap_of(session.store, batch, max_cost_usd)


async def _watch(
    orchestrator: Orchestrator,
    view: View,
    sink: ResultSink,
    stop: StopListener,
    beside: Sequence[Beside],
    *,
    until_done: bool,
) -> RunReport:
    """Run the orchestrator, with what runs `beside` it, and update the view until it ends."""
    stop.loop = asyncio.get_running_loop()
    running = asyncio.create_task(orchestrator.run(until_done))
    async with AsyncExitStack() as stack:
        for each in beside:
            await stack.enter_async_context(each(orchestrator))
        await _update(orchestrator, view, sink, running)
    while sink.error and not (stop.presses or sink.is_closed):  # as for an unavailable database
        await asyncio.sleep(CHECK_EVERY_S)
        sink.check()
    return running.result()


async def _update(
    orchestrator: Orchestrator, view: View, sink: ResultSink, running: asyncio.Task[RunReport]
) -> None:
    noted = False
    while not running.done():
        await asyncio.wait({running}, timeout=view.interval_s)
        sink.tick(view)
        if sink.is_closed:
            orchestrator.drain()
        pool = orchestrator.snapshot()
        sink.progress.mark(pool.at)
        view.update(pool, sink.progress)
        if orchestrator.is_ending and not noted and (unstored := orchestrator.unstored_text):
            noted = True
            view.note(f"{unstored}; retrying; press Ctrl-C again to end without them")


def _stop_listener(
    orchestrator: Orchestrator, view: View, grace_s: float, hang_up: Callable[[], bool] | None
) -> StopListener:
    """The first signal drains, the second stops."""

    def press(number: int) -> None:
        if number == 1:
            has_calls = bool(orchestrator.in_flight)
            orchestrator.drain()
            if has_calls:
                view.note(f"waiting up to {grace_s:g} s for running calls; press Ctrl-C again to stop now")
        else:
            orchestrator.stop_now()
            view.note("stopping now: cancelling running calls, storing the answers that have arrived")

    def last_words() -> tuple[int, str]:
        lost, in_flight = orchestrator.unstored_answers, orchestrator.in_flight
        text = "ended at once"
        if lost:
            text += f": {plural(lost, 'paid answer is', 'paid answers are')} lost"
        if in_flight:
            text += f", {plural(in_flight, 'running call')} may be billed"
        rerun = "; the next run repeats these tasks" if lost or in_flight else ""
        return (STORE_UNAVAILABLE if lost else EXIT_STOPPED), f"{text}{rerun}"

    return StopListener(press, last_words, lambda: bool(orchestrator.unstored_text), hang_up)


@contextmanager
def on_stop_signals(press: Callable[[int], None]) -> Iterator[None]:
    """Call `press` on the running loop for each stop signal while the block runs."""

    def pressed(number: int) -> None:
        if number == HANGUP:
            drop_lost_terminals()
        press(number)

    undo = [_handle(number, pressed) for number in stop_signals()]
    try:
        yield
    finally:
        for each in undo:
            each()


def _handle(number: int, press: Callable[[int], None]) -> Callable[[], object]:
    loop, previous = asyncio.get_running_loop(), signal.getsignal(number)
    try:
        loop.add_signal_handler(number, press, number)
    except NotImplementedError:  # Windows: a plain handler, which calls the loop
        signal.signal(number, _through_loop(loop, press))
        return lambda: signal.signal(number, previous)

    def undo() -> None:
        loop.remove_signal_handler(number)
        signal.signal(number, previous)

    return undo


def _through_loop(
    loop: asyncio.AbstractEventLoop, press: Callable[[int], None]
) -> Callable[[int, FrameType | None], object]:
    return lambda number, _frame: loop.call_soon_threadsafe(press, number)
