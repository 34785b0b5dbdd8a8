"""Backup and restore, tried: a database is copied under load and restored, and the run goes on."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from src.simulator.process import SimulatorProcess
from tests.databases import own_database, rows_of
from tests.helpers import Script, live_environment, read_rows, run_script, skip_without, write_rows

TASKS = 300
LATENCY = {"latency": {"first_token_s": 0.2, "per_token_s": 0.0, "jitter": 0.5}}
RUN = ("run", "tasks.jsonl", "-o", "out.jsonl", "--yes", "--concurrency", "10")
ANSWERED = "SELECT COUNT(*) FROM tasks WHERE status = 'succeeded'"


def answered(env: Mapping[str, str], folder: Path) -> int:
    found = rows_of(env, folder, ANSWERED)
    return int(found[0][0]) if found else 0


def dump(url: str, target: Path) -> None:
    subprocess.run(["pg_dump", "--format=custom", f"--file={target}", url], check=True, capture_output=True)


def restore(source: Path, url: str) -> None:
    command = ["pg_restore", "--exit-on-error", f"--dbname={url}", source]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_run_goes_on_from_a_backup_that_was_made_under_load(tmp_path: Path, database: str) -> None:
    here, there, copied = tmp_path / "here", tmp_path / "there", tmp_path / "backup"
    here.mkdir()
    write_rows(here / "tasks.jsonl", [{"id": f"t{n}", "prompt": f"Question {n}?"} for n in range(TASKS)])
    with ExitStack() as stack:
        simulator = stack.enter_context(SimulatorProcess.start({"providers": {"openai": LATENCY}}))
        env = live_environment(simulator.base_urls)
        old, new = dict(env), dict(env)
        if database == "postgresql":
            if not shutil.which("pg_dump"):
                skip_without("pg_dump and pg_restore are not installed")
            old["DATABASE_URL"] = stack.enter_context(own_database())
            new["DATABASE_URL"] = stack.enter_context(own_database())
        with Script(*RUN, cwd=here, env=old) as script:
            while answered(old, here) < TASKS // 10:
                assert script.process.poll() is None, script.err
                script.pause()
            if database == "sqlite":
                made = run_script("backup", copied, cwd=here, env=old)
                assert made.process.returncode == 0 and f"{TASKS} tasks" in made.err, made.err
            else:
                dump(old["DATABASE_URL"], copied)
            at_backup = answered(old, here)
            while (now := answered(old, here)) < at_backup + 20 and script.process.poll() is None:
                script.pause()
            assert now > at_backup, "the run went on meanwhile"
            script.kill()
            script.wait()
        if database == "sqlite":
            (there / "state").mkdir(parents=True)
            copied.rename(there / "state" / "live.db")
            shutil.copy(here / "tasks.jsonl", there)
        else:
            restore(copied, new["DATABASE_URL"])
            there = here  # with a server the name of a batch is the path of its results
            (here / "out.jsonl").unlink()
        kept = answered(new, there)
        assert TASKS // 10 <= kept <= at_backup
        simulator.reset()
        resumed = run_script(*RUN, cwd=there, env=new, timeout_s=120)
        assert resumed.process.returncode == 0, resumed.err
        calls = simulator.stats()["openai"]["calls"]
        assert calls == TASKS - kept, "what the backup holds is not asked again"
    rows = read_rows(there / "out.jsonl")
    assert sorted(row["id"] for row in rows) == sorted(f"t{n}" for n in range(TASKS)), "none lost, none twice"
    assert {row["status"] for row in rows} == {"succeeded"}


def test_a_backup_is_a_private_file_without_a_log_beside_it(tmp_path: Path) -> None:
    run_script("submit", "Why?", "--serve", cwd=tmp_path)
    done = run_script("backup", "copy.db", cwd=tmp_path)
    assert done.process.returncode == 0, done.err
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if "copy" in path.name] == ["copy.db"]


@pytest.mark.parametrize(
    ("target", "env", "code", "why"),
    [
        ("taken.db", {}, 2, "taken.db exists"),
        ("no/folder.db", {}, 3, "no backup: no/folder.db cannot be written (No such file or directory)"),
        ("copy.db", {"ORCHESTRATOR_STATE_DIR": "elsewhere"}, 3, "no such database"),
        ("copy.db", {"DATABASE_URL": "postgresql://127.0.0.1:1/none"}, 2, "pg_dump"),
    ],
)
def test_what_can_not_be_backed_up_is_one_line(
    tmp_path: Path, target: str, env: dict[str, str], code: int, why: str
) -> None:
    run_script("submit", "Why?", "--serve", cwd=tmp_path)
    (tmp_path / "taken.db").write_text("mine")
    done = run_script("backup", target, cwd=tmp_path, env=env)
    assert done.process.returncode == code and why in done.err and done.err.count("\n") == 1
    assert (tmp_path / "taken.db").read_text() == "mine"
    assert not (tmp_path / "copy.db").exists()


def test_a_damaged_database_gives_no_backup(tmp_path: Path) -> None:
    run_script("submit", "Why?", "--serve", cwd=tmp_path)
    file = tmp_path / "state" / "simulated.db"
    half = file.stat().st_size // 8_192
    damage = [
        "dd",
        "if=/dev/urandom",
        f"of={file}",
        "bs=4096",
        f"seek={half}",
        f"count={half}",
        "conv=notrunc",
    ]
    subprocess.run(damage, check=True, capture_output=True)
    done = run_script("backup", "copy.db", cwd=tmp_path)
    assert done.process.returncode == 3 and "no backup: " in done.err
    assert [path.name for path in tmp_path.iterdir() if "copy" in path.name] == []
