"""Bodies of requests that are not answered yet, at the leader and at a standby: what they take is bounded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from src.core.store import Store
from src.simulator.process import SimulatorProcess
from tests.core.direct_pool import settings_for
from tests.core.pools import new_store

from .http_client import Answer, send
from .in_process import HOST, InProcess, in_process, standby_of

LONG_S = 2.0
MB = 1_000_000
LIMITED = settings_for(gateway={"max_waiting_mb": 0.5})
PATHS = ("/v1/messages", "/v1/chat/completions", "/v1/responses")
ALICE, BOB = "a-token-of-alice-0123", "a-token-of-bob-012345"
OPENAI_ERROR, ANTHROPIC_ERROR = "rate_limit_exceeded", "rate_limit_error"


@pytest.fixture(scope="module")
def slow() -> Iterator[SimulatorProcess]:
    """A provider that answers after a while."""
    config = {"latency": {"first_token_s": LONG_S, "per_token_s": 0.0, "jitter": 0.0}}
    with SimulatorProcess.start({"providers": {"openai": config}}) as simulator:
        yield simulator


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path) as opened:
        yield opened


@pytest.fixture(params=["leader", "standby"])
async def limited(
    request: pytest.FixtureRequest, store: Store, slow: SimulatorProcess
) -> AsyncIterator[InProcess]:
    """The gateway with little memory for bodies: it leads, or passes requests on to a leader with much."""
    leads = request.param == "leader"
    async with in_process(store, slow.base_urls, LIMITED if leads else settings_for()) as leader:
        if leads:
            yield leader
            return
        async with standby_of(leader, LIMITED) as standby:
            yield standby


def body(size: int, path: str) -> dict[str, Any]:
    """A request of about so many bytes."""
    text = "word " * (size // 5)
    asked = {"input": text} if path == "/v1/responses" else {"messages": [{"role": "user", "content": text}]}
    return {"model": "openai/economy", **asked} | ({"max_tokens": 20} if path == "/v1/messages" else {})


async def ask(gateway: InProcess, size: int, path: str = PATHS[0], token: str = "") -> Answer:
    url, headers = f"http://{HOST}:{gateway.port}", {"x-api-key": token} if token else {}
    return await asyncio.to_thread(send, url, path, method="POST", headers=headers, body=body(size, path))


async def ask_in_chunks(gateway: InProcess, size: int) -> Answer:
    """The same, by a client that does not tell how much is to come."""
    content = json.dumps(body(size, PATHS[0])).encode()
    headers = {"content-type": "application/json"}
    url = f"http://{HOST}:{gateway.port}"
    return await asyncio.to_thread(
        send, url, PATHS[0], method="POST", headers=headers, body=iter((content[:size], content[size:]))
    )


@asynccontextmanager
async def half_sent(gateway: InProcess, size: int) -> AsyncIterator[None]:
    """A request of which so many bytes have come, and some are still to come."""
    _, writer = await asyncio.open_connection(HOST, gateway.port)
    head = f"POST {PATHS[0]} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {size + 1}\r\n\r\n".encode() + b" " * size)
    await writer.drain()
    yield
    writer.close()


@pytest.mark.parametrize("path", PATHS)
async def test_beyond_the_memory_for_bodies_a_request_is_told_to_come_again(
    limited: InProcess, path: str
) -> None:
    first = asyncio.create_task(ask(limited, MB * 3 // 10, path))
    while not limited.served.direct:
        await asyncio.sleep(0.01)
    refused = await ask(limited, MB * 3 // 10, path)
    assert refused.status == 429 and int(refused.headers["retry-after"]) > 0
    error = refused.json["error"]
    assert "max_waiting_mb" in error["message"]
    assert error == {**error, **({"type": ANTHROPIC_ERROR} if path == PATHS[0] else {"code": OPENAI_ERROR})}
    assert (await ask(limited, MB // 10, path)).status == 200
    assert (await first).status == 200
    assert (await ask(limited, MB * 3 // 10, path)).status == 200


@pytest.mark.parametrize("asked", [ask, ask_in_chunks])
async def test_a_body_counts_while_it_comes_and_until_its_client_leaves(
    limited: InProcess, asked: Callable[[InProcess, int], Awaitable[Answer]]
) -> None:
    refused = False
    while not refused:  # where the whole one comes first, it is served, and the half refused
        async with half_sent(limited, MB * 3 // 10):
            if refused := (await asked(limited, MB * 3 // 10)).status == 429:
                assert (await ask(limited, MB // 10)).status == 200
    while (found := await ask(limited, MB * 3 // 10)).status == 429:
        pass
    assert found.status == 200


async def test_a_large_body_alone_is_taken(limited: InProcess) -> None:
    assert (await ask(limited, MB)).status == 200


@pytest.mark.parametrize(
    ("tokens", "of_alice", "of_bob"),
    [
        pytest.param(f"alice:{ALICE},bob:{BOB}", 2, 1, id="half of it, and half of the rest"),
        pytest.param(f"alice:{ALICE}", 5, 0, id="all of it, where there is nobody else"),
    ],
)
async def test_of_several_submitters_none_takes_all_the_memory(
    store: Store, slow: SimulatorProcess, tokens: str, of_alice: int, of_bob: int
) -> None:
    size = MB * 97 // 1_000
    async with in_process(store, slow.base_urls, LIMITED, tokens=tokens) as gateway:
        asked = []
        for token, number in ((ALICE, of_alice), (BOB, of_bob)):
            for _ in range(number):
                before = len(gateway.served.direct)
                asked.append(asyncio.create_task(ask(gateway, size, token=token)))
                while len(gateway.served.direct) == before:
                    await asyncio.sleep(0.01)
            if number:
                refused = await ask(gateway, size, token=token)
                assert refused.status == 429 and "max_waiting_mb" in refused.json["error"]["message"]
                assert ("'alice'" in refused.json["error"]["message"]) == (token == ALICE and of_bob > 0)
        assert [each.status for each in await asyncio.gather(*asked)] == [200] * len(asked)
