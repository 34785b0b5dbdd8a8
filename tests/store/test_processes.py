"""Several processes at one database, and processes that are killed."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from src.core.store import DEFERS, Store
from src.records import TaskStatus
from tests.helpers import ROOT, start_module

from .child import DEFERRED, DUE
from .makers import NOW, assert_sums_are_true, register, results_of, tasks

FRESH = {"open", "open_directly"}  # of a fork the tests have copied the schema, and guard the files


def start(verb: str, path: Path | str) -> Any:
    if verb not in FRESH:
        return start_module("tests.store.child", verb, str(path))
    command = [sys.executable, "-m", "tests.store.child", verb, str(path)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def race(verb: str, path: Path, n: int) -> list[list[str]]:
    """What `n` children that start together print after their first line; all have to succeed."""
    children = [start(verb, path) for _ in range(n)]
    outputs = [child.communicate(timeout=60)[0].split()[1:] for child in children]
    assert [child.returncode for child in children] == [0] * n
    return outputs


def test_processes_that_start_together_find_one_schema(path: Path) -> None:
    assert race("open", path, 4) == [["0"]] * 4


def test_a_process_killed_while_it_opens_blocks_no_other(path: Path) -> None:
    for _ in range(2):
        with start("open", path) as child:
            assert child.stdout is not None
            child.stdout.readline()
            child.kill()
    Store.open(path, simulated=True).close()


def test_tasks_added_by_several_processes_are_stored_once(path: Path) -> None:
    added = race("add", path, 3)
    assert sum(int(n) for (n,) in added) == 300
    with Store.open(path, simulated=True) as store:
        assert store.reports.task_counts("b")[TaskStatus.QUEUED] == 300
        assert_sums_are_true(store)


def test_two_processes_never_work_on_the_same_task(path: Path) -> None:
    with Store.open(path, simulated=True) as store:
        store.intake.add_tasks(tasks(600), now=NOW)
        register(store)
        first, second = race("work", path, 2)
        assert Counter(first + second) == Counter(task.id for task in tasks(600))
        assert store.reports.task_counts()[TaskStatus.SUCCEEDED] == 600
        assert_sums_are_true(store)


def test_new_content_beside_a_leader_that_places_batches_fails_neither(own_postgresql_url: str) -> None:
    """Where both lock the same rows in another order, PostgreSQL ends one transaction, which is repeated."""
    with Store.open(own_postgresql_url, simulated=True) as store:
        store.intake.create_batch("b", now=NOW, options={DEFERS: 86_400.0})
        store.intake.add_tasks(tasks(DEFERRED, deadline_at=DUE), now=NOW)
        register(store)
    with start("change", own_postgresql_url) as changing, start("place", own_postgresql_url) as placing:
        outputs = [child.communicate(timeout=120)[0].split() for child in (changing, placing)]
    assert outputs == [["changing", "changed"], ["placing", "placed"]]
    with Store.open(own_postgresql_url, simulated=True) as store:
        assert_sums_are_true(store)


@pytest.mark.parametrize("lines", [1, 2, 5])
def test_a_process_killed_while_it_writes_leaves_no_task_half_written(path: Path, lines: int) -> None:
    """The child is killed right after it reported a commit, so in the middle of the next one."""
    with Store.open(path, simulated=True) as store:
        store.intake.add_tasks(tasks(400), now=NOW)
        register(store)
        with start("finish", path) as child:
            assert child.stdout is not None
            reported = [child.stdout.readline().strip() for _ in range(lines)]
            child.kill()
        assert_sums_are_true(store)
        done = results_of(store)
        assert len(done) >= reported.count("finished") * 20  # what was acknowledged is there
        for stored in done:
            assert stored.result.output == f"answer to {stored.result.task.id}"
            assert len(stored.result.attempts) == 2

        assert register(store, "next", now=NOW + 60).recovered == 400 - len(done)
        assert len(store.queue.claim("next", 1000, now=NOW + 60)) == 400 - len(done)


def stored_while_another_process_comes_and_goes(verb: str, path: Path) -> int:
    """Tasks that are found after a child has written them, beside a process that opened and closed before."""
    with start(verb, path) as child:
        assert child.stdin is not None and child.stdout is not None
        assert child.stdout.readline() == "open\n"
        Store.open(path, simulated=True).close()  # the last user would delete the log
        child.stdin.write("write\n")
        child.stdin.flush()
        assert child.stdout.readline() == "written\n"
        with Store.open(path, simulated=True) as store:
            return store.reports.task_counts("b")[TaskStatus.QUEUED]


@pytest.mark.skipif(sys.platform == "win32", reason="locks are POSIX")
def test_a_process_that_opens_its_database_again_keeps_its_locks(path: Path) -> None:
    assert stored_while_another_process_comes_and_goes("open_twice", path) == 300


@pytest.mark.skipif(sys.platform == "win32", reason="locks are POSIX")
def test_a_descriptor_that_is_closed_drops_the_locks_and_loses_what_is_written(path: Path) -> None:
    """Why no code of ours opens a database file; and that the test above would notice."""
    assert stored_while_another_process_comes_and_goes("open_directly", path) == 1
