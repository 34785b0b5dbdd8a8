"""Builds a worker in the process that hosts it: settings, keys from the environment, adapters, the worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

from ..agents.real_agent import answer
from ..config import ProviderAccess
from ..providers.factory import build_adapter
from ..settings import Settings
from .identity import describe
from .worker import Worker


@asynccontextmanager
async def hosted(
    name: str, settings: Settings, access: Mapping[str, ProviderAccess], slots: int
) -> AsyncIterator[Worker]:
    """A worker that can make calls to the configured providers of `access`, until the block ends.

    `slots`: connections that it keeps to each provider. Its calls are cut off at the end.
    """
    adapters = {
        each.name: build_adapter(each, slots, max_answer_mb=settings.pool.max_answer_mb)
        for each in access.values()
        if each.configured
    }
    worker = Worker(describe(name, settings, access), partial(answer, adapters))
    try:
        await asyncio.gather(*(adapter.warm_up() for adapter in adapters.values()))
        yield worker
    finally:
        await worker.stop()
        for adapter in adapters.values():
            await adapter.close()
