"""Tasks of a higher priority or of another owner are claimed although the prefetch window is full."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from src.config import load_settings
from src.core.store import Store, schema
from src.records import TaskStatus
from src.settings import LimitSettings, Settings
from src.simulator.process import SimulatorProcess
from tests.store.makers import rows_of

from .test_budget_window import pool_over, small_window, tasks, until

PER_MINUTE = 240.0


def slow() -> Settings:
    """A window of 100 tasks, and 4 requests a second at each provider."""
    settings = small_window(load_settings(environ={}))
    limits = LimitSettings(requests_per_minute=PER_MINUTE)
    rows = {name: row.model_copy(update={"limits": limits}) for name, row in settings.providers.items()}
    return settings.model_copy(update={"providers": rows})


@pytest.mark.parametrize(
    ("batch", "priority"),
    [
        pytest.param("queue", 1000, id="urgent, another owner"),
        pytest.param("file", 1000, id="urgent, the same owner"),
        pytest.param("queue", 0, id="ordinary, another owner"),
    ],
)
async def test_priority_holds_across_the_prefetch_window(
    batch: str, priority: int, tmp_path: Path, simulator: SimulatorProcess
) -> None:
    """453 lower rows went first, and the urgent one expired. Another owner's ordinary task has its turn."""
    with Store.open(tmp_path / "live.db", simulated=False) as store:
        store.intake.add_tasks(tasks("file", 600), now=1.0)
        pool = pool_over(store, simulator, slow(), {})
        serving = asyncio.create_task(pool.run(until_done=False))
        await until(
            lambda: (
                store.reports.task_counts("file")[TaskStatus.SUCCEEDED] >= 10 and pool.scheduler.waiting > 85
            )
        )
        (plain,) = tasks(batch, 1, "Now!")
        urgent = type(plain)("urgent", batch, plain.messages, max_tokens=100, priority=priority)
        added_at = time.time()
        store.intake.add_tasks([urgent], now=3.0)
        await until(lambda: store.tasks.statuses(batch, ["urgent"])["urgent"] is TaskStatus.SUCCEEDED)
        assert pool.scheduler.waiting <= 100 + 100
        pool.stop_now()
        await serving
        found = store.tasks.find(batch, "urgent")
        assert found is not None
        called_at = found.result.attempts[0].started_at
        earlier = [row for row in rows_of(store, schema.attempts) if added_at < row.started_at < called_at]
        assert len(earlier) < 35, "as many go before the next ordinary claim"
