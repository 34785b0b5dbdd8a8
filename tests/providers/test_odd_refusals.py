"""Refusals as proxies and broken servers write them: odd bodies, odd Retry-After."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from src.errors import Overloaded, ProviderError, QuotaExhausted, RateLimited
from src.providers.base import ProviderAdapter
from src.providers.factory import build_adapter

from .conftest import API_FORMATS, SLOTS, access_to, ask
from .raw import Raw, body_of, raw_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODIES = {
    "empty": (b"", "application/json"),
    "html": (b"<html><body><h1>503</h1>no backend</body></html>", "text/html"),
    "cut JSON": (b'{"error": {"type": "rate_li', "application/json"),
    "JSON as text": (b'{"error": {"message": "slow down"}}', "text/plain"),
    "a list": (b"[]", "application/json"),
    "no type": (b"busy", ""),
    "not UTF-8": (b"\xff\xfe\x00", "application/json"),
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


def answer(status: int, body: bytes, content_type: str, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


async def good(server: Raw, adapter: ProviderAdapter, api: str) -> str:
    server.answer = server.says(answer(200, body_of(api), "application/json"))
    return (await adapter.complete(ask(api))).text


@pytest.mark.parametrize("body", sorted(BODIES))
@pytest.mark.parametrize(("status", "kind"), [(429, RateLimited), (503, Overloaded), (529, Overloaded)])
async def test_the_status_decides_whatever_the_body_is_and_the_next_call_is_answered(
    server: Raw,
    adapters: dict[str, ProviderAdapter],
    api: str,
    status: int,
    kind: type[ProviderError],
    body: str,
) -> None:
    server.answer = server.says(answer(status, *BODIES[body]))
    with pytest.raises(kind) as caught:
        await adapters[api].complete(ask(api))
    assert caught.value.status == status
    assert await good(server, adapters[api], api) == "Elbe."


@pytest.mark.parametrize(
    ("retry_after", "kind", "seconds"),
    [
        ("7", RateLimited, 7.0),
        ("0.25", RateLimited, 0.25),
        ("-5", RateLimited, None),
        ("soon", RateLimited, None),
        ("", RateLimited, None),
        ("nan", RateLimited, None),
        ("inf", RateLimited, None),
        ("Thu, 01 Jan 2015 00:00:00 GMT", RateLimited, 0.0),
        ("Thu, 99 Foo 2015 00:00:00 GMT", RateLimited, None),
        ("86400", QuotaExhausted, 86_400.0),
        ("999999999999", QuotaExhausted, None),
    ],
)
async def test_odd_times_to_wait(
    server: Raw,
    adapters: dict[str, ProviderAdapter],
    api: str,
    retry_after: str,
    kind: type[ProviderError],
    seconds: float | None,
) -> None:
    server.answer = server.says(answer(429, b"", "application/json", f"Retry-After: {retry_after}"))
    with pytest.raises(ProviderError) as caught:
        await adapters[api].complete(ask(api))
    assert type(caught.value) is kind
    if seconds is not None or kind is RateLimited:
        assert caught.value.retry_after_s == seconds
    assert await good(server, adapters[api], api) == "Elbe."
