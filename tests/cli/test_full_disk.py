"""A full state disk, a locked database, and Ctrl-C: paid answers are stored, or no call is made."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from src.simulator.process import SimulatorProcess
from tests.helpers import Script, live_environment, read_rows, run_script, write_rows

TASKS = [{"id": f"t{n}", "prompt": f"Question {n}?", "max_tokens": 50} for n in range(400)]
CONFIG = """
[providers.openai.limits]
requests_per_minute = 60000
[[agents]]
name = "only"
home = "openai"
calls_in_flight = 16
"""
SLOTS = 16
RUN = ("run", "tasks.jsonl", "-o", "out.jsonl", "--yes", "--config", "small.toml")
AT_ONCE_S = 20.0  # before the 30 s that SQLite waits; measured: 0.1 s


@dataclass
class Disk:
    """A file system of a few MB that a test fills and frees."""

    folder: Path

    def fill(self) -> None:
        with (self.folder / "filler").open("wb", buffering=0) as filler:
            for size in (65_536, 4_096, 1):
                with pytest.raises(OSError, match="No space left"):
                    while True:
                        filler.write(b"x" * size)

    def free(self) -> None:
        (self.folder / "filler").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m,mode=700", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.decode().strip()}")
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def openai(tmp_path: Path) -> Iterator[SimulatorProcess]:
    write_rows(tmp_path / "tasks.jsonl", TASKS)
    (tmp_path / "small.toml").write_text(CONFIG)
    row = {"latency": {"first_token_s": 0.1, "per_token_s": 0.0}}
    with SimulatorProcess.start({"providers": {"openai": row}}) as simulator:
        yield simulator


def calls(simulator: SimulatorProcess) -> int:
    return int(simulator.stats()["openai"]["calls"])


def until_rows(folder: Path, rows: int, script: Script) -> None:
    out = folder / "out.jsonl"
    while not out.exists() or out.read_bytes().count(b"\n") < rows:
        assert script.process.poll() is None, script.err
        script.pause()


def settled_calls(simulator: SimulatorProcess, script: Script) -> int:
    """The calls that were made when none has come for a second."""
    made, since = calls(simulator), time.monotonic()
    while time.monotonic() - since < 1.0:
        script.pause()
        if (now := calls(simulator)) != made:
            made, since = now, time.monotonic()
    return made


def paid_and_lost(text: str) -> int:
    """The answers that the last words call lost, and the running calls that they say may be billed."""
    numbers = re.findall(r"([\d,]+) (?:paid answers? (?:is|are) lost|running calls? may be billed)", text)
    return sum(int(number.replace(",", "")) for number in numbers)


def test_a_full_state_disk_costs_no_task_and_no_call_once_it_is_freed(
    tmp_path: Path, disk: Disk, openai: SimulatorProcess
) -> None:
    with Script(*RUN, cwd=tmp_path, env=live_environment(openai.base_urls)) as script:
        until_rows(tmp_path, 40, script)
        disk.fill()
        script.wait_for("placing paused: ")
        before = calls(openai)
        assert settled_calls(openai, script) - before <= SLOTS, "those on their way when placing paused"
        assert "not stored yet" in script.err and "full" in script.err
        disk.free()
        assert script.wait() == 0, script.err
    assert calls(openai) == len(TASKS), "no answer was paid twice"
    assert {row["id"] for row in read_rows(tmp_path / "out.jsonl")} == {task["id"] for task in TASKS}
    assert "Traceback" not in script.err


def test_the_second_ctrl_c_on_a_full_state_disk_ends_at_once_and_prints_what_is_lost(
    tmp_path: Path, disk: Disk, openai: SimulatorProcess
) -> None:
    env = live_environment(openai.base_urls)
    with Script(*RUN, cwd=tmp_path, env=env) as script:
        until_rows(tmp_path, 40, script)
        disk.fill()
        script.wait_for("placing paused: ")
        script.interrupt()
        script.wait_for("retrying; press Ctrl-C again to end without them")
        assert script.process.poll() is None, "it keeps trying"
        began_at = time.monotonic()
        script.interrupt()
        assert script.wait() == 3, script.err
        assert time.monotonic() - began_at < AT_ONCE_S
    assert paid_and_lost(script.err) > 0 and "Traceback" not in script.err
    disk.free()
    rerun = run_script(*RUN, cwd=tmp_path, env=env)
    assert rerun.process.returncode == 0, rerun.err
    paid_again = calls(openai) - len(TASKS)
    assert 0 <= paid_again <= paid_and_lost(script.err), "no more than what was said to be lost or running"
    assert {row["id"] for row in read_rows(tmp_path / "out.jsonl")} == {task["id"] for task in TASKS}


def test_the_second_ctrl_c_ends_at_once_while_the_store_is_blocked_inside_sqlite(
    tmp_path: Path, openai: SimulatorProcess
) -> None:
    with Script(*RUN, cwd=tmp_path, env=live_environment(openai.base_urls)) as script:
        until_rows(tmp_path, 40, script)
        with closing(sqlite3.connect(tmp_path / "state" / "live.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # for which SQLite waits 30 s
            script.wait_for("placing paused: ")
            script.interrupt()
            script.wait_for("retrying; press Ctrl-C again")
            began_at = time.monotonic()
            script.interrupt()
            lost = 3 if script.wait() == 3 else 1  # the store may be held before or after the last answer
            assert script.process.returncode == lost, script.err
            assert time.monotonic() - began_at < AT_ONCE_S
    assert bool(re.search("paid answers? (is|are) lost", script.err)) == (lost == 3), script.err


def test_deleting_the_database_ends_the_run_and_keeps_the_results(
    tmp_path: Path, openai: SimulatorProcess
) -> None:
    with Script(*RUN, cwd=tmp_path, env=live_environment(openai.base_urls)) as script:
        until_rows(tmp_path, 40, script)
        for path in (tmp_path / "state").glob("live.db*"):
            path.unlink()
        assert script.wait() == 3, script.err
    assert "live.db was deleted while it was in use" in script.err
    assert "Traceback" not in script.err
    assert len(read_rows(tmp_path / "out.jsonl")) == calls(openai), "every answer that was paid is there"


def test_a_results_file_that_is_deleted_while_in_use_is_complete_at_the_end(
    tmp_path: Path, openai: SimulatorProcess
) -> None:
    with Script(*RUN, cwd=tmp_path, env=live_environment(openai.base_urls)) as script:
        until_rows(tmp_path, 40, script)
        (tmp_path / "out.jsonl").unlink()
        assert script.wait() == 0, script.err
    assert "was deleted or replaced while in use" in script.err
    ids = [row["id"] for row in read_rows(tmp_path / "out.jsonl")]
    assert sorted(ids) == sorted(task["id"] for task in TASKS)
