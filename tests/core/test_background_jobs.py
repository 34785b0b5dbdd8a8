"""An unexpected error in one of the background jobs is reported, and the run goes on to its end."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from src.config import load_settings, simulated_access
from src.core.clock import Clock
from src.core.orchestrator import Orchestrator, OrchestratorOptions, RunReport
from src.core.store import Store, TaskSelection
from src.core.supervisor import Supervisor
from src.errors import StoreError
from src.messages import Message
from src.records import Event, Task, TaskStatus
from src.settings import Settings
from src.simulator.process import SimulatorProcess

TASKS = [Task(f"t{n:02}", "queue", (Message("user", f"Question {n}?"),)) for n in range(30)]
SETTINGS = load_settings(environ={})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "state.db", simulated=True) as opened:
        opened.intake.add_tasks(TASKS, now=1.0)
        yield opened


def pool_over(
    store: Store,
    base_urls: dict[str, str],
    on_result: Callable[[Any], None] | None = None,
    settings: Settings = SETTINGS,
) -> Orchestrator:
    access = simulated_access(settings, base_urls)
    return Orchestrator(settings, access, store, Clock(), OrchestratorOptions(on_result=on_result))


def run(pool: Orchestrator, timeout_s: float = 60.0) -> RunReport:
    async def running() -> RunReport:
        async with asyncio.timeout(timeout_s):
            return await pool.run(until_done=True)

    return asyncio.run(running())


class Boom(RuntimeError):
    """An unexpected error."""


def fails_once(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
    """Make the first call of a method raise; the others work as always."""
    method, lock, raised = getattr(owner, name), threading.Lock(), False

    def called(*args: Any, **kwargs: Any) -> Any:
        nonlocal raised
        with lock:
            first, raised = not raised, True
        if first:
            raise Boom
        return method(*args, **kwargs)

    monkeypatch.setattr(owner, name, called)


@dataclass(frozen=True)
class Job:
    """A method that fails, by its path from the pool, and the job that the event names."""

    path: str
    name: str
    reported: str
    lost: int = 0  # tasks that fail because of it


JOBS = {
    "claim": Job("_session.store.queue", "claim_part", "claiming"),
    "poll": Job("_session.store.queue", "poll", ""),
    "offer": Job("scheduler", "offer", "offering a task", lost=1),
    "placing": Job("scheduler", "dispatch", "placing tasks"),
    "settle": Job("scheduler", "settle", "settling a call", lost=1),
    "decision of a settle": Job("balancer", "settle", "settling a call", lost=1),
    "events": Job("balancer", "take_events", ""),
    "housekeeping": Job("balancer", "note_states", "housekeeping"),
    "settings": Job("_store_sync._command_handler", "apply", "settings and commands"),
    "heartbeat": Job("_session.store.orchestrators", "heartbeat", "synchronization with the store"),
    "trim": Job("_budget_keeper", "trim", "trimming reserved money"),
    "health": Job("_health", "_ask", "the health watch of "),
    "storing": Job("_session.store.queue", "finish", "storing results"),
    "storing attempts and events": Job("_session.store.events", "add", "storing results"),
    "result writer": Job("_result_writer", "_commit", "storing results"),
    "results": Job("", "_on_result", "delivering results"),
}


@pytest.mark.parametrize("job", [pytest.param(job, id=name) for name, job in JOBS.items()])
def test_a_job_that_fails_is_reported_and_every_task_is_answered(
    job: Job,
    store: Store,
    simulator: SimulatorProcess,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = pool_over(store, simulator.base_urls, on_result=lambda results: None)
    began = pool._report_start  # the jobs, not what comes before them

    def after_the_start(start_s: float) -> None:
        fails_once(monkeypatch, attrgetter(job.path)(pool) if job.path else pool, job.name)
        if job.name in ("apply", "note_states", "heartbeat", "trim"):  # what happens each second
            hold_until_done(pool, monkeypatch)
        if job.name == "apply":
            pool._store_sync._settings_version = -1
        began(start_s)

    monkeypatch.setattr(pool, "_report_start", after_the_start)
    with caplog.at_level(logging.ERROR):
        report = run(pool)
    assert report.counts.get(TaskStatus.FAILED, 0) == job.lost
    assert report.answered == len(TASKS) - job.lost
    assert store.reports.task_counts().get(TaskStatus.RUNNING, 0) == 0
    reported = [row.event.message for row in store.events.recent() if row.event.kind == "internal_error"]
    assert any(
        f"unexpected internal error in {job.reported}" in text and "Boom" in text for text in reported
    ), reported
    assert any(record.exc_info and record.exc_info[0] is Boom for record in caplog.records)
    if job.lost:
        with_error = [row.error for row in store.tasks.page(50, TaskSelection([TaskStatus.FAILED])).rows]
        assert with_error == ["internal error of the orchestrator: Boom (its log has the traceback)"]


def hold_until_done(pool: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run does not end before the event is stored."""
    completion = pool._prefetch._completion
    check = completion.check

    async def later() -> bool:
        return await check() and any(
            row.event.kind == "internal_error" for row in pool._session.store.events.recent()
        )

    monkeypatch.setattr(completion, "check", later)


def test_an_internal_error_during_a_call_is_retried_and_counts_against_no_provider(
    store: Store,
    simulator: SimulatorProcess,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = pool_over(store, simulator.base_urls)
    for agent in pool._local._agents.values():
        fails_once(monkeypatch, agent, "attempt")
    with caplog.at_level(logging.ERROR):
        report = run(pool)
    assert report.answered == len(TASKS), "a call that our own code broke is made again"
    assert any(record.exc_info and record.exc_info[0] is Boom for record in caplog.records)
    calls = store.reports.summary().calls
    assert calls.failed == 0 and 0 < calls.uncertain <= len(pool._local._agents), "it may have been billed"
    assert all(p.breaker.opened_count == 0 and not p.history.error_rate for p in pool.balancer.providers)


def test_a_persistent_internal_error_fails_the_task(
    store: Store, simulator: SimulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_over(store, simulator.base_urls)
    for agent in pool._local._agents.values():
        monkeypatch.setattr(agent, "request_for", always_fails)
    report = run(pool)
    assert report.counts == {TaskStatus.FAILED: len(TASKS)}
    row = store.tasks.find("queue", "t00")
    assert row is not None and [a.error_kind for a in row.result.attempts] == ["InternalError"] * 3
    assert "internal error of the orchestrator: Boom" in row.result.error
    assert all(p.breaker.opened_count == 0 for p in pool.balancer.providers)


def always_fails(placement: object) -> None:
    raise Boom


def test_an_event_with_a_time_out_of_range_is_stored_and_does_not_end_the_run(
    store: Store, simulator: SimulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_over(store, simulator.base_urls)
    odd = Event(1.0, "odd", "a hold without an end", level="alert", fields={"until": 1e17})
    began = pool._report_start

    def with_an_odd_event(start_s: float) -> None:
        pool._reporter.report([odd])
        began(start_s)

    monkeypatch.setattr(pool, "_report_start", with_an_odd_event)
    assert run(pool).answered == len(TASKS)
    kinds = {row.event.kind for row in store.events.recent()}
    assert {"odd", "internal_error"} <= kinds


@pytest.mark.parametrize("status", [200, 500])
async def test_a_model_list_that_no_parser_survives_does_not_end_the_run(status: int, store: Store) -> None:
    calls = lists = 0
    recovered = asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.Response:
        nonlocal calls, lists
        if request.method == "GET":
            lists += 1
            recovered.set()
            return web.Response(status=status, text="[" * 200_000, content_type="application/json")
        calls += 1
        if not recovered.is_set():
            return web.json_response({"error": {"message": "overloaded"}}, status=503)
        message = {"role": "assistant", "content": "Yes."}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
        return web.json_response({"id": "1", "model": "gpt-6-luna", "choices": [choice], "usage": usage})

    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    settings = SETTINGS.model_copy(
        update={
            "providers": {"openai": SETTINGS.providers["openai"]},
            "breaker": SETTINGS.breaker.model_copy(
                update={"recovery_timeout_s": 0.5, "health_interval_s": 0.5}
            ),
        }
    )
    pool = pool_over(store, {"openai": f"http://{host}:{port}/v1"}, settings=settings)
    async with asyncio.timeout(60):
        report = await pool.run(until_done=True)
    await runner.cleanup()
    assert report.answered == len(TASKS) and lists and calls >= len(TASKS)


# ------------------------------------------------------------------ the supervisor itself


async def test_a_job_that_always_fails_is_reported_once_a_minute_and_given_up_only_with_a_limit() -> None:
    events: list[Event] = []
    supervisor = Supervisor(events.extend, lambda: 5.0)

    async def job() -> None:
        raise Boom

    with pytest.raises(StoreError, match=r"the job failed 3 times in a row \(Boom"):
        await supervisor.keep("the job", job, restarts=2)
    assert [event.message for event in events] == [
        "unexpected internal error in the job: Boom (the log has the traceback)"
    ]


async def test_a_job_that_is_cancelled_or_returns_is_not_restarted() -> None:
    supervisor = Supervisor(lambda events: None, lambda: 5.0)
    started = 0

    async def waits() -> None:
        nonlocal started
        started += 1
        await asyncio.Event().wait()

    task = asyncio.create_task(supervisor.keep("a job", waits))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled() and started == 1
    await supervisor.keep("another", lambda: asyncio.sleep(0))


def test_a_result_writer_that_cannot_go_on_ends_the_run_in_good_order(
    store: Store, simulator: SimulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_over(store, simulator.base_urls)
    monkeypatch.setattr(pool._result_writer, "_commit", broken_commit)
    monkeypatch.setattr("src.core.supervisor.RESTART_AT_MOST_S", 0.01)
    with pytest.raises(StoreError, match="storing results failed 5 times in a row"):
        run(pool)
    assert store.reports.task_counts().get(TaskStatus.RUNNING, 0) == 0, "it has signed off"


async def broken_commit() -> None:
    raise Boom


# ------------------------------------------------------------------ two threads


def test_the_store_thread_gets_values_while_the_loop_changes_the_queues(
    store: Store, simulator: SimulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heartbeats and learned limits go to the store as fast as it takes them, with threads in quick turns."""
    monkeypatch.setattr("src.core.housekeeping.HOUSEKEEPING_S", 0.02)
    monkeypatch.setattr("src.core.housekeeping.SAVE_LEARNED_EVERY_S", 0.0)
    pool = pool_over(store, simulator.base_urls)
    threads: set[str] = set()
    snapshot = pool._placer.snapshot

    def noting() -> Any:
        threads.add(threading.current_thread().name)
        return snapshot()

    monkeypatch.setattr(pool._placer, "snapshot", noting)
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        report = asyncio.run(busy(pool))
    finally:
        sys.setswitchinterval(interval_s)
    assert report.answered == len(TASKS)
    assert threads == {threading.current_thread().name}
    assert not [row for row in store.events.recent() if row.event.kind == "internal_error"]


async def busy(pool: Orchestrator) -> RunReport:
    """Run it while tasks of many classes, which no provider can serve, come and go."""
    running = asyncio.create_task(pool.run(until_done=True))
    tasks = [
        Task(f"x{n}", "b", (Message("user", "Hi"),), max_tokens=n + 1, providers=("anthropic",))
        for n in range(100)
    ]
    for provider in pool.balancer.providers:
        provider.set_paused(provider.name == "anthropic")
    for turn in range(20):
        for task in tasks[turn % 2 :: 2]:
            if pool.scheduler.knows(task.batch, task.id):
                pool.scheduler.withdraw(task.batch, task.id)
            else:
                pool.scheduler.offer(task, pool._session.clock.now())
        await asyncio.sleep(0.01)
    for task in tasks:
        pool.scheduler.withdraw(task.batch, task.id)
    return await running
