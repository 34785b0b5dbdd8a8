"""A store with tasks of every kind, filled through its own methods and by the real balancer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from src.config import Settings, load_settings
from src.core.store import HostLock, Identity, Registrant, Store
from src.messages import Message
from src.records import (
    Attempt,
    Candidate,
    Event,
    FinishReason,
    Outcome,
    RefusalKind,
    Result,
    Task,
    TaskStatus,
    Usage,
)
from src.routing.balancer import ProviderLoadBalancer

SCRIPT = "<script>document.title='taken over'</script><img src=x onerror=alert(1)>"
ME = "filled-by-hand"
BATCH = "/home/somebody/results of a run.jsonl"


@dataclass(frozen=True)
class FilledState:
    """A filled store: its settings, and the rows of some of its tasks."""

    settings: Settings
    database: Path
    now: float
    answered_row: int
    failed_row: int
    queued_row: int


def settings_in(folder: Path, **changes: object) -> Settings:
    return load_settings(environ={}).model_copy(update={"state_dir": folder, **changes})


def fill(folder: Path, now: float, *, running: bool = True) -> FilledState:
    """A simulated store in `folder`: twelve tasks, nine of them done, and a recent heartbeat."""
    settings = settings_in(folder)
    database = folder / "simulated.db"
    with Store.open(database, simulated=True) as store:
        store.fenced().leadership.take(Identity(ME, 1, "elsewhere", 10.0))
        store.intake.add_tasks(_tasks(now), now=now - 600)
        store.orchestrators.register(Registrant(ME, 1, "elsewhere", "simulated"), now=now - 500)
        claimed = store.queue.claim(ME, 10, now=now)
        store.queue.finish(ME, [_result(task, index, now) for index, task in enumerate(claimed[:9])])
        store.events.add(
            [
                Event(now - 90, "breaker_opened", "3 failures in a row", "openai", level="warning"),
                Event(now - 60, "unknown_price", f"no price for {SCRIPT}", "gemini", level="alert"),
            ]
        )
        balancer = ProviderLoadBalancer(settings, now=now, configured=settings.providers.keys())
        store.orchestrators.heartbeat(ME, now=now, snapshot=balancer.snapshot(now))
        if not running:
            store.orchestrators.retire(ME, now=now)
        rows = store.tasks.page(100).rows
        return FilledState(
            settings,
            database,
            now,
            next(row.row for row in rows if row.id == "t-script"),
            next(row.row for row in rows if row.status is TaskStatus.FAILED),
            next(row.row for row in rows if row.status is TaskStatus.QUEUED),
        )


def show_in_flight(filled: FilledState, store: Store, rows: Iterable[int]) -> None:
    """Store a snapshot of the orchestrator in which the calls of these tasks are in flight."""
    balancer = ProviderLoadBalancer(filled.settings, now=filled.now, configured=filled.settings.providers)
    snapshot = replace(balancer.snapshot(filled.now), rows_in_flight=tuple(rows))
    store.orchestrators.heartbeat(ME, now=filled.now, snapshot=snapshot)


@contextmanager
def served(database: Path) -> Iterator[None]:
    """Hold the lock of this state, as a running orchestrator does."""
    lock = HostLock(database.with_name(database.name + ".lock"))
    assert lock.acquire()
    yield
    lock.release()


def _tasks(now: float) -> list[Task]:
    types = ("general", "research", "analysis", "code_generation")
    found = [
        Task(f"t-{i}", BATCH, (Message("user", f"Question {i}?"),), types[i % 4], line=i + 1, created_at=now)
        for i in range(10)
    ]
    said = (Message("system", "Be brief."), Message("user", f"Say {SCRIPT}"))
    return [
        Task("t-script", "queue", said, priority=5, created_at=now, submitter=f"<b>{'x' * 5}</b>"),
        *found,
        Task("=1+1", "queue", (Message("user", "a formula?"),), priority=3, created_at=now),
    ]


def _result(task: Task, index: int, now: float) -> Result:
    provider = ("anthropic", "openai", "gemini")[index % 3]
    model = {"anthropic": "claude-haiku-5-5", "openai": "gpt-6-luna", "gemini": "gemini-3.5-flash-lite"}[
        provider
    ]
    reasons = (Candidate(provider, model, 0.31), Candidate("other", "", 0.0, RefusalKind.BREAKER_OPEN))
    failed = Attempt(
        1, provider, model, "gpt-engineer", Outcome.FAILED, now - 60 * index - 20, 0.4, "weighted", reasons,
        error_kind="ServerError", error="overheated", status=500,
    )  # fmt: skip
    good = Attempt(
        2, provider, model, "gpt-engineer", Outcome.OK, now - 60 * index - 10, 1.25, "retry", reasons,
        usage=Usage(input_tokens=120, output_tokens=300), cost_nanos=1_500_000,
    )  # fmt: skip
    if index == 4:
        error = "1 attempt: ServerError overheated"
        return Result(task, TaskStatus.FAILED, now - 5, (failed,), error=error)
    output = SCRIPT if task.id == "t-script" else "=cmd|' /C calc'!A0" if task.id == "=1+1" else "An answer."
    return Result(
        task, TaskStatus.SUCCEEDED, now - 5, (failed, good) if index == 1 else (good,), output=output,
        finish_reason=FinishReason.STOP, tier="economy", baseline_nanos=9_000_000,
    )  # fmt: skip
