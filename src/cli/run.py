"""`run`: a file of tasks to its end, from wherever an earlier run has stopped."""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bootstrap import Setup, open_store
from ..core.clock import Clock
from ..core.plans import substitutions
from ..core.results import ResultsFile
from ..logging_setup import set_up_logging
from ..records import NANOS_PER_USD
from .batch import Batch, check_limit, open_results, resume, take_in
from .config_warnings import print_config_warnings
from .confirm import ask_first
from .exit_codes import ALL_ANSWERED, SOME_UNANSWERED
from .names import named
from .preflight import preflight
from .progress import say, voice
from .progress_counts import ProgressCounts
from .reconcile import answer_duplicates, drop_stale_rows, reconcile
from .rerun import RerunOptions, requeue
from .runner import Sink, work_off
from .setup import Options, headline, prepare, refuse_without_key
from .watch_server import (
    available_providers,
    find_server,
    refuse_cap_beside_server,
    warn_about_ignored_options,
    watch_server,
)

if TYPE_CHECKING:
    from ..core.intake import ReadOptions
    from ..core.plans import Plan
    from ..core.store import Store
    from ..routing.cost.budgets import BudgetRule

log = logging.getLogger(__name__)
CHEAPEST = 25.0  # a provider at twice the price has a 26th of its score


def run(
    options: Options,
    source: str,
    output: str | None,
    *,
    reading: ReadOptions,
    rejects: Path | None = None,
    excel_safe: bool = False,
    quiet: bool = False,
    agent_prompts: bool = False,
    max_cost: float | None = None,
    yes: bool = False,
    cheapest: bool = False,
    strict_params: bool = False,
    as_json: bool = False,
    rerun_changed: bool = False,
    retry: str | None = None,
    dedupe: bool = False,
) -> int:
    """Run a file of tasks; the exit code. Raises OrchestratorError where input or configuration is wrong."""
    voice.as_json = as_json
    setup = prepare(options)
    voice.simulated = setup.simulated
    refuse_without_key(setup, reading.pins)
    rerun = RerunOptions.of(retry=retry, rerun_changed=rerun_changed, dedupe=dedupe)
    ways = _Ways(quiet, agent_prompts, max_cost, yes, cheapest, strict_params)
    if cheapest:
        setup = setup.with_routing(cost_weight=CHEAPEST)
    if strict_params:
        setup = setup.with_settings(strict_params=True)
    level, folder = options.level(quiet), setup.log_folder
    set_up_logging(level, folder, as_json=as_json, simulated=setup.simulated)
    clock = Clock()
    batch = Batch.of(source, output, reading, clock.now(), rejects, excel_safe=excel_safe)
    with ExitStack() as stack:
        results = stack.enter_context(open_results(batch, simulated=setup.simulated))
        store = stack.enter_context(open_store(setup))
        batch = named(setup, store, batch, clock.now()).as_begun(store)
        batch = batch.asking(available_providers(setup, store))
        say(headline(setup))
        print_config_warnings(setup.settings)
        ways.say_where_they_lead(setup, store)
        plan, bad = _hand_in(setup, store, clock, batch, results, rerun, ways)
        progress = resume(store, batch, results, clock.now())
        progress.plan = plan
        log.info("run begins", extra=_fields("run_begins", batch, progress))
        spent = None
        if not progress.finished:
            spent = _answer(setup, store, clock, batch, results, progress, ways)
        log.info("run ends", extra=_fields("run_ends", batch, progress))
        close_run(setup, store, batch, results, progress, clock.now(), spent, quiet=quiet)
    return ALL_ANSWERED if progress.answered == progress.total and not bad else SOME_UNANSWERED


@dataclass(frozen=True, slots=True)
class _Ways:
    """How a run goes about its tasks, as it was told."""

    quiet: bool
    agent_prompts: bool
    max_cost: float | None
    yes: bool
    cheapest: bool
    strict_params: bool

    def say_where_they_lead(self, setup: Setup, store: Store) -> None:
        """Raises InputError where --max-cost would not be kept."""
        if self.max_cost is None:
            return
        if setup.simulated:
            say("simulated: nothing is spent, so --max-cost ends nothing")
        else:
            refuse_cap_beside_server(store)


def _hand_in(
    setup: Setup,
    store: Store,
    clock: Clock,
    batch: Batch,
    results: ResultsFile,
    rerun: RerunOptions,
    ways: _Ways,
) -> tuple[Plan | None, int]:
    """Bring file and store together and hand in what is new: the plan, if one was made, and bad lines."""
    check_limit(store, batch)
    reconcile(store, batch, results)
    found = preflight(setup, store, batch, clock.now(), rerun, quiet=ways.quiet)
    if found is not None and not rerun.rerun_changed:
        found.refuse_changed()
    if found is None or found.sample.count:
        find_server(store, stored=False)
    plan, bad = None, 0
    if found is not None and not setup.simulated:
        asking = (setup, store, found, clock.now())
        plan = ask_first(*asking, yes=ways.yes, max_cost=ways.max_cost, quiet=ways.quiet)
    if found is None or not found.leaves_nothing_to_store(rerun):
        bad = take_in(store, setup.settings, batch, clock.now(), rerun=rerun, quiet=ways.quiet)
    requeue(store, batch.name, rerun, clock.now())
    drop_stale_rows(store, batch, results)
    answer_duplicates(store, batch.name, results)
    return plan, bad


def _fields(action: str, batch: Batch, progress: ProgressCounts) -> dict[str, Any]:
    return {
        "action": action,
        "batch": batch.name,
        "done": progress.done,
        "of": progress.total,
        "answered": progress.answered,
        "cost_usd": progress.cost_nanos / NANOS_PER_USD,
    }


def _answer(
    setup: Setup,
    store: Store,
    clock: Clock,
    batch: Batch,
    results: ResultsFile,
    progress: ProgressCounts,
    ways: _Ways,
) -> BudgetRule | None:
    """Work the batch off here, or have the server do it that runs already. Which budget has ended it."""
    if server := find_server(store):
        if ways.max_cost is not None and not setup.simulated:  # it began while the file was read
            refuse_cap_beside_server(store)
        warn_about_ignored_options(
            cheapest=ways.cheapest, agent_prompts=ways.agent_prompts, strict_params=ways.strict_params
        )
        watch_server(store, server, clock, batch.name, progress, quiet=ways.quiet)
        reconcile(store, batch, results)
        return None
    sink = Sink(progress, batch.name, results, lambda: reconcile(store, batch, results))
    report = work_off(
        setup,
        store,
        clock,
        sink,
        batch=batch.name,
        quiet=ways.quiet,
        agent_prompts=ways.agent_prompts,
        max_cost_usd=ways.max_cost,
    )
    if store.result_sync.stale(batch.name):  # somebody asked again, on the pages, what had been written
        reconcile(store, batch, results)
    return report.spent


def close_run(
    setup: Setup,
    store: Store,
    batch: Batch,
    results: ResultsFile,
    progress: ProgressCounts,
    now: float,
    spent: BudgetRule | None = None,
    *,
    quiet: bool = False,
) -> None:
    """Print tables (unless `quiet`), totals, where the results are; `spent` is the budget that ended it."""
    from .summary import print_summary, print_summary_json, what_goes_on

    renamed = substitutions(progress.named, setup.settings)
    told: dict[str, Any] = {
        "progress": progress,
        "substitutions": renamed,
        "baseline_model": setup.settings.baseline_model,
        "elapsed_s": now - progress.started_at,
        "simulated": setup.simulated,
        "stderr": results.path is None,
    }
    summary = store.reports.summary(batch.name)
    if voice.as_json:
        print_summary_json(summary, results=results.path, **told)
        return
    print_summary(summary, quiet=quiet, **told)
    if results.path is not None:
        rest = "" if progress.finished else f" (not complete: {what_goes_on(summary, spent)})"
        sys.stdout.write(f"results: {results.path}{rest}\n")
        sys.stdout.flush()
