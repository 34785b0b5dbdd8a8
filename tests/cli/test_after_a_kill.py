"""The next command after `kill -9` on PostgreSQL, where the dead one's lease has not ended yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.simulator.process import SimulatorProcess
from tests.helpers import Script, live_environment, read_rows, run_script, write_rows

LEASE_S = 3.0
ROWS = 6
RUN = ("run", "tasks.jsonl", "-o", "out.jsonl", "--config", "short.toml")
WAITS = f" did not sign off: waiting up to {LEASE_S:g} s in case it still runs (Ctrl-C stops waiting)"


@pytest.fixture
def env(tmp_path: Path, simulator: SimulatorProcess, postgresql_url: str) -> dict[str, str]:
    (tmp_path / "short.toml").write_text(f"[pool]\nlease_s = {LEASE_S}\n")
    write_rows(tmp_path / "tasks.jsonl", [{"id": f"t{n}", "prompt": f"Why {n}?"} for n in range(ROWS)])
    return live_environment(simulator.base_urls) | {"DATABASE_URL": postgresql_url}


def kill_a_leader(folder: Path, env: dict[str, str], *, batch: bool) -> None:
    """Kill a server, or a run whose calls are all held up, once it has registered."""
    slow = {"providers": {"openai": {"latency": {"first_token_s": 60.0, "per_token_s": 0.0}}}}
    with SimulatorProcess.start(slow) as silent:
        held = {**live_environment(silent.base_urls, only=["openai"]), "DATABASE_URL": env["DATABASE_URL"]}
        command = RUN if batch else ("--config", "short.toml")
        with Script(*command, "--yes", "--log-level", "info", cwd=folder, env=held) as first:
            first.wait_for("ready after")
            if batch:
                while not silent.stats()["openai"]["in_flight"]:
                    first.pause()
            first.kill()
            first.wait()


@pytest.mark.parametrize("batch", [True, False], ids=["run", "server"])
def test_the_same_command_again_waits_for_the_lease_of_the_killed_one(
    tmp_path: Path, env: dict[str, str], batch: bool
) -> None:
    kill_a_leader(tmp_path, env, batch=batch)
    again = run_script(*RUN, "--yes", cwd=tmp_path, env=env)
    assert again.process.returncode == 0, again.err
    assert again.err.count(WAITS) == 1, "one lease, not two: each wait says so"
    assert "another run is active" not in again.err
    assert {row["id"] for row in read_rows(tmp_path / "out.jsonl")} == {f"t{n}" for n in range(ROWS)}


def test_submit_serve_waits_for_the_lease_of_a_killed_server(tmp_path: Path, env: dict[str, str]) -> None:
    kill_a_leader(tmp_path, env, batch=False)
    submitted = run_script("submit", "Why?", "--serve", "--config", "short.toml", cwd=tmp_path, env=env)
    assert submitted.process.returncode == 0 and submitted.out.strip(), submitted.err
    assert submitted.err.count(WAITS) == 1


@pytest.mark.parametrize(
    "command",
    [(*RUN, "--yes"), ("--config", "short.toml"), ("submit", "Why?", "--serve", "--config", "short.toml")],
    ids=["run", "server", "submit"],
)
def test_ctrl_c_ends_the_wait(tmp_path: Path, env: dict[str, str], command: tuple[str, ...]) -> None:
    kill_a_leader(tmp_path, env, batch=command[0] == "run")
    with Script(*command, cwd=tmp_path, env=env) as again:
        again.wait_for(WAITS)
        again.interrupt()
        code = again.wait()
    assert code == (0 if command[0] == "--config" else 1), again.err
    assert "Traceback" not in again.err


def test_beside_a_living_leader_the_answer_comes_with_its_next_renewal(
    tmp_path: Path, env: dict[str, str]
) -> None:
    with Script("--config", "short.toml", "--log-level", "info", cwd=tmp_path, env=env) as server:
        server.wait_for("ready after")
        second = run_script("--config", "short.toml", cwd=tmp_path, env=env)
        passed_on = run_script(*RUN, "--yes", cwd=tmp_path, env=env)
        server.interrupt()
        assert server.wait() == 0, server.err
    assert second.process.returncode == 3 and "another orchestrator already serves this state" in second.err
    assert passed_on.process.returncode == 0 and "a running server (process" in passed_on.err
    assert "did not sign off" not in second.err + passed_on.err
