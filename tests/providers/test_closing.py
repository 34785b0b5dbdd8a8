"""Warming up in a thread, cancelling, closing: nothing is held afterwards, and no exit waits."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from src.errors import Unreachable
from src.providers.threads import run_in_thread
from src.simulator.process import SimulatorProcess

from ..helpers import ROOT, child_environment
from .conftest import API_FORMATS, SLOTS, Builder, access_to, ask, in_flight


async def test_work_in_a_thread_of_its_own_returns_or_raises() -> None:
    assert await run_in_thread(lambda: threading.current_thread().name, "mine") == "mine"
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(lambda: 1 // 0, "mine")


@pytest.mark.parametrize("api", API_FORMATS)
async def test_a_cancelled_call_ends_its_exchange(
    faulty: SimulatorProcess, adapter_for: Builder, api: str
) -> None:
    adapter = adapter_for(access_to(api, faulty.base_urls[api]))
    faulty.patch(api, {"faults": {"silence": 1.0}})
    call = asyncio.create_task(adapter.complete(ask(api, timeout_s=300.0)))
    await in_flight(faulty, api, 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await in_flight(faulty, api, 0)


@pytest.mark.parametrize("api", API_FORMATS)
async def test_a_closed_adapter_is_unreachable_and_closing_twice_is_fine(
    faulty: SimulatorProcess, adapter_for: Builder, api: str
) -> None:
    adapter = adapter_for(access_to(api, faulty.base_urls[api]))
    await adapter.complete(ask(api))
    await adapter.close()
    await adapter.close()
    for call in (adapter.complete(ask(api)), adapter.list_models(1.0)):
        with pytest.raises(Unreachable) as caught:
            await call
        assert caught.value.sent is False


@pytest.mark.parametrize("api", API_FORMATS)
async def test_an_adapter_that_is_closed_while_it_warms_up_holds_nothing(
    adapter_for: Builder, api: str
) -> None:
    adapter = adapter_for(access_to(api, "http://127.0.0.1:9"))
    warming = asyncio.create_task(adapter.warm_up())
    await asyncio.sleep(0)
    await adapter.close()
    await warming
    with pytest.raises(Unreachable, match="closed"):
        await adapter.list_models(1.0)


async def test_one_warm_up_serves_all_waiting_calls(faulty: SimulatorProcess, adapter_for: Builder) -> None:
    adapter = adapter_for(access_to("openai", faulty.base_urls["openai"]))
    answers = await asyncio.gather(*(adapter.complete(ask("openai")) for _ in range(SLOTS)))
    assert all(answer.text for answer in answers)


LEAVES = """
import asyncio, sys
from tests.providers.conftest import access_to, ask
from src.providers.factory import build_adapter

async def main():
    adapter = build_adapter(access_to(sys.argv[1], sys.argv[2]), 4)
    await adapter.warm_up()
    try:
        async with asyncio.timeout(0.2):
            await adapter.complete(ask(sys.argv[1], timeout_s=60.0))
    except TimeoutError:
        print("gave up", flush=True)
    await adapter.close()

asyncio.run(main())
"""


def test_a_process_does_not_wait_for_a_call_that_hangs(faulty: SimulatorProcess) -> None:
    """An answer at one byte a second takes many minutes."""
    faulty.patch("gemini", {"faults": {"trickle": 1.0}})
    command = [sys.executable, "-W", "error", "-c", LEAVES, "gemini", faulty.base_urls["gemini"]]
    environ = child_environment()
    environ["PYTHONPATH"] += f":{ROOT}"
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "gave up\n", "")
