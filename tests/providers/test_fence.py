"""A request whose caller may not send any more does not leave, whatever API it is for."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from src.fence import NotSent, may_send
from src.messages import Message
from src.providers.factory import build_adapter
from src.records import CompletionRequest
from src.simulator.process import SimulatorProcess
from tests.core.direct_pool import live_access, settings_for

MODELS = {"anthropic": "claude-sonnet-5-5", "openai": "gpt-6-luna", "gemini": "gemini-3.8-flash"}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("streams", [False, True])
def test_the_last_check_is_made_when_the_connection_is_there(
    simulator: SimulatorProcess, name: str, streams: bool
) -> None:
    settings = settings_for()
    adapter = build_adapter(live_access(settings, simulator.base_urls)[name], 4)
    request = CompletionRequest(MODELS[name], (Message("user", "Tides?"),), 50)

    async def call() -> None:
        if not streams:
            await adapter.complete(request)
            return
        async for _ in adapter.stream(request):
            pass

    async def calls() -> None:
        await call()  # the connection is kept
        context = contextvars.copy_context()
        context.run(may_send.set, lambda: False)
        for _ in range(2):
            with pytest.raises(NotSent):
                await asyncio.create_task(call(), context=context)
        context.run(may_send.set, lambda: True)
        await asyncio.create_task(call(), context=context)
        await adapter.close()

    asyncio.run(calls())
    assert simulator.stats()[name]["calls"] == 2
