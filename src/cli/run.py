"""`run`: answer a file of tasks, from wherever an earlier run has stopped."""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.clock import Clock
from ..core.intake import AS_IT_IS, ReadOptions, changes
from ..core.plans import later_choices, substitutions
from ..core.results import ResultsFile
from ..errors import InputError, StoreError
from ..logging_setup import set_up_logging
from ..records import NANOS_PER_USD
from .batch import PLAIN, Batch, WriteOptions, finish_results, open_results, place_of
from .batch_names import named
from .config_warnings import print_config_warnings
from .confirm import Cap, confirm_run
from .exit_codes import ALL_ANSWERED, SOME_UNANSWERED
from .preflight import preflight
from .progress_counts import ProgressCounts
from .reconcile import answer_duplicates, drop_stale_rows, reconcile
from .rerun import NO_RERUN, RerunOptions, requeue, restore_purged
from .result_sink import ResultSink
from .runner import keep_cap, run_orchestrator
from .session import (
    AS_CONFIGURED,
    Options,
    PoolOptions,
    Session,
    note_start,
    prepare,
    refuse_without_key,
    session,
)
from .store_tasks import NotStored, refuse_late_limit, resume, store_tasks
from .watch_server import (
    available_providers,
    find_server,
    refuse_cap_beside_server,
    warn_about_ignored_options,
    watch_server,
)

if TYPE_CHECKING:
    from ..core.plans import Plan
    from ..routing.cost.budgets import BudgetRule

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The options of `run`. `output`: None is the source's name with the ending .results.jsonl."""

    source: str
    output: str | None = None
    reading: ReadOptions = AS_IT_IS
    rejects: Path | None = None
    writing: WriteOptions = PLAIN
    quiet: bool = False
    as_json: bool = False
    max_cost: float | None = None  # USD, for the results file, all runs together
    yes: bool = False
    pool: PoolOptions = AS_CONFIGURED
    rerun: RerunOptions = NO_RERUN


def run(options: Options, how: RunOptions) -> int:
    """Run a file of tasks and return the exit code. Raises OrchestratorError."""
    console = options.console
    console.as_json = how.as_json
    setup = prepare(options)
    refuse_without_key(setup, how.reading)
    setup = how.pool.apply(setup)
    set_up_logging(options.level(how.quiet), setup.log_folder, as_json=how.as_json, simulated=setup.simulated)
    clock = Clock()
    batch = Batch.of(
        how.source,
        how.output,
        how.reading,
        clock.now(),
        rejects=how.rejects,
        writing=how.writing,
    )
    with ExitStack() as stack:
        results = stack.enter_context(open_results(batch, console.note, simulated=setup.simulated))
        opened = stack.enter_context(session(setup, console, clock))
        batch = named(opened, batch).as_begun(opened.store)
        batch = batch.with_providers(available_providers(setup, opened.store))
        return _Run(opened, batch, results, how).do()


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of a batch whose store and results file are open."""

    session: Session
    batch: Batch
    results: ResultsFile
    options: RunOptions

    def do(self) -> int:
        """Answer the batch, print the summary, and return the exit code."""
        session, how = self.session, self.options
        note_start(session.setup, how.reading, session.console)
        print_config_warnings(session.console, session.setup.settings)
        self._check_cap()
        plan, not_stored = self._take_in()
        progress = resume(session, self.batch, self.results)
        progress.plan, progress.rejected = plan, not_stored.rejected
        progress.defers = how.reading.defaults.deadline is not None
        if how.max_cost is not None and not session.setup.simulated:
            progress.cap_nanos = Cap.of(session, self.batch.name, how.max_cost).left_nanos
        has_ended = progress.finished
        log.info("run begins", extra=_log_fields("run_begins", self.batch, progress))
        spent = None if has_ended and not self._has_batches_left() else self._answer(progress)
        self._finish_results(progress)
        log.info("run ends", extra=_log_fields("run_ends", self.batch, progress))
        close_run(session, self.batch, self.results, progress, spent, quiet=how.quiet or has_ended)
        answered = progress.answered == progress.total and not any(not_stored)
        return ALL_ANSWERED if answered else SOME_UNANSWERED

    def _check_cap(self) -> None:
        """Raises InputError if --max-cost would not apply."""
        if self.options.max_cost is None:
            return
        if self.session.setup.simulated:
            self.session.note("simulated: nothing is spent, so --max-cost has no effect")
        else:
            refuse_cap_beside_server(self.session)

    def _take_in(self) -> tuple[Plan | None, NotStored]:
        """Bring file and store together and store new tasks. Returns the plan, if one was made."""
        session, batch, how = self.session, self.batch, self.options
        refuse_late_limit(session, batch)
        self._reconcile()
        has_new_options = self._check_options()
        found = preflight(session, batch, how.rerun, quiet=how.quiet)
        if found is not None and not (how.rerun.rerun_changed or has_new_options):
            found.refuse_changed(session)
        if found is None or found.sample.count:
            find_server(session, stored=False)
        plan, not_stored = None, NotStored()
        if found is not None and not session.setup.simulated:
            cap = None if how.max_cost is None else Cap.of(session, batch.name, how.max_cost)
            defers = how.reading.defaults.deadline is not None
            plan = confirm_run(session, found, yes=how.yes, cap=cap, quiet=how.quiet, defers=defers)
        restore_purged(session, batch, how.rerun)
        requeue(session, batch.name, how.rerun)
        if found is None or has_new_options or not found.leaves_nothing_to_store(how.rerun):
            not_stored = store_tasks(
                session, batch, rerun=how.rerun, has_new_options=has_new_options, quiet=how.quiet
            )
        drop_stale_rows(session.store, batch, self.results)
        answer_duplicates(session.store, batch.name, self.results)
        return plan, not_stored

    def _check_options(self) -> bool:
        """Whether options differ from those of the last run, which is said.

        Raises InputError where the file itself was edited, which has to be seen apart from the options.
        """
        session, how = self.session, self.options
        before = self.batch.earlier(session.store)
        if before is None:
            return False
        if not how.rerun.rerun_changed:
            unedited = preflight(session, before, how.rerun, quiet=True)
            if unedited is not None:
                unedited.refuse_changed(session)
        session.note(
            f"options changed since the last run: {', '.join(changes(before.reading, self.batch.reading))}"
        )
        return True

    def _answer(self, progress: ProgressCounts) -> BudgetRule | None:
        """Answer the batch here, or have a running server do it. Returns the budget that stopped it."""
        from ..core.orchestrator import OrchestratorOptions

        session, how, name = self.session, self.options, self.batch.name
        if server := find_server(session):
            if how.max_cost is not None and not session.setup.simulated:  # it began during the reading
                refuse_cap_beside_server(session)
            warn_about_ignored_options(
                session,
                {
                    "--cheapest": how.pool.cheapest,
                    "--strict-params": how.pool.strict_params,
                    "--concurrency": how.pool.concurrency is not None,
                    "--workers": how.pool.workers is not None,
                },
            )
            watch_server(session, server, name, progress, quiet=how.quiet)
            self._reconcile()
            return None
        is_held = self.results.path is None and self.batch.order is not None
        report = run_orchestrator(
            session,
            ResultSink(progress, session.note, name, None if is_held else self.results, self._reconcile),
            OrchestratorOptions(
                batch=name,
                batch_caps_usd=keep_cap(session, name, how.max_cost),
            ),
            quiet=how.quiet,
        )
        # Rows may have been cancelled, or queued again, on the pages meanwhile.
        counted = progress.statuses.copy()
        progress.recount(session.store.reports.task_counts(name))
        if is_held or +counted != +progress.statuses or session.store.result_sync.stale(name):
            self._reconcile()
        return report.spent

    def _has_batches_left(self) -> bool:
        """Whether batches at providers were left open by a run that has ended, and no server closes them."""
        if not self.session.store.provider_batch_lists.extras(self.batch.name).open:
            return False
        return self.session.running_orchestrator() is None

    def _finish_results(self, progress: ProgressCounts) -> None:
        """Put the rows of a finished file into their order and form."""
        batch = self.batch
        if not progress.finished:
            return
        if batch.order and batch.reading.is_partial and batch.order.count < (progress.total or 0):
            batch = replace(batch, order=None)  # the order of the other rows is not known
        try:
            finish_results(batch, self.results)
        except (StoreError, InputError) as error:
            self.session.note(f"{error}: no result is missing, but their order or form is not the final one")

    def _reconcile(self) -> None:
        reconcile(self.session.store, self.batch, self.results, self.session.note)


def _log_fields(action: str, batch: Batch, progress: ProgressCounts) -> dict[str, Any]:
    return {
        "action": action,
        "batch": batch.name,
        "done": progress.done,
        "of": progress.total,
        "answered": progress.answered,
        "cost_usd": progress.cost_nanos / NANOS_PER_USD,
    }


def close_run(
    session: Session,
    batch: Batch,
    results: ResultsFile,
    progress: ProgressCounts,
    spent: BudgetRule | None = None,
    *,
    quiet: bool = False,
) -> None:
    """Print tables (unless `quiet`), totals, and where the results are. `spent`: the budget that ended it."""
    from .summary import Totals, how_to_continue, print_summary, print_summary_json

    settings = session.setup.settings
    homes = {agent.home for agent in settings.agents}
    totals = Totals(
        session.store.reports.summary(batch.name),
        progress,
        baseline_model=settings.baseline_model,
        elapsed_s=session.now() - progress.started_at,
        simulated=session.setup.simulated,
        substitutions=substitutions(progress.named, settings) + later_choices(progress.of_orders, settings),
        agents_are_home=homes <= session.setup.called,
        batches=session.store.provider_batch_lists.extras(batch.name),
    )
    place = place_of(batch, results)
    on_stderr = place is None
    if session.console.as_json:
        print_summary_json(totals, place, stderr=on_stderr)
        return
    print_summary(totals, quiet=quiet, stderr=on_stderr)
    if place is not None:
        rest = "" if progress.finished else f" (incomplete: {how_to_continue(totals.summary, spent)})"
        sys.stdout.write(f"results: {place}{rest}\n")
        sys.stdout.flush()
