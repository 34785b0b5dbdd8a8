"""Tasks: a page of a list, and one task with its timeline."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...core.batching.listing import ProviderBatchView
from ...core.intake import QUEUE, written_calls, written_choice, written_messages, written_tools
from ...core.results import attempt_row, latency_s, result_row, usd
from ...core.store import BatchRow, EarlierEnd, TaskDetail, TaskRow, TaskSelection
from ...records import OPEN_STATUSES, Attempt, TaskStatus
from ..bodies import TaskFilter
from ..context import AppContext, visible_submitter
from ..task_states import TaskState, state_of, statuses_of
from ..visibility import is_own_batch
from . import as_json, provider_batches
from .conversation import PartView, TurnView, answer_parts, turns_of
from .pool import pool_view

TRUNCATED = "truncated"  # a filter beside the states: answers that end at max_tokens

CHOICES = {
    "preferred": "preferred provider",
    "weighted": "its turn by weight",
    "spilled": "preferred provider was busy",
    "retry": "retry",
    "probe": "probe of a provider that was out",
    "forced": "emergency provider, called although it is out",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a task's timeline. `attempt` is set for calls; `wait_s` is the time before this step."""

    at: float
    kind: str  # created, attempt, end, open
    title: str
    tone: str
    wait_s: float = 0.0
    attempt: Attempt | None = None


@dataclass(frozen=True, slots=True)
class TaskListView:
    """A page of tasks, each with its state; `next_before`, or `next_after`, is None on the last page.

    `total` tasks match, or more than that if it is not `exact`.
    """

    rows: tuple[tuple[TaskRow, TaskState], ...]
    next_before: int | None
    next_after: int | None
    total: int
    exact: bool

    @property
    def has_next(self) -> bool:
        return self.next_before is not None or self.next_after is not None


@dataclass(frozen=True, slots=True)
class TaskView:
    """One task as its page shows it."""

    detail: TaskDetail
    state: TaskState
    steps: tuple[Step, ...]
    is_open: bool
    latency_s: float | None
    cost_nanos: int | None
    turns: tuple[TurnView, ...]
    answer_parts: tuple[PartView, ...]  # beside the answer's text
    provider_batch: ProviderBatchView | None  # that it is in now

    @property
    def row(self) -> TaskRow:
        return self.detail.row


@dataclass(frozen=True, slots=True)
class BatchView:
    """A batch with its progress. `live_tasks` are the open ones that are not for a provider's batch.

    `max_cost_nanos`: what it may cost in all, where `run`, a program or a request of its run has set that.
    """

    name: str
    source: str
    submitter: str
    created_at: float
    total: int
    open_tasks: int
    live_tasks: int
    succeeded: int
    max_cost_nanos: int | None
    counts: dict[str, int]


def selection_of(context: AppContext, wanted: TaskFilter) -> TaskSelection:
    """The tasks that match the filter and that the caller may see."""
    in_flight = pool_view(context).rows_in_flight
    return TaskSelection(
        statuses=statuses_of(wanted.state),
        task_type=wanted.type,
        provider=wanted.provider,
        model=wanted.model,
        batch=wanted.batch,
        submitter=wanted.submitter,
        id_prefix=wanted.id,
        owner=visible_submitter(),
        shared=(QUEUE,),
        rows=in_flight if wanted.status is TaskState.IN_FLIGHT else None,
        truncated=wanted.status == TRUNCATED,
        search=wanted.q,
        since=wanted.begins_at(context.now()),
        until=wanted.until,
        oldest_first=wanted.order == "oldest",
    )


def task_list(context: AppContext, wanted: TaskFilter, limit: int) -> TaskListView:
    """A page of the tasks that the caller may see."""
    in_flight = pool_view(context).rows_in_flight
    is_waiting = wanted.status is TaskState.WAITING
    looked_up = limit + (len(in_flight) if is_waiting else 0)
    selection = selection_of(context, wanted)
    page = context.store.tasks.page(looked_up, selection, before=wanted.before, after=wanted.after)
    rows = [(row, state_of(row, in_flight)) for row in page.rows]
    if is_waiting:
        rows = [(row, state) for row, state in rows if state is TaskState.WAITING]
    before, after = page.next_before, page.next_after
    if len(rows) > limit:
        last = rows[limit - 1][0].row
        before, after = (None, last) if selection.oldest_first else (last, None)
    shown = tuple(rows[:limit])
    is_whole = before is after is None and wanted.before is wanted.after is None
    counted = len(shown) if is_whole else _counted(context, wanted)
    total = len(shown) if counted is None else counted
    return TaskListView(shown, before, after, total, exact=counted is not None)


def configured_models(context: AppContext) -> list[str]:
    """The models of all tiers and providers, to choose from."""
    providers = context.settings.providers.values()
    return sorted({model for each in providers for model in each.models.model_dump().values() if model})


def _counted(context: AppContext, wanted: TaskFilter) -> int | None:
    """How many tasks match, where the store keeps that number; None: counting would take too long."""
    if wanted.in_query().keys() - {"status", "batch", "order"} or wanted.status == TRUNCATED:
        return None
    counts = _visible_counts(context, wanted.batch)
    if counts is None:
        return None
    found = sum(counts.get(status, 0) for status in statuses_of(wanted.state) or counts)
    if wanted.state not in (TaskState.WAITING, TaskState.IN_FLIGHT):
        return found
    # Calls in flight are not counted by batch.
    return None if wanted.batch else found - len(pool_view(context).rows_in_flight)


def _visible_counts(context: AppContext, batch: str) -> Mapping[TaskStatus, int] | None:
    """Tasks by status, of a batch or of all; None if the caller may see only a part of them."""
    row = context.store.reports.batch(batch) if batch else None
    own = visible_submitter()
    if own and not is_own_batch(row, own):
        return None
    if not batch:
        return context.store.reports.task_counts()
    return {} if row is None else row.counts


def task_view(context: AppContext, detail: TaskDetail) -> TaskView:
    """The view of one task with its attempts."""
    return TaskView(
        detail,
        state_of(detail.row, pool_view(context).rows_in_flight),
        tuple(_steps(detail)),
        detail.row.status in OPEN_STATUSES,
        latency_s(detail.result) if detail.result else None,
        detail.row.cost_nanos,
        turns_of(detail.task.messages),
        answer_parts(detail.result.parts) if detail.result else (),
        _provider_batch(context, detail.row),
    )


def _provider_batch(context: AppContext, row: TaskRow) -> ProviderBatchView | None:
    is_there = row.status is TaskStatus.BATCHED
    return provider_batches.of_task(context, row.row) if is_there else None


def curl_of(url: str, *, with_token: bool) -> str:
    """A shell command that fetches a task as JSON; the token stays in the shell's environment."""
    token = '-H "Authorization: Bearer $ORCHESTRATOR_TOKEN" ' if with_token else ""
    return f"curl -s {token}{shlex.quote(url)}"


def _steps(detail: TaskDetail) -> list[Step]:
    row = detail.row
    steps = [Step(row.created_at, "created", f"submitted by {row.submitter}", "quiet")]
    before = row.created_at
    for attempt in detail.attempts:
        steps.append(_attempt_step(attempt, before))
        before = attempt.started_at + attempt.latency_s
    if row.finished_at is not None:
        tone = "good" if row.status is TaskStatus.SUCCEEDED else "bad"
        steps.append(Step(row.finished_at, "end", str(row.status), tone, max(0.0, row.finished_at - before)))
    return steps


def _attempt_step(attempt: Attempt, before: float) -> Step:
    ok = attempt.outcome == "ok"
    title = f"{attempt.provider} / {attempt.model}"
    tone = "good" if ok else "warn" if attempt.outcome == "neutral" else "bad"
    return Step(attempt.started_at, "attempt", title, tone, max(0.0, attempt.started_at - before), attempt)


def batch_view(row: BatchRow) -> BatchView:
    """The view of one batch."""
    counts = {status.value: number for status, number in row.counts.items()}
    open_tasks = row.open_tasks
    return BatchView(
        row.name,
        row.source,
        row.submitter,
        row.created_at,
        row.total,
        open_tasks,
        row.live_tasks,
        counts["succeeded"],
        row.max_cost_nanos,
        counts,
    )


# ------------------------------------------------------------------ JSON


def task_json(context: AppContext, row: TaskRow, state: TaskState) -> dict[str, Any]:
    """A task as an entry of a list."""
    return {
        "row": row.row,
        "batch": row.batch,
        "id": row.id,
        "status": str(row.status),
        "state": str(state),
        "task_type": row.task_type,
        "submitter": row.submitter,
        "priority": row.priority,
        "created_at": row.created_at,
        "finished_at": row.finished_at,
        "attempts": row.attempts,
        "provider": row.provider or None,
        "model": row.model or None,
        "agent": row.agent or None,
        "tier": row.tier or None,
        "truncated": row.truncated,
        "error": row.error or None,
        "cost_usd": usd(row.cost_nanos),
        "prompt_preview": row.preview,
        "simulated": context.simulated,
        "url": f"/rows/{row.row}",
    }


def task_detail_json(context: AppContext, detail: TaskDetail) -> dict[str, Any]:
    """The entry of the list, the request, and for a final task its row of a results file."""
    task = detail.task
    return {
        **task_json(context, detail.row, state_of(detail.row, pool_view(context).rows_in_flight)),
        "messages": written_messages(task.messages),
        "named_agent": task.agent or None,
        "max_tokens": task.max_tokens,
        "temperature": task.temperature,
        "top_p": task.top_p,
        "seed": task.seed,
        "reasoning_effort": task.reasoning_effort,
        "service_tier": task.service_tier or None,
        "tools": written_tools(task.tools),
        "tool_choice": written_choice(task.tool_choice),
        "parallel_tool_calls": task.parallel_tool_calls,
        "deadline_at": task.deadline_at,
        "provider_batch": as_json(_provider_batch(context, detail.row)),
        "purged": detail.is_purged,
        "metadata": dict(task.metadata),
        "timeline": [attempt_row(attempt) for attempt in detail.attempts],
        "earlier_ends": [_end_json(end) for end in detail.earlier],
        "result": result_row(detail.result, simulated=context.simulated) if detail.result else None,
    }


def _end_json(end: EarlierEnd) -> dict[str, Any]:
    """How the task ended before it ran again."""
    return {
        "status": str(end.status),
        "finished_at": end.ended_at,
        "provider": end.provider or None,
        "model": end.model or None,
        "agent": end.agent or None,
        "finish_reason": end.finish_reason or None,
        "truncated": end.truncated,
        "error": end.error or None,
        "output": end.output,
        **({"tool_calls": calls} if (calls := written_calls(end.parts)) else {}),
    }
