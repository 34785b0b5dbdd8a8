"""The real SDKs, called alike: `ask` gives the SDK's own answer or raises its own exception."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

from src.simulator import SimulatorProcess

PROMPT = "Explain the tides to a child of ten."
MODELS = {"anthropic": "claude-haiku-5-5", "openai": "gpt-6-luna", "gemini": "gemini-3.8-flash"}


@cache
def gemini_sdk() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it announces its own end on import
        import google.generativeai

        return google.generativeai


async def ask(
    sim: SimulatorProcess,
    api: str,
    *,
    prompt: str = PROMPT,
    model: str | None = None,
    key: str = "key",
    timeout_s: float = 5.0,
    max_tokens: int = 50,
    aiohttp: bool = True,
    read: Callable[[Any], Awaitable[None]] | None = None,
    **more: Any,
) -> Any:
    """One generation. `more` are arguments of the SDK's own method (Gemini: of its generation_config).

    `read` reads a stream to its end while the client is open.
    """
    base_url, model = sim.base_urls[api], model or MODELS[api]
    if api == "gemini":
        return await asyncio.to_thread(_ask_gemini, base_url, model, key, timeout_s, prompt, max_tokens, more)
    # verify=False below: the calls are plain HTTP, and loading certificates takes longer than they do
    messages: Any = more.pop("messages", [{"role": "user", "content": prompt}])
    settings: dict[str, Any] = {"base_url": base_url, "api_key": key, "max_retries": 0, "timeout": timeout_s}
    if api == "anthropic":
        import anthropic

        http: Any = anthropic.DefaultAioHttpClient if aiohttp else anthropic.DefaultAsyncHttpxClient
        async with anthropic.AsyncAnthropic(**settings, http_client=http(verify=False)) as claude:
            message = await claude.messages.create(
                model=model, max_tokens=max_tokens, messages=messages, **more
            )
            return message if read is None else await read(message)
    import openai

    http = openai.DefaultAioHttpClient if aiohttp else openai.DefaultAsyncHttpxClient
    async with openai.AsyncOpenAI(**settings, http_client=http(verify=False)) as gpt:
        if "max_completion_tokens" not in more:
            more["max_tokens"] = max_tokens
        completion = await gpt.chat.completions.create(model=model, messages=messages, **more)
        return completion if read is None else await read(completion)


def _ask_gemini(
    base_url: str, model: str, key: str, timeout_s: float, prompt: str, max_tokens: int, more: dict[str, Any]
) -> Any:
    genai = gemini_sdk()
    genai.configure(api_key=key, transport="rest", client_options={"api_endpoint": base_url})
    return genai.GenerativeModel(model).generate_content(
        prompt,
        generation_config={"max_output_tokens": max_tokens, **more},
        request_options={"retry": None, "timeout": timeout_s},
    )


async def list_models(
    sim: SimulatorProcess, api: str, *, timeout_s: float = 5.0, key: str = "key"
) -> list[str]:
    """Ids of the models, through the SDK's own listing."""
    base_url = sim.base_urls[api]
    if api == "gemini":
        genai = gemini_sdk()
        genai.configure(api_key=key, transport="rest", client_options={"api_endpoint": base_url})
        options = {"retry": None, "timeout": timeout_s}
        found = await asyncio.to_thread(lambda: list(genai.list_models(request_options=options)))
        return [model.name for model in found]
    settings: dict[str, Any] = {"base_url": base_url, "api_key": key, "max_retries": 0, "timeout": timeout_s}
    if api == "anthropic":
        import anthropic

        async with anthropic.AsyncAnthropic(**settings) as claude:
            return [model.id async for model in claude.models.list()]
    import openai

    async with openai.AsyncOpenAI(**settings) as gpt:
        return [model.id async for model in gpt.models.list()]


def text_of(api: str, answer: Any) -> str:
    if api == "anthropic":
        return "".join(block.text for block in answer.content if block.type == "text")
    if api == "openai":
        return str(answer.choices[0].message.content)
    return "".join(part.text for part in answer.candidates[0].content.parts)


def finish_of(api: str, answer: Any) -> str | None:
    if api == "anthropic":
        return answer.stop_reason
    if api == "openai":
        return answer.choices[0].finish_reason
    return str(answer.candidates[0].finish_reason.name)


def usage_of(api: str, answer: Any) -> tuple[int, int]:
    """Tokens of input, cached ones included, and of output."""
    if api == "anthropic":
        usage = answer.usage
        cached = usage.cache_read_input_tokens + usage.cache_creation_input_tokens
        return usage.input_tokens + cached, usage.output_tokens
    if api == "openai":
        return answer.usage.prompt_tokens, answer.usage.completion_tokens
    usage = answer.usage_metadata
    return usage.prompt_token_count, usage.total_token_count - usage.prompt_token_count
