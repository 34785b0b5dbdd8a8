"""One cluster for all tests that leave it as it was, with the simulator as the providers."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from src.simulator.process import SimulatorProcess
from tests.helpers import live_environment, skip_without

from .ray_cluster import RayCluster, ray_python

WORKERS = 3
QUICK = {"latency": {"first_token_s": 0.02, "per_token_s": 0.0}}
CLIENT = f"{__package__}.port_client"


@pytest.fixture(scope="session", autouse=True)
def _ray() -> None:
    """Installs Ray once. Where that fails the tests are skipped; in CI they fail."""
    try:
        ray_python()
    except subprocess.SubprocessError as error:
        skip_without(f"Ray could not be installed: {error}")


@pytest.fixture(scope="session")
def simulator() -> Iterator[SimulatorProcess]:
    with SimulatorProcess.start(
        {"providers": dict.fromkeys(("anthropic", "openai", "gemini"), QUICK)}
    ) as found:
        yield found


@pytest.fixture(scope="session")
def _running(simulator: SimulatorProcess) -> Iterator[RayCluster]:
    with RayCluster(live_environment(simulator.base_urls), workers=WORKERS) as running:
        yield running


@pytest.fixture(scope="module")
def cluster(_running: RayCluster) -> RayCluster:
    """Without workers when a module begins: one with outcomes that no leader has stored stays for a day."""
    _running.end_workers()
    return _running


Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Runs `port_client.py` in a process of its own, and returns what it prints."""

    def run(
        cluster: RayCluster, *, workers: int = WORKERS, calls: int = 0, address: str = "", **environ: str
    ) -> dict[str, Any]:
        done = subprocess.run(
            [cluster.python, "-m", CLIENT, "ask", address or cluster.address, str(workers), str(calls)],
            cwd=tmp_path_factory.getbasetemp(), env={**cluster.environ, **environ}, capture_output=True,
            text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run


class Watch:
    """`port_client.py` at its looks. `last` is what the newest one saw."""

    def __init__(self, cluster: RayCluster, folder: Path, workers: int) -> None:
        self._child = subprocess.Popen(
            [cluster.python, "-m", CLIENT, "watch", cluster.address, str(workers)],
            cwd=folder, env=cluster.environ, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def until(self, holds: Callable[[dict[str, Any]], bool], timeout_s: float) -> dict[str, Any]:
        """The first look from now on for which it holds."""
        end, seen = time.monotonic() + timeout_s, {}
        assert self._child.stdout is not None
        for line in self._child.stdout:
            if not line.startswith("{"):  # Ray tells there of processes that died
                continue
            seen = json.loads(line)
            if holds(seen):
                return seen
            assert time.monotonic() < end, seen
        raise AssertionError(f"ended after {seen}: {self._child.stderr and self._child.stderr.read()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._child.kill()
        self._child.communicate()


@pytest.fixture
def watch(tmp_path: Path) -> Callable[[RayCluster, int], Watch]:
    return lambda cluster, workers: Watch(cluster, tmp_path, workers)
