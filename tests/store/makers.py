"""Tasks, attempts and results with only what a test is about, and the truth that all sums must match."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from src.core.store import Registrant, Store, StoredResult, schema
from src.core.store.rollups import CALL_SUMS, FinishedTask, add_call, add_task
from src.messages import Message
from src.records import Attempt, Candidate, Outcome, RefusalKind, Result, Task, TaskStatus, Usage

NOW = 1_800_000_000.0
REASONS = (Candidate("openai", "gpt-x", 0.25), Candidate("gemini", "gem-x", 0.125, RefusalKind.PAUSED))


def a_task(id: str = "t1", batch: str = "b", prompt: str = "", **task_fields: Any) -> Task:
    return Task(id=id, batch=batch, messages=(Message("user", prompt or f"prompt of {id}"),), **task_fields)


def tasks(n: int, batch: str = "b", **task_fields: Any) -> list[Task]:
    return [a_task(f"t{i:04}", batch, **task_fields) for i in range(n)]


def an_attempt(number: int = 1, outcome: Outcome = Outcome.OK, **fields: Any) -> Attempt:
    values: dict[str, Any] = {
        "provider": "openai",
        "model": "gpt-x",
        "agent": "gpt-engineer",
        "started_at": NOW + number,
        "latency_s": 0.5,
        "choice": "weighted",
        "reasons": REASONS,
        "usage": Usage(10, 2, 3, 20, 5),
        "cost_nanos": 1000,
        "max_tokens": 256,
    }
    return Attempt(number=number, outcome=outcome, **(values | fields))


def a_result(
    task: Task, *attempts: Attempt, status: TaskStatus = TaskStatus.SUCCEEDED, **fields: Any
) -> Result:
    values: dict[str, Any] = {
        "output": f"answer to {task.id}",
        "finish_reason": "stop",
        "tier": "economy",
        "baseline_nanos": 5000,
    }
    return Result(
        task=task,
        status=status,
        finished_at=NOW + 10,
        attempts=attempts or (an_attempt(),),
        **(values | fields),
    )


def register(store: Store, incarnation: str = "me", *, now: float = NOW, **fields: Any) -> Any:
    return store.orchestrators.register(Registrant(incarnation, 1, "here", "serve"), now=now, **fields)


def results_of(store: Store, batch: str = "b") -> list[StoredResult]:
    """The results of a batch in the order of its file, as a run reads them for a results file."""
    return store.result_sync.results_at([row for row, _ in store.result_sync.ended(batch)])


def with_claims(store: Store, *added: Task, incarnation: str = "me") -> list[Task]:
    """Add tasks, register, claim everything."""
    store.intake.add_tasks(added, now=NOW)
    register(store, incarnation)
    return store.queue.claim(incarnation, 1000, now=NOW)


def ids(found: Iterable[Any]) -> list[str]:
    return [item.id for item in found]


def rows_of(store: Store, table: sa.Table) -> list[Any]:
    """All rows as they are, past the store. The statement is text: nothing to compile for each store."""
    with store.database.reading() as connection:
        return list(connection.exec_driver_sql(f"SELECT * FROM {table.name}"))  # noqa: S608 - our own names


def assert_sums_are_true(store: Store) -> None:
    """Every rollup equals what adding up the rows gives."""
    task_rows = rows_of(store, schema.tasks)
    streams = {row.id: row for row in rows_of(store, schema.task_streams)}
    attempts = rows_of(store, schema.attempts)
    _assert_counts(store, task_rows)
    _assert_task_sums(store, task_rows)
    _assert_day_sums(store)
    _assert_backlog(store, task_rows)
    _assert_call_sums(store, {row.task_row: streams[row.stream_id] for row in task_rows}, attempts)
    per_task = Counter(row.task_row for row in attempts)
    assert {row.task_row: row.attempts for row in task_rows if row.attempts} == per_task
    for row in task_rows:
        assert (row.status == "running") == (row.claimed_by is not None)
    _assert_deferrals(store, task_rows)
    _assert_provider_batches(store, task_rows)


def _assert_deferrals(store: Store, task_rows: list[Any]) -> None:
    deferred = rows_of(store, schema.deferred_tasks)
    assert {row.task_row for row in deferred} == {r.task_row for r in task_rows if r.status == "deferred"}
    true: dict[int, list[int]] = {}
    for row in deferred:
        sums = true.setdefault(row.group_id, [0] * 5)
        added = (1, row.text_chars, row.prompt_bytes, row.max_tokens or 0, row.max_tokens is None)
        for place, value in enumerate(added):
            sums[place] += value
    stored = {
        row.id: [row.rows, row.text_chars, row.prompt_bytes, row.max_tokens, row.unstated]
        for row in rows_of(store, schema.deferral_groups)
    }
    assert stored == true


def _assert_provider_batches(store: Store, task_rows: list[Any]) -> None:
    rows = rows_of(store, schema.provider_batch_rows)
    waited_for = Counter(row.task_row for row in rows if not row.released)
    assert waited_for == Counter(row.task_row for row in task_rows if row.status == "batched")
    reserved: Counter[tuple[int, int]] = Counter()
    for row in rows:
        reserved[row.provider_batch_id, row.stream_id] += row.reserved_nanos
    stored = {
        (row.provider_batch_id, row.stream_id): row.nanos for row in rows_of(store, schema.batch_reservations)
    }
    assert {key: nanos for key, nanos in stored.items() if nanos} == {k: n for k, n in reserved.items() if n}
    for batch in rows_of(store, schema.provider_batches):
        mine = [row for row in rows if row.provider_batch_id == batch.id]
        assert batch.left_rows == sum(not row.released for row in mine)
        assert batch.released_rows == sum(row.released for row in mine)
        assert batch.reserved_nanos == sum(row.reserved_nanos for row in mine)
        ended = batch.answered + batch.failed + batch.unanswered + batch.late
        assert batch.rows == len(mine) + ended
        if batch.state in ("collected", "failed"):
            assert not mine


def _assert_counts(store: Store, task_rows: list[Any]) -> None:
    stored = {(r.batch_id, r.status): r.tasks for r in rows_of(store, schema.task_counts) if r.tasks}
    true: Counter[tuple[int, str]] = Counter()
    for row in task_rows:
        true[row.batch_id, row.status] += 1
        true[schema.ALL_BATCHES, row.status] += 1
    assert stored == true


def _assert_task_sums(store: Store, task_rows: list[Any]) -> None:
    true: dict[tuple[Any, ...], list[int]] = {}
    for row in task_rows:
        if TaskStatus(row.status).is_final:
            finished = FinishedTask.of_row(row, TaskStatus(row.status), row.baseline_nanos)
            add_task(
                true.setdefault((row.batch_id, row.agent, row.tier), [0] * len(schema.TASK_COLUMNS)), finished
            )
    stored = {tuple(row[:3]): list(row[3:]) for row in rows_of(store, schema.batch_tasks)}
    assert {key: sums for key, sums in stored.items() if any(sums)} == true


def _assert_day_sums(store: Store) -> None:
    true: dict[tuple[Any, ...], list[int]] = {}
    for row in rows_of(store, schema.usage):
        sums = true.setdefault((row.minute // 1440, *row[1:5]), [0] * len(CALL_SUMS))
        for place, value in enumerate(row[5:]):
            sums[place] += value
    assert {tuple(row[:5]): list(row[5:]) for row in rows_of(store, schema.usage_days)} == true


def _assert_backlog(store: Store, task_rows: list[Any]) -> None:
    """Every ended task that has its content is either in the search's backlog or in its index."""
    ended = {row.task_row for row in task_rows if TaskStatus(row.status).is_final}
    backlog = {row.task_row for row in rows_of(store, schema.search_backlog)}
    assert backlog <= ended
    with_content = ended & {row.task_row for row in rows_of(store, schema.prompts)}
    if not store.search.progress().is_ready:
        assert backlog >= with_content


def _assert_call_sums(store: Store, stream_of: dict[int, Any], attempts: list[Any]) -> None:
    usage: dict[tuple[Any, ...], list[int]] = {}
    calls: dict[tuple[Any, ...], list[int]] = {}
    for row in attempts:
        attempt = an_attempt(
            outcome=Outcome(row.outcome),
            latency_s=row.latency_s,
            cost_nanos=row.cost_nanos,
            choice=row.choice,
            usage=Usage(
                row.input_tokens,
                row.cache_read_tokens,
                row.cache_write_tokens,
                row.output_tokens,
                row.reasoning_tokens,
            ),
        )
        stream = stream_of[row.task_row]
        key = (int(row.started_at // 60), row.provider, row.model, stream.task_type, stream.submitter)
        add_call(usage.setdefault(key, [0] * len(CALL_SUMS)), attempt)
        add_call(calls.setdefault((stream.batch_id, row.provider, row.model), [0] * len(CALL_SUMS)), attempt)
    stored_usage = {tuple(row[:5]): list(row[5:]) for row in rows_of(store, schema.usage)}
    stored_calls = {tuple(row[:3]): list(row[3:]) for row in rows_of(store, schema.batch_calls)}
    # No attempts belong to canaries, nor to rows without a model: what a dead orchestrator may have spent.
    called = {key: sums for key, sums in stored_usage.items() if key[2] and key[3] != "canary"}
    assert called == usage
    assert {key: sums for key, sums in stored_calls.items() if key[2]} == calls
