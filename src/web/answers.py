"""The bodies of the API's answers that are no view, as `/api/openapi.json` describes them.

A test holds every answer against them.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from ..core.batching.listing import ProviderBatchView
from .presenters.dashboard import EventView
from .presenters.tasks import BatchView
from .presenters.usage import Totals
from .presenters.weights import ShareRow


class Answer(TypedDict):
    """Every answer says whether the providers are simulators."""

    simulated: bool


class Alive(Answer):
    status: str
    version: str


class Ready(Answer):
    status: str
    orchestrator_running: NotRequired[bool]


class Leads(Answer):
    leads: bool


class Rebalanced(Answer):
    applied: bool
    dry_run: bool
    version: int | None
    weights: dict[str, float]
    shares: dict[str, float]
    providers: list[ShareRow]


class Stepped(Answer):
    version: int
    weights: dict[str, float]


class Steered(Answer):
    provider: str
    requested: str


class TaskEntry(Answer):
    """A task in a list."""

    row: int
    batch: str
    id: str
    status: str
    state: str
    task_type: str
    submitter: str
    priority: int
    created_at: float
    finished_at: float | None
    attempts: int
    provider: str | None
    model: str | None
    agent: str | None
    tier: str | None
    truncated: bool
    error: str | None
    cost_usd: float | None
    prompt_preview: str
    url: str


class TaskDetailAnswer(TaskEntry):
    """A task with its request; `result` is its row of a results file, once it has ended.

    `provider_batch` is the batch at a provider that it is in now.
    """

    messages: list[dict[str, Any]]
    named_agent: str | None
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    seed: int | None
    reasoning_effort: str | None
    service_tier: str | None
    tools: list[dict[str, Any]]
    tool_choice: str | dict[str, Any] | None
    parallel_tool_calls: bool | None
    deadline_at: float | None
    provider_batch: ProviderBatchView | None
    purged: bool
    metadata: dict[str, Any]
    timeline: list[dict[str, Any]]
    earlier_ends: list[dict[str, Any]]
    result: dict[str, Any] | None


class Submitted(Answer):
    """`task` after one task was sent, `tasks` after several."""

    batch: str
    added: int
    existing: int
    warnings: list[str]
    waited: NotRequired[bool]
    task: NotRequired[TaskDetailAnswer]
    tasks: NotRequired[list[dict[str, str]]]


class TaskPageAnswer(Answer):
    """`total` tasks match, or more than that if it is not `exact`. `search_behind`: ended tasks that the
    search does not know yet, at most 10,001; None without a search.
    """

    tasks: list[TaskEntry]
    next_before: int | None
    next_after: int | None
    total: int
    exact: bool
    search_behind: int | None


class TaskDone(Answer):
    batch: str
    id: str
    row: int
    outcome: str


class Batches(Answer):
    batches: list[BatchView]


class BatchCancelled(Answer):
    batch: str
    cancelled: int
    requested: int


class BatchRetried(Answer):
    batch: str
    queued: int


class BatchPurged(Answer):
    """`left`: tasks whose contents may go too, with another request."""

    batch: str
    purged: int
    left: int


class ProviderBatches(Answer):
    provider_batches: list[ProviderBatchView]
    next_before: int | None


class ProviderBatchCancelled(Answer):
    provider_batch: ProviderBatchView


class UsageGroup(TypedDict):
    key: dict[str, str | float]
    totals: Totals


class Usage(Answer):
    since: float
    until: float
    rows: list[UsageGroup]


class Events(Answer):
    events: list[EventView]
    next_before: int | None
