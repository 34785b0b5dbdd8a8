"""The three SDKs in round-robin with nothing around them, as a client. See child.py.

`transport`: `default` takes the SDKs as they come, `aiohttp` gives anthropic and openai the transport that
this project uses. `retries` is the SDKs' own setting; google-generativeai keeps what it does by itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
import warnings
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any

from .child import Record, read_spec, report, reset
from .work import MODELS, PROVIDERS, Json, Prompt

Call = Callable[[Prompt], Awaitable[Any]]


def _anthropic(spec: Json, stack: AsyncExitStack) -> Call:
    from anthropic import AsyncAnthropic, DefaultAioHttpClient

    http = DefaultAioHttpClient() if spec["transport"] == "aiohttp" else None
    client = AsyncAnthropic(
        api_key="simulated", base_url=spec["base_urls"]["anthropic"], max_retries=spec["retries"],
        timeout=spec["timeout_s"], http_client=http,
    )  # fmt: skip
    stack.push_async_callback(client.close)

    async def call(prompt: Prompt) -> Any:
        return await client.messages.create(
            model=MODELS["anthropic"],
            max_tokens=prompt.max_tokens,
            messages=[{"role": "user", "content": prompt.text}],
        )

    return call


def _openai(spec: Json, stack: AsyncExitStack) -> Call:
    from openai import AsyncOpenAI, DefaultAioHttpClient

    http = DefaultAioHttpClient() if spec["transport"] == "aiohttp" else None
    client = AsyncOpenAI(
        api_key="simulated", base_url=spec["base_urls"]["openai"], max_retries=spec["retries"],
        timeout=spec["timeout_s"], http_client=http,
    )  # fmt: skip
    stack.push_async_callback(client.close)

    async def call(prompt: Prompt) -> Any:
        return await client.chat.completions.create(
            model=MODELS["openai"],
            max_completion_tokens=prompt.max_tokens,
            messages=[{"role": "user", "content": prompt.text}],
        )

    return call


def _gemini(spec: Json, stack: AsyncExitStack) -> Call:
    warnings.simplefilter("ignore", FutureWarning)
    import google.generativeai as genai

    options = {"api_endpoint": spec["base_urls"]["gemini"]}
    genai.configure(api_key="simulated", transport="rest", client_options=options)
    model = genai.GenerativeModel(MODELS["gemini"])
    threads = ThreadPoolExecutor(spec["in_flight"])
    stack.callback(threads.shutdown, wait=False, cancel_futures=True)

    def generate(prompt: Prompt) -> Any:
        return model.generate_content(
            prompt.text,
            generation_config={"max_output_tokens": prompt.max_tokens},
            request_options={"timeout": spec["timeout_s"]},
        )

    async def call(prompt: Prompt) -> Any:
        return await asyncio.get_running_loop().run_in_executor(threads, generate, prompt)

    return call


async def _run(spec: Json) -> None:
    record = Record()
    room = asyncio.Semaphore(spec["in_flight"])
    arrivals = spec.get("arrivals_s")
    async with AsyncExitStack() as stack:
        calls = [build(spec, stack) for build in (_anthropic, _openai, _gemini)]
        if arrivals is not None:
            reset(spec["control_url"])
        started_at, start = time.time(), time.monotonic()

        async def one(number: int, prompt: Prompt) -> None:
            if arrivals is not None:
                await asyncio.sleep(max(0.0, start + arrivals[number] - time.monotonic()))
            began = time.monotonic()
            async with room:
                try:
                    await calls[number % len(PROVIDERS)](prompt)
                    ok = True
                except Exception:  # noqa: BLE001 - whatever an SDK raises, this client has lost the task
                    ok = False
            record.note(time.monotonic() - began, ok=ok)
            record.mark()

        await asyncio.gather(*(one(i, prompt) for i, prompt in enumerate(spec["prompts"])))
    report(record, first_call_at=started_at, started_at=started_at)


def main() -> None:
    logging.disable(logging.WARNING)
    asyncio.run(_run(read_spec()))


if __name__ == "__main__":
    main()
