"""A database that is locked, or taken over by another orchestrator, under a serving process."""

from __future__ import annotations

import dataclasses
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from src.config import load_settings, simulated_access
from src.core.clock import Clock
from src.core.leadership import Leadership
from src.core.orchestrator import Orchestrator
from src.core.store import Store
from src.core.store.queue import CLAIM_BYTES, ClaimLimit
from src.errors import StoreError
from src.messages import Message
from src.records import Result, Task, TaskStatus
from src.simulator.process import SimulatorProcess
from tests.helpers import ROOT, Script, live_environment, run_script

TASKS = [Task(f"t{n:02}", "queue", (Message("user", f"Question {n}?"),)) for n in range(60)]
SMALL_WINDOW = """
[pool]
prefetch_limit = 8
[providers.openai.limits]
requests_per_minute = 60000
[[agents]]
name = "only"
home = "openai"
calls_in_flight = 4
"""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program writes for as long as the block lasts."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("COMMIT")


@pytest.fixture
def slow() -> Iterator[SimulatorProcess]:
    row = {"latency": {"first_token_s": 0.2, "per_token_s": 0.0}}
    with SimulatorProcess.start({"providers": {"openai": row}}) as simulator:
        yield simulator


def wait_until(true: Callable[[], bool], server: Script) -> None:
    end = time.monotonic() + 60
    while not true():
        assert server.process.poll() is None and time.monotonic() < end, server.err
        server.pause()


def impatient(path: Path) -> str:
    """The URL of a database whose calls fail soon while it is locked."""
    return f"sqlite:///{path}?timeout=0.05"


def test_a_server_outlives_a_lock_and_answers_every_task_once(tmp_path: Path, slow: SimulatorProcess) -> None:
    path = tmp_path / "tasks.db"
    (tmp_path / "small.toml").write_text(SMALL_WINDOW)
    env = {**live_environment(slow.base_urls), "DATABASE_URL": impatient(path)}
    with Store.open(path, simulated=False) as store:
        store.intake.add_tasks(TASKS, now=time.time())
        with Script(
            "--yes", "--config", "small.toml", "--log-level", "debug", cwd=tmp_path, env=env
        ) as server:
            wait_until(lambda: slow.stats()["openai"]["calls"] >= 10, server)
            with locked(path):
                # Heartbeat, results and claims have all been refused by then, some of them again.
                wait_until(lambda: server.err.count("database still unavailable") >= 6, server)
                answered = slow.stats()["openai"]["calls"]
                assert answered < len(TASKS), "what was not claimed has to wait"
            server.wait_for("database available again, after ")
            wait_until(lambda: store.reports.task_counts()[TaskStatus.SUCCEEDED] == len(TASKS), server)
            server.terminate()
            assert server.wait() == 0, server.err
    assert server.err.count("database unavailable, retrying") == 1
    assert server.err.count("database available again") == 1
    assert slow.stats()["openai"]["calls"] == len(TASKS)


def test_a_database_that_is_locked_at_the_start_is_not_a_configuration_error(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    Store.open(path, simulated=False).close()
    env = {"OPENAI_API_KEY": "test-key-of-nobody", "OPENAI_BASE_URL": "http://127.0.0.1:9"}
    with locked(path):
        done = run_script(cwd=tmp_path, env={**env, "DATABASE_URL": impatient(path)})
    assert done.process.returncode == 3, done.err
    assert "error: " in done.err and "database is locked" in done.err and "Traceback" not in done.err


def test_pages_whose_database_cannot_be_opened_end_with_their_own_exit_code(tmp_path: Path) -> None:
    (tmp_path / "simulated.db").mkdir()
    done = run_script("--state-dir", ".", "--port", "0", script=ROOT / "web_server.py", cwd=tmp_path)
    assert done.process.returncode == 3, done.err
    assert "cannot be opened" in done.err and "Traceback" not in done.err


def test_a_server_that_was_taken_over_ends_with_the_code_for_a_restart(
    tmp_path: Path, slow: SimulatorProcess
) -> None:
    """As where its lock file was deleted: the epoch in the database is the fence."""
    path = tmp_path / "tasks.db"
    env = {**live_environment(slow.base_urls), "DATABASE_URL": f"sqlite:///{path}"}
    with Script("--log-level", "info", cwd=tmp_path, env=env) as server:
        server.wait_for("ready after")
        (tmp_path / "tasks.db.lock").unlink()
        with Store.open(path, simulated=False) as store, Leadership(store, 10.0) as other:
            other.acquire()
            assert server.wait() == 3, server.err
    assert "error: another orchestrator has taken over meanwhile" in server.err


async def test_a_claim_that_was_committed_although_it_failed_is_found_before_the_next_one(
    tmp_path: Path,
) -> None:
    """As when a connection is lost during the commit: the store has the claim, the client an error."""
    path = tmp_path / "state.db"
    settings, clock = load_settings(environ={}), Clock()
    access = simulated_access(settings, dict.fromkeys(settings.providers, "http://127.0.0.1:9"))
    with Store.open(impatient(path), simulated=True) as store:
        store.intake.add_tasks(TASKS[:9], now=clock.now())
        pool = Orchestrator(settings, access, store, clock)
        await pool._sign_on()
        me = pool._session.incarnation
        waiting, over = store.queue.claim(me, 2, now=clock.now())
        pool.scheduler.offer(waiting, clock.now())
        pool._result_writer.add_result(Result(over, TaskStatus.FAILED, clock.now()))
        claim = pool._claims.claiming(ClaimLimit(5, CLAIM_BYTES), None, frozenset())
        with locked(path), pytest.raises(StoreError, match="locked"):
            claim()
        lost = store.queue.claim(me, 3, now=clock.now())
        assert claim().tasks == lost, "and neither what waits nor what is over and not written yet"
        again = pool._claims.claiming(ClaimLimit(5, CLAIM_BYTES), None, frozenset())
        assert len(again().tasks) == 4, "what is left, without another look"
        await pool._close()


def test_a_task_equals_its_copy_with_attempts() -> None:
    assert dataclasses.replace(TASKS[0], attempts=3) == TASKS[0]
