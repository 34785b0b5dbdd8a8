"""The summary of a run names batches that it leaves open at providers; any later command closes them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from src.core.batching.keeper import BUDGET_S
from src.core.store import Store
from src.simulator.process import SimulatorProcess
from tests.helpers import Script, live_environment, run_script, write_rows

from .test_batching import API_FORMATS, FAST, SPEED, answered_once, batches_of, rows

COMMAND = ("run", "tasks.jsonl", "-o", "out.jsonl", "--within", "24h", "--yes")
ROWS = 40
LEFT = "1 batch at openai is still being cancelled: up to $"


def takes(turnaround_s: float, **more: float) -> dict[str, Any]:
    """A simulator whose batches take just so long."""
    batches = {"turnaround": {"median_s": turnaround_s, "p90_s": turnaround_s}, **more}
    return {
        "batch_clock_factor": SPEED,
        "providers": {api: {**FAST, "batches": batches} for api in API_FORMATS},
    }


@pytest.fixture
def simulator() -> Iterator[SimulatorProcess]:
    with SimulatorProcess.start(takes(40_000.0, cancel_s=20_000.0)) as found:
        yield found


def wait_until_submitted(folder: Path, running: Script) -> None:
    while not any(batch["state"] == "submitted" for batch in batches_of(folder)):
        running.pause()


def cancel_all_tasks(folder: Path) -> None:
    """As the pages do it."""
    with closing(sqlite3.connect(folder / "state" / "live.db")) as database:
        ((name,),) = database.execute("SELECT name FROM batches")
    with Store.open(folder / "state" / "live.db", simulated=False) as store:
        store.admin.cancel(name, now=time.time())


def test_a_batch_that_is_still_being_cancelled_is_told_and_closed_by_the_next_command(
    tmp_path: Path, simulator: SimulatorProcess
) -> None:
    env = live_environment(simulator.base_urls)
    write_rows(tmp_path / "tasks.jsonl", rows(ROWS, providers=["openai"]))
    write_rows(tmp_path / "other.jsonl", rows(1))
    with Script(*COMMAND, cwd=tmp_path, env=env) as running:
        wait_until_submitted(tmp_path, running)
        cancel_all_tasks(tmp_path)
        running.wait(60)
    (left,) = batches_of(tmp_path)
    assert (left["state"], left["reserved_nanos"] > 0) == ("cancelling", True)
    assert LEFT in running.out
    simulator.batch_clock(advance_s=8_000.0)  # rows are done until the cancellation is
    again = run_script(*COMMAND, cwd=tmp_path, env=env)
    assert LEFT in again.out, "it was looked at, and is not over"
    simulator.batch_clock(advance_s=20_000.0)
    other = run_script("run", "other.jsonl", "-o", "other-out.jsonl", "--yes", cwd=tmp_path, env=env)
    assert other.process.returncode == 0, other.err
    (closed,) = batches_of(tmp_path)
    assert (closed["state"], closed["reserved_nanos"]) == ("collected", 0)
    assert closed["late"] > 0 and closed["late_nanos"] == closed["cost_nanos"] > 0
    shown = run_script("batches", cwd=tmp_path, env=env).out
    assert f"for {closed['late']} answers" in " ".join(shown.split())
    last = run_script(*COMMAND, cwd=tmp_path, env=env)
    assert "of it paid late" in last.out and LEFT not in last.out
    assert sum(simulator.stats()[api]["batches"]["created"] for api in API_FORMATS) == 1


def test_a_batch_whose_provider_has_no_key_any_more_waits_for_one(
    tmp_path: Path, simulator: SimulatorProcess
) -> None:
    env = live_environment(simulator.base_urls)
    write_rows(tmp_path / "tasks.jsonl", rows(ROWS))
    with Script(*COMMAND, cwd=tmp_path, env=env) as running:
        wait_until_submitted(tmp_path, running)
        running.kill()
    without = live_environment(simulator.base_urls, only=["openai"])
    with Script(*COMMAND, cwd=tmp_path, env=without) as running:
        running.wait_for("40 tasks in 1 batch at gemini can't be collected: no key in GOOGLE_API_KEY")
        running.interrupt()
        running.wait()
    assert "internal" not in running.err
    simulator.batch_clock(advance_s=40_000.0)
    done = run_script(*COMMAND, cwd=tmp_path, env=env)
    assert done.process.returncode == 0, done.err
    answered_once(tmp_path, ROWS)
    assert [batch["state"] for batch in batches_of(tmp_path)] == ["collected"]


def test_a_run_that_can_do_nothing_without_a_key_names_the_batches_that_wait_for_it(
    tmp_path: Path, simulator: SimulatorProcess
) -> None:
    env = live_environment(simulator.base_urls)
    write_rows(tmp_path / "tasks.jsonl", rows(ROWS, providers=["openai"]))
    with Script(*COMMAND, cwd=tmp_path, env=env) as running:
        wait_until_submitted(tmp_path, running)
        running.kill()
    without = run_script(*COMMAND, cwd=tmp_path, env=live_environment(simulator.base_urls, only=["gemini"]))
    assert without.process.returncode == 2
    assert "no usable tasks: all 40 lines were rejected; earlier runs left 40 tasks in 1 batch at openai" in (
        without.err
    )
    assert "configure the provider (openai: no key in OPENAI_API_KEY) and run this again" in without.err
    (tmp_path / "tasks.jsonl").write_text("no row\n")
    unusable = run_script(*COMMAND, cwd=tmp_path, env=env)
    assert "its only line was rejected; earlier runs left 40 tasks in 1 batch at openai" in unusable.err
    assert "a server, or this command with a usable file, collects the answers" in unusable.err
    simulator.batch_clock(advance_s=40_000.0)
    write_rows(tmp_path / "tasks.jsonl", rows(ROWS, providers=["openai"]))
    done = run_script(*COMMAND, cwd=tmp_path, env=env)
    assert done.process.returncode == 0, done.err
    answered_once(tmp_path, ROWS)


def test_rows_in_a_batch_are_not_planned_and_asked_about_again(tmp_path: Path) -> None:
    with SimulatorProcess.start(takes(40_000.0) | {"batch_clock_factor": 0}) as simulator:
        env = live_environment(simulator.base_urls)
        (tmp_path / "own.toml").write_text("confirm_above_usd = 0.001\n")
        command = (*COMMAND[:-1], "--config", "own.toml")
        write_rows(tmp_path / "tasks.jsonl", rows(ROWS))
        refused = run_script(*command, cwd=tmp_path, env=env)
        with Script(*command, "--yes", cwd=tmp_path, env=env) as running:
            wait_until_submitted(tmp_path, running)
            running.kill()
        simulator.batch_clock(factor=SPEED, advance_s=40_000.0)
        done = run_script(*command, cwd=tmp_path, env=env)
    assert refused.process.returncode == 2 and "this is expected to cost" in refused.err
    assert done.process.returncode == 0, done.err
    assert "plan:" not in done.err
    assert "out.jsonl: 40 tasks in 1 batch at gemini, for up to $0.0049, from earlier runs" in done.err
    answered_once(tmp_path, ROWS)


def test_a_budget_that_pays_for_some_rows_only_sends_those_and_says_so_once(tmp_path: Path) -> None:
    with SimulatorProcess.start(takes(40_000.0)) as simulator:
        write_rows(tmp_path / "tasks.jsonl", rows(240))
        command = (*COMMAND, "--max-cost", "0.02")
        with Script(*command, cwd=tmp_path, env=live_environment(simulator.base_urls)) as running:
            running.wait_for("wait for room in a budget before they go into a batch")
            wait_until_submitted(tmp_path, running)
            looks = simulator.stats()["gemini"]["batches"]["requests"].get("retrieve", 0)
            while simulator.stats()["gemini"]["batches"]["requests"].get("retrieve", 0) == looks:
                running.pause()
            running.interrupt()
            running.wait()
    assert running.err.count("wait for room in a budget") == 1
    assert "1 batch at gemini goes on there, for up to $" in running.out
    (batch,) = batches_of(tmp_path)
    assert 0 < batch["rows"] < 240
    assert 0 < batch["reserved_nanos"] <= 20_000_000


def test_what_a_batch_leaves_of_a_budget_goes_into_the_next_one_at_once(tmp_path: Path) -> None:
    config = takes(0.0) | {"batch_clock_factor": 0}
    config["providers"] = {
        api: {**each, "output_tokens": {"mean": 5}} for api, each in config["providers"].items()
    }
    with SimulatorProcess.start(config) as simulator:
        write_rows(tmp_path / "tasks.jsonl", rows(240))
        command = (*COMMAND, "--max-cost", "0.02")
        with Script(*command, cwd=tmp_path, env=live_environment(simulator.base_urls)) as running:
            running.wait_for("wait for room in a budget before they go into a batch")
            simulator.batch_clock(factor=SPEED)
            running.wait(60)
    assert running.process.returncode == 0, running.err
    answered_once(tmp_path, 240)
    first, second = batches_of(tmp_path)
    assert second["created_at"] - first["ended_at"] < BUDGET_S / 2
    assert running.err.count("wait for room in a budget") == 1


def test_a_budget_below_one_row_ends_the_run_as_it_does_without_batches(
    tmp_path: Path, simulator: SimulatorProcess
) -> None:
    write_rows(tmp_path / "tasks.jsonl", rows(ROWS))
    command = (*COMMAND, "--max-cost", "0.0001")
    done = run_script(*command, cwd=tmp_path, env=live_environment(simulator.base_urls))
    assert "stopped: --max-cost $0.0001 reached; 40 tasks left" in done.err
    assert not batches_of(tmp_path)
