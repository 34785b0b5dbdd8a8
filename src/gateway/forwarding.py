"""Requests at a standby: they are passed on to the leader, and its answers back, streams event by event.

    client --> standby --> leader       method, path, body and keys as they came
           <--         <--              status, headers and body as they come

**Where to.** To the address that the leader has published in the database, and to no other: nothing of a
request decides it but its path. A published address on loopback is used on the leader's own machine alone.

**Once.** `Via` names every gateway that a request has passed. A gateway refuses what it has sent itself
(`guard.py`), and a standby what another standby has passed on: then no process leads, or two names lead to
one.

**Headers** that concern one connection stay on it (RFC 9110, section 7.6.1).

**Breaks.** A leader that can't be reached, or that breaks off before its answer begins, is 503 with
`retry-after`, as without a leader. Later the client's connection is broken too: an answer that was cut off
must not look complete. A client that goes away ends its request at the leader.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, hdrs, web
from multidict import CIMultiDict
from yarl import URL

from ..access import is_loopback
from ..errors import StoreError
from ..via import via
from .bodies import let_come
from .problems import not_leading

if TYPE_CHECKING:
    from ..core.store import Leader, Store

CONNECT_S = 3.0
LOOK_S = 1.0  # an address is read again after so long
STANDBY = "(standby)"
_BROKEN = (ClientError, TimeoutError, OSError)
_OF_A_CONNECTION = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te",
    "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
_NOT_PASSED_ON = frozenset({"host", "via", "expect"})


class Forwarder:
    """Passes requests on to the leader. `host`: the name of this machine. For one event loop."""

    def __init__(self, store: Store, host: str, session: ClientSession) -> None:
        self._store, self._host, self._session = store, host, session
        self._url, self._read_at = "", float("-inf")

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """The leader's answer. Raises FormatError where there is no leader, or it does not answer."""
        before = ", ".join(request.headers.getall(hdrs.VIA, ()))
        url = "" if STANDBY in before else await self._leader()
        if not url:
            raise not_leading()
        headers = _passed_on(request.headers, _NOT_PASSED_ON)
        headers[hdrs.VIA] = f"{via(before)} {STANDBY}"
        await let_come(request)
        try:
            answer = await self._session.request(
                request.method,
                URL(url.rstrip("/") + request.rel_url.raw_path_qs, encoded=True),
                headers=headers,
                data=request.content if request.can_read_body else None,
                allow_redirects=False,
            )
        except _BROKEN as error:
            self._read_at = float("-inf")
            raise not_leading() from error
        async with answer:
            passed = web.StreamResponse(
                status=answer.status, reason=answer.reason, headers=_passed_on(answer.headers, frozenset())
            )
            await passed.prepare(request)
            try:
                async for chunk in answer.content.iter_any():
                    await passed.write(chunk)
            except ClientError as error:
                if request.transport is not None:
                    request.transport.abort()
                raise ConnectionResetError("the leader broke off its answer") from error
            await passed.write_eof()
        return passed

    async def _leader(self) -> str:
        """The address of the leader's gateway; empty where none can be used."""
        now = asyncio.get_running_loop().time()
        if now - self._read_at >= LOOK_S:
            try:
                self._url = await asyncio.to_thread(self._look)
            except StoreError:
                self._url = ""
            self._read_at = now
        return self._url

    def _look(self) -> str:
        row = self._store.leadership
        return usable_address(row.gateway_url(), row.leader(), self._host)


def usable_address(url: str, leader: Leader, host: str) -> str:
    """The base URL of the leader's gateway, for a process on `host`; empty where it can't be used.

    `url`: what was published before `leader` was read.
    """
    if not leader.alive:
        return ""
    if url and is_loopback(urlsplit(url).hostname or "") and leader.host != host:
        return ""
    return url


def _passed_on(headers: Mapping[str, str], besides: frozenset[str]) -> CIMultiDict[str]:
    """The headers without those of one connection, `besides`, and those that `Connection` names."""
    found: CIMultiDict[str] = CIMultiDict(headers)
    named = {name.strip().lower() for each in found.getall(hdrs.CONNECTION, ()) for name in each.split(",")}
    for name in {name.lower() for name in found} & (_OF_A_CONNECTION | besides | named):
        found.popall(name)
    return found


@asynccontextmanager
async def forwarding(store: Store, host: str) -> AsyncIterator[Forwarder]:
    """A forwarder while the block runs. Each request has a connection of its own: on one that was kept, a
    request that gets no answer may have been received or not.
    """
    session = ClientSession(
        connector=TCPConnector(limit=0, force_close=True),
        timeout=ClientTimeout(total=None, sock_connect=CONNECT_S),
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=(hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE, hdrs.USER_AGENT),
    )
    async with session:
        yield Forwarder(store, host, session)
