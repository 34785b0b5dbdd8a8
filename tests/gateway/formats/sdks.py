"""A server that answers every request with the same bytes, and the real SDKs that read them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import openai
from aiohttp import web
from aiohttp.test_utils import TestServer


@asynccontextmanager
async def serving(
    body: bytes, *, status: int = 200, stream: bool = False, headers: Mapping[str, str] | None = None
) -> AsyncIterator[str]:
    """The address of the server."""
    kind = "text/event-stream" if stream else "application/json"

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, status=status, headers={"content-type": kind, **(headers or {})})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    server = TestServer(app)
    await server.start_server()
    try:
        yield str(server.make_url("/")).rstrip("/")
    finally:
        await server.close()


@asynccontextmanager
async def gpt(base_url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    client = openai.DefaultAioHttpClient(verify=False)
    async with openai.AsyncOpenAI(
        base_url=f"{base_url}/v1", api_key="key", max_retries=0, http_client=client
    ) as found:
        yield found


@asynccontextmanager
async def claude(base_url: str) -> AsyncIterator[anthropic.AsyncAnthropic]:
    client = anthropic.DefaultAioHttpClient(verify=False)
    async with anthropic.AsyncAnthropic(
        base_url=base_url, api_key="key", max_retries=0, http_client=client
    ) as found:
        yield found


async def ask(form: str, base_url: str, **more: Any) -> Any:
    """One call through the SDK's own method."""
    if form == "anthropic":
        async with claude(base_url) as client:
            given: Any = [{"role": "user", "content": "Tides?"}]
            return await client.messages.create(model="auto", max_tokens=4000, messages=given, **more)
    async with gpt(base_url) as client:
        if form == "responses":
            return await client.responses.create(model="auto", input="Tides?", **more)
        given = [{"role": "user", "content": "Tides?"}]
        return await client.chat.completions.create(model="auto", messages=given, **more)


async def drain(form: str, base_url: str) -> Any:
    """The final object of a stream, as the SDK's stream helper accumulates it."""
    if form == "anthropic":
        async with claude(base_url) as client:
            given: Any = [{"role": "user", "content": "Tides?"}]
            async with client.messages.stream(model="auto", max_tokens=4000, messages=given) as stream:
                return await stream.get_final_message()
    async with gpt(base_url) as client:
        if form == "responses":
            async with client.responses.stream(model="auto", input="Tides?") as responses:
                return await responses.get_final_response()
        given = [{"role": "user", "content": "Tides?"}]
        async with client.chat.completions.stream(model="auto", messages=given) as chunks:
            return await chunks.get_final_completion()


async def events(form: str, base_url: str) -> list[Any]:
    """The typed events of a stream."""
    if form == "anthropic":
        async with claude(base_url) as client:
            given: Any = [{"role": "user", "content": "Tides?"}]
            raw: Any = await client.messages.create(
                model="auto", max_tokens=4000, messages=given, stream=True
            )
            return [event async for event in raw]
    async with gpt(base_url) as client:
        if form == "responses":
            raw = await client.responses.create(model="auto", input="Tides?", stream=True)
        else:
            given = [{"role": "user", "content": "Tides?"}]
            raw = await client.chat.completions.create(model="auto", messages=given, stream=True)
        return [event async for event in raw]
