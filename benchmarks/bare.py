"""The three SDKs in round-robin with nothing around them, as a client. See child.py.

    .bench-sdks/bin/python -P benchmarks/bare.py < spec

Runs in a virtual environment of its own, with the SDKs as `pip install anthropic openai google-genai` gives
them, so it imports nothing from here. `retries` is the SDKs' own setting.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

Call = Callable[[str, int], Awaitable[Any]]


def anthropic(spec: dict[str, Any]) -> Call:
    from anthropic import AsyncAnthropic

    client = AsyncAnthropic(
        api_key="simulated", base_url=spec["base_urls"]["anthropic"], max_retries=spec["retries"],
        timeout=spec["timeout_s"],
    )  # fmt: skip

    async def call(text: str, max_tokens: int) -> Any:
        return await client.messages.create(
            model="claude-sonnet-5-5", max_tokens=max_tokens, messages=[{"role": "user", "content": text}]
        )

    return call


def openai(spec: dict[str, Any]) -> Call:
    from openai import AsyncOpenAI

    client = AsyncOpenAI(
        api_key="simulated", base_url=spec["base_urls"]["openai"], max_retries=spec["retries"],
        timeout=spec["timeout_s"],
    )  # fmt: skip

    async def call(text: str, max_tokens: int) -> Any:
        return await client.chat.completions.create(
            model="gpt-6.1-terra",
            max_completion_tokens=max_tokens,
            messages=[{"role": "user", "content": text}],
        )

    return call


def gemini(spec: dict[str, Any]) -> Call:
    from google import genai
    from google.genai import types

    options = types.HttpOptions(
        base_url=spec["base_urls"]["gemini"],
        api_version="v1beta",  # all that the simulator serves
        timeout=int(spec["timeout_s"] * 1e3),
        retry_options=types.HttpRetryOptions(attempts=spec["retries"] + 1),
    )
    models = genai.Client(api_key="simulated", http_options=options).aio.models

    async def call(text: str, max_tokens: int) -> Any:
        config = types.GenerateContentConfig(max_output_tokens=max_tokens)
        return await models.generate_content(model="gemini-3.8-flash", contents=text, config=config)

    return call


async def run(spec: dict[str, Any]) -> None:
    slots = asyncio.Semaphore(spec["in_flight"])
    arrivals = spec.get("arrivals_s")
    finished: list[tuple[float, float, bool]] = []
    calls = [build(spec) for build in (anthropic, openai, gemini)]
    if arrivals is not None:
        reset(spec["control_url"])
    started_at, start = time.time(), time.monotonic()

    async def one(number: int, text: str, max_tokens: int) -> None:
        if arrivals is not None:
            await asyncio.sleep(max(0.0, start + arrivals[number] - time.monotonic()))
        began = time.monotonic()
        async with slots:
            try:
                await calls[number % len(calls)](text, max_tokens)
                ok = True
            except Exception:  # noqa: BLE001 - whatever an SDK raises, this client has lost the task
                ok = False
        finished.append((time.time(), time.monotonic() - began, ok))

    await asyncio.gather(*(one(i, *prompt) for i, prompt in enumerate(spec["prompts"])))
    found = {"finished": finished, "first_call_at": started_at, "started_at": started_at}
    sys.stdout.write("\n" + json.dumps(found) + "\n")
    sys.stdout.flush()


def reset(control_url: str) -> None:
    """The simulator's clock to 0: its schedule of faults begins now."""
    request = urllib.request.Request(f"{control_url}/reset", b"{}", method="POST")  # noqa: S310 - ours
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10):
        pass


if __name__ == "__main__":
    asyncio.run(run(json.loads(sys.stdin.read())))
