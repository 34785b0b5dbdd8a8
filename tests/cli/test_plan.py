"""The plan before money is spent, and the consent that an expensive run needs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from src.simulator.process import SimulatorProcess
from tests.helpers import (
    Terminal,
    live_environment,
    read_rows,
    run_script,
    write_rows,
)

CONFIRM_ALWAYS = "confirm_above_usd = 0.000001\n"


@pytest.fixture
def live(simulator: SimulatorProcess) -> dict[str, str]:
    return live_environment(simulator.base_urls, only=["openai"])


@pytest.fixture
def careful(tmp_path: Path) -> Path:
    """Three tasks, and settings by which any cost is worth a question."""
    (tmp_path / "careful.toml").write_text(CONFIRM_ALWAYS)
    return write_rows(
        tmp_path / "tasks.jsonl", [{"id": f"t{n}", "prompt": f"What is {n}?"} for n in range(3)]
    )


def calls(simulator: SimulatorProcess) -> int:
    return int(simulator.stats()["openai"]["calls"])


def test_a_plan_shows_cost_time_bottlenecks_and_bad_lines(tmp_path: Path, live: dict[str, str]) -> None:
    (tmp_path / "limits.toml").write_text("[providers.openai.limits]\nrequests_per_minute = 60\n")
    lines = [json.dumps({"prompt": f"Question {n}?", "task_type": "research"}) for n in range(30)]
    (tmp_path / "tasks.jsonl").write_text("\n".join([*lines, '{"prompt": 7}']) + "\n")
    done = run_script("plan", "tasks.jsonl", "--config", "limits.toml", cwd=tmp_path, env=live)
    assert done.process.returncode == 0, done.err
    assert "30 tasks (1 bad line skipped)" in done.out and "tasks.jsonl, line 31" in done.err
    for part in (
        "provider",
        "tier",
        "low",
        "expected",
        "at most",
        "done at",
        "bottlenecks",
        "openai requests",
    ):
        assert part in done.out, done.out
    (bottlenecks,) = re.findall(r"bottlenecks.*", done.out)
    assert bottlenecks.count(":") == 1 and "openai requests (" in bottlenecks


def test_a_json_plan_makes_no_call(tmp_path: Path, live: dict[str, str], simulator: SimulatorProcess) -> None:
    (tmp_path / "tasks.txt").write_text("One?\nTwo?\n")
    done = run_script("plan", "tasks.txt", "--json", cwd=tmp_path, env=live)
    plan: dict[str, Any] = json.loads(done.out)
    assert done.process.returncode == 0 and done.err == ""
    assert plan["tasks"] == 2 and not plan["simulated"] and plan["calls"] == {"openai": 2}
    assert 0 < plan["low_usd"] < plan["expected_usd"] < plan["highest_usd"]
    assert plan["expected_usd"] == pytest.approx(sum(line["expected_usd"] for line in plan["lines"]))
    assert plan["unknown_limits"] == ["openai"] and calls(simulator) == 0


def test_an_expensive_run_without_a_terminal_needs_yes(
    tmp_path: Path, careful: Path, live: dict[str, str], simulator: SimulatorProcess
) -> None:
    command = ("run", careful.name, "--config", "careful.toml")
    refused = run_script(*command, cwd=tmp_path, env=live)
    assert refused.process.returncode == 2
    assert "this is expected to cost $0.0" in refused.err and "--yes runs it" in refused.err
    assert calls(simulator) == 0 and "plan: 3 tasks" in refused.err
    counted = json.loads(run_script("status", "--json", cwd=tmp_path, env=live).out)
    assert not any(counted["tasks"].values()), "a server that starts later finds nothing to spend on"
    agreed = run_script(*command, "--yes", cwd=tmp_path, env=live)
    assert agreed.process.returncode == 0 and calls(simulator) == 3


def test_a_cap_below_the_limit_of_the_question_needs_no_yes(
    tmp_path: Path, careful: Path, live: dict[str, str]
) -> None:
    (tmp_path / "careful.toml").write_text("confirm_above_usd = 0.0001\n")
    done = run_script(
        "run", careful.name, "--config", "careful.toml", "--max-cost", "0.0001", cwd=tmp_path, env=live
    )
    assert done.process.returncode == 1 and "unfinished: 3 tasks" in done.out, done.err


def test_an_unknown_price_is_not_assumed_to_be_small(tmp_path: Path, live: dict[str, str]) -> None:
    write_rows(tmp_path / "tasks.jsonl", [{"prompt": "Hi", "models": ["gpt-nobody-knows"]}])
    done = run_script("run", "tasks.jsonl", cwd=tmp_path, env=live)
    assert done.process.returncode == 2
    assert "the price of gpt-nobody-knows is unknown" in done.err
    assert "plan: cost unknown: no price for gpt-nobody-knows" in done.err and "$0" not in done.err
    output = run_script("plan", "tasks.jsonl", cwd=tmp_path, env=live)
    assert "cost: unknown" in output.out and "$0" not in output.out
    assert "tasks.jsonl: no price for gpt-nobody-knows" in output.err


def test_with_strict_parameters_no_model_gets_a_task_without_one_of_its_parameters(
    tmp_path: Path, live: dict[str, str]
) -> None:
    rows = [{"id": "plain", "prompt": "Hi"}, {"id": "warm", "prompt": "Hi", "temperature": 0.5}]
    write_rows(tmp_path / "tasks.jsonl", rows)
    plan = run_script("plan", "tasks.jsonl", "--strict-params", "--json", cwd=tmp_path, env=live)
    assert json.loads(plan.out)["statuses"] == {"succeeded": 1, "failed": 1}
    strict = run_script("run", "tasks.jsonl", "-o", "strict.jsonl", "--strict-params", cwd=tmp_path, env=live)
    assert strict.process.returncode == 1
    answers = {row["id"]: row for row in read_rows(tmp_path / "strict.jsonl")}
    assert answers["plain"]["status"] == "succeeded"
    assert answers["warm"]["status"] == "failed" and "takes no temperature" in answers["warm"]["error"]
    loose = run_script("run", "tasks.jsonl", "-o", "loose.jsonl", cwd=tmp_path, env=live)
    assert loose.process.returncode == 0, loose.err


def test_simulated_runs_have_no_question(tmp_path: Path, careful: Path) -> None:
    done = run_script("run", careful.name, "--config", "careful.toml", cwd=tmp_path)
    assert done.process.returncode == 0 and "plan:" not in done.err


def test_a_resumed_run_plans_only_what_is_left(tmp_path: Path, live: dict[str, str]) -> None:
    rows = [{"id": f"t{n}", "prompt": f"What is {n}?"} for n in range(5)]
    write_rows(tmp_path / "tasks.jsonl", rows[:3])
    run_script("run", "tasks.jsonl", cwd=tmp_path, env=live)
    write_rows(tmp_path / "tasks.jsonl", rows)
    rerun = run_script("run", "tasks.jsonl", cwd=tmp_path, env=live)
    assert rerun.process.returncode == 0 and "plan: 2 tasks" in rerun.err
    last = run_script("run", "tasks.jsonl", cwd=tmp_path, env=live)
    assert "plan:" not in last.err and "nothing to do" in last.err


def test_standard_input_is_planned_and_then_run(tmp_path: Path, live: dict[str, str]) -> None:
    done = run_script("run", "-", "-o", "out.jsonl", cwd=tmp_path, env=live, stdin="What?\nWhy?\n")
    assert done.process.returncode == 0, done.err
    assert "plan: 2 tasks" in done.err and len(read_rows(tmp_path / "out.jsonl")) == 2


def test_with_json_both_streams_hold_json_only(tmp_path: Path, live: dict[str, str]) -> None:
    lines = ['{"prompt": "What?", "task_type": "odd"}', "not a task"]
    (tmp_path / "tasks.jsonl").write_text("\n".join(lines) + "\n")
    done = run_script("run", "tasks.jsonl", "--json", "--log-level", "info", cwd=tmp_path, env=live)
    said = [json.loads(line) for line in done.err.splitlines()]
    assert done.process.returncode == 1
    assert any("line 2" in row.get("note", "") for row in said)
    summary = json.loads(done.out)["summary"]
    assert (summary["tasks"], summary["answered"], summary["complete"]) == (1, 1, True)
    assert (
        summary["cost_usd"] > 0 and summary["results"] == "tasks.results.jsonl" and not summary["simulated"]
    )
    to_stdout = run_script("run", "tasks.jsonl", "--json", "-o", "-", cwd=tmp_path, env=live)
    assert json.loads(to_stdout.out)["status"] == "succeeded", "only results on standard output"
    assert "summary" in json.loads(to_stdout.err.splitlines()[-1])
    wrong = run_script("run", "nothing.jsonl", "--json", cwd=tmp_path, env=live)
    assert "no such file" in json.loads(wrong.err)["note"] and wrong.process.returncode == 2


def test_status_shows_what_is_left_of_each_limit(tmp_path: Path, live: dict[str, str]) -> None:
    (tmp_path / "limits.toml").write_text("[providers.openai.limits]\nrequests_per_minute = 600\n")
    (tmp_path / "tasks.txt").write_text("One?\nTwo?\n")
    run_script("run", "tasks.txt", "--config", "limits.toml", cwd=tmp_path, env=live)
    output = run_script("status", "--config", "limits.toml", cwd=tmp_path, env=live)
    assert re.search(r"openai +\S+ +requests +\d+ % +600 a minute +configured", output.out), output.out


@pytest.mark.parametrize(
    ("answer", "code", "calls_made"), [("n\n", 1, 0), ("\n", 1, 0), ("y\n", 0, 3)], ids=["no", "enter", "yes"]
)
def test_on_a_terminal_the_answer_decides(
    tmp_path: Path,
    careful: Path,
    live: dict[str, str],
    simulator: SimulatorProcess,
    answer: str,
    code: int,
    calls_made: int,
) -> None:
    with Terminal("run", careful.name, "--config", "careful.toml", cwd=tmp_path, env=live) as terminal:
        terminal.wait_for("Go on? [y/N]")
        terminal.type(answer)
        assert terminal.wait() == code
    assert calls(simulator) == calls_made
