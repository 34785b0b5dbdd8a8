"""`run` beside a server: the rows are handed over to it, and this process follows them to their end."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING

from ..core.clock import Clock
from ..core.leadership import active_orchestrator
from ..errors import InputError, StoreError
from .progress import View, make_view, say
from .progress_counts import ProgressCounts
from .runner import listening

if TYPE_CHECKING:
    from ..bootstrap import Setup
    from ..core.store import OrchestratorRow, Store

FOLLOW_EVERY_S = 0.5


def find_server(store: Store, *, stored: bool = True) -> OrchestratorRow | None:
    """The orchestrator that serves the whole queue of this state, None where none is alive.

    Raises StoreError where one is at work on a batch of its own: it would never come to ours, which is
    `stored` by now or was not touched.
    """
    row = active_orchestrator(store)
    if row is None:
        return None
    if row.batch:
        told = (
            "the tasks are stored, and whoever serves the queue next answers them; the same command goes on "
            "and brings their rows when that run has ended"
            if stored
            else "nothing was stored: run the same command again when that has ended"
        )
        raise StoreError(
            f"another run is at work here (process {row.pid} on {row.host}); {told}, "
            "or use another --state-dir"
        )
    return row


def available_providers(setup: Setup, store: Store) -> Collection[str]:
    """The providers that tasks can go to: those of the server that will answer them, else those of here."""
    pool, row = store.orchestrators.latest_snapshot()
    if pool is None or row is None or row.batch or not store.leadership.leader().is_at_work(row):
        return setup.called
    return {each.name for each in pool.providers if each.state != "not_configured"}


def refuse_cap_beside_server(store: Store, option: str = "--max-cost") -> None:
    """Raises InputError where a server would answer the tasks: it knows no run's cap."""
    row = active_orchestrator(store)
    if row is not None and not row.batch:
        raise InputError(
            f"a server is running (process {row.pid}), and {option} does not reach it: end it first, "
            "use another state folder, or give it a budget in [budgets]"
        )


def warn_about_ignored_options(*, cheapest: bool, agent_prompts: bool, strict_params: bool) -> None:
    """One line for options of a run that a server goes without: it was started with ways of its own."""
    ways = {
        "--cheapest": ("routing.cost_weight", cheapest),
        "--agent-prompts": ("agent_prompts", agent_prompts),
        "--strict-params": ("strict_params", strict_params),
    }
    given = [name for name, (_, is_given) in ways.items() if is_given]
    if given:
        names = " and ".join(filter(None, [", ".join(given[:-1]), given[-1]]))
        say(
            f"{names} {'does' if len(given) == 1 else 'do'} not reach the server that answers these tasks: "
            f"it goes by its own configuration ({', '.join(ways[name][0] for name in given)})"
        )


def watch_server(
    store: Store, server: OrchestratorRow, clock: Clock, batch: str, progress: ProgressCounts, *, quiet: bool
) -> None:
    """Show the batch's progress until it is done, the server is gone, or Ctrl-C. Nothing is cancelled."""
    say(f"a server is running (process {server.pid}): it answers these tasks; Ctrl-C only stops watching")
    view = make_view(quiet)
    try:
        asyncio.run(_follow(store, clock, batch, progress, view))
    finally:
        view.close()


async def _follow(store: Store, clock: Clock, batch: str, progress: ProgressCounts, view: View) -> None:
    left = asyncio.Event()
    with listening(lambda _: left.set()):
        while not left.is_set() and not progress.finished:
            pool, row = await asyncio.to_thread(store.orchestrators.latest_snapshot)
            progress.take_over(await asyncio.to_thread(store.reports.summary, batch))
            progress.mark(clock.now())
            if pool is not None:
                view.update(pool, progress)
            leader = await asyncio.to_thread(store.leadership.leader)
            if not leader.is_at_work(row):
                view.note("the server has ended; the same command goes on from here")
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(FOLLOW_EVERY_S):
                    await left.wait()
