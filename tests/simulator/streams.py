"""Streams as a client sees them: through the real SDKs, and as the raw events."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from src.simulator import SimulatorProcess

from .sdks import MODELS, PROMPT, ask, gemini_sdk

KEYS = {"x-api-key": "k", "Authorization": "Bearer k", "x-goog-api-key": "k"}
STREAM_PATHS = {
    "anthropic": "/v1/messages",
    "openai": "/chat/completions",
    "gemini": "/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse",
}


@dataclass
class Streamed:
    """What an SDK made of a stream, as far as it came."""

    text: str = ""
    finish: str | None = None
    usage: tuple[int, int] | None = None  # tokens of input and of output
    chunks: int = 0
    calls: dict[int, list[str]] = field(default_factory=dict)  # by index: name, arguments


async def stream(sim: SimulatorProcess, api: str, into: Streamed | None = None, **more: Any) -> Streamed:
    """One streamed generation. `into` keeps what had come when it raises."""
    found = Streamed() if into is None else into
    if api == "gemini":
        await asyncio.to_thread(_stream_gemini, sim, found, **more)
    elif api == "anthropic":
        await ask(sim, api, stream=True, read=lambda events: _read_anthropic(events, found), **more)
    else:
        more.setdefault("stream_options", {"include_usage": True})
        await ask(sim, api, stream=True, read=lambda chunks: _read_openai(chunks, found), **more)
    return found


async def _read_anthropic(events: Any, found: Streamed) -> None:
    read = 0
    async for event in events:
        found.chunks += 1
        if event.type == "message_start":
            usage = event.message.usage
            read = usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens
        elif event.type == "content_block_start" and event.content_block.type == "tool_use":
            found.calls[event.index] = [event.content_block.name, ""]
        elif event.type == "content_block_delta" and event.delta.type == "input_json_delta":
            found.calls[event.index][1] += event.delta.partial_json
        elif event.type == "content_block_delta" and event.delta.type == "text_delta":
            found.text += event.delta.text
        elif event.type == "message_delta":
            found.finish = event.delta.stop_reason
            found.usage = read, event.usage.output_tokens


async def _read_openai(chunks: Any, found: Streamed) -> None:
    async for chunk in chunks:
        found.chunks += 1
        if chunk.usage is not None:
            found.usage = chunk.usage.prompt_tokens, chunk.usage.completion_tokens
        for choice in chunk.choices:
            found.text += choice.delta.content or ""
            found.finish = choice.finish_reason or found.finish
            for call in choice.delta.tool_calls or ():
                if call.function.name is not None:
                    found.calls[call.index] = [call.function.name, ""]
                found.calls[call.index][1] += call.function.arguments


def _stream_gemini(
    sim: SimulatorProcess,
    found: Streamed,
    *,
    prompt: str = PROMPT,
    key: str = "key",
    timeout_s: float = 5.0,
    max_tokens: int = 50,
    tools: Any = None,
    tool_config: Any = None,
    **more: Any,
) -> None:
    genai = gemini_sdk()
    genai.configure(api_key=key, transport="rest", client_options={"api_endpoint": sim.base_urls["gemini"]})
    chunks = genai.GenerativeModel(MODELS["gemini"], tools=tools, tool_config=tool_config).generate_content(
        prompt,
        generation_config={"max_output_tokens": max_tokens, **more},
        request_options={"retry": None, "timeout": timeout_s},
        stream=True,
    )
    for chunk in chunks:
        found.chunks += 1
        usage = chunk.usage_metadata
        found.usage = usage.prompt_token_count, usage.total_token_count - usage.prompt_token_count
        for candidate in chunk.candidates:
            for part in candidate.content.parts:
                found.text += part.text
                if part.function_call.name:
                    arguments = type(part.function_call).to_dict(part.function_call)["args"]
                    found.calls[len(found.calls)] = [part.function_call.name, json.dumps(arguments)]
            if candidate.finish_reason.value:
                found.finish = candidate.finish_reason.name


def stream_body(api: str, prompt: str = PROMPT, max_tokens: int = 50) -> dict[str, Any]:
    if api == "gemini":
        contents = [{"role": "user", "parts": [{"text": prompt}]}]
        return {"contents": contents, "generationConfig": {"maxOutputTokens": max_tokens}}
    messages = [{"role": "user", "content": prompt}]
    return {"model": MODELS[api], "max_tokens": max_tokens, "messages": messages, "stream": True}


class RawStream:
    """The bytes of one stream."""

    def __init__(self, sim: SimulatorProcess, session: aiohttp.ClientSession) -> None:
        self.sim, self.session = sim, session

    def open(self, api: str, *, path: str | None = None, **more: Any) -> Any:
        """`more` goes into the body."""
        url = self.sim.base_urls[api] + (path or STREAM_PATHS[api])
        return self.session.post(url, json={**stream_body(api), **more}, headers=KEYS)

    async def events(self, api: str, **more: Any) -> list[tuple[str | None, Any]]:
        """Name and data of each event of a stream that is read to its end."""
        async with self.open(api, **more) as response:
            assert response.status == 200
            return events_of(await response.read())


def events_of(body: bytes) -> list[tuple[str | None, Any]]:
    found = []
    for block in body.decode().replace("\r\n", "\n").split("\n\n"):
        name, data = None, None
        for line in block.splitlines():
            field_name, _, value = line.partition(": ")
            if field_name == "event":
                name = value
            elif field_name == "data":
                data = value if value == "[DONE]" else json.loads(value)
        if data is not None:
            found.append((name, data))
    return found
