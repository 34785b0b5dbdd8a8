"""Chunked answers with odd or broken framing: read where HTTP allows it, else one failure in bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio

from src.errors import InvalidResponse, TimedOut, Unreachable
from src.providers.base import ProviderAdapter
from src.providers.factory import build_adapter
from src.providers.network import GRACE_S

from .conftest import API_FORMATS, SLOTS, access_to, ask
from .raw import Raw, Writer, body_of, raw_server, response

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
AT_ONCE_S, LIMIT_S = 60.0, 300.0  # nothing waits for the call's time limit
SILENCE_S = 0.2  # that limit where the answer stops and the connection stays open


def chunk(body: bytes, size: int | None = None, header: bytes = b"") -> bytes:
    """One chunk, its size line `size` (the true one by default) and `header`."""
    return b"%x%s\r\n%s\r\n" % (len(body) if size is None else size, header, body)


def read(body: bytes) -> dict[str, bytes]:
    """Odd, but allowed by RFC 9112 (7.1)."""
    half = len(body) // 2
    return {
        "trailers": chunk(body) + b"0\r\nX-Checksum: 1\r\nX-Cost: 2\r\n\r\n",
        "an extension": chunk(body, header=b";name=value") + END,
        "a size with zeros in front": b"000" + chunk(body) + END,
        "one chunk a byte": b"".join(chunk(body[at : at + 1]) for at in range(len(body))) + END,
        "two chunks": chunk(body[:half]) + chunk(body[half:]) + END,
    }


def broken(body: bytes) -> dict[str, bytes]:
    """Against RFC 9112, which shows without another byte and without the end of the connection."""
    return {
        "a size that is no number": b"zz\r\n" + body + b"\r\n" + END,
        "a negative size": b"-5\r\n" + body + b"\r\n" + END,
        "a size that is too small": chunk(body, len(body) - 9) + END,
        "no size": b"\r\n" + body + b"\r\n" + END,
        "no chunks at all": body + b"\r\n",
    }


def cut(body: bytes) -> dict[str, bytes]:
    """Faults that look like an incomplete answer until the connection ends."""
    half = len(body) // 2
    return {
        "cut within a chunk": b"%x\r\n" % len(body) + body[:half],
        "cut between chunks": chunk(body[:half]),
        "no last chunk": chunk(body),
        "a size that is too large": chunk(body, len(body) + 99) + END,
        "cut within a size": b"1",
        "cut behind the head": b"",
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Raw]:
    async with raw_server() as raw:
        yield raw


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def adapters(server: Raw) -> AsyncIterator[dict[str, ProviderAdapter]]:
    made = {api: build_adapter(access_to(api, server.url(api)), SLOTS) for api in API_FORMATS}
    yield made
    await asyncio.gather(*(adapter.close() for adapter in made.values()))


@pytest.fixture(params=API_FORMATS)
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def adapter(adapters: dict[str, ProviderAdapter], api: str) -> ProviderAdapter:
    return adapters[api]


async def is_well(server: Raw, adapter: ProviderAdapter, api: str) -> None:
    """The next call is answered, whatever the one before has met."""
    server.answer = server.says(response(body_of(api, "The next.")))
    assert (await adapter.complete(ask(api))).text == "The next."


@pytest.mark.parametrize("name", list(read(b"body")))
async def test_chunks_are_read_as_http_allows(
    server: Raw, adapter: ProviderAdapter, api: str, name: str
) -> None:
    server.answer = server.says(HEAD + read(body_of(api))[name])
    completion = await adapter.complete(ask(api))
    assert (completion.text, completion.warnings) == ("Elbe.", ())
    await is_well(server, adapter, api)


@pytest.mark.parametrize("apart", [False, True], ids=["with the head", "behind the head"])
@pytest.mark.parametrize("name", list(broken(b"a body of bytes")))
async def test_broken_chunks_fail_one_call_at_once(
    server: Raw, adapter: ProviderAdapter, api: str, name: str, apart: bool
) -> None:
    content = broken(body_of(api))[name]

    async def answer(writer: Writer, _: bytes) -> None:
        writer.write(HEAD if apart else HEAD + content)
        if apart:
            await writer.drain()
            await asyncio.sleep(0.02)  # a packet of its own
            writer.write(content)

    server.answer = answer
    async with asyncio.timeout(AT_ONCE_S):
        with pytest.raises((Unreachable, InvalidResponse)) as caught:
            await adapter.complete(ask(api, timeout_s=LIMIT_S))
    assert caught.value.sent, "it may be billed"
    await is_well(server, adapter, api)


@pytest.mark.parametrize("name", list(cut(b"a body of bytes")))
async def test_chunks_that_end_with_the_connection_fail_one_call_at_once(
    server: Raw, adapter: ProviderAdapter, api: str, name: str
) -> None:
    server.answer = server.says(HEAD + cut(body_of(api))[name], close=True)
    async with asyncio.timeout(AT_ONCE_S):
        with pytest.raises((Unreachable, InvalidResponse)) as caught:
            await adapter.complete(ask(api, timeout_s=LIMIT_S))
    assert caught.value.sent
    await is_well(server, adapter, api)


@pytest.mark.parametrize("start", [b"5;name=", b"5\r\nabcde\r\n0\r\nX-Trailer: "], ids=["header", "trailers"])
async def test_a_chunk_header_without_end_fails_one_call_at_once(
    server: Raw, adapter: ProviderAdapter, api: str, start: bytes
) -> None:
    async def answer(writer: Writer, _: bytes) -> None:
        writer.write(HEAD + start)
        with suppress(ConnectionError):
            while True:
                writer.write(b"a" * 16_384)
                await writer.drain()

    server.answer = answer
    async with asyncio.timeout(AT_ONCE_S):
        with pytest.raises((Unreachable, InvalidResponse)) as caught:
            await adapter.complete(ask(api, timeout_s=LIMIT_S))
    assert caught.value.sent
    await is_well(server, adapter, api)


async def test_chunks_that_stop_coming_fail_at_the_time_limit(api: str) -> None:
    async def error_of(content: bytes) -> TimedOut:
        async with raw_server() as server:
            server.answer = server.says(HEAD + content)
            adapter = build_adapter(access_to(api, server.url(api)), SLOTS)
            with pytest.raises(TimedOut) as caught:
                await adapter.complete(ask(api, timeout_s=SILENCE_S))
            await adapter.close()
        return caught.value

    async with asyncio.timeout(SILENCE_S + GRACE_S + AT_ONCE_S):
        errors = await asyncio.gather(*(error_of(content) for content in cut(body_of(api)).values()))
    assert all(error.sent for error in errors)


@pytest.mark.parametrize("name", ["a long size", "a long extension", "long trailers"])
async def test_a_huge_part_of_the_framing_is_read_or_fails_at_once(
    server: Raw, adapter: ProviderAdapter, api: str, name: str
) -> None:
    body = body_of(api)
    content = {
        "a long size": b"0" * 300_000 + chunk(body) + END,
        "a long extension": chunk(body, header=b";" + b"x" * 300_000) + END,
        "long trailers": chunk(body) + b"0\r\n" + b"X-Trailer: 1\r\n" * 30_000 + b"\r\n",
    }[name]
    server.answer = server.says(HEAD + content)
    async with asyncio.timeout(AT_ONCE_S):
        try:
            assert (await adapter.complete(ask(api, timeout_s=LIMIT_S))).text == "Elbe."
        except (Unreachable, InvalidResponse) as error:
            assert error.sent
    await is_well(server, adapter, api)
