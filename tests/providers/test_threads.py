"""Gemini's threads: how many, what becomes of a call that was given up, and that no exit waits for them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from src.errors import Unreachable
from src.providers.threads import DaemonPool, run_in_thread
from src.records import CompletionRequest, Usage
from src.simulator.process import SimulatorProcess

from ..helpers import ROOT, child_environment
from .conftest import SLOTS, Builder, access_to, ask, in_flight


@pytest.fixture
def gate() -> Any:
    opened = threading.Event()
    yield opened
    opened.set()


async def test_work_in_a_thread_of_its_own_returns_or_raises() -> None:
    assert await run_in_thread(lambda: threading.current_thread().name, "mine") == "mine"
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(lambda: 1 // 0, "mine")


def test_no_more_threads_than_places_and_none_that_the_exit_waits_for(gate: threading.Event) -> None:
    places = DaemonPool(3, "test-places")
    futures = [places.submit(gate.wait) for _ in range(9)]
    mine = [thread for thread in threading.enumerate() if thread.name.startswith("test-places")]
    assert len(mine) == 3
    assert all(thread.daemon for thread in mine)
    gate.set()
    assert all(future.result(5) for future in futures)
    places.close()
    for thread in mine:
        thread.join(5)
        assert not thread.is_alive()


def test_a_free_thread_is_used_again() -> None:
    places = DaemonPool(8, "test-again")
    names = set()
    for _ in range(20):
        names.add(places.submit(lambda: threading.current_thread().name).result(5))
        time.sleep(0)  # let the thread say that it is free
    assert len(names) <= 3
    places.close()


def test_what_has_not_begun_can_be_dropped(gate: threading.Event) -> None:
    places = DaemonPool(1, "test-drop")
    running = places.submit(gate.wait)
    waiting = places.submit(lambda: pytest.fail("it should not have run"))
    assert waiting.cancel()
    gate.set()
    assert running.result(5)
    places.close()


def test_a_closed_pool_takes_nothing() -> None:
    places = DaemonPool(1, "test-closed")
    places.close()
    places.close()
    with pytest.raises(RuntimeError):
        places.submit(int)


async def test_late_usage_of_an_abandoned_call_is_reported(
    faulty: SimulatorProcess, adapter_for: Builder
) -> None:
    late_usage: asyncio.Queue[tuple[CompletionRequest, Usage]] = asyncio.Queue()
    adapter = adapter_for(
        access_to("gemini", faulty.base_urls["gemini"]), lambda *late: late_usage.put_nowait(late)
    )
    await adapter.warm_up()
    faulty.patch("gemini", {"latency": {"first_token_s": 0.4, "jitter": 0.0}})
    request = ask("gemini")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await adapter.complete(request)
    assert late_usage.empty()
    late = await asyncio.wait_for(late_usage.get(), 5)
    assert late[0] is request
    assert late[1].output_tokens > 0


async def test_a_late_failure_without_usage_is_not_reported(
    faulty: SimulatorProcess, adapter_for: Builder
) -> None:
    late_usage: list[Any] = []
    adapter = adapter_for(
        access_to("gemini", faulty.base_urls["gemini"]), lambda *late: late_usage.append(late)
    )
    await adapter.warm_up()
    faulty.patch("gemini", {"faults": {"silence": 1.0}})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await adapter.complete(ask("gemini"))
    await asyncio.to_thread(faulty.reset)  # drops what hangs
    faulty.patch("gemini", {"faults": None})
    await adapter.complete(ask("gemini"))
    assert late_usage == []


async def test_a_call_keeps_its_place_until_its_thread_ends(
    faulty: SimulatorProcess, adapter_for: Builder
) -> None:
    places = 2 * SLOTS  # threads for new calls beside as many that were cancelled
    adapter = adapter_for(access_to("gemini", faulty.base_urls["gemini"]))
    await adapter.warm_up()
    faulty.patch("gemini", {"faults": {"silence": 1.0}})

    calls = [asyncio.create_task(adapter.complete(ask("gemini", timeout_s=300.0))) for _ in range(places + 3)]
    await in_flight(faulty, "gemini", places)
    for call in calls:
        call.cancel()
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in found] == [asyncio.CancelledError] * (places + 3)
    assert faulty.stats()["gemini"]["in_flight"] == places
    faulty.patch("gemini", {"faults": None})
    assert await adapter.list_models(2.0)  # a health call has a place of its own
    await asyncio.to_thread(faulty.reset)
    assert (await adapter.complete(ask("gemini"))).text


@pytest.mark.parametrize("api", ["anthropic", "openai", "gemini"])
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


@pytest.mark.parametrize("api", ["anthropic", "openai", "gemini"])
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
    adapter = build_adapter(access_to("gemini", sys.argv[1]), 4)
    await adapter.warm_up()
    try:
        async with asyncio.timeout(0.2):
            await adapter.complete(ask("gemini", timeout_s=60.0))
    except TimeoutError:
        print("gave up", flush=True)
    await adapter.close()

asyncio.run(main())
"""


def test_a_process_does_not_wait_for_a_call_that_hangs(faulty: SimulatorProcess) -> None:
    """An answer at one byte a second takes many minutes, and the thread that reads it as long."""
    faulty.patch("gemini", {"faults": {"trickle": 1.0}})
    command = [sys.executable, "-W", "error", "-c", LEAVES, faulty.base_urls["gemini"]]
    environ = child_environment()
    environ["PYTHONPATH"] += f":{ROOT}"
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "gave up\n", "")
