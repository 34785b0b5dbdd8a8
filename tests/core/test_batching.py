"""`run --within`: rows go to the batch APIs of simulators whose clock of batches is fast, and come back."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from src.simulator.process import SimulatorProcess
from tests.helpers import Script, live_environment, read_rows, run_script, write_rows

API_FORMATS = ("anthropic", "openai", "gemini")
FAST = {"latency": {"first_token_s": 0.0, "per_token_s": 0.0}}
SPEED = 600  # of the clock of batches
ROWS = 240


def simulator_of(**batches: Any) -> dict[str, Any]:
    return {
        "batch_clock_factor": SPEED,
        "providers": {api: {**FAST, "batches": batches} for api in API_FORMATS},
    }


def rows(count: int = ROWS, **fields: Any) -> list[dict[str, Any]]:
    return [{"id": f"r{n}", "prompt": f"Question {n}?", "max_tokens": 60, **fields} for n in range(count)]


def within(folder: Path, tasks: list[dict[str, Any]], duration: str, simulator: SimulatorProcess) -> Script:
    write_rows(folder / "tasks.jsonl", tasks)
    return run_script(
        *("run", "tasks.jsonl", "-o", "out.jsonl", "--within", duration, "--yes"),
        cwd=folder,
        env=live_environment(simulator.base_urls),
        timeout_s=120,
    )


def batches_of(folder: Path) -> list[dict[str, Any]]:
    if not (folder / "state" / "live.db").exists():
        return []
    with closing(sqlite3.connect(folder / "state" / "live.db")) as database:
        database.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in database.execute("SELECT * FROM provider_batches ORDER BY id")]
        except sqlite3.OperationalError:  # the schema is not there yet
            return []


def kinds_of_events(folder: Path) -> set[str]:
    """The kinds of events of batches."""
    with closing(sqlite3.connect(folder / "state" / "live.db")) as database:
        found = database.execute("SELECT DISTINCT kind FROM events WHERE kind LIKE 'batch%'")
        return {kind for (kind,) in found}


def answered_once(folder: Path, count: int = ROWS) -> list[dict[str, Any]]:
    found = read_rows(folder / "out.jsonl")
    assert sorted(row["id"] for row in found) == sorted(f"r{n}" for n in range(count))
    assert {row["status"] for row in found} == {"succeeded"}
    return found


def billed(simulator: SimulatorProcess) -> int:
    return billed_in([simulator.stats()[api] for api in API_FORMATS])


def billed_in(stats: Sequence[dict[str, Any]]) -> int:
    return sum(model["answers"] for each in stats for model in each["batches"]["billed"].values())


def test_rows_that_may_wait_are_answered_by_a_batch_at_half_the_price(tmp_path: Path) -> None:
    with SimulatorProcess.start(simulator_of()) as simulator:
        done = within(tmp_path, rows(), "24h", simulator)
        assert done.process.returncode == 0, done.err
        found = answered_once(tmp_path)
        assert billed(simulator) == ROWS
        assert not any(simulator.stats()[api]["calls"] for api in API_FORMATS)
    (cheapest,) = {row["model"] for row in found}
    assert cheapest == "gemini-3.8-flash"
    assert all(row["attempts"][0]["choice"] == "batch" for row in found if "attempts" in row)
    assert {batch["state"] for batch in batches_of(tmp_path)} == {"collected"}
    assert sum(batch["reserved_nanos"] for batch in batches_of(tmp_path)) == 0
    cost = sum(batch["cost_nanos"] for batch in batches_of(tmp_path))
    with closing(sqlite3.connect(tmp_path / "state" / "live.db")) as database:
        booked = database.execute("SELECT sum(cost_nanos), sum(discount_nanos) FROM batch_calls").fetchone()
    assert booked[0] == cost > 0 and booked[1] == pytest.approx(cost, abs=ROWS), "half a nano-dollar a row"
    assert re.search(
        r"saved \S+ by the choice of models, \$0\.\S+ at half price, \$0 by prompt caches", done.out
    )


def test_rows_that_fail_or_expire_in_a_batch_are_answered_live(tmp_path: Path) -> None:
    faults = {"row_faults": {"server_error": 0.1}, "expiring": 0.5, "window_s": 1_200.0}
    with SimulatorProcess.start(simulator_of(**faults)) as simulator:
        done = within(tmp_path, rows(), "24h", simulator)
        assert done.process.returncode == 0, done.err
        answered_once(tmp_path)
        live = sum(simulator.stats()[api]["calls"] for api in API_FORMATS)
        assert billed(simulator) + live >= ROWS
        assert 0 < live < ROWS
    ends = {"batch_expired" if batch["unanswered"] else "batch_ended" for batch in batches_of(tmp_path)}
    assert kinds_of_events(tmp_path) == {"batch_created", *ends}


def test_without_a_deadline_nothing_goes_to_a_batch(tmp_path: Path) -> None:
    with SimulatorProcess.start(simulator_of()) as simulator:
        write_rows(tmp_path / "tasks.jsonl", rows(20))
        done = run_script(
            *("run", "tasks.jsonl", "-o", "out.jsonl", "--yes"),
            cwd=tmp_path,
            env=live_environment(simulator.base_urls),
        )
        assert done.process.returncode == 0, done.err
    answered_once(tmp_path, 20)
    assert not batches_of(tmp_path)


def test_with_little_time_all_is_live(tmp_path: Path) -> None:
    with SimulatorProcess.start(simulator_of()) as simulator:
        done = within(tmp_path, rows(600), "10m", simulator)
        assert done.process.returncode == 0, done.err
        answered_once(tmp_path, 600)
    assert not batches_of(tmp_path)


@pytest.mark.parametrize("duration", ["soon", "0s", "-1h", "24", "1e9w"])
def test_a_time_that_is_none_is_refused(tmp_path: Path, duration: str) -> None:
    write_rows(tmp_path / "tasks.jsonl", rows(1))
    done = run_script("run", "tasks.jsonl", "--within", duration, cwd=tmp_path)
    if duration == "24":  # seconds
        assert done.process.returncode == 0
    else:
        assert done.process.returncode == 2
        assert "--within" in done.err


def test_after_a_kill_the_same_command_goes_on_and_nothing_is_paid_twice(tmp_path: Path) -> None:
    with SimulatorProcess.start(simulator_of() | {"batch_clock_factor": 0}) as simulator:
        write_rows(tmp_path / "tasks.jsonl", rows())
        command = ("run", "tasks.jsonl", "-o", "out.jsonl", "--within", "24h", "--yes")
        with Script(*command, cwd=tmp_path, env=live_environment(simulator.base_urls)) as running:
            while not any(batch["state"] == "submitted" for batch in batches_of(tmp_path)):
                running.pause()
            running.kill()
        simulator.batch_clock(factor=SPEED)
        done = run_script(*command, cwd=tmp_path, env=live_environment(simulator.base_urls), timeout_s=120)
        assert done.process.returncode == 0, done.err
        answered_once(tmp_path)
        stats = [simulator.stats()[api]["batches"] for api in API_FORMATS]
        assert sum(each["created"] for each in stats) == 1
        assert sum(each["paid_twice"] for each in stats) == 0
        assert billed(simulator) == ROWS
    assert [batch["state"] for batch in batches_of(tmp_path)] == ["collected"]


@pytest.mark.parametrize("api", API_FORMATS)
def test_rows_whose_results_were_deleted_go_live_and_what_they_may_have_cost_is_told(
    tmp_path: Path, api: str
) -> None:
    action = "retrieve" if api == "gemini" else "results"
    with SimulatorProcess.start(simulator_of(faults={f"{action}_gone": 1.0})) as simulator:
        done = within(tmp_path, rows(100, providers=[api]), "24h", simulator)
        assert done.process.returncode == 0, done.err
        found = answered_once(tmp_path, 100)
        assert simulator.stats()[api]["calls"] == 100
    assert [batch["state"] for batch in batches_of(tmp_path)] == ["collected"]
    for row in found:
        lost, *_, live = row["attempts"]
        assert (lost["outcome"], lost["choice"], live["outcome"]) == ("uncertain", "batch", "ok")
        assert lost["cost_usd"] > 0
    assert "has deleted its results, which may have cost up to $" in done.err


@pytest.mark.parametrize("api", ["anthropic", "openai"])
def test_rows_name_what_their_model_does_not_take(tmp_path: Path, api: str) -> None:
    tasks = rows(100, providers=[api], temperature=0.5, seed=1, reasoning_effort="high")
    with SimulatorProcess.start(simulator_of()) as simulator:
        done = within(tmp_path, tasks, "24h", simulator)
        assert done.process.returncode == 0, done.err
        batched = answered_once(tmp_path, 100)
        assert batches_of(tmp_path)
    live = tmp_path / "live"
    live.mkdir()
    with SimulatorProcess.start(simulator_of()) as simulator:
        assert within(live, tasks, "5m", simulator).process.returncode == 0
    assert not batches_of(live)
    warned = {tuple(row["warnings"]) for row in batched}
    assert warned == {tuple(row["warnings"]) for row in answered_once(live, 100)} != {()}


def test_a_batch_that_somebody_cancels_ends_and_its_rows_go_live(tmp_path: Path) -> None:
    many = 600
    with SimulatorProcess.start(simulator_of(stuck=1.0)) as simulator:
        write_rows(tmp_path / "tasks.jsonl", rows(many))
        env = live_environment(simulator.base_urls)
        command = ("run", "tasks.jsonl", "-o", "out.jsonl", "--within", "24h", "--yes")
        with Script(*command, cwd=tmp_path, env=env) as running:
            while not (there := [each for each in batches_of(tmp_path) if each["state"] == "submitted"]):
                running.pause()
            shown = run_script("batches", "--open", "--json", cwd=tmp_path, env=env)
            (listed,) = json.loads(shown.out)["provider_batches"]
            table = run_script("batches", cwd=tmp_path, env=env).out
            asked = run_script("batches", "--cancel", str(there[0]["id"]), cwd=tmp_path, env=env)
            running.wait(60)
        assert running.process.returncode == 0, running.err
        stats = [simulator.stats()[api] for api in API_FORMATS]
        again = run_script("batches", "--cancel", str(there[0]["id"]), cwd=tmp_path, env=env)
    assert (listed["id"], listed["rows"], listed["waiting"]) == (there[0]["id"], many, many)
    assert listed["expected_at"] is not None and listed["reserved_usd"] > 0 == listed["cost_usd"]
    assert "in progress" in table and listed["model"] in table
    assert f"batch {listed['id']} at {listed['provider']} is cancelled now; {many} rows" in asked.out
    answered_once(tmp_path, many)
    (batch,) = batches_of(tmp_path)
    assert (batch["state"], batch["unanswered"], batch["reserved_nanos"]) == ("collected", many, 0)
    assert (billed_in(stats), sum(each["calls"] for each in stats)) == (0, many)
    assert (again.process.returncode, "has ended" in again.err) == (2, True)


def test_a_state_without_batches_says_how_rows_get_there(tmp_path: Path) -> None:
    done = run_script("batches", cwd=tmp_path)
    assert (done.process.returncode, "`run --within 24h` sends rows there" in done.out) == (0, True)
    assert json.loads(run_script("batches", "--json", cwd=tmp_path).out)["provider_batches"] == []
    assert list(tmp_path.iterdir()) == [], "looking leaves nothing behind"
    refused = run_script("batches", "--cancel", "7", cwd=tmp_path)
    assert (refused.process.returncode, "there is no batch number 7" in refused.err) == (2, True)
