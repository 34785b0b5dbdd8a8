"""The workers of a cluster as a leader finds them, without a leader: joining, finding, calling."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from src.config import load_settings, provider_access
from src.simulator.process import SimulatorProcess
from src.workers.identity import describe, mismatch
from src.workers.plain import decode_completion

from .conftest import WORKERS, Ask
from .ray_cluster import RayCluster, free_port

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def workers(cluster: RayCluster, simulator: SimulatorProcess, ask: Ask) -> dict[str, Any]:
    """What the first leader finds and gets, by worker: each has made 20 calls."""
    simulator.reset()
    return ask(cluster, calls=20)["workers"]  # type: ignore[no-any-return]


def difference(worker: dict[str, Any], environ: Mapping[str, str]) -> str:
    """Why a leader with this environment refuses the worker."""
    settings = load_settings(environ=environ)
    return mismatch(describe("test", settings, provider_access(settings, environ)), worker["inventory"])


def test_each_unit_of_the_resource_is_one_worker_that_makes_calls(
    cluster: RayCluster, simulator: SimulatorProcess, workers: dict[str, Any]
) -> None:
    assert len(workers) == WORKERS == len(cluster.worker_pids())
    for name, worker in workers.items():
        assert worker["inventory"]["description"]["name"] == name
        assert difference(worker, cluster.environ) == ""
        assert [each["status"] for each in worker["outcomes"]] == ["answered"] * 20
        assert all(decode_completion(each["completion"]).text for each in worker["outcomes"])
    assert simulator.stats()["openai"]["calls"] == 20 * WORKERS


def test_the_next_leader_finds_the_same_workers(
    cluster: RayCluster, ask: Ask, workers: dict[str, Any]
) -> None:
    second = ask(cluster)["workers"]
    assert second.keys() == workers.keys()
    pids = {each["inventory"]["description"]["pid"] for each in second.values()}
    assert pids == set(cluster.worker_pids())


def test_a_cluster_that_is_not_there_is_refused_in_one_line(cluster: RayCluster, ask: Ask) -> None:
    elsewhere = f"127.0.0.1:{free_port()}"
    assert ask(cluster, address=elsewhere)["refused"] == f"--workers: no Ray cluster at {elsewhere}"


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({"OPENAI_API_KEY": "test-key-of-another"}, "its address or key of openai is another one"),
        ({"ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}, "its address or key of anthropic is another one"),
        ({"ORCHESTRATOR_CONFIG": "{folder}/own.toml"}, "its configuration of providers is another one"),
    ],
    ids=["another key", "another address", "another configuration"],
)
def test_a_worker_that_differs_is_known_by_its_inventory(
    cluster: RayCluster,
    workers: dict[str, Any],
    tmp_path: Path,
    environ: dict[str, str],
    why: str,
) -> None:
    (tmp_path / "own.toml").write_text("[providers.openai]\nconnect_timeout_s = 9\n")
    changes = {name: value.format(folder=tmp_path) for name, value in environ.items()}
    found = [difference(each, {**cluster.environ, **changes}) for each in workers.values()]
    assert found == [why] * WORKERS


def test_a_token_of_another_cluster_is_refused_in_one_line(cluster: RayCluster, ask: Ask) -> None:
    refused = ask(cluster, RAY_AUTH_TOKEN="of-another-cluster-0123456789abcdef")["refused"]
    assert "RAY_AUTH_TOKEN" in refused and "\n" not in refused
