"""A task that always fails has its attempts once, however often its process is killed in between."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from src.simulator.process import SimulatorProcess
from tests.helpers import Script, live_environment, read_rows, run_script, write_rows

PATIENT = """
[pool]
max_attempts = 5
backoff_base_s = 0.4
backoff_max_s = 0.4
[breaker]
consecutive_failures = 1000
min_calls = 1000
[providers.openai.limits]
requests_per_minute = 60000
"""
RUN = ("run", "tasks.jsonl", "-o", "out.jsonl", "--config", "patient.toml")


def attempts_stored(path: Path) -> int:
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path)) as database:
        try:
            found: int = database.execute("SELECT COUNT(*) FROM attempts").fetchone()[0]
        except sqlite3.OperationalError:  # not yet migrated
            return 0
    return found


def test_the_limit_of_attempts_and_the_final_error_know_those_before_the_kill(tmp_path: Path) -> None:
    (tmp_path / "patient.toml").write_text(PATIENT)
    write_rows(tmp_path / "tasks.jsonl", [{"id": "t", "prompt": "Why?"}])
    with SimulatorProcess.start({"providers": {"openai": {"faults": {"malformed": 1.0}}}}) as simulator:
        env = live_environment(simulator.base_urls)
        with Script(*RUN, cwd=tmp_path, env=env) as script:
            while not (before := attempts_stored(tmp_path / "state" / "live.db")):
                assert script.process.poll() is None, script.err
                script.pause()
            script.kill()
            script.wait()
        assert before < 5, "killed in between"
        done = run_script(*RUN, cwd=tmp_path, env=env)
        calls = simulator.stats()["openai"]["calls"]
    (row,) = read_rows(tmp_path / "out.jsonl")
    assert "requeued 1 task from an orchestrator that died" in done.err
    assert done.process.returncode == 1 and row["status"] == "failed", done.err
    assert [attempt["number"] for attempt in row["attempts"]] == [1, 2, 3, 4, 5]
    assert row["error"].startswith("5 attempts failed: ") and row["error"].count("InvalidResponse") == 5
    assert calls in (5, 6), "one may have been out when the process was killed"
