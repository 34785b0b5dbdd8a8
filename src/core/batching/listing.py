"""Batches at providers as people see them: since when, until when, what came back, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ...routing.turnaround import Turnaround, turnaround
from ..store import BatchState, ProviderBatch, Store, TaskStream

STATES = {
    BatchState.INTENDED: "to be created",
    BatchState.CREATING: "being created",
    BatchState.SUBMITTED: "in progress",
    BatchState.CANCELLING: "being cancelled",
    BatchState.ENDED: "ended, results to be read",
    BatchState.COLLECTED: "done",
    BatchState.FAILED: "not carried out",
}
CANCELLABLE = (BatchState.INTENDED, BatchState.CREATING, BatchState.SUBMITTED)


@dataclass(frozen=True, slots=True)
class ProviderBatchView:
    """A batch at a provider. Times are epoch seconds, None where it is not that far.

    `batch` and `submitter` are those of its tasks. `waiting` rows have no result yet. `pulled_back` rows went
    live before they were done; `not_done` came back without a result, `paid_late` with one that only costs.
    `age_s` ends with the batch, and is None for one that was not carried out. `expected_at` is None where it
    has ended, and where it takes longer than nine of ten did: then it `is_late`. `cost_nanos` is booked,
    `paid_late_nanos` of it for rows that had gone on, and `reserved_nanos` may still be.
    """

    id: int
    provider: str
    model: str
    state: BatchState
    batch: str
    submitter: str
    marker: str
    remote_id: str
    rows: int
    waiting: int
    answered: int
    failed: int
    pulled_back: int
    not_done: int
    paid_late: int
    created_at: float
    submitted_at: float | None
    ended_at: float | None
    deadline_at: float
    age_s: float | None
    expected_at: float | None
    is_late: bool
    is_open: bool
    can_cancel: bool
    reserved_nanos: int
    cost_nanos: int
    paid_late_nanos: int
    error: str

    @property
    def state_text(self) -> str:
        return STATES[self.state]


def views_of(store: Store, batches: Iterable[ProviderBatch], now: float) -> tuple[ProviderBatchView, ...]:
    """The views of batches at `now`, in their order."""
    found = list(batches)
    owners = store.provider_batch_lists.owners([batch.id for batch in found])
    takes = _turnarounds(store)
    return tuple(_view(batch, owners.get(batch.id), takes, now) for batch in found)


def _turnarounds(store: Store) -> Callable[[str, str], Turnaround]:
    """How long batches of a provider and model take, looked up once for each."""
    known: dict[tuple[str, str], Turnaround] = {}

    def takes(provider: str, model: str) -> Turnaround:
        if (provider, model) not in known:
            done_s = store.provider_batches.turnarounds(provider, model)
            known[provider, model] = turnaround(done_s)
        return known[provider, model]

    return takes


def _view(
    batch: ProviderBatch, owner: TaskStream | None, takes: Callable[[str, str], Turnaround], now: float
) -> ProviderBatchView:
    is_working = batch.state.is_open and batch.state is not BatchState.ENDED
    since = batch.submitted_at or now
    expected_at = _expected_at(since, takes(batch.provider, batch.model), now) if is_working else None
    return ProviderBatchView(
        batch.id,
        batch.provider,
        batch.model,
        batch.state,
        owner.batch if owner else "",
        owner.submitter if owner else "",
        batch.marker,
        batch.remote_id,
        batch.rows,
        batch.left_rows,
        batch.answered,
        batch.failed,
        batch.pulled_rows,
        batch.unanswered,
        batch.late,
        batch.created_at,
        batch.submitted_at,
        batch.ended_at,
        batch.deadline_at,
        _age_s(batch, now),
        expected_at,
        is_working and expected_at is None,
        batch.state.is_open,
        batch.state in CANCELLABLE and batch.cancel_asked_at is None,
        batch.reserved_nanos,
        batch.cost_nanos,
        batch.late_nanos,
        batch.error,
    )


def _age_s(batch: ProviderBatch, now: float) -> float | None:
    until = batch.ended_at or (now if batch.state.is_open else None)
    return None if until is None else max(0.0, until - batch.created_at)


def _expected_at(since: float, takes: Turnaround, now: float) -> float | None:
    """The end that half of all batches reach; once that is past, the one that nine of ten do."""
    ends = (since + takes.p50_s, since + takes.p90_s)
    return next((at for at in ends if at > now), None)
