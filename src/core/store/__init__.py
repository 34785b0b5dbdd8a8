"""The durable store: what must survive `kill -9` is here, and only here.

A `Store` has one component for each duty, all over one `Database`:

    intake         add batches and tasks
    queue          claim, release and finish tasks: the work of an orchestrator
    direct_tasks   record tasks that were placed without the queue
    deferrals      tasks that may go to a provider's batch, in groups
    provider_batches  the life of batches at providers
    batch_results  how the tasks of these batches end, or go on without them
    admin          cancel and retry tasks: changes that people make
    contents       purge prompts and answers, restore prompts
    deduplication  settle equal tasks that share one answer
    result_sync    results in the order of a batch's file, and which of them are stale
    tasks          look up tasks, one or a page of them
    search         index the words of prompts and answers, and tell how far that is
    batches        look up batches, their cost, and why their tasks failed
    reports        counts, batches, usage, summaries, samples for forecasts
    orchestrators  register, send heartbeats, reserve the cost of calls, retire
    leadership     the orchestrator that leads, and its epoch
    standbys       the orchestrators that wait for the lead
    controls       settings and commands
    events         the log of events
    learned_state  what was learned about providers

Below the components: transitions, moving, batch_rows, provider_batch_states, provider_batch_values, ledger,
ends, row_numbers, deduplication and search_index (inside a transaction), claim_order, loading, rollups,
identifiers, codec, selection, search_text, rows, sums, schema, reconnecting, database, frozen, engine, lock,
watch, migrate.

Everything is synchronous. Threads may share a `Store`; each call is a transaction of its own and returns
frozen values. A `StoreError` says in one line what is wrong with the database; nothing was written then.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from ...records import DEFERS
from .admin import Admin
from .batch_results import BatchResults
from .batch_rows import BatchRows
from .batches import Batches
from .contents import Contents
from .controls import Controls
from .database import Database
from .deduplication import DUPLICATES_AT_ONCE, Deduplication, DuplicateLinks
from .deferrals import DeferralGroups, Deferrals
from .direct_tasks import DirectRecord, DirectTasks
from .events import Events
from .identifiers import Identifiers, TaskStream
from .intake import Intake
from .leadership import Identity, LeadershipRow, PublishedGateway
from .learned_state import LearnedState
from .loading import Loader
from .lock import HostLock
from .migrate import bring_up_to_date
from .orchestrators import Orchestrators
from .provider_batch_lists import ProviderBatchLists
from .provider_batch_states import BatchState
from .provider_batch_values import (
    BatchedTask,
    BatchExtras,
    Collected,
    DeferredGroup,
    NewBatch,
    OpenReservation,
    PlannedRow,
    ProviderBatch,
    ProviderBatchPage,
    ProviderBatchSums,
    RowEnd,
    SettledRow,
)
from .provider_batches import ProviderBatches
from .queue import Queue
from .reconnecting import reconnect
from .reports import Reports
from .result_sync import ResultSync
from .rows import (
    AddReport,
    BatchPage,
    BatchRow,
    Command,
    EarlierEnd,
    EventRow,
    FailureReason,
    Leader,
    OrchestratorRow,
    PollResult,
    PromptSize,
    Registrant,
    Registration,
    SettingChange,
    StoredResult,
    TaskDetail,
    TaskPage,
    TaskRow,
)
from .search import Search, SearchProgress
from .search_index import SearchIndex
from .search_text import terms_of
from .selection import TaskSelection
from .standbys import Standby, Standbys
from .sums import CallSums, SavedParts, Summary, TaskSums, TierSavings, UsageRow
from .tasks import Tasks
from .transitions import Transitions
from .watch import Watch


class Store:
    """One database, opened with `Store.open`; also a context manager that closes it."""

    def __init__(self, database: Database) -> None:
        ids = Identifiers(database)
        loader, index = Loader(ids), SearchIndex(database)
        groups, batch_rows = DeferralGroups(database, ids, loader), BatchRows(database)
        transitions = Transitions(database, ids, index, groups)
        links = DuplicateLinks(database, loader, index, groups)
        self.database = database
        self.intake = Intake(database, ids, transitions, links, groups)
        self.queue = Queue(database, ids, loader, transitions, links, index)
        self.direct_tasks = DirectTasks(database, ids, index)
        self.deduplication = Deduplication(database, ids, links)
        self.admin = Admin(database, ids, transitions, self.deduplication, groups, batch_rows)
        self.deferrals = Deferrals(database, ids, loader, groups)
        self.provider_batches = ProviderBatches(database, ids, loader, groups, batch_rows)
        self.provider_batch_lists = ProviderBatchLists(database, ids)
        self.batch_results = BatchResults(database, ids, loader, groups, links, index)
        self.contents = Contents(database, ids, index)
        self.result_sync = ResultSync(database, ids, loader)
        self.tasks = Tasks(database, ids, loader, index)
        self.search = Search(database, index)
        self.batches = Batches(database, ids)
        self.reports = Reports(database, ids, loader)
        self.orchestrators = Orchestrators(database, ids, transitions)
        self.leadership = LeadershipRow(database)
        self.standbys = Standbys(database)
        self.controls = Controls(database, ids)
        self.events = Events(database)
        self.learned_state = LearnedState(database)

    @classmethod
    def open(cls, url_or_path: str | Path, *, simulated: bool) -> Store:
        """Open a database, created or migrated if needed.

        Raises StoreError if it is newer than this program, holds live results and `simulated` is True (or the
        other way round), or cannot be opened now. Raises ConfigError for an invalid URL.
        """
        database = Database(url_or_path)
        with ExitStack() as undo:
            undo.callback(database.dispose)
            reconnect(database, lambda: bring_up_to_date(database, simulated=simulated))
            undo.pop_all()
        database.remember_file()
        return cls(database)

    def fenced(self) -> Store:
        """The same database for an orchestrator: it writes while it leads, see `core/leadership.py`."""
        return Store(self.database.fenced())

    def close(self) -> None:
        """Close all connections. Committed data stays."""
        self.database.dispose()

    def file_lost(self) -> str:
        """`was deleted` or `was replaced` if the database file was, since it was opened; else empty.

        It only looks at the folder. SQLite keeps using a file that has no name any more, and what is written
        there is lost when the process ends.
        """
        return self.database.file_lost()

    def watch(self) -> Watch:
        """A cheap way to notice that something was written."""
        return Watch(self.database.url.database if self.database.is_sqlite else None)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def place(self) -> str:
        """The file or the URL, without a password."""
        return self.database.place

    def __repr__(self) -> str:
        return f"<Store {self.place}>"


__all__ = [
    "DEFERS",
    "Standby",
    "Store",
    "DUPLICATES_AT_ONCE",
    "AddReport",
    "BatchState",
    "BatchExtras",
    "BatchedTask",
    "Collected",
    "DeferredGroup",
    "NewBatch",
    "OpenReservation",
    "PlannedRow",
    "ProviderBatch",
    "ProviderBatchPage",
    "ProviderBatchSums",
    "PublishedGateway",
    "RowEnd",
    "SettledRow",
    "BatchPage",
    "BatchRow",
    "Identity",
    "CallSums",
    "Command",
    "DirectRecord",
    "EarlierEnd",
    "EventRow",
    "FailureReason",
    "HostLock",
    "Leader",
    "OrchestratorRow",
    "PollResult",
    "PromptSize",
    "Registrant",
    "Registration",
    "SettingChange",
    "StoredResult",
    "SavedParts",
    "SearchProgress",
    "Summary",
    "TaskDetail",
    "TaskSelection",
    "TaskPage",
    "TaskRow",
    "TaskStream",
    "TaskSums",
    "TierSavings",
    "UsageRow",
    "Watch",
    "terms_of",
]
