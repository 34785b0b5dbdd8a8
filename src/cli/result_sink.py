"""Where finished tasks go: the progress counts and, for one batch, its results file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ..core.results import ResultsFile
from ..errors import InputError, StoreError
from ..records import Result
from .progress_counts import ProgressCounts
from .views import View

CHECK_EVERY_S = 1.0  # the results file
MAX_WAITING = 1_000  # rows in memory; beyond that they are read from the store again


class ResultSink:
    """Counts results and, with a `results` file, writes the rows of `batch` to it.

    Every result is stored before it comes here. A file that can't be written therefore ends nothing: rows
    wait until it can. `complete` writes every row that the file lacks, from the store; this also recreates a
    file that was deleted or replaced.
    """

    def __init__(
        self,
        progress: ProgressCounts,
        notify: Callable[[str], None],
        batch: str | None = None,
        results: ResultsFile | None = None,
        complete: Callable[[], None] | None = None,
    ) -> None:
        self.progress = progress
        self._notify = notify
        self._batch, self._results, self._complete = batch, results, complete
        self._error: str = ""
        self._waiting: list[Result] = []
        self._is_incomplete = False  # beyond the rows that wait in memory
        self._next_check_s = 0.0  # monotonic

    @property
    def error(self) -> str:
        """Why the results file lacks stored rows; empty if it lacks none."""
        return self._error

    @property
    def is_closed(self) -> bool:
        """Whether rows go to a pipe without a reader, as with `| head`: that is final."""
        return self._results is not None and self._results.is_closed

    def __call__(self, results: Sequence[Result]) -> None:
        mine = [r for r in results if self._batch is None or r.task.batch == self._batch]
        self.progress.add(mine)
        if self._results is None or self.is_closed:
            return
        self._waiting += mine
        if not self._error:
            self._write(self._results)
        elif self._complete is not None and len(self._waiting) > MAX_WAITING:
            self._waiting.clear()
            self._is_incomplete = True

    def tick(self, view: View) -> None:
        """Called on the loop several times a second."""
        self.check()

    def check(self) -> None:
        """Once a second: write the rows that wait, and see whether the file is still there."""
        if self._results is not None and not self.is_closed and time.monotonic() >= self._next_check_s:
            self._write(self._results)

    def _write(self, results: ResultsFile) -> None:
        self._next_check_s = time.monotonic() + CHECK_EVERY_S
        try:
            self._write_rows(results)
        except (StoreError, InputError, OSError) as error:
            if not self._error:
                self._notify(f"{error}; {'ending' if self.is_closed else 'retrying'}")
            self._error = str(error)
            return
        if self._error:
            self._error = ""
            self._notify(f"{results.name} can be written again and is complete")

    def _write_rows(self, results: ResultsFile) -> None:
        if not results.is_there:
            results.reopen()
            self._is_incomplete = self._complete is not None
            self._notify(f"{results.name} was deleted or replaced while in use; writing it again")
        if self._waiting:
            results.append(self._waiting)
            self._waiting.clear()
        if self._is_incomplete and self._complete is not None:
            self._complete()
            self._is_incomplete = False
