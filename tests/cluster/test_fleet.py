"""The workers of a cluster as a leader finds them, without a leader: joining, finding, calling."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.simulator.process import SimulatorProcess
from src.workers.plain import decode_completion

from .conftest import WORKERS, Ask
from .ray_cluster import RayCluster, free_port

pytestmark = pytest.mark.cluster


def test_each_unit_of_the_resource_is_one_worker_that_makes_calls(
    cluster: RayCluster, simulator: SimulatorProcess, ask: Ask
) -> None:
    before = simulator.stats()["openai"]["calls"]
    workers = ask(cluster, calls=20)["workers"]
    assert len(workers) == WORKERS == len(cluster.worker_pids())
    for name, worker in workers.items():
        assert worker["description"]["name"] == name and worker["mismatch"] == ""
        assert [each["status"] for each in worker["outcomes"]] == ["answered"] * 20
        assert all(decode_completion(each["completion"]).text for each in worker["outcomes"])
    assert simulator.stats()["openai"]["calls"] - before == 20 * WORKERS


def test_the_next_leader_finds_the_same_workers(cluster: RayCluster, ask: Ask) -> None:
    first, second = ask(cluster)["workers"], ask(cluster)["workers"]
    assert first.keys() == second.keys()
    assert {each["description"]["pid"] for each in second.values()} == set(cluster.worker_pids())


def test_a_cluster_that_is_not_there_is_refused_in_one_line(cluster: RayCluster, ask: Ask) -> None:
    elsewhere = f"127.0.0.1:{free_port()}"
    assert ask(cluster, address=elsewhere)["refused"] == f"--workers: no Ray cluster at {elsewhere}"


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({"OPENAI_API_KEY": "test-key-of-another"}, "its address or key of openai is another one"),
        ({"ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}, "its address or key of anthropic is another one"),
        ({"ORCHESTRATOR_CONFIG": "own.toml"}, "its configuration of providers is another one"),
    ],
    ids=["another key", "another address", "another configuration"],
)
def test_a_worker_that_differs_is_known_by_its_inventory(
    cluster: RayCluster, ask: Ask, tmp_path: Path, environ: dict[str, str], why: str
) -> None:
    (tmp_path / "own.toml").write_text("[providers.openai]\nconnect_timeout_s = 9\n")
    workers = ask(cluster, **environ)["workers"]
    assert [each["mismatch"] for each in workers.values()] == [why] * WORKERS


def test_a_token_of_another_cluster_is_refused_in_one_line(cluster: RayCluster, ask: Ask) -> None:
    refused = ask(cluster, RAY_AUTH_TOKEN="of-another-cluster-0123456789abcdef")["refused"]
    assert "RAY_AUTH_TOKEN" in refused and "\n" not in refused
