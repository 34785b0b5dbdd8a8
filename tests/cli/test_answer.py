"""`answer` from Python, with a cap: real keys to the simulator, so that dollars count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from src.cli.answer import answer
from src.errors import InputError
from src.simulator.process import SimulatorProcess
from tests.helpers import ORCHESTRATOR, Script, live_environment, run_script

PROGRAM = """
import json
import sys
from real_agent_orchestrator import answer

prompts = [f"Question {n}? " + "More of it. " * 30 for n in range(40)]
results = answer(prompts, max_cost_usd=float(sys.argv[1]))
rows = [[r.task.messages[0].content.split("?")[0], r.status, r.error, r.cost_nanos] for r in results]
print(json.dumps(rows))
"""


@pytest.fixture
def env(simulator: SimulatorProcess) -> dict[str, str]:
    live = live_environment(simulator.base_urls, only=["openai"])
    return {**live, "PYTHONPATH": str(ORCHESTRATOR.parent)}


def run_program(folder: Path, cap: str, env: dict[str, str]) -> Script:
    (folder / "program.py").write_text(PROGRAM)
    return run_script(cap, script=folder / "program.py", cwd=folder, env=env)


def tasks_by_status(folder: Path, env: dict[str, str]) -> dict[str, int]:
    told: dict[str, Any] = json.loads(run_script("status", "--json", cwd=folder, env=env).out)
    return {status: count for status, count in told["tasks"].items() if count}


def test_a_cap_is_kept_and_what_it_leaves_comes_back_cancelled_in_its_place(
    tmp_path: Path, env: dict[str, str]
) -> None:
    done = run_program(tmp_path, "0.02", env)
    assert done.process.returncode == 0, done.err
    rows = json.loads(done.out)
    assert [row[0] for row in rows] == [f"Question {n}" for n in range(40)]
    assert 0 < sum(row[3] for row in rows) <= 0.02e9
    by_status = {status: [row for row in rows if row[1] == status] for status in {row[1] for row in rows}}
    assert set(by_status) == {"succeeded", "cancelled"}
    assert all(row[2].startswith("cancelled: cap of batch python-") for row in by_status["cancelled"])
    assert tasks_by_status(tmp_path, env) == {status: len(found) for status, found in by_status.items()}


@pytest.mark.parametrize("single", ["hello", {"prompt": "hello"}])
def test_a_single_task_is_not_taken_for_a_task_per_letter_or_key(single: Any) -> None:
    with pytest.raises(InputError, match=r"a list of tasks; a single one is answer\(\[task\]\)"):
        answer(single)


def test_a_cap_that_is_none_is_refused(tmp_path: Path, env: dict[str, str]) -> None:
    done = run_program(tmp_path, "0", env)
    assert done.process.returncode != 0 and "max_cost_usd is 0.0; it must be above 0" in done.err


def test_a_cap_that_a_server_would_not_keep_is_refused_before_a_task_is_stored(
    tmp_path: Path, env: dict[str, str], simulator: SimulatorProcess
) -> None:
    with Script("--log-level", "info", cwd=tmp_path, env=env) as server:
        server.wait_for("ready after")
        done = run_program(tmp_path, "1", env)
        assert done.process.returncode != 0 and "max_cost_usd does not reach it" in done.err
        assert tasks_by_status(tmp_path, env) == {}
        server.interrupt()
        assert server.wait() == 0, server.err
    assert simulator.stats()["openai"]["calls"] == 0
