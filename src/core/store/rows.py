"""What the store hands out beside the records of the house: frozen, decoded, without a connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...records import Attempt, Event, Result, Task, TaskStatus
from .histogram import quantile

CHANGED_SHOWN = 20  # ids in a report
NOT_ANSWERED = "not answered"


@dataclass(frozen=True, slots=True)
class AddReport:
    """What became of tasks handed in.

    `changed` (the first 20 ids) and `changed_count` exist with other content and were left as they are;
    `replaced` got their new content; `duplicates` of all these get the answer of an equal task.
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
    """Where tasks come from, with how many of them are in each status."""

    name: str
    source: str
    output_path: str
    options: Mapping[str, Any]
    submitter: str
    created_at: float
    counts: Mapping[TaskStatus, int]

    @property
    def total(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class OrchestratorRow:
    """One orchestrator, from its start to its clean end (`retired_at`) or its last heartbeat."""

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
    """The orchestrator that leads, or led last (not `alive`); `holder` is its incarnation, empty after its
    clean end. `renewals` changes whenever it renews its lease. `one_host`: all that use this database share a
    clock.
    """

    epoch: int
    holder: str
    pid: int
    host: str
    lease_s: float
    renewals: int
    alive: bool
    one_host: bool

    def is_at_work(self, row: OrchestratorRow | None) -> bool:
        """Whether this orchestrator leads, and is alive."""
        return self.alive and row is not None and row.incarnation == self.holder

    @property
    def name(self) -> str:
        """As messages name it."""
        return f"process {self.pid} on {self.host}" if self.holder else "a process that is just starting"


@dataclass(frozen=True, slots=True)
class Registration:
    """What an orchestrator finds that starts.

    `recovered` tasks of dead orchestrators are queued again, `poisoned` ones failed for good;
    `uncertain_nanos` was booked for calls of the dead that may have been billed.
    """

    recovered: int = 0
    poisoned: int = 0
    uncertain_nanos: int = 0


@dataclass(frozen=True, slots=True)
class News:
    """What a running orchestrator looks for many times a second, in one query."""

    queued: int
    settings_version: int
    commands: int


@dataclass(frozen=True, slots=True)
class Command:
    """Something the web asks of the orchestrator: pause, resume, reset, cancel, ..."""

    id: int
    kind: str
    args: Mapping[str, Any]
    who: str
    at: float
    outcome: str = ""
    finished_at: float | None = None


@dataclass(frozen=True, slots=True)
class SettingChange:
    """One version of the settings: who changed what, when, and what it was before (None: unset)."""

    version: int
    key: str
    value: Any
    previous: Any
    who: str
    at: float


@dataclass(frozen=True, slots=True)
class EventRow:
    id: int
    event: Event


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task as a list shows it, without its content beyond a short `preview`."""

    row: int
    batch: str
    id: str
    status: TaskStatus
    task_type: str
    submitter: str
    priority: int
    created_at: float
    since: float  # when it came into its status: queued, running or ended
    claims: int
    attempts: int
    provider: str
    model: str
    agent: str
    tier: str
    finish_reason: str
    truncated: bool
    error: str
    cost_nanos: int | None  # None: the price of an attempt is not known
    preview: str
    line: int | None = None

    @property
    def finished_at(self) -> float | None:
        return None if self.status in (TaskStatus.QUEUED, TaskStatus.RUNNING) else self.since


@dataclass(frozen=True, slots=True)
class TaskPage:
    """`next_before`: ask again with it for older ones; None at the end.

    A page may be short or empty with older ones left: a search looks at a bounded number of tasks.
    """

    rows: tuple[TaskRow, ...]
    next_before: int | None


@dataclass(frozen=True, slots=True)
class TaskDetail:
    """One task with everything that is known of it. `result` is None while it is open."""

    row: TaskRow
    task: Task
    attempts: tuple[Attempt, ...]
    result: Result | None


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A result with its place in the batch: `row` grows in the order of the file."""

    row: int
    result: Result


@dataclass(frozen=True, slots=True)
class PromptSize:
    """One answered prompt: as long as it was, and as many tokens as its provider counted."""

    provider: str
    chars: int
    messages: int
    tokens: int


@dataclass(frozen=True, slots=True)
class CallSums:
    """Calls added up. Latencies in seconds are those of answered calls; None where there was none.

    `cost_nanos` holds the known prices of certain calls; `uncertain_nanos` is what calls may have cost that
    were cut off; `unknown_cost_calls` had no known price and are in neither.
    """

    calls: int = 0
    ok: int = 0
    failed: int = 0
    neutral: int = 0
    cancelled: int = 0
    uncertain: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nanos: int = 0
    uncertain_nanos: int = 0
    unknown_cost_calls: int = 0
    latency_us: int = 0
    histogram: tuple[int, ...] = field(default=(), repr=False)

    @property
    def prompt_tokens(self) -> int:
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens

    @property
    def average_s(self) -> float | None:
        return self.latency_us / 1e6 / self.ok if self.ok else None

    @property
    def p50_s(self) -> float | None:
        return self.quantile_s(0.5)

    @property
    def p95_s(self) -> float | None:
        return self.quantile_s(0.95)

    def quantile_s(self, q: float) -> float | None:
        """Within 15 % of the true quantile: the bins grow by a third."""
        return quantile(self.histogram, q)


@dataclass(frozen=True, slots=True)
class UsageRow:
    """`key` holds what was grouped by, in that order: strings, and epoch seconds for times."""

    key: tuple[str | int, ...]
    sums: CallSums


@dataclass(frozen=True, slots=True)
class TaskSums:
    """Finished tasks added up, with the money of all their attempts."""

    tasks: int = 0
    succeeded: int = 0
    truncated: int = 0
    cost_nanos: int = 0
    unknown_cost_tasks: int = 0
    baseline_nanos: int = 0
    unknown_baseline_tasks: int = 0

    @property
    def saved_nanos(self) -> int | None:
        """How much less it was than the same tokens on the baseline model (below 0: more).

        None where a price is unknown, or where nothing was answered that could be compared.
        """
        if self.unknown_cost_tasks or self.unknown_baseline_tasks or not self.baseline_nanos:
            return None
        return self.baseline_nanos - self.cost_nanos


@dataclass(frozen=True, slots=True)
class TierSavings:
    """The tasks that one tier has served, beside the same tokens on the baseline model.

    `NOT_ANSWERED` as a tier: calls of tasks that have ended without an answer.
    """

    tier: str
    tasks: int
    cost_nanos: int
    baseline_nanos: int


@dataclass(frozen=True, slots=True)
class Summary:
    """A batch, or everything: calls by provider, tasks by agent and by tier, and the totals."""

    counts: Mapping[TaskStatus, int]
    providers: Mapping[str, CallSums]
    models: Mapping[tuple[str, str], CallSums]  # by (provider, model)
    agents: Mapping[str, TaskSums]
    tiers: Mapping[str, TaskSums]
    calls: CallSums
    tasks: TaskSums

    @property
    def cost_nanos(self) -> int:
        """Known dollars spent for certain; `calls.uncertain_nanos` comes on top."""
        return self.calls.cost_nanos

    @property
    def baseline_nanos(self) -> int:
        return self.tasks.baseline_nanos

    @property
    def saved_nanos(self) -> int | None:
        """See `TaskSums.saved_nanos`; calls of tasks that are still open are in none of it."""
        return self.tasks.saved_nanos

    @property
    def savings(self) -> tuple[TierSavings, ...]:
        """What makes up `saved_nanos`, the largest part first; empty where that is None."""
        if self.saved_nanos is None:
            return ()
        answered = [
            TierSavings(tier, sums.tasks, sums.cost_nanos, sums.baseline_nanos)
            for tier, sums in self.tiers.items()
            if sums.baseline_nanos
        ]
        rest = [sums for sums in self.tiers.values() if sums.cost_nanos and not sums.baseline_nanos]
        if rest:
            in_vain = sum(sums.tasks for sums in rest), sum(sums.cost_nanos for sums in rest)
            answered.append(TierSavings(NOT_ANSWERED, *in_vain, 0))
        return tuple(sorted(answered, key=lambda part: -part.baseline_nanos))
