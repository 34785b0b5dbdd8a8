"""One simulator for all tests of this folder: no latency, no limits, healed and reset before each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import fields

import aiohttp
import pytest
import pytest_asyncio

from src.simulator import SimulatorProcess
from src.simulator.config import API_FORMATS, ProviderConfig

from .histories import Poster
from .streams import RawStream

INSTANT = {"first_token_s": 0, "per_token_s": 0}
_PATCHABLE = [f.name for f in fields(ProviderConfig) if f.name not in ("api_format", "port")]


@pytest.fixture(scope="session")
def shared_simulator() -> Iterator[SimulatorProcess]:
    with SimulatorProcess.start() as process:
        yield process


@pytest.fixture
def sim(shared_simulator: SimulatorProcess) -> SimulatorProcess:
    for name in API_FORMATS:
        shared_simulator.patch(name, {**dict.fromkeys(_PATCHABLE), "latency": INSTANT})
    shared_simulator.reset()
    return shared_simulator


@pytest_asyncio.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as opened:
        yield opened


@pytest.fixture
def poster(sim: SimulatorProcess, session: aiohttp.ClientSession) -> Poster:
    return Poster(sim, session)


@pytest.fixture
def raw_stream(sim: SimulatorProcess, session: aiohttp.ClientSession) -> RawStream:
    return RawStream(sim, session)
