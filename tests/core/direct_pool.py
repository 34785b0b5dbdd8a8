"""A serving pool with direct requests, over the simulator and a store in a temporary folder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from pydantic import SecretStr

from src.config import ProviderAccess
from src.core.clock import Clock
from src.core.leadership import Leadership
from src.core.orchestrator import Orchestrator, OrchestratorOptions, RunReport
from src.core.store import Store
from src.messages import Message
from src.records import Task
from src.settings import LimitSettings, Settings

from .pools import settings_with

ONLY = "openai"


def settings_for(
    *, gateway: Mapping[str, Any] | None = None, limits: Mapping[str, float] | None = None, **pool: Any
) -> Settings:
    """Settings for live calls. `limits`: of every provider."""
    settings = settings_with(**pool)
    update: dict[str, Any] = {"gateway": settings.gateway.model_copy(update=dict(gateway or {}))}
    if limits is not None:
        rows = settings.providers.items()
        given = LimitSettings(**limits)
        update["providers"] = {name: row.model_copy(update={"limits": given}) for name, row in rows}
    return settings.model_copy(update=update)


def live_access(settings: Settings, base_urls: Mapping[str, str]) -> dict[str, ProviderAccess]:
    return {
        name: ProviderAccess(name, settings.providers[name], url, SecretStr("sk-test-0123456789"), "a test")
        for name, url in base_urls.items()
        if name in settings.providers
    }


class Served:
    """A pool that serves, and how its run ends."""

    def __init__(self, pool: Orchestrator, run: asyncio.Task[RunReport]) -> None:
        self.pool, self.run, self.direct = pool, run, pool.direct

    async def drain(self) -> RunReport:
        self.pool.drain()
        return await self.run


@asynccontextmanager
async def serving(
    store: Store,
    base_urls: Mapping[str, str],
    settings: Settings,
    leadership: Leadership | None = None,
) -> AsyncIterator[Served]:
    """The pool from when it takes requests until it has ended. `leadership`: one that leads already."""
    options = OrchestratorOptions(leadership=leadership)
    pool = Orchestrator(settings, live_access(settings, base_urls), store, Clock(), options)
    run = asyncio.create_task(pool.run(until_done=False))
    try:
        while not pool.direct.is_open:
            assert not run.done(), run.result()
            await asyncio.sleep(0.005)
        yield Served(pool, run)
    finally:
        if not run.done():
            pool.stop_now()
        await asyncio.gather(run, return_exceptions=True)


def request(number: int | str, **fields: Any) -> Task:
    """A direct task of the batch `gateway`."""
    defaults = {"id": "", "batch": "gateway", "max_tokens": 50, "providers": (ONLY,)}
    return Task(messages=(Message("user", f"Question {number}?"),), **(defaults | fields))
