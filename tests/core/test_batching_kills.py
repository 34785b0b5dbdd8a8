"""`kill -9` at random moments of the life of a batch: no row is lost or doubled, and none is paid twice."""

from __future__ import annotations

import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from src.simulator.process import SimulatorProcess
from tests.helpers import Script, live_environment, run_script, write_rows

from .test_batching import API_FORMATS, answered_once, batches_of, rows, simulator_of

ROWS, KILLS = 120, 2
LIFE_S = 6.0
STEPS = ("id", "create_sent_at", "submitted_at", "ended_at")  # a time of each, as far as a batch has come


def wait(folder: Path, running: Script, dice: random.Random) -> None:
    """Until a random moment of the life, or right after a step of a batch."""
    give_up_at = time.monotonic() + 20.0
    if dice.random() < 0.4:
        while not batches_of(folder) and time.monotonic() < give_up_at:
            running.pause()
        time.sleep(dice.uniform(0.0, LIFE_S))
        return
    step = dice.choice(STEPS)
    while time.monotonic() < give_up_at and running.process.poll() is None:
        if any(batch[step] is not None for batch in batches_of(folder)):
            break
        time.sleep(0.002)
    time.sleep(dice.uniform(0.0, 0.03))


def booked_nanos(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "state" / "live.db")) as database:
        query = "SELECT coalesce(sum(cost_nanos), 0) FROM attempts WHERE choice = 'batch'"
        return int(database.execute(query).fetchone()[0])


@pytest.mark.parametrize("api", API_FORMATS)
def test_kills_at_random_moments_lose_and_double_nothing(tmp_path: Path, api: str) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")  # noqa: T201 - shown where it fails
    dice = random.Random(seed)
    with SimulatorProcess.start(simulator_of()) as simulator:
        write_rows(tmp_path / "tasks.jsonl", rows(ROWS, providers=[api]))
        command = ("run", "tasks.jsonl", "-o", "out.jsonl", "--within", "24h", "--yes")
        env = live_environment(simulator.base_urls)
        for _ in range(KILLS):
            with Script(*command, cwd=tmp_path, env=env) as running:
                wait(tmp_path, running, dice)
                running.kill()
        done = run_script(*command, cwd=tmp_path, env=env, timeout_s=120)
        assert done.process.returncode == 0, done.err
        answered_once(tmp_path, ROWS)
        stats = simulator.stats()[api]["batches"]
    there = [batch for batch in batches_of(tmp_path) if batch["remote_id"]]
    assert stats["created"] == len(there)
    assert (stats["paid_twice"], stats["repeated_keys"]) == (0, 0)
    answers = sum(each["answers"] for each in stats["billed"].values())
    assert answers == sum(batch["answered"] + batch["late"] for batch in there)
    booked = booked_nanos(tmp_path)
    assert booked == sum(batch["cost_nanos"] for batch in there) > 0


@pytest.mark.parametrize("api", API_FORMATS)
def test_a_batch_whose_creation_was_not_answered_is_found_after_a_kill(tmp_path: Path, api: str) -> None:
    with SimulatorProcess.start(simulator_of()) as simulator:
        simulator.batch_fault(api, "create_silence")
        write_rows(tmp_path / "tasks.jsonl", rows(ROWS, providers=[api]))
        command = ("run", "tasks.jsonl", "-o", "out.jsonl", "--within", "24h", "--yes")
        env = live_environment(simulator.base_urls)
        with Script(*command, cwd=tmp_path, env=env) as running:
            while not simulator.stats()[api]["batches"]["created"]:
                running.pause()
            running.kill()
        (killed,) = batches_of(tmp_path)
        done = run_script(*command, cwd=tmp_path, env=env, timeout_s=120)
        assert done.process.returncode == 0, done.err
        answered_once(tmp_path, ROWS)
        stats = simulator.stats()[api]
    (batch,) = batches_of(tmp_path)
    assert (killed["state"], batch["state"]) == ("creating", "collected")
    assert (stats["batches"]["created"], stats["batches"]["paid_twice"], stats["calls"]) == (1, 0, 0)
