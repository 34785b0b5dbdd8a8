"""A gateway as users start it: `real_agent_orchestrator.py` with keys, and the simulator as the providers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from src.simulator.process import SimulatorProcess
from tests.helpers import Script, live_environment

from .http_client import send


@dataclass(frozen=True)
class Served:
    """A gateway that runs."""

    url: str  # without a path
    script: Script


@contextmanager
def started(folder: Path, environ: Mapping[str, str], *options: str, toml: str = "") -> Iterator[Served]:
    """A gateway that leads, on a port of its own."""
    (folder / "own.toml").write_text(toml)
    arguments = ["--yes", "--config", "own.toml", *options]
    with Script(*arguments, cwd=folder, env=environ) as script:
        script.wait_for("serving the queue")
        found = re.search(r"base URL (http://\S+)/v1 ", script.err)
        assert found, script.err
        while send(found[1], "/readyz").status != 200:
            script.pause()
        yield Served(found[1], script)
        script.interrupt()
        assert script.wait() == 0, script.err
        assert "Traceback" not in script.err


@pytest.fixture(scope="package")
def gateway(
    _shared_simulator: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """One gateway for all tests that change nothing of it, with live keys and without tokens."""
    environ = live_environment(_shared_simulator.base_urls)
    with started(tmp_path_factory.mktemp("gateway"), environ) as served:
        yield served
