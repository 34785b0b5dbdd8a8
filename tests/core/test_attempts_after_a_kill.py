"""A task that always fails gets its attempts once, however often the process is killed."""

from __future__ import annotations

from pathlib import Path

from src.simulator.process import SimulatorProcess
from tests.databases import rows_of
from tests.helpers import Script, live_environment, read_rows, run_script, write_rows

PATIENT = """
[pool]
lease_s = 2.0
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


def attempts_stored(env: dict[str, str], folder: Path) -> int:
    """Stored attempts; 0 while the database has no tables."""
    found = rows_of(env, folder, "SELECT COUNT(*) FROM attempts")
    return int(found[0][0]) if found else 0


def test_the_limit_of_attempts_and_the_final_error_include_attempts_before_a_kill(
    tmp_path: Path, database_env: dict[str, str]
) -> None:
    (tmp_path / "patient.toml").write_text(PATIENT)
    write_rows(tmp_path / "tasks.jsonl", [{"id": "t", "prompt": "Why?"}])
    with SimulatorProcess.start({"providers": {"openai": {"faults": {"malformed": 1.0}}}}) as simulator:
        env = live_environment(simulator.base_urls) | database_env
        with Script(*RUN, cwd=tmp_path, env=env) as script:
            while not (before := attempts_stored(env, tmp_path)):
                assert script.process.poll() is None, script.err
                script.pause()
            script.kill()
            script.wait()
        assert before < 5, "killed in between"
        done = run_script(*RUN, cwd=tmp_path, env=env)
        calls = simulator.stats()["openai"]["calls"]
    (row,) = read_rows(tmp_path / "out.jsonl")
    assert "requeued 1 task from a run that was killed" in done.err
    assert done.process.returncode == 1 and row["status"] == "failed", done.err
    assert [attempt["number"] for attempt in row["attempts"]] == [1, 2, 3, 4, 5]
    assert row["error"].startswith("5 attempts failed: ") and row["error"].count("InvalidResponse") == 5
    assert calls in (5, 6), "one may have been out when the process was killed"
