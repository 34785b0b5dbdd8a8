"""`run` beside a server: the server answers the tasks, and this process shows their progress."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from ..bootstrap import Setup
from ..errors import InputError, StoreError
from .progress_counts import ProgressCounts
from .runner import on_stop_signals
from .session import Session
from .views import View, make_view

if TYPE_CHECKING:
    from ..core.store import OrchestratorRow, Store

WATCH_EVERY_S = 0.5
POOL_SETTINGS = {
    "--cheapest": "routing.cost_weight",
    "--strict-params": "strict_params",
    "--concurrency": "agents.calls_in_flight",
}


def find_server(session: Session, *, stored: bool = True) -> OrchestratorRow | None:
    """The orchestrator that serves the whole queue of this state; None if there is none.

    Raises StoreError if one works on a batch of its own: it would never reach the tasks of this command,
    which are `stored` by now or not.
    """
    row = session.running_orchestrator()
    if row is None:
        return None
    if row.batch:
        consequence = (
            "the tasks are stored and wait; run the same command again when it has ended"
            if stored
            else "nothing was stored; run the same command again when it has ended"
        )
        raise StoreError(
            f"another run is active here (process {row.pid} on {row.host}): {consequence}, "
            "or use another --state-dir"
        )
    return row


def available_providers(setup: Setup, store: Store) -> Collection[str]:
    """The providers that tasks can go to: those of the server if there is one, else those of this process."""
    pool, row = store.orchestrators.latest_snapshot()
    if pool is None or row is None or row.batch or not store.leadership.leader().is_at_work(row):
        return setup.called
    return {each.name for each in pool.providers if each.state != "not_configured"}


def refuse_cap_beside_server(session: Session, option: str = "--max-cost") -> None:
    """Raises InputError if a server would answer the tasks: it does not know the cap of a run."""
    row = session.running_orchestrator()
    if row is not None and not row.batch:
        raise InputError(
            f"{option} does not apply to the running server (process {row.pid}): stop it first, "
            "use another state folder, or set [budgets] for it"
        )


def warn_about_ignored_options(session: Session, options: Mapping[str, bool]) -> None:
    """Name the options of a run that the server does not apply, and the settings that it uses instead.

    `options`: whether each one of `POOL_SETTINGS` is given.
    """
    given = [name for name, is_given in options.items() if is_given]
    if given:
        names = " and ".join(filter(None, [", ".join(given[:-1]), given[-1]]))
        session.note(
            f"{names} {'does' if len(given) == 1 else 'do'} not apply: the running server answers these "
            f"tasks with its own settings ({', '.join(POOL_SETTINGS[name] for name in given)})"
        )


def watch_server(
    session: Session, server: OrchestratorRow, batch: str, progress: ProgressCounts, *, quiet: bool
) -> None:
    """Show the batch's progress until it is done, the server has ended, or a stop signal. Cancels nothing."""
    session.note(f"a running server (process {server.pid}) answers these tasks; Ctrl-C only stops watching")
    view = make_view(session.console, quiet=quiet)
    try:
        asyncio.run(_watch(session, batch, progress, view))
    finally:
        view.close()


async def _watch(session: Session, batch: str, progress: ProgressCounts, view: View) -> None:
    store, stopped = session.store, asyncio.Event()
    with on_stop_signals(lambda _: stopped.set()):
        while not stopped.is_set() and not progress.finished:
            pool, row = await asyncio.to_thread(store.orchestrators.latest_snapshot)
            progress.take_over(await asyncio.to_thread(store.reports.summary, batch))
            progress.mark(session.now())
            if pool is not None:
                view.update(pool, progress)
            leader = await asyncio.to_thread(store.leadership.leader)
            if not leader.is_at_work(row):
                view.note("the server has ended; run the same command again to continue")
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(WATCH_EVERY_S):
                    await stopped.wait()
