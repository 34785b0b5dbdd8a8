"""The values that the store returns: frozen, decoded, independent of a connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...messages import ContentPart
from ...records import LIVE_STATUSES, OPEN_STATUSES, Attempt, Event, Result, Task, TaskStatus

CHANGED_SHOWN = 20  # ids in a report


class Preview(NamedTuple):
    """What storing tasks would do: the report, the tasks that would run, and which of them were truncated."""

    report: AddReport
    to_run: list[Task]
    truncated: frozenset[str]  # ids


@dataclass(frozen=True, slots=True)
class AddReport:
    """What happened to the tasks passed to `add_tasks`: how many of each kind.

    `changed_count` tasks exist with other content and were left as they are; `changed` has the first 20 of
    their ids. `replaced` tasks got their new content. `duplicates` get the answer of an equal task.
    """

    added: int = 0
    existing: int = 0
    changed: tuple[str, ...] = ()
    changed_count: int = 0
    replaced: int = 0
    duplicates: int = 0

    def __add__(self, other: AddReport) -> AddReport:
        return AddReport(
            self.added + other.added,
            self.existing + other.existing,
            (self.changed + other.changed)[:CHANGED_SHOWN],
            self.changed_count + other.changed_count,
            self.replaced + other.replaced,
            self.duplicates + other.duplicates,
        )


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A batch, where its tasks come from, and how many of them are in each status."""

    name: str
    source: str
    output_path: str
    options: Mapping[str, Any]
    submitter: str
    created_at: float
    max_cost_nanos: int | None  # what all its calls may cost together; None: no cap of its own
    counts: Mapping[TaskStatus, int]

    @property
    def total(self) -> int:
        """All tasks of the batch, whatever their status."""
        return sum(self.counts.values())

    @property
    def open_tasks(self) -> int:
        """Those that have not ended."""
        return sum(self.counts[status] for status in OPEN_STATUSES)

    @property
    def live_tasks(self) -> int:
        """Those on the way to a live call."""
        return sum(self.counts[status] for status in LIVE_STATUSES)


@dataclass(frozen=True, slots=True)
class BatchPage:
    """Batches, newest first. `next_before` is the `before` of the next page; None on the last one."""

    rows: tuple[BatchRow, ...]
    next_before: int | None


@dataclass(frozen=True, slots=True)
class FailureReason:
    """How many tasks ended with this status, and with this class of error in their last call."""

    status: TaskStatus
    error_kind: str  # of `src.errors`; empty: no call decided
    tasks: int


@dataclass(frozen=True, slots=True)
class OrchestratorRow:
    """One orchestrator, from its start to its clean end (`retired_at`) or last heartbeat; epoch seconds."""

    incarnation: str
    pid: int
    host: str
    mode: str
    batch: str
    started_at: float
    heartbeat_at: float
    retired_at: float | None = None
    finished: int = 0  # tasks


@dataclass(frozen=True, slots=True)
class Leader:
    """The orchestrator that leads, or that led last if it is not `alive`.

    `holder` is its incarnation, empty after its clean end. `renewals` grows with every renewal of the lease.
    `one_host` is True on SQLite, where all processes share a host and its clock. `renewed_ago_s`: since the
    last renewal, by the database's clock; None on one host, where there is no lease.
    """

    epoch: int
    holder: str
    pid: int
    host: str
    lease_s: float
    renewals: int
    alive: bool
    one_host: bool
    renewed_ago_s: float | None = None

    def is_at_work(self, row: OrchestratorRow | None) -> bool:
        """Whether `row` is the orchestrator that leads, and it is alive."""
        return self.alive and row is not None and row.incarnation == self.holder

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"process {self.pid} on {self.host}" if self.holder else "a process that is just starting"


@dataclass(frozen=True, slots=True)
class Registrant:
    """An orchestrator that registers. With a `batch` it works on that batch alone."""

    incarnation: str
    pid: int
    host: str
    mode: str
    batch: str = ""


@dataclass(frozen=True, slots=True)
class HeldByWorker:
    """A call that a worker holds: of which task and attempt, and what it may cost at most."""

    key: str
    worker: str
    row: int
    attempt: int
    provider: str
    batch: str
    submitter: str
    nanos: int

    @property
    def account(self) -> tuple[str, str, str, str]:
        """What its cost is reserved under."""
        return self.provider, self.batch, self.submitter, self.worker


@dataclass(frozen=True, slots=True)
class Inventories:
    """What workers hold, and the workers that have told it: of these nothing else is in flight."""

    workers: frozenset[str] = frozenset()
    calls: tuple[HeldByWorker, ...] = ()


@dataclass(frozen=True, slots=True)
class Registration:
    """What registering an orchestrator changed.

    `recovered` tasks of dead orchestrators are queued again, `poisoned` ones have failed, and
    `uncertain_nanos` were booked for their calls in flight, which may have been billed. The tasks of the
    calls `adopted` are claimed by the new one, and what they may cost is reserved for it.
    """

    recovered: int = 0
    poisoned: int = 0
    uncertain_nanos: int = 0
    adopted: tuple[HeldByWorker, ...] = ()


@dataclass(frozen=True, slots=True)
class PollResult:
    """What an orchestrator looks for many times a second: queued tasks, new settings, open commands."""

    queued: int
    settings_version: int
    commands: int


@dataclass(frozen=True, slots=True)
class Command:
    """A request of the pages to the orchestrator: pause, resume, reset, cancel, ..."""

    id: int
    kind: str
    args: Mapping[str, Any]
    who: str
    at: float
    outcome: str = ""
    finished_at: float | None = None


@dataclass(frozen=True, slots=True)
class SettingChange:
    """One change of a setting: its new and previous value (None: unset), by whom (`who`), and when."""

    version: int
    key: str
    value: Any
    previous: Any
    who: str
    at: float


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event with its number, which grows with time."""

    id: int
    event: Event


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events, newest first. Pass `next_before` as `before` for the next page; None after the last one."""

    rows: tuple[EventRow, ...]
    next_before: int | None


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task in a list: its content is reduced to a short `preview`."""

    row: int
    batch: str
    id: str
    status: TaskStatus
    task_type: str
    submitter: str
    priority: int
    created_at: float
    since: float  # when it entered its status
    claims: int
    attempts: int
    provider: str
    model: str
    agent: str
    tier: str
    finish_reason: str
    truncated: bool
    error: str
    cost_nanos: int | None  # None: the price of an attempt is unknown
    preview: str
    line: int | None = None

    @property
    def finished_at(self) -> float | None:
        """When the task ended, epoch seconds; None while it is open."""
        return self.since if self.status.is_final else None


@dataclass(frozen=True, slots=True)
class TaskPage:
    """A page of tasks. Pass `next_before` as `before` for the next page; None after the last one.

    If the oldest come first, `next_after` takes its place.

    A page may be short or empty although older tasks match: a search looks at a bounded number of tasks.
    """

    rows: tuple[TaskRow, ...]
    next_before: int | None
    next_after: int | None = None


@dataclass(frozen=True, slots=True)
class EarlierEnd:
    """How a task ended before it ran again."""

    ended_at: float
    status: TaskStatus
    provider: str
    model: str
    agent: str
    finish_reason: str
    truncated: bool
    error: str
    output: str | None
    parts: tuple[ContentPart, ...] = ()  # the answer where it is more than `output`


@dataclass(frozen=True, slots=True)
class TaskDetail:
    """One task with its content and attempts; `result` is None while it is open.

    `earlier` are the ends before it ran again, oldest first.
    """

    row: TaskRow
    task: Task
    attempts: tuple[Attempt, ...]
    result: Result | None
    earlier: tuple[EarlierEnd, ...] = ()

    @property
    def is_purged(self) -> bool:
        """Whether its prompt and answer were purged."""
        return not self.task.messages


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A result with its row number, which grows in the order of the file."""

    row: int
    result: Result


@dataclass(frozen=True, slots=True)
class PromptSize:
    """The size of one answered prompt: characters, messages, and tokens as the provider counted them."""

    provider: str
    chars: int
    messages: int
    tokens: int
