"""`run` a second time: only the requested tasks run again, and every id is in the file once."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from src.core.store import Store
from src.simulator.process import SimulatorProcess
from tests.helpers import Script, live_environment, read_rows, run_script, write_rows

COMMAND = ("run", "tasks.jsonl", "-o", "out.jsonl")


def prompts(count: int, **rerun: Any) -> list[dict[str, Any]]:
    return [{"id": f"t{number}", "prompt": f"Question {number}?", **rerun} for number in range(count)]


@pytest.fixture
def live(simulator: SimulatorProcess) -> dict[str, str]:
    """Only the simulated OpenAI has a key: a process that imports one SDK starts in a second."""
    return live_environment(simulator.base_urls, only=["openai"])


def calls(simulator: SimulatorProcess) -> int:
    return int(simulator.stats()["openai"]["calls"])


def answers(folder: Path) -> dict[str, dict[str, Any]]:
    rows = read_rows(folder / "out.jsonl")
    assert max(Counter(row["id"] for row in rows).values()) == 1, "each id once"
    return {row["id"]: row for row in rows}


def stored(folder: Path, env: dict[str, str]) -> int:
    status = json.loads(run_script("status", "--json", cwd=folder, env=env).out)
    return sum(status["tasks"].values())


def test_new_content_is_refused_before_anything_is_stored_unless_rerun_changed_is_given(
    tmp_path: Path, live: dict[str, str], simulator: SimulatorProcess
) -> None:
    write_rows(tmp_path / "tasks.jsonl", prompts(4))
    run_script(*COMMAND, cwd=tmp_path, env=live)
    old = answers(tmp_path)
    changed = [{"id": f"t{n}", "prompt": f"Another question {n}"} for n in range(2)]
    write_rows(tmp_path / "tasks.jsonl", [{"id": "new", "prompt": "One more"}, *prompts(4)[2:], *changed])
    refused = run_script(*COMMAND, cwd=tmp_path, env=live)
    assert refused.process.returncode == 2
    assert "2 ids have new content (t0, t1), or another template" in refused.err
    assert answers(tmp_path) == old and stored(tmp_path, live) == 4

    done = run_script(*COMMAND, "--rerun-changed", cwd=tmp_path, env=live)
    assert done.process.returncode == 0, done.err
    assert "2 ids have new content and run again" in done.err
    new = answers(tmp_path)
    assert set(new) == {"new", "t0", "t1", "t2", "t3"}
    assert {name for name in old if new[name] == old[name]} == {"t2", "t3"}
    assert calls(simulator) == 4 + 3


def test_other_options_are_no_new_content(
    tmp_path: Path, live: dict[str, str], simulator: SimulatorProcess
) -> None:
    write_rows(tmp_path / "tasks.jsonl", prompts(2))
    run_script(*COMMAND, cwd=tmp_path, env=live)
    other = run_script(*COMMAND, "--only", "openai", cwd=tmp_path, env=live)
    assert other.process.returncode == 0 and calls(simulator) == 2
    assert "options changed since the last run: --only openai (was not set)" in other.err
    rerun = run_script(*COMMAND, "--tier", "economy", "--rerun-changed", cwd=tmp_path, env=live)
    assert rerun.process.returncode == 0 and calls(simulator) == 4, rerun.err


def test_standard_input_can_change_too(tmp_path: Path, live: dict[str, str]) -> None:
    command = ("run", "-", "-o", "out.jsonl", "--format", "jsonl")
    run_script(*command, cwd=tmp_path, env=live, stdin='{"id": "a", "prompt": "One"}\n')
    changed = '{"id": "b", "prompt": "New"}\n{"id": "a", "prompt": "Two"}\n'
    refused = run_script(*command, cwd=tmp_path, env=live, stdin=changed)
    assert refused.process.returncode == 2 and "1 id has new content (a)" in refused.err
    done = run_script(*command, "--rerun-changed", cwd=tmp_path, env=live, stdin=changed)
    assert done.process.returncode == 0, done.err
    assert set(answers(tmp_path)) == {"a", "b"}


def test_retry_reruns_only_these_statuses(
    tmp_path: Path, live: dict[str, str], simulator: SimulatorProcess
) -> None:
    rows = [*prompts(3), {"id": "cut", "prompt": "Tell me all", "max_tokens": 5, "models": ["gpt-4o-mini"]}]
    write_rows(tmp_path / "tasks.jsonl", [*rows, {"id": "late", "prompt": "Now", "deadline": 1e-6}])
    first = run_script(*COMMAND, cwd=tmp_path, env=live)
    old, before = answers(tmp_path), calls(simulator)
    assert first.process.returncode == 1 and old["late"]["status"] == "expired", first.err
    assert old["cut"]["truncated"], old["cut"]
    rerun = run_script(*COMMAND, "--retry", "truncated,failed,expired", cwd=tmp_path, env=live)
    assert "--retry: 2 expired or failed or truncated tasks queued again" in rerun.err
    new = answers(tmp_path)
    assert {name for name in old if new[name] == old[name]} == {"t0", "t1", "t2", "late"}
    assert len(new["cut"]["attempts"]) == 2 * len(old["cut"]["attempts"])
    assert calls(simulator) == before + len(old["cut"]["attempts"])
    none = run_script(*COMMAND, "--retry", "refused", cwd=tmp_path, env=live)
    assert "--retry: no task queued again" in none.err and answers(tmp_path) == new


def test_dedupe_runs_equal_prompts_once(
    tmp_path: Path, live: dict[str, str], simulator: SimulatorProcess
) -> None:
    rows = [{"id": f"t{n}", "prompt": f"Question {n % 3}?", "metadata": {"row": n}} for n in range(30)]
    write_rows(tmp_path / "tasks.jsonl", rows)
    done = run_script(*COMMAND, "--dedupe", cwd=tmp_path, env=live)
    assert done.process.returncode == 0, done.err
    assert "27 tasks equal to another one: run once, answered each" in done.err
    assert "plan: 3 tasks" in done.err
    found = answers(tmp_path)
    assert len(found) == 30 and calls(simulator) == 3
    for n in range(30):
        row = found[f"t{n}"]
        assert row["status"] == "succeeded" and row["metadata"] == {"row": n} and row["provider"] == "openai"
        assert row["output"] == found[f"t{n % 3}"]["output"]
        assert row.get("deduplicated_from") == (f"t{n % 3}" if n >= 3 else None)
        assert (row["cost_usd"] > 0) == (n < 3)
    write_rows(tmp_path / "tasks.jsonl", [*rows, {"id": "late", "prompt": "Question 1?"}])
    rerun = run_script(*COMMAND, "--dedupe", cwd=tmp_path, env=live)
    assert rerun.process.returncode == 0, rerun.err
    assert answers(tmp_path)["late"]["deduplicated_from"] == "t1" and calls(simulator) == 3


KILLS = 5


@pytest.mark.parametrize("seed", [1, 2])
def test_after_a_kill_at_any_moment_every_id_is_in_the_file_once(tmp_path: Path, seed: int) -> None:
    """While it reads, while it answers, while it brings the file up to date; equal prompts are among them."""
    dice = random.Random(seed)
    quick = {"latency": {"first_token_s": 0.02, "per_token_s": 0.0, "jitter": 0.0}}
    rows = [{"id": f"t{n}", "prompt": f"Question {n % 450}?"} for n in range(600)]
    write_rows(tmp_path / "tasks.jsonl", rows)
    with SimulatorProcess.start({"providers": {"openai": quick}}) as simulator:
        env = live_environment(simulator.base_urls, only=["openai"])
        for _ in range(KILLS):
            with Script(
                *COMMAND, "--dedupe", "--tier", "economy", "--quiet", cwd=tmp_path, env=env
            ) as script:
                kill_after(script, tmp_path, dice)
        done = run_script(
            *COMMAND, "--dedupe", "--tier", "economy", "--quiet", cwd=tmp_path, env=env, timeout_s=120
        )
        assert done.process.returncode == 0, done.err
        called = calls(simulator)
    found = answers(tmp_path)
    assert set(found) == {row["id"] for row in rows}
    assert {row["status"] for row in found.values()} == {"succeeded"}
    assert sum("deduplicated_from" in row for row in found.values()) == 150
    assert called <= 450 + KILLS * 112, "only calls in flight at a kill run again"
    with Store.open(tmp_path / "state" / "live.db", simulated=False) as store:
        assert store.reports.summary("./out.jsonl").tasks.succeeded == 600


def kill_after(script: Script, folder: Path, dice: random.Random) -> None:
    """At once, when it has made its database, or so many bytes of results later."""
    place = folder / dice.choice(["state/live.db", "out.jsonl", "out.jsonl", "out.jsonl"])
    start = place.stat().st_size if place.exists() else 0
    more = dice.choice([0, 1, 20_000, 60_000, 120_000])
    while not place.exists() or place.stat().st_size < start + more:
        if script.process.poll() is not None:
            return
        script.pause()
    script.kill()
    script.wait()


def test_a_run_beside_a_server_names_the_options_without_effect(tmp_path: Path, live: dict[str, str]) -> None:
    write_rows(tmp_path / "tasks.jsonl", prompts(3))
    with Script(cwd=tmp_path, env=live) as server:
        server.wait_for("serving the queue")
        while not json.loads(run_script("status", "--json", cwd=tmp_path, env=live).out)["running"]:
            assert server.process.poll() is None, server.err
        rerun = ("--cheapest", "--strict-params", "--dedupe")
        first = run_script(*COMMAND, *rerun, cwd=tmp_path, env=live)
        other = run_script("run", "tasks.jsonl", "-o", "other.jsonl", cwd=tmp_path, env=live)
        rerun = run_script(*COMMAND, "--rerun-changed", cwd=tmp_path, env=live)
    assert (first.process.returncode, other.process.returncode, rerun.process.returncode) == (0, 0, 0)
    ignored = "--cheapest and --strict-params do not apply: the running server"
    assert first.err.count(ignored) == 1, first.err
    assert "do not apply" not in other.err
    assert len(answers(tmp_path)) == len(read_rows(tmp_path / "other.jsonl")) == 3
    assert "nothing to do" in rerun.err


def test_paid_answers_are_not_repeated_when_the_state_is_gone(
    tmp_path: Path, live: dict[str, str], simulator: SimulatorProcess
) -> None:
    write_rows(tmp_path / "tasks.jsonl", prompts(2))
    run_script(*COMMAND, cwd=tmp_path, env=live)
    refused = run_script(*COMMAND, "--state-dir", "elsewhere", cwd=tmp_path, env=live)
    assert refused.process.returncode == 2
    assert "holds 2 results that this state does not know (t0, t1)" in refused.err
    assert len(answers(tmp_path)) == 2 and calls(simulator) == 2
