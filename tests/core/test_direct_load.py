"""Direct requests beside a batch, at limits that bind: nobody is refused, and both go on."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from src.core.store import Store
from src.messages import Message
from src.records import Task, TaskStatus
from src.simulator.process import SimulatorProcess

from .direct_pool import request, serving, settings_for
from .pools import new_store

ROWS, REQUESTS, PER_S = 400, 40, 40.0
LIMITS = {"requests_per_minute": PER_S * 60}
SERVER = {"latency": {"first_token_s": 0.05, "per_token_s": 0.0}, "limits": LIMITS}


async def test_requests_take_turns_with_a_batch_at_its_limit(tmp_path: Path) -> None:
    rows = [
        Task(f"t{n}", "file", (Message("user", f"Row {n}?"),), max_tokens=50, providers=("openai",))
        for n in range(ROWS)
    ]
    with (
        SimulatorProcess.start({"providers": {"openai": SERVER}}) as simulator,
        new_store(tmp_path) as store,
    ):
        store.intake.add_tasks(rows, now=time.time())
        async with serving(store, simulator.base_urls, settings_for(limits=LIMITS)) as served:
            began = time.monotonic()
            while served.pool.scheduler.claimed_waiting < ROWS // 2:
                await asyncio.sleep(0.01)
            asked = []
            for number in range(REQUESTS):
                asked.append(asyncio.create_task(served.direct.ask(request(number))))
                await asyncio.sleep(ROWS / PER_S / REQUESTS / 2)
            answers = await asyncio.gather(*asked)
            left = store.reports.task_counts("file")
            await all_rows_done(store, left)
            makespan = time.monotonic() - began
            await served.drain()
        stats = simulator.stats()["openai"]
    assert stats["by_status"]["200"] == ROWS + REQUESTS
    # On a busy machine calls that left evenly may arrive together; nobody but the scheduler sees that.
    assert stats["by_status"].get("429", 0) <= 0.02 * ROWS
    waits = sorted(answer.waited_s for answer in answers)
    # Each goes next, or shares the limit with the batch: nobody waits for the file. The longest waits are
    # those of a busy machine, whose disk may stop all placing for seconds.
    assert waits[len(waits) // 2] < makespan / 10, (waits, makespan)
    assert store_total(tmp_path) == ROWS + REQUESTS


async def all_rows_done(store: Store, left: dict[TaskStatus, int]) -> None:
    end = time.monotonic() + 300
    while left[TaskStatus.SUCCEEDED] < ROWS:
        assert time.monotonic() < end, left
        await asyncio.sleep(0.05)
        left = store.reports.task_counts("file")


def store_total(folder: Path) -> int:
    with Store.open(folder / "state.db", simulated=False) as store:
        return store.reports.task_counts()[TaskStatus.SUCCEEDED]
