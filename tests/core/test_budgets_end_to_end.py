"""Budgets over HTTP: 64 calls in flight, answers of unknown length, calls cut off, a process killed.

The state is live and the simulator is reached by base URLs, as a proxy would be, since simulated dollars
touch no budget.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.simulator.process import SimulatorProcess
from tests.databases import rows_of
from tests.helpers import Script, live_environment, read_rows, run_script, write_rows

CONFIG = """
[pool]
lease_s = 2.0
[budgets]
{budget}
[providers.anthropic]
timeout_s = 2.0
[providers.anthropic.limits]
requests_per_minute = 60000
[providers.openai]
timeout_s = 2.0
[providers.openai.limits]
requests_per_minute = 60000
"""
PROVIDERS = {
    "anthropic": {"output_tokens": {"mean": 200, "sigma": 0.8}, "faults": {"silence": 0.01}},
    "openai": {"output_tokens": {"mean": 200, "sigma": 0.8}, "faults": {"server_error": 0.02}},
}
TASKS = [
    {"id": f"t{n}", "prompt": f"Question {n}? " + "More of it. " * 30, "max_tokens": 400} for n in range(300)
]


@pytest.fixture
def env(database_env: dict[str, str]) -> Iterator[dict[str, str]]:
    with SimulatorProcess.start({"providers": PROVIDERS}) as simulator:
        yield live_environment(simulator.base_urls, only=["anthropic", "openai"]) | database_env


def spent_nanos(env: dict[str, str], folder: Path) -> tuple[int, int]:
    """(certain, uncertain) nano-dollars of everything this state has ever booked."""
    query = "select coalesce(sum(cost_nanos), 0), coalesce(sum(uncertain_nanos), 0) from usage"
    ((certain, uncertain),) = rows_of(env, folder, query)
    return int(certain), int(uncertain)


def test_a_total_budget_is_never_exceeded_and_the_remaining_tasks_go_on_when_it_is_raised(
    tmp_path: Path, env: dict[str, str]
) -> None:
    write_rows(tmp_path / "tasks.jsonl", TASKS)
    (tmp_path / "small.toml").write_text(CONFIG.format(budget="total_usd = 0.25"))
    (tmp_path / "large.toml").write_text(CONFIG.format(budget="total_usd = 50.0"))
    command = ("run", "tasks.jsonl", "-o", "out.jsonl", "--config")
    first = run_script(*command, "small.toml", cwd=tmp_path, env=env)
    certain, uncertain = spent_nanos(env, tmp_path)
    assert first.process.returncode == 1, first.err
    assert re.search(r"stopped: budget overall in total is spent; \d+ tasks left\n", first.err), first.err
    assert "(incomplete: raise budget overall in total in [budgets] to continue)" in first.out
    assert 0.15e9 < certain + uncertain <= 0.25e9
    answered = len(read_rows(tmp_path / "out.jsonl"))
    assert 0 < answered < len(TASKS)
    second = run_script(*command, "large.toml", cwd=tmp_path, env=env)
    assert second.process.returncode == 0, second.err
    assert sorted(row["id"] for row in read_rows(tmp_path / "out.jsonl")) == sorted(t["id"] for t in TASKS)


def test_a_cap_counts_over_all_runs_of_a_results_file_and_says_how_to_go_on(
    tmp_path: Path, env: dict[str, str]
) -> None:
    write_rows(tmp_path / "tasks.jsonl", TASKS[:60])
    command = ("run", "tasks.jsonl", "-o", "out.jsonl", "--max-cost")
    answered = 0
    for _ in range(2):
        done = run_script(*command, "0.02", cwd=tmp_path, env=env)
        assert done.process.returncode == 1, done.err
        assert re.search(r"^stopped: --max-cost \$0\.02 reached; \d+ tasks left$", done.err, re.M), done.err
        assert (done.err + done.out).count("$0.02 reached") == 1 and "cap of batch" not in done.err
        assert answered or re.search(r"^plan: bottlenecks.*--max-cost: exhausted", done.err, re.M), done.err
        spent = re.search(r"\(incomplete: \$(0\.0\d+) spent on this file in all;", done.out)
        assert spent is not None and 0 < float(spent[1]) <= 0.02, done.out
        assert "rerun with a higher --max-cost" in done.out and "the same command" not in done.out
        rows = len(read_rows(tmp_path / "out.jsonl"))
        assert rows == answered or not answered, "the second run had nothing left to spend"
        answered = rows
    assert 0 < answered < 60
    alerts = dict(rows_of(env, tmp_path, "select kind, message from events where level = 'alert'"))
    assert "budget" not in alerts
    assert alerts["budget_spent"].endswith(
        "(--max-cost or max_cost_usd): exhausted; its tasks wait until it is raised"
    )
    raised = run_script(*command, "50", cwd=tmp_path, env=env)
    assert raised.process.returncode == 0, raised.err


PRICED = """
[pool]
lease_s = 2.0
[providers.openai.limits]
requests_per_minute = 60000
[models."gpt-6-luna".price]
input = 1.0
output = 10.0
[[agents]]
name = "only"
home = "openai"
calls_in_flight = 8
"""


def test_after_kills_without_a_budget_the_books_hold_what_the_provider_bills(
    tmp_path: Path, database_env: dict[str, str]
) -> None:
    """Certain <= bill <= certain + uncertain, over two kills; and uncertain is what was in flight at most."""
    write_rows(tmp_path / "tasks.jsonl", TASKS[:120])
    (tmp_path / "priced.toml").write_text(PRICED)
    command = ("run", "tasks.jsonl", "-o", "out.jsonl", "--yes", "--model", "gpt-6-luna")
    command += ("--config", "priced.toml")
    row = {"latency": {"first_token_s": 0.3, "per_token_s": 0.0}}
    with SimulatorProcess.start({"providers": {"openai": row}}) as simulator:
        env = live_environment(simulator.base_urls, only=["openai"]) | database_env
        out = tmp_path / "out.jsonl"
        for rows in (15, 45):
            with Script(*command, cwd=tmp_path, env=env) as script:
                while not out.exists() or out.read_bytes().count(b"\n") < rows:
                    assert script.process.poll() is None, script.err
                    script.pause()
                script.kill()
                script.wait()
        done = run_script(*command, cwd=tmp_path, env=env)
        assert done.process.returncode == 0, done.err
        stats = simulator.stats()["openai"]
    bill = stats["admitted_input_tokens"] * 1_000 + stats["output_tokens"] * 10_000  # nano-dollars
    certain, uncertain = spent_nanos(env, tmp_path)
    assert certain <= bill <= certain + uncertain
    # Two kills, each with 8 calls in flight and some that were answered and not stored yet (slow disk: more).
    assert 0 < uncertain <= 2 * 24 * (400 * 10_000 + 500 * 1_000), "upper bounds of calls"


def test_a_process_killed_with_calls_in_flight_does_not_overspend_after_its_restart(
    tmp_path: Path, env: dict[str, str]
) -> None:
    write_rows(tmp_path / "tasks.jsonl", TASKS)
    (tmp_path / "small.toml").write_text(CONFIG.format(budget="daily_usd = 0.4"))
    command = ("run", "tasks.jsonl", "-o", "out.jsonl", "--max-cost", "0.4", "--config", "small.toml")
    with Script(*command, cwd=tmp_path, env=env) as script:
        out = tmp_path / "out.jsonl"
        while not out.exists() or out.read_bytes().count(b"\n") < 20:
            assert script.process.poll() is None, script.err
            script.pause()
        script.kill()
        script.wait()
    before = sum(spent_nanos(env, tmp_path))
    again = run_script(*command, cwd=tmp_path, env=env)
    certain, uncertain = spent_nanos(env, tmp_path)
    assert again.process.returncode in {0, 1}, again.err
    assert before < certain + uncertain <= 0.4e9
    assert uncertain > 0, "calls that were out when the process was killed may have been billed"
    rows = read_rows(tmp_path / "out.jsonl")
    assert len({row["id"] for row in rows}) == len(rows)
