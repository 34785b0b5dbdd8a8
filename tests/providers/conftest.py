"""Adapters over the real SDKs, against a simulator of their own and a server that says what a test wants."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from pydantic import SecretStr

from src.config import ProviderAccess
from src.messages import Message
from src.providers.base import ProviderAdapter
from src.providers.factory import build_adapter
from src.records import CompletionRequest
from src.settings import ProviderConfig, TierModels
from src.simulator.process import SimulatorProcess

API_FORMATS = ("anthropic", "openai", "gemini")
MODELS = {"anthropic": "claude-haiku-5-5", "openai": "gpt-6-luna", "gemini": "gemini-3.5-flash-lite"}
KEY = "sk-test-0123456789abcdef"
SLOTS = 4
FAST = {"latency": {"first_token_s": 0.0, "per_token_s": 0.0}}


PATIENT_S = 60.0  # a busy machine answers late; tests of time limits have limits of their own


def access_to(api: str, base_url: str, key: str = KEY, **config: Any) -> ProviderAccess:
    """How a provider of that API format is reached at `base_url`."""
    model = MODELS[api]
    settings = ProviderConfig(
        api_format=api,
        weight=1.0,
        base_url=base_url,
        models=TierModels(economy=model, standard=model, premium=model),
        **{"connect_timeout_s": PATIENT_S, **config},
    )
    return ProviderAccess(api, settings, base_url, SecretStr(key), f"{api.upper()}_API_KEY (environment)")


def ask(api: str, text: str = "Name three rivers.", **changes: Any) -> CompletionRequest:
    """A small request for that API format's model."""
    facts: dict[str, Any] = {
        "model": MODELS[api],
        "messages": (Message("system", "Be brief."), Message("user", text)),
        "max_tokens": 400,
        "timeout_s": PATIENT_S,
        "parameters": {"max_tokens_parameter": "max_completion_tokens"} if api == "openai" else {},
    }
    return CompletionRequest(**{**facts, **changes})


@pytest.fixture(scope="session")
def own_simulator() -> Iterator[SimulatorProcess]:
    with SimulatorProcess.start({"providers": dict.fromkeys(API_FORMATS, FAST)}) as simulator:
        yield simulator


@pytest.fixture
def faulty(own_simulator: SimulatorProcess) -> Iterator[SimulatorProcess]:
    """The simulator, to be patched; without anything that was patched in, afterwards."""
    before = own_simulator.config()["providers"]
    own_simulator.reset()
    yield own_simulator
    after = own_simulator.config()["providers"]
    for name in API_FORMATS:
        undo = {key: None for key, value in after[name].items() if value != before[name][key]}
        if undo:
            own_simulator.patch(name, {**undo, **FAST})


async def in_flight(simulator: SimulatorProcess, api: str, calls: int) -> None:
    """Wait until exactly so many calls have arrived and not ended."""
    async with asyncio.timeout(120):
        while (await asyncio.to_thread(simulator.stats))[api]["in_flight"] != calls:
            await asyncio.sleep(0.01)


@dataclass
class Canned:
    """A server on loopback that answers every call alike, and remembers what it was asked."""

    base_url: str = ""
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    seen: list[dict[str, Any]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        self.seen.append(
            {"path": request.path, "url": request.raw_path, "body": body, "headers": request.headers}
        )
        if isinstance(self.body, bytes):
            headers = {"Content-Type": "application/json", **self.headers}
            return web.Response(status=self.status, body=self.body, headers=headers)
        return web.json_response(self.body, status=self.status, headers=self.headers)

    def url(self, api: str) -> str:
        return f"{self.base_url}/v1" if api == "openai" else self.base_url


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Canned]:
    """A canned server, as long as the block lasts."""
    said = Canned()
    runner = web.ServerRunner(web.Server(said.answer, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    said.base_url = f"http://{host}:{port}"
    yield said
    await runner.cleanup()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Canned]:
    """A canned server for all tests of a module; with `adapters` on its event loop."""
    async with serving() as said:
        yield said


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def adapters(server: Canned) -> AsyncIterator[dict[str, ProviderAdapter]]:
    """An adapter of each API format before `server`."""
    made = {api: build_adapter(access_to(api, server.url(api)), SLOTS) for api in API_FORMATS}
    yield made
    await asyncio.gather(*(adapter.close() for adapter in made.values()))


@pytest_asyncio.fixture
async def canned() -> AsyncIterator[Canned]:
    async with serving() as said:
        yield said


class Builder:
    """Makes adapters, and closes them when the test is over."""

    def __init__(self) -> None:
        self.made: list[ProviderAdapter] = []

    def __call__(self, access: ProviderAccess) -> ProviderAdapter:
        self.made.append(build_adapter(access, SLOTS))
        return self.made[-1]

    async def close(self) -> None:
        await asyncio.gather(*(adapter.close() for adapter in self.made))


@pytest_asyncio.fixture
async def adapter_for() -> AsyncIterator[Builder]:
    builder = Builder()
    yield builder
    await builder.close()
