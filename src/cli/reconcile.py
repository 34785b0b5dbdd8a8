"""Make a results file consistent with the store, before and after a run.

reconcile          remove outdated rows, then append missing ones
drop_stale_rows    the first half alone, after tasks were queued again
answer_duplicates  give tasks with `--dedupe` the answer that an equal task already has
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.results import ResultsFile, real_path
from ..core.store.loading import parts
from ..errors import InputError
from ..formatting import plural, shortened
from .batch import Batch

if TYPE_CHECKING:
    from ..core.store import Store

PAGE = 500  # results written at a time
Notify = Callable[[str], None]


def reconcile(store: Store, batch: Batch, results: ResultsFile, notify: Notify) -> None:
    """Make the file hold each finished task once.

    Raises InputError if the file holds answers that this state does not know: they were paid for, and
    running their tasks again would pay twice.
    """
    drop_stale_rows(store, batch, results)
    written = set(results.ids())
    missing = []
    for row, task_id in store.result_sync.ended(batch.name) if store.reports.batch(batch.name) else ():
        if task_id in written:
            written.discard(task_id)
        else:
            missing.append(row)
    if written:
        _start_over(results, written, notify)
        return reconcile(store, batch, results, notify)
    purged = 0
    for page in parts(missing, PAGE):
        found = [stored.result for stored in store.result_sync.results_at(page)]
        purged += sum(not result.task.messages for result in found)
        results.append(found)
    if purged:
        notify(f"{results.name}: {plural(purged, 'row')} without an answer: purged from the database")
    return None


def drop_stale_rows(store: Store, batch: Batch, results: ResultsFile) -> None:
    """Remove the rows of tasks that were queued again."""
    if store.reports.batch(batch.name) is None:
        return
    stale = store.result_sync.stale(batch.name)
    if stale:
        results.drop(set(stale.values()))
        store.result_sync.forget_stale(batch.name, stale)


def answer_duplicates(store: Store, batch: str, results: ResultsFile) -> None:
    """Answer tasks that equal one with an answer."""
    while ended := store.deduplication.settle(batch):
        results.append(ended)


def _start_over(results: ResultsFile, unknown: Collection[str], notify: Notify) -> None:
    """Set simulated results of another state aside. Raises InputError for real ones."""
    path = Path(results.name)
    if not results.simulated:
        raise InputError(
            f"{path}: holds {plural(len(unknown), 'result')} that this state does not know "
            f"({shortened(sorted(unknown))}); use the --state-dir it was written with, or another output"
        )
    file = real_path(path)
    aside = file.with_name(f"{file.stem}.earlier{file.suffix}")
    results.start_over(aside)
    notify(f"{path}: held simulated results of another state, which are now in {aside}")
