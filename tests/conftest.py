"""Every test runs without keys, proxies and settings of the machine, in its own folder, on loopback only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.simulator.process import SimulatorProcess

from . import no_network
from .helpers import clean_environment

clean_environment(os.environ)
no_network.install()


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No `.env` and no `state/` of the developer is found from here."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _nothing_left_the_machine() -> Iterator[None]:
    no_network.refused.clear()
    yield
    assert no_network.refused == []


@pytest.fixture(scope="session")
def _shared_simulator() -> Iterator[SimulatorProcess]:
    fast = {"latency": {"first_token_s": 0.01, "per_token_s": 0.0001}}
    config = {"providers": dict.fromkeys(("anthropic", "openai", "gemini"), fast)}
    with SimulatorProcess.start(config) as simulator:
        yield simulator


@pytest.fixture
def simulator(_shared_simulator: SimulatorProcess) -> SimulatorProcess:
    """Three quick providers without faults or limits, their counters at zero. Not to be patched."""
    _shared_simulator.reset()
    return _shared_simulator
