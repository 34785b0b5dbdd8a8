"""Serve the queue until Ctrl-C; on a first start with the examples in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from ..bootstrap import Setup
from ..config import chosen_port
from ..formatting import duration, money, plural
from ..logging_setup import set_up_logging
from ..records import Result
from ..reloading import Reloader
from .batch import open_results
from .batch_names import named
from .config_warnings import print_config_warnings
from .confirm import confirm_queue
from .examples import add_examples, examples_batch, offer_examples
from .exit_codes import ALL_ANSWERED, SOME_UNANSWERED
from .gateway import daily_limit, served_gateway
from .key_reload import KeyReload
from .pages_process import pages_process
from .progress_counts import ProgressCounts
from .reconcile import reconcile
from .result_sink import ResultSink
from .run import close_run
from .runner import BUDGET, Beside, ServerParts, all_caps, run_orchestrator
from .session import Options, Session, headline, prepare, session
from .store_tasks import resume
from .views import View


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """How to serve. `once`: end when no task is unfinished. `yes`: don't ask about queued tasks.

    `standby`: serve the pages first, and the queue, without asking, when no other orchestrator leads.
    `workers` and `gateway_port` replace settings. With `once` there is no gateway, since the server ends by
    itself.
    """

    quiet: bool = False
    examples: bool = False
    once: bool = False
    pages: bool = False
    yes: bool = False
    standby: bool = False
    gateway_port: int | None = None
    no_gateway: bool = False
    log_format: str | None = None
    workers: str | None = None

    @property
    def has_gateway(self) -> bool:
        """Whether the gateway is served."""
        return not (self.no_gateway or self.once)

    def apply(self, setup: Setup) -> Setup:
        """The setup with these settings."""
        setup = setup.with_workers(self.workers)
        if self.gateway_port is None:
            return setup
        changed = setup.settings.gateway.model_copy(update={"port": self.gateway_port})
        return setup.with_settings(gateway=changed)


def serve(options: Options, how: ServeOptions) -> int:
    """Serve the queue and return the exit code, 0 also after Ctrl-C. Raises OrchestratorError."""
    from ..core.orchestrator import OrchestratorOptions

    console = options.console
    console.as_log = how.log_format == "json"
    setup = how.apply(prepare(options))
    console.as_log = (how.log_format or setup.settings.log_format) == "json"
    if how.pages:
        chosen_port(setup.environ)  # a wrong PORT is refused before anything starts
    set_up_logging(
        options.level(how.quiet),
        setup.log_folder,
        as_json=console.as_log,
        on_stdout=console.as_log,
        simulated=setup.simulated,
    )
    console.note(headline(setup))
    print_config_warnings(console, setup.settings)
    reloader, keys = Reloader(), KeyReload(setup)
    with ExitStack() as stack:
        stack.enter_context(reloader.handling())
        stack.enter_context(reloader.step(keys))
        opened = stack.enter_context(session(setup, console))
        leadership = stack.enter_context(opened.leadership())
        if not how.standby:
            leadership.acquire(say=console.note)
            confirm_queue(opened, yes=how.yes)
        if how.pages:
            pages = stack.enter_context(pages_process(options, setup, leadership.incarnation))
            stack.enter_context(reloader.step(pages.reload))
        gateway = stack.enter_context(
            served_gateway(opened, leadership, reloader, wanted=how.has_gateway, standby=how.standby)
        )
        sink = stack.enter_context(_sink(opened, how))
        if not how.once:
            command = f'{setup.serve_command} submit "..."'
            console.note(f"serving the queue; Ctrl-C stops; add tasks with: {command}")
        job = OrchestratorOptions(
            batch_caps_usd=all_caps(opened),
            gateway_daily_usd=None if gateway is None else daily_limit(opened),
            leadership=leadership,
        )
        beside: list[Beside] = [keys.applied_to] if gateway is None else [keys.applied_to, gateway.serving]
        report = run_orchestrator(
            opened,
            sink,
            job,
            quiet=how.quiet,
            until_done=how.once,
            server=ServerParts(beside, reloader.hang_up),
        )
        code = sink.finish()
        _print_served(opened, sink.served)
    if report.stopped == BUDGET:
        return SOME_UNANSWERED
    return ALL_ANSWERED if report.stopped else code


def _print_served(session: Session, served: ProgressCounts) -> None:
    took = duration(session.now() - served.started_at)
    answered = f"{served.answered:,} answered, {money(served.cost_nanos)}"
    session.note(f"served {plural(served.done, 'task')} in {took}: {answered}")


@contextmanager
def _sink(session: Session, how: ServeOptions) -> Iterator[QueueSink]:
    if how.examples and session.setup.simulated:
        with _examples_sink(session, once=how.once) as sink:
            yield sink
        return
    if how.examples:
        offer_examples(session)
    yield QueueSink(ProgressCounts(None, session.now()), session.note)


class QueueSink(ResultSink):
    """The sink of a server."""

    @property
    def served(self) -> ProgressCounts:
        """The counts of everything that was served."""
        return self.progress

    def finish(self) -> int:
        """Returns the exit code of a server that ends by itself."""
        return ALL_ANSWERED


class ExamplesSink(QueueSink):
    """The sink while the examples are queued: they get a results file, and a table when they are done.

    `progress` counts the examples until then, and everything served afterwards.
    """

    def __init__(
        self,
        examples: ResultSink,
        served: ProgressCounts,
        notify: Callable[[str], None],
        print_table: Callable[[], None],
        *,
        printed: bool,
    ) -> None:
        super().__init__(examples.progress, notify)
        self._served = served
        self._examples, self._print_table, self._printed = examples, print_table, printed

    @property
    def served(self) -> ProgressCounts:
        return self._served

    def __call__(self, results: Sequence[Result]) -> None:
        self._examples(results)
        self._served.add(results)

    @property
    def error(self) -> str:
        return self._examples.error

    def check(self) -> None:
        self._examples.check()

    def tick(self, view: View) -> None:
        self.check()
        if self._examples.progress.finished and self.progress is not self._served:
            with view.suspended():
                self.finish()
            self.progress = self._served

    def finish(self) -> int:
        """Print the examples' table once; returns their exit code."""
        if not self._printed:
            self._printed = True
            self._print_table()
        progress = self._examples.progress
        return ALL_ANSWERED if progress.answered == progress.total else SOME_UNANSWERED


@contextmanager
def _examples_sink(session: Session, *, once: bool) -> Iterator[ExamplesSink]:
    """Queue the examples. If they were done before, their table is printed again only with `once`."""
    batch = named(session, examples_batch(session.setup))
    with open_results(batch, session.note, simulated=session.setup.simulated) as results:
        reconcile(session.store, batch, results, session.note)
        add_examples(session, batch)
        progress = resume(session, batch, results)
        sink = ResultSink(
            progress,
            session.note,
            batch.name,
            results,
            lambda: reconcile(session.store, batch, results, session.note),
        )
        yield ExamplesSink(
            sink,
            ProgressCounts(None, session.now()),
            session.note,
            lambda: close_run(session, batch, results, progress),
            printed=(progress.finished and not once) or session.console.as_log,
        )
