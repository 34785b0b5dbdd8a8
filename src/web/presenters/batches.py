"""Batches with their progress: rate, finish time, cost so far and expected."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ...core.batching.listing import ProviderBatchView
from ...core.intake import QUEUE
from ...core.store import BatchRow, CallSums
from ...records import TaskStatus
from ..context import AppContext, visible_submitter
from .dashboard import EventView, SavedView, event_views, pace, saved_view
from .pool import pool_view
from .provider_batches import of_batch
from .tasks import BatchView, batch_view
from .usage import Totals, totals

RETRIED = (TaskStatus.FAILED, TaskStatus.EXPIRED, TaskStatus.CANCELLED)
RUNNING_SHOWN = 8


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """A batch and how it gets on.

    `left_s` is None if nothing is open, or if no rate is known. Without `is_own_rate` it is that of the whole
    pool, so the batch is done sooner, if not then. Costs cover the calls of open tasks too.
    """

    batch: BatchView
    rate_per_s: float | None
    left_s: float | None
    is_own_rate: bool
    cost_nanos: int
    uncertain_nanos: int
    unknown_cost_calls: int
    is_running: bool  # an orchestrator works on it

    @property
    def ended(self) -> int:
        return self.batch.total - self.batch.open_tasks

    @property
    def share(self) -> float:
        """Ended tasks of all, 0 to 1."""
        return self.ended / self.batch.total if self.batch.total else 0.0

    @property
    def failed(self) -> int:
        """Ended without an answer."""
        return self.ended - self.batch.succeeded

    @property
    def state(self) -> str:
        if not self.batch.total:
            return "empty"
        if self.batch.open_tasks:
            return "running" if self.is_running else "waiting"
        return "failures" if self.failed else "finished"

    @property
    def expected_nanos(self) -> int | None:
        """The cost of all tasks, if the open ones cost what the ended ones did."""
        if not self.ended or self.unknown_cost_calls:
            return None
        return round(self.cost_nanos * self.batch.total / self.ended)


def with_progress(context: AppContext, rows: Iterable[BatchRow]) -> list[BatchProgress]:
    """The progress of these batches."""
    found = list(rows)
    costs = context.store.batches.costs([row.name for row in found]) if found else {}
    return [_progress(context, row, costs.get(row.name, CallSums())) for row in found]


def _progress(context: AppContext, row: BatchRow, cost: CallSums) -> BatchProgress:
    of_pool = pace(context)
    now, ended = context.now(), row.total - row.open_tasks
    own = context.batch_rates.rate_per_s(row.name, ended, now) if row.open_tasks else None
    is_alone = row.live_tasks == of_pool.live_tasks
    rate = of_pool.rate_per_s if is_alone and row.open_tasks else own
    is_running = pool_view(context).orchestrator.running and row.open_tasks > 0
    if not is_running or row.live_tasks < row.open_tasks:  # the pace of live calls says nothing of batches
        left_s = None
    elif rate:
        left_s = row.live_tasks / rate
    else:
        left_s = of_pool.left_s
    return BatchProgress(
        batch_view(row),
        rate if is_running else None,
        left_s,
        bool(rate),
        cost.cost_nanos,
        cost.uncertain_nanos,
        cost.unknown_cost_calls,
        is_running and (ended > 0 or row.counts[TaskStatus.RUNNING] > 0),
    )


def running_batches(context: AppContext) -> list[BatchProgress]:
    """The oldest batches with open tasks that the caller may see."""
    own = visible_submitter()
    found = context.store.batches.with_open_tasks(RUNNING_SHOWN + 1, submitter=own)
    visible = [row for row in found if not own or row.name != QUEUE]
    return with_progress(context, visible[:RUNNING_SHOWN])


# ------------------------------------------------------------------ one batch


@dataclass(frozen=True, slots=True)
class ReasonView:
    """Why tasks of a batch ended without an answer. `is_all`: none is left out of the count."""

    status: TaskStatus
    error_kind: str
    text: str
    tasks: int
    is_all: bool


@dataclass(frozen=True, slots=True)
class ModelUse:
    """What one model did for a batch."""

    provider: str
    model: str
    totals: Totals


@dataclass(frozen=True, slots=True)
class BatchDetail:
    """A batch as its page shows it."""

    progress: BatchProgress
    reasons: tuple[ReasonView, ...]
    models: tuple[ModelUse, ...]
    events: tuple[EventView, ...]
    saved_nanos: int | None
    saved_parts: SavedView | None
    truncated: int
    provider_batches: tuple[ProviderBatchView, ...]

    @property
    def can_retry(self) -> bool:
        return any(self.progress.batch.counts[status.value] for status in RETRIED)


def batch_detail(context: AppContext, row: BatchRow) -> BatchDetail:
    """Progress, failures by reason, models, cost and events of a batch."""
    summary = context.store.reports.summary(row.name)
    models = (ModelUse(p, m, totals(sums)) for (p, m), sums in summary.models.items())
    (progress,) = with_progress(context, [row])
    return BatchDetail(
        progress,
        tuple(_reasons(context, row)),
        tuple(sorted(models, key=lambda use: -use.totals.calls)),
        event_views(context.store.events.of_batch(row.name)),
        summary.saved_nanos,
        saved_view(summary),
        summary.tasks.truncated,
        of_batch(context, row.name),
    )


def _reasons(context: AppContext, row: BatchRow) -> Iterator[ReasonView]:
    """Failed and refused tasks by class of error, then those that ended without a call."""
    found = context.store.batches.failures(row.name)
    for status in (TaskStatus.FAILED, TaskStatus.REFUSED):
        of_status = [reason for reason in found if reason.status is status]
        is_all = sum(reason.tasks for reason in of_status) == row.counts[status]
        for reason in of_status:
            text = error_text(reason.error_kind) or "before a call"
            yield ReasonView(status, reason.error_kind, text, reason.tasks, is_all)
    for status, text in ((TaskStatus.EXPIRED, "deadline passed"), (TaskStatus.CANCELLED, "cancelled")):
        if row.counts[status]:
            yield ReasonView(status, "", text, row.counts[status], True)


def error_text(error_kind: str) -> str:
    """`rate limited` for `RateLimited`: the class of an error as words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", error_kind).lower()
