"""Options for all rows: the same for `plan` and `run`, from the command line to the call and the results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from src.simulator.process import SimulatorProcess
from tests.helpers import live_environment, read_rows, run_script, write_rows

CSV = "sku,text\nA-1,good\nA-2,bad\nA-3,fine\n"
OPTIONS = (
    *("--model", "gpt-4o", "--max-tokens", "50", "--temperature", "0.5", "--top-p", "0.9", "--seed", "7"),
    *("--system", "@system.txt", "--task-type", "analysis", "--id-column", "sku"),
    *("--prompt", "Classify: {text}", "--concurrency", "1"),
)


@pytest.fixture
def live(simulator: SimulatorProcess) -> dict[str, str]:
    return live_environment(simulator.base_urls, only=["openai"])


def rows_by_id(path: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in read_rows(path)}


def test_plan_and_run_take_every_option_for_all_rows(tmp_path: Path, live: dict[str, str]) -> None:
    (tmp_path / "reviews.csv").write_text(CSV)
    (tmp_path / "system.txt").write_text("One word.\n")
    plan = run_script("plan", "reviews.csv", *OPTIONS, "--json", cwd=tmp_path, env=live)
    assert plan.process.returncode == 0, plan.err
    assert json.loads(plan.out)["tasks"] == 3
    done = run_script("run", "reviews.csv", *OPTIONS, "-o", "out.jsonl", cwd=tmp_path, env=live)
    assert done.process.returncode == 0, done.err
    rows = rows_by_id(tmp_path / "out.jsonl")
    assert set(rows) == {"A-1", "A-2", "A-3"}
    for row in rows.values():
        assert (row["model"], row["task_type"], row["warnings"]) == ("gpt-4o", "analysis", [])
        assert row["metadata"] == {"sku": row["id"], "text": row["metadata"]["text"]}
    agents = {row["agent"] for row in rows.values()}
    assert len(agents) == 1, "one call at a time takes one agent"


def test_a_parameter_that_the_model_does_not_take_is_named_in_each_row(
    tmp_path: Path, live: dict[str, str]
) -> None:
    write_rows(
        tmp_path / "tasks.jsonl", [{"id": "a", "prompt": "Hi"}, {"id": "b", "prompt": "Ho", "top_p": 1.0}]
    )
    done = run_script("run", "tasks.jsonl", "--top-p", "0.5", "--tier", "economy", cwd=tmp_path, env=live)
    assert done.process.returncode == 0, done.err
    for row in read_rows(tmp_path / "tasks.results.jsonl"):
        assert row["warnings"] == ["gpt-6-luna takes no top_p: it was not sent"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--temperature", "3"), "--temperature must be at most 2, not 3"),
        (("--max-tokens", "0"), "--max-tokens must be at least 1, not 0"),
        (("--concurrency", "0"), "'--concurrency': 0 is not in the range x>=1"),
        (("--system", "@none.txt"), "--system: none.txt: no such file"),
        (("--prompt", "Say {text}", "--prompt-file", "p.txt"), "both --prompt and --prompt-file are given"),
        (("--prompt", "Say it"), "--prompt: no {column} in it"),
        (("--prompt", "Say {txt}"), "--prompt, line 1: no column 'txt'; did you mean 'text'?"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_plan_and_run_refuse_the_same_options(
    tmp_path: Path, command: str, options: tuple[str, ...], reason: str
) -> None:
    (tmp_path / "reviews.csv").write_text(CSV)
    (tmp_path / "p.txt").write_text("{text}")
    done = run_script(command, "reviews.csv", *options, cwd=tmp_path)
    assert done.process.returncode == 2 and reason in done.err, done.err
