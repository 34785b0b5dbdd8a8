"""The durable store: what must survive `kill -9` is here, and only here.

    intake    tasks and batches come in
    work      an orchestrator claims, releases, finishes, records
    leading   which orchestrator leads, under which epoch
    control   orchestrators sign on and off; settings, commands, events, what is learned
    editing   people cancel, ask again, purge
    reading   pages, exports, snapshots
    result_sync  results files are brought up to date
    accounts  usage and summaries
    samples   single calls that a plan learns from
    -----
    deduplication, claim_order, transitions, loading, rollups, histogram, codec, rows, shared, schema,
    database, watch, lock, repeating, migrate + migrations/

Synchronous, over one URL. Threads may share a `Store`; each call is a transaction of its own and returns
frozen values. A `StoreError` says in one line what is wrong with the database; nothing was written then.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from .accounts import Accounts
from .control import Control
from .database import Database
from .deduplication import DUPLICATES_AT_ONCE
from .editing import Editing
from .intake import Intake
from .leading import Identity, Leading
from .lock import HostLock
from .migrate import bring_up_to_date
from .reading import Reading
from .repeating import once_more, repeating
from .result_sync import ResultSync
from .rows import (
    AddReport,
    BatchRow,
    CallSums,
    Command,
    EventRow,
    Leader,
    News,
    OrchestratorRow,
    PromptSize,
    Registration,
    SettingChange,
    StoredResult,
    Summary,
    TaskDetail,
    TaskPage,
    TaskRow,
    TaskSums,
    TierSavings,
    UsageRow,
)
from .samples import Samples
from .watch import Watch
from .work import Work


@repeating(
    "_add_chunk",
    "_store_chunk",
    always=("create_batch",),
    never=("add_tasks", "close", "watch", "fenced", "file_lost"),
)
class Store(Intake, Work, Leading, Control, Editing, Reading, ResultSync, Accounts, Samples):
    """One database, opened with `Store.open`; also a context manager that closes it."""

    @classmethod
    def open(cls, url_or_path: str | Path, *, simulated: bool) -> Store:
        """Open a database, made or migrated where needed.

        Raises StoreError where it is newer than this program, holds live results and `simulated` is asked
        for (or the other way round), or can't be opened now; ConfigError for a URL that is none.
        """
        database = Database(url_or_path)
        with ExitStack() as undo:
            undo.callback(database.dispose)
            once_more(database, lambda: bring_up_to_date(database, simulated=simulated))
            undo.pop_all()
        database.remember_file()
        return cls(database)

    def fenced(self) -> Store:
        """The same database for an orchestrator: it writes while it leads, see `core/leadership.py`."""
        return Store(self._database.fenced())

    def close(self) -> None:
        """Close all connections. What was returned from stays committed."""
        self._database.dispose()

    def file_lost(self) -> str:
        """`was deleted` or `was replaced`, if its file was since it was opened; empty while it is there.

        A look at the folder alone: it opens nothing. SQLite goes on with a file that has no name any more,
        and what is written there is gone when the process ends.
        """
        return self._database.file_lost()

    def watch(self) -> Watch:
        """Tells a process that waits whether anything was written."""
        return Watch(self._database.url.database if self._database.is_sqlite else None)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def place(self) -> str:
        """The file or the URL, without a password."""
        return self._database.place

    def __repr__(self) -> str:
        return f"<Store {self.place}>"


__all__ = [
    "Store",
    "DUPLICATES_AT_ONCE",
    "AddReport",
    "BatchRow",
    "Identity",
    "CallSums",
    "Command",
    "EventRow",
    "HostLock",
    "Leader",
    "News",
    "OrchestratorRow",
    "PromptSize",
    "Registration",
    "SettingChange",
    "StoredResult",
    "Summary",
    "TaskDetail",
    "TaskPage",
    "TaskRow",
    "TaskSums",
    "TierSavings",
    "UsageRow",
    "Watch",
]
