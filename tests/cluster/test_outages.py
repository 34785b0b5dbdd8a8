"""The database is out of reach, or the leader is stopped for longer than its lease, with calls on workers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.simulator.process import SimulatorProcess
from tests.databases import own_database
from tests.helpers import live_environment
from tests.proxy import Proxy

from .ray_cluster import RayCluster
from .stage import END_S, Stage, check, limited

pytestmark = pytest.mark.cluster
TASKS = 150
LONG = {"latency": {"first_token_s": 1.0, "per_token_s": 0.0}}
PER_MINUTE = 600
POSTGRESQL = 5432


@pytest.fixture(scope="module")
def line() -> Iterator[Proxy]:
    with Proxy(POSTGRESQL) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def database(line: Proxy) -> Iterator[str]:
    """One for all tests of the module, through a line that can be cut."""
    with own_database() as url:
        yield url.replace(f":{POSTGRESQL}/", f":{line.port}/")


@pytest.fixture
def stage(cluster: RayCluster, simulator: SimulatorProcess, tmp_path: Path, database: str) -> Stage:
    found = Stage(cluster, simulator, tmp_path, database, TASKS, limited(PER_MINUTE))
    found.provide(LONG)
    return found


def test_without_the_database_calls_finish_and_are_stored_when_it_is_back(stage: Stage, line: Proxy) -> None:
    with stage.leader() as leader:
        stage.wait_for_calls(30)
        line.cut()
        try:
            leader.wait_for("lease expired: the database does not answer")
            calls = stage.calls
            time.sleep(3.0)  # several times as long as calls take, and longer than the lease
            assert stage.calls == calls < TASKS  # none is placed without it
        finally:
            line.mend()
        assert leader.wait(END_S) == 0, leader.err
    assert not stage.lost and not stage.failures()
    check(stage)


def test_a_leader_that_is_stopped_past_its_lease_does_no_harm_when_it_goes_on(stage: Stage) -> None:
    with stage.stopped_leader(), stage.client() as again:
        assert again.wait(END_S) == 0, again.err
    assert not stage.lost and not stage.failures()
    check(stage)


def test_no_cent_beyond_the_budget_is_spent_where_a_stopped_leader_goes_on(stage: Stage) -> None:
    budget_nanos = 10_000_000  # for about half of the tasks
    stage.limit_cost(budget_nanos)
    with stage.stopped_leader() as standby:
        standby.wait_for("its tasks wait until it is raised", END_S)
        standby.terminate()
        standby.wait(END_S)
    assert not stage.lost and not stage.failures()
    assert 0.8 * budget_nanos < stage.spent_nanos <= budget_nanos
    assert stage.spent_nanos == pytest.approx(stage.booked_nanos, abs=TASKS)  # each call is rounded


def test_without_the_database_and_ray_s_head_nothing_is_lost(
    simulator: SimulatorProcess, tmp_path: Path, line: Proxy, database: str
) -> None:
    environ = live_environment(simulator.base_urls, only=("openai",))  # to start sooner
    with RayCluster(environ, workers=1) as own:
        stage = Stage(own, simulator, tmp_path, database, TASKS, limited(PER_MINUTE))
        stage.provide(LONG)
        with stage.leader(fall_back=True) as leader:
            stage.wait_for_calls(20)
            own.kill_head()
            line.cut()
            try:
                leader.wait_for("no worker takes calls")
                leader.wait_for("lease expired: the database does not answer")
            finally:
                line.mend()
            assert leader.wait(END_S) == 0, leader.err
        check(stage)
