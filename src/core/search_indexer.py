"""Indexes finished tasks for the search, on a thread of the pages' process.

The pages search, so they index: a run without pages pays nothing for it, and the leader's time goes to calls.
Whatever ends while no pages run waits in the store's backlog.
"""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType

from ..errors import StoreError
from .store import Store

log = logging.getLogger(__name__)
IDLE_S = 2.0  # between two looks at an empty backlog
REST = 2.0  # times the duration of a step: the store and the processor are the orchestrator's in between
STEP_S = 2.0  # more than a step takes; the database may be unreachable, and a step is a transaction
RETRY_S = 30.0  # while the database is unavailable
NO_MODULE = "no full-text search: this Python's SQLite lacks the module FTS5"


class SearchIndexer:
    """A context manager: indexes in its block, and ends within a step at its end.

    With `wanted` False it removes the index instead, and its words with it.
    """

    def __init__(self, store: Store, *, wanted: bool) -> None:
        self._store, self._wanted = store, wanted
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="search-index", daemon=True)

    def __enter__(self) -> SearchIndexer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join(STEP_S)

    def _run(self) -> None:
        is_prepared = False
        while not self._stopped.is_set():
            try:
                if not self._wanted:
                    self._store.search.drop()
                    return
                if not is_prepared and not self._store.search.prepare():
                    log.warning(NO_MODULE, extra={"action": "search"})
                    return
                is_prepared = True
                began = time.monotonic()
                indexed = self._store.search.index_some()
                wait_s = REST * (time.monotonic() - began) if indexed else IDLE_S
            except StoreError as error:
                log.warning("search index not updated", extra={"action": "search", "error": str(error)})
                is_prepared, wait_s = False, RETRY_S
            self._stopped.wait(wait_s)
