"""What each route for programs takes and answers, in one table, from which `openapi` makes its document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from . import answers
from .bodies import (
    BatchBody,
    EventsQuery,
    ProviderBatchQuery,
    PurgeBody,
    RebalanceBody,
    SubmitManyBody,
    SubmitOneBody,
    TaskFilter,
    UsageQuery,
)
from .presenters.dashboard import DashboardView
from .presenters.pool_views import PoolView
from .presenters.weights import RebalanceView


@dataclass(frozen=True, slots=True)
class Operation:
    """`answer` is the type of the body in JSON, `statuses` are those that have it.

    `errors` are statuses of its own, beside those that every route may answer with. An answer that
    `is_conditional` has an ETag.
    """

    answer: Any = None
    query: type[BaseModel] | None = None
    bodies: tuple[type[BaseModel], ...] = ()
    statuses: tuple[int, ...] = (200,)
    errors: tuple[int, ...] = ()
    is_conditional: bool = False
    kind: str = "application/json"


_TASK_CHANGE = Operation(answers.TaskDone, statuses=(202,), errors=(409,))
OPERATIONS: Mapping[str, Operation] = {
    "health.healthz": Operation(answers.Alive),
    "health.readyz": Operation(answers.Ready, statuses=(200, 503)),
    "health.leader": Operation(answers.Leads, statuses=(200, 503)),
    "metrics.scrape": Operation(kind="text/plain"),
    "api.openapi": Operation(dict[str, Any]),
    "api.providers_status": Operation(PoolView, is_conditional=True),
    "api.dashboard": Operation(DashboardView, is_conditional=True),
    "api.weights": Operation(RebalanceView),
    "api.rebalance": Operation(answers.Rebalanced, bodies=(RebalanceBody,), errors=(409,)),
    "api.undo": Operation(answers.Stepped, errors=(409,)),
    "api.redo": Operation(answers.Stepped, errors=(409,)),
    "api.steer": Operation(answers.Steered, statuses=(202,)),
    "api.submit": Operation(
        answers.Submitted, bodies=(SubmitOneBody, SubmitManyBody), statuses=(200, 202), errors=(409,)
    ),
    "api.tasks": Operation(answers.TaskPageAnswer, query=TaskFilter),
    "api.task": Operation(answers.TaskDetailAnswer),
    "api.task_named": Operation(answers.TaskDetailAnswer),
    "api.task_by_id": Operation(answers.TaskDetailAnswer),
    "api.task_verb": _TASK_CHANGE,
    "api.task_verb_named": _TASK_CHANGE,
    "api.task_verb_by_id": _TASK_CHANGE,
    "api.batches": Operation(answers.Batches),
    "api.cancel_batch": Operation(answers.BatchCancelled, bodies=(BatchBody,), statuses=(202,)),
    "api.retry_batch": Operation(answers.BatchRetried, bodies=(BatchBody,), statuses=(202,)),
    "api.purge_batch": Operation(answers.BatchPurged, bodies=(PurgeBody,)),
    "api.provider_batches": Operation(answers.ProviderBatches, query=ProviderBatchQuery),
    "api.cancel_provider_batch": Operation(answers.ProviderBatchCancelled, statuses=(202,), errors=(409,)),
    "api.usage": Operation(answers.Usage, query=UsageQuery),
    "api.events": Operation(answers.Events, query=EventsQuery),
}
