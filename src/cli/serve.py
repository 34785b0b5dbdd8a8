"""Serving the queue until Ctrl-C, on a first start with the examples on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from ..bootstrap import Setup, open_store
from ..config import chosen_port
from ..core.clock import Clock
from ..formatting import duration, money, plural
from ..logging_setup import set_up_logging
from ..records import Result
from .batch import open_results, resume
from .config_warnings import print_config_warnings
from .confirm import ask_about_queue
from .examples import add_examples, examples_batch, offer_examples
from .exit_codes import ALL_ANSWERED, SOME_UNANSWERED
from .names import named
from .pages import pages_beside
from .progress import View, say
from .progress_counts import ProgressCounts
from .reconcile import reconcile
from .run import close_run
from .runner import BUDGET, Sink, work_off
from .setup import Options, headline, prepare

if TYPE_CHECKING:
    from ..core.store import Store


def serve(
    options: Options,
    *,
    quiet: bool = False,
    examples: bool = False,
    once: bool = False,
    pages: bool = False,
    yes: bool = False,
    standby: bool = False,
) -> int:
    """Serve the queue; with `once` until nothing is open. The exit code: 0 also after Ctrl-C.

    Without `yes` it asks before it spends on tasks that it finds; see `ask_about_queue`. With `standby` the
    pages come first, and the queue, unasked, when no other orchestrator leads any more.
    """
    from ..core.leadership import Leadership

    setup = prepare(options)
    if pages:
        chosen_port(setup.environ)  # a wrong PORT is refused before anything starts
    level, folder = options.level(quiet), setup.log_folder
    set_up_logging(level, folder, simulated=setup.simulated)
    clock = Clock()
    say(headline(setup))
    print_config_warnings(setup.settings)
    with ExitStack() as stack:
        store = stack.enter_context(open_store(setup))
        leadership = stack.enter_context(Leadership(store, setup.settings.pool.lease_s))
        if not standby:
            leadership.acquire(say=say)
            ask_about_queue(setup, store, clock.now(), yes=yes)
        if pages:
            stack.enter_context(pages_beside(options, setup, leadership.incarnation))
        leadership.acquire(standby=standby, say=say)
        sink = Sink(ProgressCounts(None, clock.now()))
        if examples and setup.simulated:
            sink = stack.enter_context(_with_examples(setup, store, clock, once))
        elif examples:
            offer_examples(setup, store, clock.now())
        if not once:
            say(f'serving the queue; Ctrl-C ends; add tasks with: {setup.serve_command} submit "..."')
        report = work_off(
            setup, store, clock, sink, batch=None, quiet=quiet, until_done=once, leadership=leadership
        )
        code = sink.finish() if isinstance(sink, ExamplesSink) else ALL_ANSWERED
    _say_what_was_done(sink.served if isinstance(sink, ExamplesSink) else sink.progress, clock.now())
    if report.stopped == BUDGET:
        return SOME_UNANSWERED
    return ALL_ANSWERED if report.stopped else code


def _say_what_was_done(served: ProgressCounts, now: float) -> None:
    took = duration(now - served.started_at)
    answered = f"{served.answered:,} answered, {money(served.cost_nanos)}"
    say(f"served {plural(served.done, 'task')} in {took}: {answered}")


class ExamplesSink(Sink):
    """The queue's sink while the examples are on it: they get a results file, and a table when they are done.

    `tally` is that of the examples until then, and that of everything served afterwards.
    """

    def __init__(
        self, examples: Sink, served: ProgressCounts, print_table: Callable[[], None], *, told: bool
    ) -> None:
        super().__init__(examples.progress)
        self.served = served
        self._examples, self._print_table, self._told = examples, print_table, told

    def __call__(self, results: Sequence[Result]) -> None:
        self._examples(results)
        self.served.add(results)

    @property
    def lacking(self) -> str:
        return self._examples.lacking

    def look(self) -> None:
        self._examples.look()

    def tick(self, view: View) -> None:
        self.look()
        if self._examples.progress.finished and self.progress is not self.served:
            with view.aside():
                self.finish()
            self.progress = self.served

    def finish(self) -> int:
        """Print the examples' table unless it was; the exit code that they deserve."""
        if not self._told:
            self._told = True
            self._print_table()
        progress = self._examples.progress
        return ALL_ANSWERED if progress.answered == progress.total else SOME_UNANSWERED


@contextmanager
def _with_examples(setup: Setup, store: Store, clock: Clock, once: bool) -> Iterator[ExamplesSink]:
    """Put the examples on the queue. Where they are long done, their table is told again only with `once`."""
    batch = named(setup, store, examples_batch(setup), clock.now())
    with open_results(batch, simulated=setup.simulated) as results:
        reconcile(store, batch, results)
        add_examples(store, setup, batch, clock.now())
        progress = resume(store, batch, results, clock.now())

        def print_table() -> None:
            close_run(setup, store, batch, results, progress, clock.now())

        served = ProgressCounts(None, clock.now())
        sink = Sink(progress, batch.name, results, lambda: reconcile(store, batch, results))
        yield ExamplesSink(sink, served, print_table, told=progress.finished and not once)
