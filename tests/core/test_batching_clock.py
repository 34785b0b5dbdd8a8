"""The clock is set between two runs: no batch is sent twice, and none waits for a day."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from src.simulator.process import SimulatorProcess
from tests.helpers import Script, live_environment, run_script, write_rows

from .test_batching import API_FORMATS, answered_once, batches_of, rows, simulator_of

COMMAND = ("run", "tasks.jsonl", "-o", "out.jsonl", "--within", "3d", "--yes")
DAY_S = 86_400.0
TIMES = ("created_at", "create_sent_at", "next_poll_at")


@pytest.fixture
def simulator() -> Iterator[SimulatorProcess]:
    with SimulatorProcess.start(simulator_of()) as found:
        yield found


def set_clock(folder: Path, seconds: float) -> None:
    """Make what is stored of batches as if the clock had differed by so much until now."""
    moved = ", ".join(f"{name} = {name} + {seconds}" for name in TIMES)
    with closing(sqlite3.connect(folder / "state" / "live.db", timeout=30)) as database, database:
        database.execute(f"UPDATE provider_batches SET {moved}")  # noqa: S608 - names of ours


@pytest.mark.parametrize("ahead_s", [DAY_S, -DAY_S], ids=["a day ahead", "a day behind"])
@pytest.mark.parametrize("api", API_FORMATS)
def test_a_batch_that_was_created_by_a_wrong_clock_is_found(
    tmp_path: Path, simulator: SimulatorProcess, api: str, ahead_s: float
) -> None:
    """Its creation was not answered; another batch is intended, and comes after it."""
    simulator.batch_fault(api, "create_silence")
    tasks = rows(120, providers=[api])
    tasks += [{**row, "id": f"r{120 + n}", "tier": "economy"} for n, row in enumerate(tasks)]
    write_rows(tmp_path / "tasks.jsonl", tasks)
    env = live_environment(simulator.base_urls)
    with Script(*COMMAND, cwd=tmp_path, env=env) as running:
        while not simulator.stats()[api]["batches"]["created"] or len(batches_of(tmp_path)) < 2:
            running.pause()
        running.kill()
    assert {batch["state"] for batch in batches_of(tmp_path)} == {"creating", "intended"}
    set_clock(tmp_path, ahead_s)
    done = run_script(*COMMAND, cwd=tmp_path, env=env)
    assert done.process.returncode == 0, done.err
    answered_once(tmp_path, 240)
    stats = simulator.stats()[api]
    assert (stats["batches"]["created"], stats["batches"]["paid_twice"], stats["calls"]) == (2, 0, 0)
