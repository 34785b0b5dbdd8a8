"""A results file and the store, the truth: before and after a run they are brought together.

mend           rows that are true no more go, rows that are missing come
drop_outdated  the first half alone, after tasks were asked again
settle         tasks whose answer is there already get it
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.results import ResultsFile
from ..core.store.loading import parts
from ..errors import InputError
from .batch import Batch
from .progress import say

if TYPE_CHECKING:
    from ..core.store import Store

PAGE = 500  # results written at a time


def reconcile(store: Store, batch: Batch, results: ResultsFile) -> None:
    """Bring the file up to what is stored: each task that has ended stands in it once.

    Raises InputError where it holds answers that this state knows nothing of: they were paid for, and
    whoever asks these tasks again should know it.
    """
    drop_stale_rows(store, batch, results)
    there = set(results.ids())
    missing = []
    for row, task_id in store.result_sync.ended(batch.name) if store.reports.batch(batch.name) else ():
        if task_id in there:
            there.discard(task_id)
        else:
            missing.append(row)
    if there:
        _start_over(results, there)
        return reconcile(store, batch, results)
    for page in parts(missing, PAGE):
        results.append(stored.result for stored in store.result_sync.results_at(page))
    return None


def drop_stale_rows(store: Store, batch: Batch, results: ResultsFile) -> None:
    """Take out the rows of tasks that were asked again."""
    if store.reports.batch(batch.name) is None:
        return
    outdated = store.result_sync.stale(batch.name)
    if outdated:
        results.drop(set(outdated.values()))
        store.result_sync.forget_stale(batch.name, outdated)


def answer_duplicates(store: Store, batch: str, results: ResultsFile) -> None:
    """Answer tasks that came in equal to one that was answered long ago."""
    while ended := store.deduplication.settle(batch):
        results.append(ended)


def _start_over(results: ResultsFile, unknown: Collection[str]) -> None:
    """Of simulated answers nobody needs to know where they came from."""
    path = Path(results.name)
    if not results.simulated:
        number = "1 result" if len(unknown) == 1 else f"{len(unknown):,} results"
        raise InputError(
            f"{path}: holds {number} that this state does not know ({', '.join(sorted(unknown)[:3])}); "
            "name the --state-dir it was written with, or choose another output"
        )
    aside = path.with_name(f"{path.stem}.earlier{path.suffix}")
    results.start_over(aside)
    say(f"{path}: held simulated results of another state, which are now in {aside}")
