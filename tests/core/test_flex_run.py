"""`run --service-tier flex`: half the price where there is room, the usual one elsewhere."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from src.records import Usage
from src.routing.cost.pricing import compile_price
from src.simulator.process import SimulatorProcess
from tests.helpers import live_environment, read_rows, run_script, write_rows

ROWS = 100
FAST = {"latency": {"first_token_s": 0.0, "per_token_s": 0.0}}


def test_rows_are_answered_at_half_the_price_or_without_flex_and_the_bill_is_booked(tmp_path: Path) -> None:
    config = {"providers": {"openai": {**FAST, "flex_unavailable": 0.3}}}
    rows = [{"id": f"r{n}", "prompt": f"Question {n}?", "max_tokens": 60} for n in range(ROWS)]
    rows[0]["service_tier"] = "standard"
    write_rows(tmp_path / "tasks.jsonl", rows)
    with SimulatorProcess.start(config) as simulator:
        done = run_script(
            *("run", "tasks.jsonl", "-o", "out.jsonl", "--service-tier", "flex", "--yes"),
            cwd=tmp_path,
            env=live_environment(simulator.base_urls, only=["openai"]),
        )
        stats = simulator.stats()["openai"]
    assert done.process.returncode == 0, done.err
    found = read_rows(tmp_path / "out.jsonl")
    assert {row["status"] for row in found} == {"succeeded"} and len(found) == ROWS
    ((model, all_of_it),) = stats["answered"].items()
    flex = stats["flex"][model]
    assert 0 < stats["flex_refused"] < ROWS and flex["answers"] + stats["flex_refused"] == ROWS - 1
    assert stats["calls"] == ROWS + stats["flex_refused"], "the refused ones were asked once more"
    assert (all_of_it["answers"], stats["by_status"]["429"]) == (ROWS, stats["flex_refused"])
    live, cheap = (
        price_of(model, counts["input_tokens"], counts["output_tokens"]) for counts in (all_of_it, flex)
    )
    with closing(sqlite3.connect(tmp_path / "state" / "live.db")) as database:
        cost, saved = database.execute(
            "SELECT sum(cost_nanos), sum(discount_nanos) FROM batch_calls"
        ).fetchone()
    assert cost == pytest.approx(live - cheap / 2, abs=ROWS)
    assert saved == pytest.approx(cheap / 2, abs=ROWS)
    assert "at half price" in done.out


def price_of(model: str, input_tokens: int, output_tokens: int) -> int:
    price = compile_price("openai", model, time.time())
    assert price is not None
    return price.cost_nanos(Usage(input_tokens, 0, 0, output_tokens))


def test_a_tier_that_there_is_not_is_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "tasks.jsonl", [{"prompt": "?", "service_tier": "priority"}])
    done = run_script("run", "tasks.jsonl", cwd=tmp_path)
    assert done.process.returncode != 0 and "'service_tier'" in done.err


def test_the_same_file_goes_on_with_another_service_tier(tmp_path: Path) -> None:
    """Which tier serves a row is no part of what it asks: nothing is run again, and no row has changed."""
    write_rows(tmp_path / "tasks.jsonl", [{"prompt": f"Question {n}?"} for n in range(6)])
    first = run_script("run", "tasks.jsonl", "-o", "out.jsonl", "--limit", "3", cwd=tmp_path)
    assert first.process.returncode == 0, first.err
    second = run_script("run", "tasks.jsonl", "-o", "out.jsonl", "--service-tier", "flex", cwd=tmp_path)
    assert second.process.returncode == 0, second.err
    assert len({row["id"] for row in read_rows(tmp_path / "out.jsonl")}) == 6
