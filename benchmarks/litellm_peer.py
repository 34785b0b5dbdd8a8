"""`litellm.Router` as a client. Runs in a virtual environment of its own, so it imports nothing from here.

    .bench-litellm/bin/python -P benchmarks/litellm_peer.py < spec

Input and output are those of the other clients, see child.py. `limits` are per minute and reach the
router as rpm and tpm; `again` wraps each task in a retry loop, as its users do. Gemini is reached
as `gemini/`, like the others with nothing but a base URL.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import sys
import time
import urllib.request
from typing import Any

MODELS = {
    "anthropic": "anthropic/claude-sonnet-5-5",
    "openai": "openai/gpt-6.1-terra",
    "gemini": "gemini/gemini-3.8-flash",
}
TRIES, WAIT_S = 60, 1.0


def build_router(spec: dict[str, Any]) -> Any:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # its price list is not fetched from the network
    import litellm
    from litellm import Router

    litellm.telemetry = False
    litellm.suppress_debug_info = True
    litellm.drop_params = True
    rows = []
    for name, model in MODELS.items():
        base = spec["base_urls"][name]
        limits = spec.get("limits", {}).get(name, {})
        params = {"model": model, "api_key": "simulated", "api_base": base, "timeout": spec["timeout_s"]}
        if name == "gemini":
            params["api_base"] = f"{base}/v1beta/models/{model.partition('/')[2]}"
        if "requests_per_minute" in limits:
            params["rpm"] = int(limits["requests_per_minute"])
        if tokens := limits.get("tokens_per_minute") or limits.get("input_tokens_per_minute"):
            params["tpm"] = int(tokens)
        rows.append({"model_name": "pool", "litellm_params": params})
    return Router(
        model_list=rows,
        routing_strategy=spec.get("strategy", "usage-based-routing-v2"),
        num_retries=spec["retries"],
        timeout=spec["timeout_s"],
    )


async def run(spec: dict[str, Any]) -> None:
    router = build_router(spec)
    slots = asyncio.Semaphore(spec["in_flight"])
    arrivals = spec.get("arrivals_s")
    dice = random.Random(1)
    finished: list[tuple[float, float, bool]] = []
    problems: dict[str, int] = {}
    if arrivals is not None:
        reset(spec["control_url"])
    started_at, start = time.time(), time.monotonic()

    async def call(text: str, max_tokens: int) -> bool:
        for _ in range(TRIES if spec.get("again") else 1):
            try:
                await router.acompletion(
                    model="pool", messages=[{"role": "user", "content": text}], max_tokens=max_tokens
                )
                return True
            except Exception as error:  # noqa: BLE001 - whatever it raises, the task has no answer yet
                kind = f"{type(error).__name__}: {str(error)[:200]}"
                problems[kind] = problems.get(kind, 0) + 1
            if spec.get("again"):
                await asyncio.sleep(WAIT_S * (0.5 + dice.random()))
        return False

    async def one(number: int, text: str, max_tokens: int) -> None:
        if arrivals is not None:
            await asyncio.sleep(max(0.0, start + arrivals[number] - time.monotonic()))
        began = time.monotonic()
        async with slots:
            ok = await call(text, max_tokens)
        finished.append((time.time(), time.monotonic() - began, ok))

    await asyncio.gather(*(one(i, *prompt) for i, prompt in enumerate(spec["prompts"])))
    common = sorted(problems.items(), key=lambda item: -item[1])[:5]
    found = {
        "finished": finished,
        "first_call_at": started_at,
        "started_at": started_at,
        "problems": common,
    }
    sys.stdout.write("\n" + json.dumps(found) + "\n")
    sys.stdout.flush()


def reset(control_url: str) -> None:
    """The simulator's clock to 0: its schedule of faults begins now."""
    request = urllib.request.Request(f"{control_url}/reset", b"{}", method="POST")  # noqa: S310 - ours
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10):
        pass


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(run(json.loads(sys.stdin.read())))
