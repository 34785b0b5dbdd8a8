"""A batch whose own budget is spent does not fill the window: other batches are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from src.config import load_settings, provider_access
from src.core.clock import Clock
from src.core.orchestrator import Orchestrator, OrchestratorOptions, RunReport
from src.core.store import Store
from src.messages import Message
from src.records import Task, TaskStatus
from src.settings import Settings
from src.simulator.process import SimulatorProcess
from tests.helpers import live_environment, run_script, write_rows

POOR = "[budgets.submitters.poor]\ndaily_usd = 0.0001\n"
LARGE = "More of it. " * 300


def small_window(settings: Settings) -> Settings:
    return settings.model_copy(update={"pool": settings.pool.model_copy(update={"prefetch_limit": 100})})


def tasks(batch: str, number: int, text: str = "Why?", submitter: str = "local") -> list[Task]:
    return [
        Task(f"{batch}{n}", batch, (Message("user", f"{n} {text}"),), max_tokens=100, submitter=submitter)
        for n in range(number)
    ]


def pool_over(
    store: Store, simulator: SimulatorProcess, settings: Settings, caps: dict[str, float]
) -> Orchestrator:
    access = provider_access(settings, live_environment(simulator.base_urls))
    return Orchestrator(settings, access, store, Clock(), OrchestratorOptions(batch_caps_usd=caps))


async def until(true: Callable[[], bool], timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not true():
            await asyncio.sleep(0.02)


def test_a_capped_batch_beyond_its_budget_leaves_the_window_to_others_and_says_why_it_ends(
    tmp_path: Path, simulator: SimulatorProcess
) -> None:
    with Store.open(tmp_path / "live.db", simulated=False) as store:
        store.intake.add_tasks(tasks("capped", 300, LARGE), now=1.0)
        store.intake.add_tasks(tasks("other", 150), now=2.0)
        pool = pool_over(store, simulator, small_window(load_settings(environ={})), {"capped": 0.0001})

        async def run() -> RunReport:
            async with asyncio.timeout(60):
                return await pool.run(until_done=True)

        report = asyncio.run(run())
        capped, other = store.reports.task_counts("capped"), store.reports.task_counts("other")
    assert other[TaskStatus.SUCCEEDED] == 150, other
    assert capped[TaskStatus.QUEUED] >= 290 and capped[TaskStatus.RUNNING] == 0, capped
    assert report.stopped == "budget" and "cap of batch capped" in report.why


@pytest.mark.parametrize("kind", ["batch", "submitter"])
async def test_a_server_goes_on_with_other_batches(
    kind: str, tmp_path: Path, simulator: SimulatorProcess
) -> None:
    (tmp_path / "poor.toml").write_text(POOR if kind == "submitter" else "")
    settings = load_settings(tmp_path / "poor.toml", environ={})
    settings = small_window(settings)
    with Store.open(tmp_path / "live.db", simulated=False) as store:
        store.intake.add_tasks(tasks("capped", 300, LARGE, "poor"), now=1.0)
        pool = pool_over(store, simulator, settings, {"capped": 0.0001} if kind == "batch" else {})
        serving = asyncio.create_task(pool.run(until_done=False))
        await until(lambda: bool(pool._claims.blocked))
        store.intake.add_tasks(tasks("other", 150), now=2.0)
        await until(lambda: store.reports.task_counts("other")[TaskStatus.SUCCEEDED] == 150)
        assert store.reports.task_counts("capped")[TaskStatus.QUEUED] >= 290
        pool.drain()
        await serving


def test_serving_once_says_what_is_left_and_why(tmp_path: Path, simulator: SimulatorProcess) -> None:
    write_rows(tmp_path / "tasks.jsonl", [{"id": f"t{n}", "prompt": f"{n} {LARGE}"} for n in range(40)])
    env = live_environment(simulator.base_urls, only=["openai"])
    first = run_script("run", "tasks.jsonl", "-o", "out.jsonl", "--max-cost", "0.0001", cwd=tmp_path, env=env)
    assert first.process.returncode == 1, first.err
    once = run_script("--once", "--yes", cwd=tmp_path, env=env)
    assert once.process.returncode == 1, once.err
    assert "stopped: cap of batch" in once.err and "40 tasks left; raise it with --max-cost" in once.err
