"""The leader with workers on Ray, over PostgreSQL, while workers, the leader or Ray's head are lost.

The simulator counts: every task answered once, no answer 429, and no call that a kill does not explain.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.simulator.process import SimulatorProcess
from tests.databases import own_database
from tests.helpers import ORCHESTRATOR

from .ray_cluster import RayCluster
from .stage import END_S, PROVIDERS, QUICK, Stage, check, limited

pytestmark = pytest.mark.cluster
TASKS = 150
LONG = {"latency": {"first_token_s": 1.0, "per_token_s": 0.0}}  # a call is in flight when something is killed


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """One for all tests: workers belong to a database, and so stay from one test to the next."""
    with own_database() as url:
        yield url


@pytest.fixture
def stage(cluster: RayCluster, simulator: SimulatorProcess, tmp_path: Path, database: str) -> Stage:
    found = Stage(cluster, simulator, tmp_path, database, TASKS)
    found.provide(LONG)
    return found


def test_workers_answer_every_task_once_within_limits_they_are_told(stage: Stage) -> None:
    stage.provide({**QUICK, "limits": {"requests_per_minute": 1200, "burst_s": 5}})
    with stage.leader() as leader:
        assert leader.wait(END_S) == 0, leader.err
    check(stage)


def test_the_calls_of_a_killed_worker_are_placed_anew_and_blame_no_provider(stage: Stage) -> None:
    with stage.leader() as leader:
        stage.wait_for_calls(20)
        os.kill(stage.cluster.worker_pids()[0], signal.SIGKILL)
        assert leader.wait(END_S) == 0, leader.err
    assert stage.lost and not stage.failures()
    check(stage, lost=stage.lost)


def test_a_killed_leader_s_calls_are_taken_over_and_none_is_made_twice(stage: Stage) -> None:
    with stage.leader() as first:
        stage.wait_for_calls(40)
        first.kill()
    with stage.leader() as second:
        assert second.wait(END_S) == 0, second.err
    check(stage)


def test_a_leader_that_is_told_to_stop_waits_for_its_calls(stage: Stage) -> None:
    stage.provide({"latency": {"first_token_s": 6.0, "per_token_s": 0.0}})  # Ray's own handlers take 3 s
    with stage.leader() as first:
        stage.wait_for_calls(40)
        first.terminate()
        assert first.wait(END_S) == 1, first.err
        assert "SIGTERM received" not in first.err
    assert len(stage.ids) - stage.counts().missing >= 40
    for name in PROVIDERS:
        stage.simulator.patch(name, QUICK)
    with stage.leader() as second:
        assert second.wait(END_S) == 0, second.err
    assert not stage.lost and not stage.failures()
    check(stage)


def test_a_stopped_worker_s_calls_go_elsewhere_and_none_comes_late(stage: Stage) -> None:
    with stage.leader() as leader:
        stage.wait_for_calls(20)
        pid = stage.cluster.worker_pids()[0]
        os.kill(pid, signal.SIGSTOP)
        try:
            leader.wait_for("calls in flight placed anew")
        finally:
            os.kill(pid, signal.SIGCONT)
        assert leader.wait(END_S) == 0, leader.err
    assert stage.lost and not stage.failures()
    check(stage, lost=stage.lost)


def test_a_machine_that_was_drained_leaves_without_a_lost_call(
    cluster: RayCluster, simulator: SimulatorProcess, tmp_path: Path, database: str
) -> None:
    stage = Stage(cluster, simulator, tmp_path, database, 2 * TASKS, limited(500))
    stage.provide(LONG)
    with stage.leader() as leader:
        stage.wait_for_calls(20)
        command = [cluster.python, ORCHESTRATOR, "drain-workers", "--wait", "60"]
        env = {
            **cluster.environ,
            "RAY_ADDRESS": cluster.address,
        }  # else the node of another test may be found
        done = subprocess.run(command, env=env, cwd=stage.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "drained 3 workers" in done.stderr
        assert stage.calls < len(stage.ids)  # the leader waits for workers
        assert len(cluster.worker_pids()) == 3  # they keep their places until the node ends
        cluster.end_workers()
        assert leader.wait(END_S) == 0, leader.err
    assert not stage.lost and not stage.failures()
    check(stage)


def test_workers_with_another_key_are_refused_and_the_leader_goes_on_alone(stage: Stage) -> None:
    with stage.leader(fall_back=True, OPENAI_API_KEY="test-key-of-another") as leader:
        leader.wait_for("refused: its address or key of openai is another one")
        assert leader.wait(END_S) == 0, leader.err
    check(stage)
