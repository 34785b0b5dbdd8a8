"""What the store takes and returns of deferred tasks and of batches at providers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from ...records import Attempt, Result, Task
from .provider_batch_states import BatchState


@dataclass(frozen=True, slots=True)
class DeferredGroup:
    """Deferred tasks that are alike: what may answer them, when, who pays, and the sums of their sizes.

    `deadline_at` is theirs, rounded down. `max_tokens` is the sum over the tasks that state them; `unstated`
    tasks take the default of their tier. `parameters` and `needs` are those of `Task`.
    """

    id: int
    batch: str
    submitter: str
    task_type: str
    deadline_at: float
    tier: str
    models: tuple[str, ...]
    providers: tuple[str, ...]
    agent: str
    parameters: tuple[str, ...]
    needs: tuple[str, ...]
    rows: int
    text_chars: int
    prompt_bytes: int
    max_tokens: int
    unstated: int


class PlannedRow(NamedTuple):
    """A deferred task for a batch: what it may cost there at most, and the request that it becomes."""

    task: Task
    reserved_nanos: int
    max_tokens: int
    tier: str
    agent: str = ""


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch that is to be created at a provider. `live_s`: one task's time in the live pool, expected."""

    provider: str
    model: str
    marker: str
    live_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ProviderBatch:
    """A batch at a provider; times are epoch seconds, None where it is not that far.

    `left_rows` have no result yet, and their tasks wait for it. The tasks of `released_rows` have gone on
    without it. `failed` rows came back with an error, `unanswered` ones not at all, and `late` ones were paid
    for after their task had gone on. `pulled_rows` were pulled back to live calls, whatever became of them at
    the provider. `cost_nanos` is booked for rows that came back; those without a known price are not in it.
    `late_nanos` of it is for the `late` ones. `account` stands for the key that it was created with.
    """

    id: int
    provider: str
    model: str
    marker: str
    state: BatchState
    created_at: float
    create_sent_at: float | None
    submitted_at: float | None
    cancel_sent_at: float | None
    ended_at: float | None
    deadline_at: float
    remote_id: str
    files: tuple[str, ...]
    rows: int
    left_rows: int
    released_rows: int
    answered: int
    failed: int
    unanswered: int
    late: int
    live_s: float
    reserved_nanos: int
    next_poll_at: float
    error: str
    pulled_rows: int = 0
    cost_nanos: int = 0
    cancel_asked_at: float | None = None
    late_nanos: int = 0
    account: str = ""

    @property
    def can_be_cancelled(self) -> bool:
        """Whether its provider may still work on a row."""
        return self.state.is_open and self.state is not BatchState.ENDED

    @property
    def is_unwanted(self) -> bool:
        """Whether its provider is to end it: somebody asks for that, or no task waits for it any more."""
        return self.cancel_asked_at is not None or not self.left_rows


class ProviderBatchPage(NamedTuple):
    """Batches, newest first. `next_before` is the `before` of the next page; None on the last one."""

    rows: tuple[ProviderBatch, ...]
    next_before: int | None


class ProviderBatchSums(NamedTuple):
    """All batches of one provider in one state. `expired`: rows that uncancelled batches left undone."""

    provider: str
    state: BatchState
    batches: int
    left_rows: int
    answered: int
    failed: int
    expired: int
    late: int
    pulled_rows: int
    oldest_at: float  # the creation of the oldest


class BatchExtras(NamedTuple):
    """What batches at providers add to the sums of a batch of tasks.

    `late_nanos`: booked for answers that came after their tasks had gone on. `open`: batches that are not
    done with, by provider; they may still cost `reserved_nanos`.
    """

    late_nanos: int = 0
    open: Mapping[str, int] = MappingProxyType({})
    reserved_nanos: int = 0


class BatchedTask(NamedTuple):
    """A task in a batch: its place there, by which its answer is known, and the request that it became."""

    place: int
    task: Task
    number: int  # of the attempt
    max_tokens: int
    tier: str
    agent: str
    reserved_nanos: int  # that it costs at most


class RowEnd(NamedTuple):
    """How a row came back. `result` is the end of its task, None where it is to run again.

    `attempt` is None where the provider has not done the row.
    """

    place: int
    attempt: Attempt | None = None
    result: Result | None = None


@dataclass(slots=True)
class Collected:
    """What a call of `collect` has stored.

    `results` has those of duplicates too. `requeued` tasks run again. `late` attempts were paid for after
    their tasks had gone on; they are no second answer. `settled` is what these rows had reserved, and what
    they have cost, by the place of the row.
    """

    results: list[Result] = field(default_factory=list)
    requeued: int = 0
    late: list[Attempt] = field(default_factory=list)
    settled: list[SettledRow] = field(default_factory=list)


class SettledRow(NamedTuple):
    """A row that has its end: what was reserved for it is free, and what it cost is booked.

    `cost_nanos` is None where the price is unknown. `is_uncertain`: it may have cost that.
    """

    batch: str
    submitter: str
    reserved_nanos: int
    cost_nanos: int | None = 0
    is_uncertain: bool = False


class OpenReservation(NamedTuple):
    """What a batch may still cost, for one payer. `at`: of the intent, to whose day and month it belongs."""

    provider_batch_id: int
    provider: str
    batch: str
    submitter: str
    at: float
    nanos: int
