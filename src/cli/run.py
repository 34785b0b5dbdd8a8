"""`run`: a file of tasks to its end, from wherever an earlier run has stopped."""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.clock import Clock
from ..core.planning import substitutions
from ..core.results import ResultsFile
from ..records import NANOS_PER_USD
from .again import Wishes, ask_again
from .batch import Batch, check_limit, open_results, resume, take_in
from .confirm import ask_first
from .doubts import say_doubts
from .exits import ALL_ANSWERED, SOME_NOT
from .follow import follow, refuse_cap_beside_server, say_what_a_server_ignores, server_of, who_is_called
from .logs import set_up_logging
from .mending import drop_outdated, mend, settle
from .names import named
from .progress import say, voice
from .runner import Sink, work_off
from .setup import Options, Setup, open_store, prepare
from .survey import survey
from .tally import Tally

if TYPE_CHECKING:
    from ..core.intake import ReadOptions
    from ..core.planning import Plan
    from ..core.store import Store
    from ..routing.budgets import BudgetRule

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
    setup.refuse_without_key(reading.pins)
    wishes = Wishes.of(retry=retry, rerun_changed=rerun_changed, dedupe=dedupe)
    ways = _Ways(quiet, agent_prompts, max_cost, yes, cheapest, strict_params)
    if cheapest:
        setup = setup.with_cost_weight(CHEAPEST)
    if strict_params:
        setup = setup.with_strict_params()
    level, folder = options.level(quiet), setup.settings.state_dir / "logs"
    set_up_logging(level, folder, as_json=as_json, simulated=setup.simulated)
    clock = Clock()
    batch = Batch.of(source, output, reading, clock.now(), rejects, excel_safe=excel_safe)
    with ExitStack() as stack:
        results = stack.enter_context(open_results(batch, simulated=setup.simulated))
        store = stack.enter_context(open_store(setup))
        batch = named(setup, store, batch, clock.now()).as_begun(store)
        batch = batch.asking(who_is_called(setup, store))
        say(setup.headline())
        say_doubts(setup.settings)
        ways.say_where_they_lead(setup, store)
        plan, bad = _hand_in(setup, store, clock, batch, results, wishes, ways)
        tally = resume(store, batch, results, clock.now())
        tally.plan = plan
        log.info("run begins", extra=_fields("run_begins", batch, tally))
        spent = None
        if not tally.finished:
            spent = _answer(setup, store, clock, batch, results, tally, ways)
        log.info("run ends", extra=_fields("run_ends", batch, tally))
        close_run(setup, store, batch, results, tally, clock.now(), spent, quiet=quiet)
    return ALL_ANSWERED if tally.answered == tally.total and not bad else SOME_NOT


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
    wishes: Wishes,
    ways: _Ways,
) -> tuple[Plan | None, int]:
    """Bring file and store together and hand in what is new: the plan, if one was made, and bad lines."""
    check_limit(store, batch)
    mend(store, batch, results)
    found = survey(setup, store, batch, clock.now(), wishes, quiet=ways.quiet)
    if found is not None and not wishes.rerun_changed:
        found.refuse_changed()
    if found is None or found.sample.count:
        server_of(store, stored=False)
    plan, bad = None, 0
    if found is not None and not setup.simulated:
        asking = (setup, store, found, clock.now())
        plan = ask_first(*asking, yes=ways.yes, max_cost=ways.max_cost, quiet=ways.quiet)
    if found is None or not found.leaves_nothing_to_store(wishes):
        bad = take_in(store, setup.settings, batch, clock.now(), wishes=wishes, quiet=ways.quiet)
    ask_again(store, batch.name, wishes, clock.now())
    drop_outdated(store, batch, results)
    settle(store, batch.name, results)
    return plan, bad


def _fields(action: str, batch: Batch, tally: Tally) -> dict[str, Any]:
    return {
        "action": action,
        "batch": batch.name,
        "done": tally.done,
        "of": tally.total,
        "answered": tally.answered,
        "cost_usd": tally.cost_nanos / NANOS_PER_USD,
    }


def _answer(
    setup: Setup,
    store: Store,
    clock: Clock,
    batch: Batch,
    results: ResultsFile,
    tally: Tally,
    ways: _Ways,
) -> BudgetRule | None:
    """Work the batch off here, or have the server do it that runs already. Which budget has ended it."""
    if server := server_of(store):
        if ways.max_cost is not None and not setup.simulated:  # it began while the file was read
            refuse_cap_beside_server(store)
        say_what_a_server_ignores(
            cheapest=ways.cheapest, agent_prompts=ways.agent_prompts, strict_params=ways.strict_params
        )
        follow(store, server, clock, batch.name, tally, quiet=ways.quiet)
        mend(store, batch, results)
        return None
    sink = Sink(tally, batch.name, results, lambda: mend(store, batch, results))
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
    if store.outdated(batch.name):  # somebody asked again, on the pages, what had been written
        mend(store, batch, results)
    return report.spent


def close_run(
    setup: Setup,
    store: Store,
    batch: Batch,
    results: ResultsFile,
    tally: Tally,
    now: float,
    spent: BudgetRule | None = None,
    *,
    quiet: bool = False,
) -> None:
    """Print tables (unless `quiet`), totals, where the results are; `spent` is the budget that ended it."""
    from .summary import print_summary, print_summary_json, what_goes_on

    renamed = substitutions(tally.named, setup.settings)
    told: dict[str, Any] = {
        "tally": tally,
        "substitutions": renamed,
        "baseline_model": setup.settings.baseline_model,
        "elapsed_s": now - tally.started_at,
        "simulated": setup.simulated,
        "stderr": results.path is None,
    }
    summary = store.summary(batch.name)
    if voice.as_json:
        print_summary_json(summary, results=results.path, **told)
        return
    print_summary(summary, quiet=quiet, **told)
    if results.path is not None:
        rest = "" if tally.finished else f" (not complete: {what_goes_on(summary, spent)})"
        sys.stdout.write(f"results: {results.path}{rest}\n")
        sys.stdout.flush()
