"""HTTP as servers really write it: odd heads, endless bodies, redirects, unsolicited answers."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from src.errors import InvalidResponse, ProviderError, RateLimited, ServerError, Unreachable
from src.providers.base import ProviderAdapter
from src.providers.connections import Connector, Request, StaleConnection
from src.providers.factory import build_adapter

from ..helpers import ROOT, child_environment
from .conftest import API_FORMATS, KEY, SLOTS, access_to, ask
from .raw import Raw, Writer, body_of, raw_server, response

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Raw]:
    async with raw_server() as raw:
        yield raw


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def adapters(server: Raw) -> AsyncIterator[dict[str, ProviderAdapter]]:
    made = {
        api: build_adapter(access_to(api, server.url(api)), SLOTS, max_answer_mb=1) for api in API_FORMATS
    }
    yield made
    await asyncio.gather(*(adapter.close() for adapter in made.values()))


@pytest.fixture(params=API_FORMATS)
def api(request: pytest.FixtureRequest, server: Raw) -> str:
    server.requests.clear()
    server.gone.clear()
    return str(request.param)


@pytest.fixture
def adapter(api: str, adapters: dict[str, ProviderAdapter]) -> ProviderAdapter:
    return adapters[api]


# ---------------------------------------------------------------- heads


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def head(*lines: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode()


def odd(body: bytes) -> dict[str, bytes]:
    """Answers that h11, under the SDKs' own transport, reads."""
    size = len(body)
    return {
        "a header of 9,000 bytes": response(body, 200, f"X-Trace: {'t' * 9_000}"),
        "300 headers": response(body, 200, *(f"X-Header-{n}: {n}" for n in range(300))),
        "length beside chunks": head(f"Content-Length: {size}", "Transfer-Encoding: chunked") + chunked(body),
        "chunks beside length": head("transfer-encoding: chunked", "content-length: 3") + chunked(body),
        "length twice": head(f"Content-Length: {size}", f"Content-Length: {size}") + body,
        "length as a list": head(f"Content-Length: {size}, {size}") + body,
        "bytes behind the body": response(body) + b"\r\nand more",
        "bytes behind the chunks": head("Transfer-Encoding: chunked") + chunked(body) + b"more",
        "an interim answer": b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n" + response(body),
        "lines that end in LF": response(body).replace(b"\r\n", b"\n"),
        "blank line in CRLF alone": response(body).replace(b"\r\n", b"\n", 3),
        "no length": head("Connection: close") + body,
    }


@pytest.mark.parametrize("name", list(odd(b"")))
async def test_an_odd_head_is_read_as_the_sdk_would(
    server: Raw, adapter: ProviderAdapter, api: str, name: str
) -> None:
    server.answer = server.says(odd(body_of(api, name))[name], close=name == "no length")
    for _ in range(2):
        completion = await adapter.complete(ask(api))
        assert (completion.text, completion.warnings) == (name, ())
    assert len(server.requests) == 2, "a prompt is sent once"


async def test_a_head_may_come_in_any_pieces(server: Raw, adapter: ProviderAdapter, api: str) -> None:
    async def slowly(writer: Writer, _: bytes) -> None:
        whole = response(body_of(api))
        for start in range(0, len(whole), 7):
            writer.write(whole[start : start + 7])
            await writer.drain()
            await asyncio.sleep(0)

    server.answer = slowly
    assert (await adapter.complete(ask(api))).text == "Elbe."


CONTRADICTORY = {
    "two lengths": head("Content-Length: 5", "Content-Length: 7") + b"1234567",
    "no HTTP": b"220 smtp.example.com ESMTP\r\n\r\n",
    "a head without end": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 60_000,
}


async def test_no_cookie_is_kept(server: Raw, adapter: ProviderAdapter, api: str) -> None:
    server.answer = server.says(response(body_of(api), 200, "Set-Cookie: a=\x8d; Path=/", "Set-Cookie: b=1"))
    for _ in range(2):
        assert (await adapter.complete(ask(api))).text == "Elbe."
    assert b"\ncookie:" not in server.requests[-1].lower()


@pytest.mark.parametrize("name", list(CONTRADICTORY))
async def test_what_is_no_http_is_an_error_of_ours(
    server: Raw, adapter: ProviderAdapter, api: str, name: str
) -> None:
    server.answer = server.says(CONTRADICTORY[name], close=True)
    with pytest.raises(ProviderError):
        await adapter.complete(ask(api))


# ---------------------------------------------------------------- size


async def test_an_answer_beyond_the_limit_is_none(server: Raw, adapter: ProviderAdapter, api: str) -> None:
    server.answer = server.says(response(body_of(api, "x" * 990_000, output_tokens=300)))
    assert len((await adapter.complete(ask(api))).text) == 990_000
    server.gone.clear()
    for body in (body_of(api, "x" * 3_000_000), gzip.compress(body_of(api, "x" * 3_000_000))):
        encoded = ("Content-Encoding: gzip",) if body[:1] == b"\x1f" else ()
        server.answer = server.says(response(body, 200, *encoded))
        with pytest.raises(InvalidResponse) as caught:
            await adapter.complete(ask(api))
        assert "longer than 1 MB (max_answer_mb)" in str(caught.value)
        assert caught.value.sent, "it may be billed"
        if not encoded:  # else all of it is read, and what comes next is the next answer
            async with asyncio.timeout(5):
                await server.gone.wait()
        server.gone.clear()


async def test_a_long_error_is_known_by_its_status(server: Raw, adapter: ProviderAdapter, api: str) -> None:
    server.answer = server.says(response(b"x" * 3_000_000, 500))
    with pytest.raises(ServerError) as caught:
        await adapter.complete(ask(api))
    assert len(str(caught.value)) < 1_000


async def test_an_answer_is_decompressed(server: Raw, adapter: ProviderAdapter, api: str) -> None:
    server.answer = server.says(response(gzip.compress(body_of(api)), 200, "Content-Encoding: gzip"))
    assert (await adapter.complete(ask(api))).text == "Elbe."
    server.answer = server.says(response(body_of(api), 200, "Content-Encoding: gzip"))
    with pytest.raises(InvalidResponse):
        await adapter.complete(ask(api))


MEMORY = """
import asyncio, json, resource, sys
from pydantic import SecretStr
from src.config import ProviderAccess
from src.providers.factory import build_adapter
from src.messages import Message
from src.records import CompletionRequest
from src.settings import ProviderConfig, TierModels

def peak_mb():
    if sys.platform == "linux":  # where ru_maxrss begins with the parent's
        lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
        return int(lines["VmHWM"].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)

async def main(url):
    said = []
    for api_format in ("anthropic", "openai", "gemini"):
        models = TierModels(economy="m", standard="m", premium="m")
        config = ProviderConfig(api_format=api_format, weight=1.0, base_url=url, models=models)
        adapter = build_adapter(ProviderAccess(api_format, config, url, SecretStr("k"), ""), 2)
        for prompt in ("endless", "bomb"):
            try:
                await adapter.complete(CompletionRequest("m", (Message("user", prompt),), 10, timeout_s=60))
            except Exception as error:
                said.append(type(error).__name__)
        await adapter.close()
    print(json.dumps({"said": said, "peak_mb": peak_mb()}))

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no getrusage")
async def test_endless_answers_and_bombs_leave_memory_flat(server: Raw) -> None:
    mebi = 1 << 20
    packer = zlib.compressobj(1, wbits=31)
    bomb = b"".join(packer.compress(b" " * mebi) for _ in range(400)) + packer.flush()

    async def flood(writer: Writer, body: bytes) -> None:
        if b"bomb" in body:
            writer.write(response(bomb, 200, "Content-Encoding: gzip"))
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (300 * mebi))
        for _ in range(300):
            writer.write(b"x" * mebi)
            await writer.drain()

    server.answer = flood
    command = [sys.executable, "-W", "ignore", "-c", MEMORY, server.origin]
    environ = {**child_environment(), "PYTHONPATH": str(ROOT)}
    child = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environ, stdout=subprocess.PIPE)
    out, _ = await asyncio.wait_for(child.communicate(), 120)
    found = json.loads(out)
    assert found["said"] == ["InvalidResponse"] * 6
    assert found["peak_mb"] < 400


# ---------------------------------------------------------------- redirects


@pytest_asyncio.fixture(loop_scope="module")
async def other() -> AsyncIterator[Raw]:
    async with raw_server() as raw:
        yield raw


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "form",
    [
        "{origin}/v1",
        "//{host}/x",
        "https://127.0.0.1/x",
        "http://user@{host}/",
        "http://user:p%40ss@{host}/x",
    ],
)
async def test_no_other_origin_gets_a_key_or_a_prompt(
    server: Raw, other: Raw, adapter: ProviderAdapter, api: str, status: int, form: str
) -> None:
    other.answer = other.says(response(body_of(api, "from elsewhere")))
    there = form.format(origin=other.origin, host=f"127.0.0.1:{other.port}")
    server.answer = server.says(response(b"", status, f"Location: {there}"))
    with pytest.raises(InvalidResponse) as caught:
        await adapter.complete(ask(api))
    with pytest.raises(InvalidResponse):
        await adapter.list_models(5.0)
    assert other.connections == 0
    assert (caught.value.sent, KEY in str(caught.value)) == (False, False)
    named = "https://127.0.0.1:443" if there.startswith("https") else other.origin
    assert f"{api}: answered {status}, a redirect from {server.origin} to {named}" in str(caught.value)


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("http://user:p%40ss@{host}/x", "{origin} with other credentials"),
        ("//user@{host}/x", "{origin} with other credentials"),
        ("http://ü:ß@{host}/x", ""),  # one client reads it, the other does not: neither follows it
        ("http:///x", "an unreadable address"),
        ("https:x", "an unreadable address"),
        ("http://user:pass@/x", "an unreadable address"),
        ("http://user:pass@127.0.0.1:99999/x", "an unreadable address"),
    ],
)
async def test_credentials_and_hosts_that_a_redirect_brings_are_not_used(
    server: Raw, adapter: ProviderAdapter, api: str, location: str, target: str
) -> None:
    host = server.origin.partition("//")[2]
    server.answer = server.says(response(b"", 307, f"Location: {location.format(host=host)}"))
    with pytest.raises(InvalidResponse) as caught:
        await adapter.complete(ask(api))
    shown = target.format(origin=server.origin)
    assert f"{api}: answered 307, a redirect from {server.origin} to {shown}" in str(caught.value)
    assert caught.value.sent is False and "pass" not in str(caught.value).partition("redirect")[2]
    assert len(server.requests) == 1


async def test_within_the_origin_a_redirect_is_followed_where_the_prompt_stays_one(
    server: Raw, adapter: ProviderAdapter, api: str
) -> None:
    def moved(status: int) -> Callable[[Writer, bytes], Awaitable[None]]:
        async def answer(writer: Writer, _: bytes) -> None:
            is_there = b" /moved " in server.requests[-1]
            location = response(b"", status, "Location: /moved")
            writer.write(response(body_of(api, "moved")) if is_there else location)

        return answer

    for status in (307, 308):
        server.answer = moved(status)
        assert (await adapter.complete(ask(api))).text == "moved"
        first, second = (request.partition(b"\r\n\r\n")[2] for request in server.requests[-2:])
        assert first == second
    before = len(server.requests)
    for status in (301, 302, 303):
        server.answer = moved(status)
        with pytest.raises(InvalidResponse):
            await adapter.complete(ask(api))
    assert len(server.requests) == before + 3


async def test_a_redirect_without_end_costs_nothing(server: Raw, adapter: ProviderAdapter, api: str) -> None:
    for location in ("Location: /again", "Location: http://[", "X-Location: none"):
        server.answer = server.says(response(b"", 307, location))
        with pytest.raises(InvalidResponse) as caught:
            await adapter.complete(ask(api))
        assert not caught.value.sent or caught.value.status == 307
    assert len(server.requests) < 10


# ---------------------------------------------------------------- connections


async def test_an_unrequested_answer_is_never_used(server: Raw, adapter: ProviderAdapter, api: str) -> None:
    """Every request is answered twice; the second time before the next request."""
    closed = asyncio.Event()

    async def twice(writer: Writer, body: bytes) -> None:
        number = len(server.requests)
        writer.write(response(body_of(api, f"answer {number}")))
        await writer.drain()
        await read.wait()
        writer.write(response(body_of(api, "of somebody else")))
        await writer.drain()
        closed.set()

    server.answer = twice
    for number in range(1, 21):
        read = asyncio.Event()
        closed.clear()
        assert (await adapter.complete(ask(api))).text == f"answer {number}"
        read.set()
        await closed.wait()
        for _ in range(number % 4):  # whether the loop has read it by then, or not
            await asyncio.sleep(0)


async def test_an_answer_in_the_same_packet_is_dropped_with_its_connection(
    server: Raw, adapter: ProviderAdapter, api: str
) -> None:
    async def twice(writer: Writer, _: bytes) -> None:
        answer = response(body_of(api, f"answer {len(server.requests)}"))
        writer.write(answer + response(body_of(api, "of somebody else")))

    server.answer = twice
    for number in range(1, 6):
        assert (await adapter.complete(ask(api))).text == f"answer {number}"


async def test_a_connection_is_used_again(server: Raw, adapter: ProviderAdapter, api: str) -> None:
    server.answer = server.says(response(body_of(api)))
    await adapter.complete(ask(api))
    before = server.connections
    for _ in range(5):
        await adapter.complete(ask(api))
    assert server.connections == before


async def test_a_connection_that_the_server_closed_while_idle_costs_nothing(
    server: Raw, adapter: ProviderAdapter, api: str
) -> None:
    server.answer = server.says(response(body_of(api)), close=True)
    for number in range(1, 6):
        server.gone.clear()
        assert (await adapter.complete(ask(api))).text == "Elbe."
        async with asyncio.timeout(5):
            await server.gone.wait()
        assert len(server.requests) == number


async def test_a_server_that_closed_and_is_gone_was_sent_nothing(api: str) -> None:
    async with raw_server() as server:
        adapter = build_adapter(access_to(api, server.url(api)), SLOTS)
        server.answer = server.says(response(body_of(api)), close=True)
        await adapter.complete(ask(api))
        async with asyncio.timeout(5):
            await server.gone.wait()
        await server.stop()
        with pytest.raises(Unreachable) as caught:
            await adapter.complete(ask(api))
        assert caught.value.sent is False
        assert len(server.requests) == 1
        await adapter.close()


async def test_a_connection_that_breaks_after_the_request_is_uncertain(
    server: Raw, adapter: ProviderAdapter, api: str
) -> None:
    server.answer = server.says(b"", close=True)
    with pytest.raises(Unreachable) as caught:
        await adapter.complete(ask(api))
    assert caught.value.sent is True


@pytest.mark.parametrize("spoken", [b"", response(b"{}")])
async def test_nothing_is_written_to_a_connection_that_closed_or_spoke_after_it_was_taken(
    server: Raw, spoken: bytes
) -> None:
    """Between the pool and the first byte: what no check of the pool can see."""
    other_side: list[Writer] = []

    class Late(Request):
        async def write_bytes(self, writer: Any, conn: Any, content_length: int | None = None) -> None:
            if other_side:
                other_side[0].write(spoken)
                if not spoken:
                    other_side[0].close()
                while conn.protocol.is_connected():
                    await asyncio.sleep(0)
            await super().write_bytes(writer, conn, content_length)

    async def keep(writer: Writer, _: bytes) -> None:
        other_side[:] = [writer]
        writer.write(response(b"{}"))

    server.requests.clear()
    server.answer = keep
    async with aiohttp.ClientSession(connector=Connector(), request_class=Late) as session:
        async with session.post(server.origin, data=b"1") as answer:
            await answer.read()
        with pytest.raises(StaleConnection):
            await session.post(server.origin, data=b"2")
    assert len(server.requests) == 1


async def test_an_error_keeps_its_connection(server: Raw, adapter: ProviderAdapter, api: str) -> None:
    server.answer = server.says(response(b'{"error":{"message":"slow down"}}', 429))
    before = server.connections
    for _ in range(3):
        with pytest.raises(RateLimited):
            await adapter.complete(ask(api))
    assert server.connections <= before + 1
