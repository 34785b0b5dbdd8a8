"""The step of a reload that reads the providers' keys again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ..bootstrap import Setup

if TYPE_CHECKING:
    from ..config import ProviderAccess
    from ..core.orchestrator import Orchestrator


class KeyReload:
    """Reads keys into `setup`, and gives new ones to the orchestrator that runs. Called from any thread."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._new: dict[str, ProviderAccess] = {}  # read while no orchestrator ran
        self._running: tuple[asyncio.AbstractEventLoop, Orchestrator] | None = None

    def __call__(self) -> str:
        """Returns what it did. Raises ConfigError: all old keys stay."""
        if self._setup.simulated:
            return "simulated providers have no keys"
        renewed = self._setup.reload_keys()
        if self._running is None:
            self._new |= renewed
        else:
            loop, orchestrator = self._running
            asyncio.run_coroutine_threadsafe(orchestrator.renew_keys(renewed), loop)
        return f"new key for {', '.join(renewed)}" if renewed else "no key has changed"

    @asynccontextmanager
    async def applied_to(self, orchestrator: Orchestrator) -> AsyncIterator[None]:
        """Give new keys to `orchestrator` while the block runs, and those that were read before it."""
        self._running = (asyncio.get_running_loop(), orchestrator)
        if self._new:
            await orchestrator.renew_keys(self._new)
        try:
            yield
        finally:
            self._running = None
