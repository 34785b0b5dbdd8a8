"""`run`: a file of tasks to its end, from wherever an earlier run has stopped."""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.clock import Clock
from ..core.results import ResultsFile
from ..records import NANOS_PER_USD
from .again import Wishes, ask_again
from .batch import Batch, check_limit, open_results, resume, take_in
from .confirm import ask_first
from .follow import follow, refuse_cap_beside_server, say_what_a_server_ignores, server_of
from .logs import set_up_logging
from .mending import drop_outdated, mend, settle
from .progress import say, voice
from .runner import Sink, work_off
from .setup import Options, Setup, open_store, prepare
from .survey import survey
from .tally import Tally

if TYPE_CHECKING:
    from ..core.intake import ReadOptions
    from ..core.store import Store

log = logging.getLogger(__name__)
ALL_ANSWERED, SOME_NOT = 0, 1
CHEAPEST = 25.0  # a provider at twice the price has a 26th of its score


def run(
    options: Options,
    source: str,
    output: str | None,
    *,
    reading: ReadOptions,
    rejects: Path | None = None,
    quiet: bool = False,
    agent_prompts: bool = False,
    max_cost: float | None = None,
    yes: bool = False,
    cheapest: bool = False,
    as_json: bool = False,
    rerun_changed: bool = False,
    retry: str | None = None,
    dedupe: bool = False,
) -> int:
    """Run a file of tasks; the exit code. Raises OrchestratorError where input or configuration is wrong."""
    voice.as_json = as_json
    setup = prepare(options)
    setup.refuse_without_key(reading.pins)
    wishes = Wishes.of(retry=retry, rerun_changed=rerun_changed, dedupe=dedupe)
    if cheapest:
        setup = setup.with_cost_weight(CHEAPEST)
    level, folder = "error" if quiet else options.log_level, setup.settings.state_dir / "logs"
    set_up_logging(level, folder, as_json=as_json)
    clock = Clock()
    batch = Batch.of(source, output, reading, clock.now(), rejects)
    with ExitStack() as stack:
        results = stack.enter_context(open_results(batch, simulated=setup.simulated))
        store = stack.enter_context(open_store(setup))
        say(setup.headline())
        if max_cost is not None and setup.simulated:
            say("simulated: nothing is spent, so --max-cost ends nothing")
        elif max_cost is not None:
            refuse_cap_beside_server(store, clock.now())
        check_limit(store, batch)
        mend(store, batch, results)
        found = survey(setup, store, batch, clock.now(), wishes, quiet=quiet)
        if found is not None and not wishes.rerun_changed:
            found.refuse_changed()
        plan = None
        if found is not None and not setup.simulated:
            plan = ask_first(setup, store, found, clock.now(), yes=yes, max_cost=max_cost, quiet=quiet)
        bad = 0
        if found is None or not found.leaves_nothing_to_store(wishes):
            bad = take_in(store, setup.settings, batch, clock.now(), wishes=wishes, quiet=quiet)
        ask_again(store, batch.name, wishes, clock.now())
        drop_outdated(store, batch, results)
        settle(store, batch.name, results)
        tally = resume(store, batch, results, clock.now())
        tally.plan = plan
        log.info("run begins", extra=_fields("run_begins", batch, tally))
        if not tally.finished:
            _answer(setup, store, clock, batch, results, tally, quiet, agent_prompts, max_cost, cheapest)
        log.info("run ends", extra=_fields("run_ends", batch, tally))
        close_run(setup, store, batch, results, tally, clock.now())
    return ALL_ANSWERED if tally.answered == tally.total and not bad else SOME_NOT


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
    quiet: bool,
    agent_prompts: bool,
    max_cost: float | None,
    cheapest: bool,
) -> None:
    """Work the batch off here, or have the server do it that runs already."""
    if server := server_of(store, clock.now()):
        if max_cost is not None and not setup.simulated:
            refuse_cap_beside_server(store, clock.now())
        say_what_a_server_ignores(cheapest=cheapest, agent_prompts=agent_prompts)
        follow(store, server, clock, batch.name, tally, quiet=quiet)
        mend(store, batch, results)
        return
    sink = Sink(tally, batch.name, results)
    work_off(
        setup,
        store,
        clock,
        sink,
        batch=batch.name,
        quiet=quiet,
        agent_prompts=agent_prompts,
        max_cost_usd=max_cost,
    )
    if store.outdated(batch.name):  # somebody asked again, on the pages, what had been written
        mend(store, batch, results)


def close_run(
    setup: Setup, store: Store, batch: Batch, results: ResultsFile, tally: Tally, now: float
) -> None:
    """Print the tables, the totals, and where the results are."""
    from .summary import print_summary, print_summary_json

    told: dict[str, Any] = {
        "tally": tally,
        "baseline_model": setup.settings.baseline_model,
        "elapsed_s": now - tally.started_at,
        "simulated": setup.simulated,
        "stderr": results.path is None,
    }
    if voice.as_json:
        print_summary_json(store.summary(batch.name), results=results.path, **told)
        return
    print_summary(store.summary(batch.name), **told)
    if results.path is not None:
        rest = "" if tally.finished else " (not complete: the same command goes on from here)"
        sys.stdout.write(f"results: {results.path}{rest}\n")
        sys.stdout.flush()
