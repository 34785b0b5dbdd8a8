"""Requests at a process that does not lead: they are passed on to the leader, and its answers back.

    client --> standby --> leader       method, path, body and keys as they came
           <--         <--              status, headers and body as they come, streams event by event

**Where to.** To the address that the leader has published in the database, and to no other: nothing of a
request decides it but its path. A published address on loopback is used on the leader's own machine alone.

**Held.** While no leader can be reached a request waits for one: at a standby, which may lead next, and at a
leader that is ending, if one stands by. So a planned change of the leader refuses no request. It waits for
HOLD_S at most, and not beyond its own deadline; what is left of that goes with it. A client that goes away
ends the wait. When this process leads itself, what waited goes to its own gateway. `Place.most_held` bounds
how many wait, and `bodies.py` the bytes of all requests that have no whole answer yet.

**Once.** `Via` names every gateway that a request has passed. A gateway refuses what it has sent itself
(`guard.py`). What a standby has passed on is answered MISDIRECTED by a process that does not lead, and comes
from that standby again.

**Known.** A standby has longer to read an answer than a client, whom it watches itself. Anyone can write
`Via`, so a standby shows the key that the leader has published in the database with its address.

**Headers** that concern one connection stay on it (RFC 9110, section 7.6.1).

**Gone.** The machine of a leader may vanish without a word. Its connections are probed, and given up within
SILENT_S. A leader that was replaced, for instance since its process stands still, gets FINISH_S for what it
has begun.

**Breaks.** A leader that breaks off before its answer begins may have called a provider, so the request is
not sent again: 503 with `retry-after`. Later the client's connection is broken too: an answer that was cut
off must not look complete. A client that goes away ends its request at the leader.

**Slow readers.** An answer is read from the leader only as fast as its client takes it, so that the leader
slows down the provider. `connections.py` disconnects a client that takes nothing.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from aiohttp import (
    AddrInfoType,
    ClientConnectorError,
    ClientError,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
    TCPConnector,
    hdrs,
    web,
)
from multidict import CIMultiDict
from yarl import URL

from ..access import is_loopback
from ..core.store import PublishedGateway
from ..errors import Expired, StoreError
from ..via import via
from .bodies import BODIES
from .connections import reset
from .problems import not_leading
from .requests import PREFIX, timeout_s

if TYPE_CHECKING:
    from ..core.store import Leader, Store

CONNECT_S = 3.0
LOOK_S = 1.0  # an address is read again after so long
HELD_LOOK_S = 0.25  # while requests are held
HOLD_S = 60.0  # a leader that ends takes 30 s at most, one that was killed is replaced within 15 s
SETTLE_LOOK_S = 0.05
PASSING_S = 0.5  # a shorter wait is not taken off the deadline
LEAST_DEADLINE_S = 1.0  # is left to a request that has waited
FINISH_S = 5.0  # for answers that are being written when another one leads
SILENT_S = 15  # without a sign of the leader's system: a probe each PROBE_S, after as long without any data
PROBE_S = 5
UNREAD_BYTES = 64 * 1024  # of an answer, that the system keeps until it is passed on, instead of megabytes
STANDBY = "(standby)"
MISDIRECTED = 421
KEY = "agent-orchestrator-standby-key"
_BROKEN = (ClientError, TimeoutError, OSError)
_NOT_REACHED = (ClientConnectorError, ConnectionTimeoutError)
_OF_A_CONNECTION = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te",
    "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
# A body is passed on as it was read: decoded, and of another length.
_NOT_PASSED_ON = frozenset({"host", "via", "expect", "content-length", "content-encoding", KEY})
NOWHERE = PublishedGateway()
# Systems differ in what they have of these. The last one holds for what was sent, and is in milliseconds.
_PROBES = {
    "TCP_KEEPIDLE": PROBE_S,
    "TCP_KEEPINTVL": PROBE_S,
    "TCP_KEEPCNT": SILENT_S // PROBE_S - 1,
    "TCP_USER_TIMEOUT": 1_000 * SILENT_S,
}


class Place(NamedTuple):
    """This process: the name of its machine, its name as an orchestrator, the most requests it may hold."""

    host: str
    incarnation: str
    most_held: int


class _Seen(NamedTuple):
    """The leader's gateway, and whether one may be there soon."""

    gateway: PublishedGateway
    is_expected: bool


class Forwarder:
    """Passes requests on to the leader. For one event loop.

    `stands_by`: this process may lead next, so that requests can always wait. `own`: its own gateway; none
    while requests that arrive there come back to this forwarder.
    """

    def __init__(self, store: Store, place: Place, session: ClientSession) -> None:
        self._store, self._place, self._session = store, place, session
        self.stands_by, self.own = False, NOWHERE
        self._seen, self._read_at = _Seen(NOWHERE, is_expected=False), float("-inf")
        self._held = self._busy = 0
        self._watching: asyncio.Task[None] | None = None
        self._news = asyncio.Event()  # what was seen ends the wait; a new one each time
        self._asked: dict[asyncio.Timeout, PublishedGateway] = {}  # whom a request waits for
        self._now = asyncio.get_running_loop().time

    # ------------------------------------------------------------------ requests

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """The leader's answer. Raises NotServing where no leader comes in time or it does not answer, Expired
        where the request's own time is over, and what `Bodies.read` raises.
        """
        self._busy += 1
        try:
            return await self._forward(request)
        finally:
            self._busy -= 1

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        began = self._now()
        limit_s = timeout_s({name.lower(): value for name, value in request.headers.items()})
        body = await request.app[BODIES].read(request)
        to = await self._address()
        while True:
            while not to.url:
                if self._now() - began >= limit_s:
                    raise Expired("the deadline has passed while no orchestrator leads")
                to = await self._hold(began + min(HOLD_S, limit_s))
            headers = self._headers(request, to)
            if (waited_s := self._now() - began) > PASSING_S:
                headers[f"{PREFIX}timeout"] = f"{max(limit_s - waited_s, LEAST_DEADLINE_S):.3f}"
            answer = await self._exchange(request, to, headers, body)
            if answer is not None:
                return answer
            self._seen, to = _Seen(NOWHERE, is_expected=True), NOWHERE  # this leader has just ended

    def _headers(self, request: web.Request, to: PublishedGateway) -> CIMultiDict[str]:
        headers = _passed_on(request.headers, _NOT_PASSED_ON)
        headers[KEY] = to.key
        before = ", ".join(request.headers.getall(hdrs.VIA, ()))
        if to != self.own:
            headers[hdrs.VIA] = f"{via(before)} {STANDBY}"
        elif before:
            headers[hdrs.VIA] = before
        return headers

    async def _exchange(
        self, request: web.Request, to: PublishedGateway, headers: CIMultiDict[str], body: bytes
    ) -> web.StreamResponse | None:
        """Send it, and the answer back; None where it did not reach a leader."""
        passed: web.StreamResponse | None = None
        url = URL(to.url.rstrip("/") + request.rel_url.raw_path_qs, encoded=True)
        try:
            async with (
                self._limited(to),
                self._session.request(
                    request.method, url, headers=headers, data=body or None, allow_redirects=False
                ) as answer,
            ):
                if answer.status == MISDIRECTED:
                    return None
                passed = web.StreamResponse(
                    status=answer.status,
                    reason=answer.reason,
                    headers=_passed_on(answer.headers, frozenset()),
                )
                await passed.prepare(request)
                async for chunk in answer.content.iter_any():
                    await passed.write(chunk)
        except _NOT_REACHED:
            return None
        except _BROKEN as error:
            if passed is None:
                self._read_at = float("-inf")
                raise not_leading() from error
            if request.transport is not None:
                reset(request.transport)
            raise ConnectionResetError("the leader broke off its answer") from error
        await passed.write_eof()
        return passed

    @asynccontextmanager
    async def _limited(self, to: PublishedGateway) -> AsyncIterator[None]:
        """No limit of time, until another one than `to` leads."""
        async with asyncio.timeout(None) as limit:
            self._asked[limit] = to
            self._look_on()
            try:
                yield
            finally:
                del self._asked[limit]

    def _limit_others(self) -> None:
        """Another one leads: what the one before has begun to answer may take a little longer."""
        now = self._seen.gateway
        for limit, to in self._asked.items():
            if to != now and now.url and limit.when() is None:
                limit.reschedule(self._now() + FINISH_S)

    # ------------------------------------------------------------------ the leader

    async def _address(self) -> PublishedGateway:
        """The leader's gateway; NOWHERE if none can be used."""
        if self._now() - self._read_at >= LOOK_S:
            await self._look()
        return self._seen.gateway

    async def _hold(self, until: float) -> PublishedGateway:
        """The gateway after a wait; NOWHERE if none has come. Raises NotServing where none is expected, or
        too many wait.
        """
        late = self._now() >= until
        if late or self._held >= self._place.most_held or not (self.stands_by or self._seen.is_expected):
            raise not_leading()
        self._held += 1
        self._look_on()
        try:
            async with asyncio.timeout_at(until):
                await self._news.wait()
        except TimeoutError:
            return NOWHERE
        finally:
            self._held -= 1
        return self._seen.gateway

    def _look_on(self) -> None:
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        """Look for the leader while requests are held, or at one."""
        while self._held or self._asked:
            await asyncio.sleep(HELD_LOOK_S)
            if self._held or self._now() - self._read_at >= LOOK_S:
                await self._look()
            if self._held and (self._seen.gateway.url or not (self.stands_by or self._seen.is_expected)):
                self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _look(self) -> None:
        own = self.own
        with suppress(StoreError):  # without the database no other leader appears
            seen = await asyncio.to_thread(self._read)
            if self.own is own:  # else this process leads since then
                self._seen = seen
                self._limit_others()
        self._read_at = self._now()

    def _read(self) -> _Seen:
        row = self._store.leadership
        published, leader = row.gateway(), row.leader()
        if leader.holder != self._place.incarnation:
            is_usable = bool(usable_address(published.url, leader, self._place.host))
            if is_usable or leader.alive:
                return _Seen(published if is_usable else NOWHERE, is_expected=True)
        elif self.own.url:
            return _Seen(self.own, is_expected=True)
        return _Seen(NOWHERE, is_expected=bool(self._store.standbys.present()))

    # ------------------------------------------------------------------ ends

    def lead(self, own: PublishedGateway) -> None:
        """This process leads: requests go to its own gateway, which must not lead back here."""
        self.own, self._seen = own, _Seen(own, is_expected=True)
        self._read_at = self._now()
        self._tell()
        self._limit_others()

    def end(self) -> None:
        """Look for no leader any more."""
        if self._watching is not None:
            self._watching.cancel()

    async def settled(self, within_s: float | None = None) -> None:
        """Wait until no request is passed on any more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._busy:
                    await asyncio.sleep(SETTLE_LOOK_S)


def comes_from_standby(request: web.Request) -> bool:
    """Whether a standby has passed it on, and no other gateway since."""
    return request.headers.getall(hdrs.VIA, [""])[-1].rstrip().endswith(STANDBY)


def has_key(request: web.Request, key: str) -> bool:
    """Whether a standby has passed it on: `key` is in the database, and sent to the gateway it belongs to."""
    return secrets.compare_digest(request.headers.get(KEY, "").encode(), key.encode())


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


def _socket(address: AddrInfoType) -> socket.socket:
    """A connection to a leader, before it is connected."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UNREAD_BYTES)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _PROBES.items():
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made


@asynccontextmanager
async def forwarding(store: Store, place: Place) -> AsyncIterator[Forwarder]:
    """A forwarder while the block runs. Each request has a connection of its own: on one that was kept, a
    request that gets no answer may have been received or not.
    """
    session = ClientSession(
        connector=TCPConnector(limit=0, force_close=True, socket_factory=_socket),
        timeout=ClientTimeout(total=None, sock_connect=CONNECT_S),
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=(hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE, hdrs.USER_AGENT),
    )
    async with session:
        forwarder = Forwarder(store, place, session)
        try:
            yield forwarder
        finally:
            forwarder.end()
