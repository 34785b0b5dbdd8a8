"""A worker or the head of the cluster is lost: what the leader sees, how soon, and how it comes back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from src.simulator.process import SimulatorProcess
from tests.helpers import live_environment

from .conftest import WORKERS, Watch
from .ray_cluster import RayCluster, redis_server

pytestmark = pytest.mark.cluster
Watching = Callable[[RayCluster, int], Watch]
LOST_S, BACK_S = 10.0, 60.0  # it takes 1 and 3 s on an idle machine


def test_a_killed_worker_is_gone_at_once_and_another_takes_its_place(
    cluster: RayCluster, watch: Watching
) -> None:
    with watch(cluster, WORKERS) as seen:
        before = seen.until(lambda look: len(look["reply"]) == WORKERS, BACK_S)
        os.kill(cluster.worker_pids()[0], signal.SIGKILL)
        seen.until(lambda look: len(look["reply"]) == WORKERS - 1, LOST_S)
        after = seen.until(lambda look: len(look["found"]) == WORKERS, BACK_S)
    assert len(set(before["found"]) & set(after["found"])) == WORKERS - 1


def test_a_stopped_worker_does_not_reply_and_comes_back_as_it_was(
    cluster: RayCluster, watch: Watching
) -> None:
    with watch(cluster, WORKERS) as seen:
        before = seen.until(lambda look: len(look["reply"]) == WORKERS, BACK_S)
        pid = cluster.worker_pids()[0]
        os.kill(pid, signal.SIGSTOP)
        try:
            seen.until(lambda look: len(look["reply"]) == WORKERS - 1, LOST_S)
        finally:
            os.kill(pid, signal.SIGCONT)
        after = seen.until(lambda look: len(look["reply"]) == WORKERS, BACK_S)
    assert before["found"] == after["found"]


def test_with_redis_a_new_head_goes_on_where_the_old_one_was(
    simulator: SimulatorProcess, watch: Watching
) -> None:
    with (
        redis_server() as redis,
        RayCluster(
            live_environment(simulator.base_urls, only=("openai",)), workers=1, redis=redis
        ) as cluster,
        watch(cluster, 1) as seen,
    ):
        before = seen.until(lambda look: len(look["reply"]) == 1, BACK_S)
        cluster.kill_head()
        lost = seen.until(lambda look: look["why"] != "", LOST_S)
        assert "does not answer" in lost["why"] and lost["reply"] == before["found"]
        cluster.restart_head()
        after = seen.until(lambda look: look["found"] != [], BACK_S)
        assert after["found"] == before["found"]
