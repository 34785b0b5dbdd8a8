"""HTTP below the anthropic and openai SDKs: aiohttp under httpx2. Imported on first use.

A failure is classified by the chain of causes, since the SDKs name it differently: over aiohttp, openai calls
a refused or reset connection a timeout, anthropic a connection error.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import httpx2
from multidict import CIMultiDict

from ..via import via
from .connections import LONGEST_HEAD, MOST_HEADERS, Connector, Request, StaleConnection
from .event_body import EventBody, Take
from .failures import CUT_OFF, NEVER_SENT, NO_ANSWER, REDIRECTED, UNREADABLE, Verdict, causes
from .headers import WANTED_HEADERS
from .network import (
    ERROR_BYTES,
    GRACE_S,
    REDIRECTS_FOLLOWED,
    AnswerTooLarge,
    Redirected,
    RejectedAnswer,
    Unreadable,
    has_no_host,
    may_follow,
    proxy_for,
)

_CONNECTIONS_TRIED = 3
_TAIL_S = 0.2  # how long the end of an answer may lag behind the last event of its stream
_PASSED_ON = (*WANTED_HEADERS, b"content-type")

# A subclass stands before its base: the first match counts.
_OURS: tuple[tuple[type[BaseException], Verdict], ...] = (
    (Redirected, REDIRECTED),
    (RejectedAnswer, UNREADABLE),
)
_AIOHTTP: tuple[tuple[type[BaseException], Verdict], ...] = (
    (StaleConnection, NEVER_SENT),
    (aiohttp.ConnectionTimeoutError, NEVER_SENT),
    (aiohttp.ServerTimeoutError, NO_ANSWER),
    (aiohttp.ClientConnectorError, NEVER_SENT),  # refused, DNS, TLS, a proxy that does not answer
    (aiohttp.ClientHttpProxyError, NEVER_SENT),
    (aiohttp.ServerFingerprintMismatch, NEVER_SENT),
    (aiohttp.InvalidURL, NEVER_SENT),
    (aiohttp.ClientConnectionError, CUT_OFF),  # reset, or closed without an answer
    (aiohttp.ClientPayloadError, CUT_OFF),  # closed in the middle of the body
    (aiohttp.ClientError, UNREADABLE),  # an answer that is not HTTP
)
_HTTPX2: tuple[tuple[type[BaseException], Verdict], ...] = (
    (httpx2.ConnectTimeout, NEVER_SENT),
    (httpx2.PoolTimeout, NEVER_SENT),
    (httpx2.TimeoutException, NO_ANSWER),
    (httpx2.ConnectError, NEVER_SENT),
    (httpx2.ProxyError, NEVER_SENT),
    (httpx2.UnsupportedProtocol, NEVER_SENT),
    (httpx2.LocalProtocolError, NEVER_SENT),
    (httpx2.InvalidURL, NEVER_SENT),
    (httpx2.NetworkError, CUT_OFF),
    (httpx2.RemoteProtocolError, CUT_OFF),
    (httpx2.TooManyRedirects, REDIRECTED),
    (httpx2.HTTPError, UNREADABLE),
    (httpx2.StreamError, UNREADABLE),
)
_SYSTEM: tuple[tuple[type[BaseException], Verdict], ...] = (
    (ConnectionRefusedError, NEVER_SENT),
    (ssl.SSLCertVerificationError, NEVER_SENT),
    (TimeoutError, NO_ANSWER),
    (OSError, CUT_OFF),
)


def verdict_on(error: BaseException) -> tuple[Verdict, BaseException] | None:
    """`(verdict, exception)` of the transport's part of the chain of causes; None if there is none.

    aiohttp's exceptions count before httpx2's, which are only translations of them.
    """
    found = list(causes(error))
    for table in (_OURS, _AIOHTTP, _HTTPX2, _SYSTEM):
        for cause in found:
            for cls, verdict in table:
                if isinstance(cause, cls):
                    return verdict, cause
    return None


class Body(httpx2.AsyncByteStream):
    """The body of an answer as it comes, decompressed, up to `max_bytes`. Whoever asked for it closes it."""

    def __init__(self, answer: aiohttp.ClientResponse, max_bytes: int) -> None:
        self._answer, self._left = answer, max_bytes
        self._max_bytes = max_bytes
        self._events = _event_body(answer)

    async def pump(self, take: Take) -> bool:
        """Give what comes to `take` until that returns False, and return True; False: that was all.

        `take` may be called outside of this task, and must not raise. Raises as `Transport.exchange`.
        """
        if self._events is not None and await self._events.pump(take, self._max_bytes):
            return True
        while data := await self.read():
            if not take(data):
                return True
        return False

    def allow(self, max_bytes: int) -> None:
        """Take up to `max_bytes`: for a file of many answers."""
        self._max_bytes = self._left = max_bytes

    async def read(self) -> bytes:
        """What has come, at least a byte; nothing at the end. Raises as `Transport.exchange`."""
        if self._events is not None:
            self._events.hand_over()
        try:
            data = await self._answer.content.readany()
        except aiohttp.ClientPayloadError as error:
            _check_encoding(error)
            raise
        self._left -= len(data)
        if self._left < 0:
            raise AnswerTooLarge(self._max_bytes)
        return data

    async def finish(self) -> None:
        """Read what follows the last event, its end in most cases, so that the connection is used again."""
        try:
            async with asyncio.timeout(_TAIL_S):
                await self.pump(bool)
        except (TimeoutError, aiohttp.ClientError, RejectedAnswer):
            pass  # the answer is whole; the connection is closed
        self.close()

    def close(self) -> None:
        """End the answer: at its end nothing is left to do, before it the connection is closed."""
        self._answer.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self.read():
            yield data

    async def aclose(self) -> None:
        """As `close`."""
        self.close()


class Transport(httpx2.AsyncBaseTransport):
    """One provider's connections. An answer is read whole, decompressed, up to `max_bytes`.

    Connections: one a slot and some for health calls, so that none waits for another. Idle ones are kept for
    4 s only: many self-hosted servers close theirs after 5 s, and a request that meets the closing is lost.
    """

    def __init__(self, base_url: str, slots: int, connect_timeout_s: float, max_bytes: int) -> None:
        self._proxy = proxy_for(base_url)
        self._ssl = httpx2.create_ssl_context() if base_url.startswith("https:") else True
        self._connections = slots + 4
        self._connect_timeout_s = connect_timeout_s
        self._max_bytes = max_bytes
        self._limit = aiohttp.ClientTimeout(sock_connect=connect_timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """One exchange, whose answer is read whole."""
        return await self.exchange(request)

    async def exchange(self, request: httpx2.Request, *, stream: bool = False) -> httpx2.Response:
        """One exchange, redirects within the origin included. `stream`: that of a 2xx is a `Body`.

        Raises aiohttp's exceptions, `RejectedAnswer` for what is not accepted, and httpx2.TooManyRedirects.
        """
        url = str(request.url)
        for _ in range(REDIRECTS_FOLLOWED + 1):
            answer = await self._answer_to(request, url)
            if stream and answer.status < 300:
                return _streamed(answer, request, self._max_bytes)
            async with answer:
                there = _redirect(answer, request, url)
                content = await self._content(answer)
            if not there:
                return _response(answer, content, request)
            url = there
        raise httpx2.TooManyRedirects("redirected too often", request=request)

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def _answer_to(self, request: httpx2.Request, url: str) -> aiohttp.ClientResponse:
        """The head of the answer. Another connection is tried only where nothing was sent on the first."""
        if self._session is None:
            self._session = self._new_session()
        content = await request.aread()
        # Built from the bytes, since httpx2 looks through all headers for each one that aiohttp asks for.
        headers = CIMultiDict((name.decode(), value.decode()) for name, value in request.headers.raw)
        headers["Via"] = via(headers.get("Via", ""))  # a gateway that is its own provider stops there
        read_s = request.extensions["timeout"]["read"]
        if read_s != self._limit.sock_read:  # nearly always the same
            self._limit = aiohttp.ClientTimeout(sock_connect=self._connect_timeout_s, sock_read=read_s)
        limit = self._limit
        left = _CONNECTIONS_TRIED
        while True:
            left -= 1
            try:
                return await self._session.request(
                    request.method,
                    url,
                    headers=headers,
                    data=content or None,
                    allow_redirects=False,
                    timeout=limit,
                    proxy=self._proxy,
                )
            except StaleConnection:
                if not left:
                    raise

    def _new_session(self) -> aiohttp.ClientSession:
        connector = Connector(limit=self._connections, keepalive_timeout=4.0, ssl=self._ssl)
        return aiohttp.ClientSession(
            connector=connector,
            request_class=Request,
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=LONGEST_HEAD,
            max_field_size=LONGEST_HEAD,
            max_headers=MOST_HEADERS,
        )

    async def _content(self, answer: aiohttp.ClientResponse) -> bytes:
        most = self._max_bytes if answer.status < 300 else ERROR_BYTES
        parts: list[bytes] = []
        size = 0
        if (events := _event_body(answer)) is not None:
            events.hand_over()  # events that nobody has asked for
        try:
            async for part in answer.content.iter_any():
                parts.append(part)
                size += len(part)
                if size > most:
                    answer.close()
                    if answer.status < 300:
                        raise AnswerTooLarge(most)
                    break
        except aiohttp.ClientPayloadError as error:
            _check_encoding(error)
            raise
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _event_body(answer: aiohttp.ClientResponse) -> EventBody | None:
    """What reads the body of an event stream; None: aiohttp reads it."""
    connection = answer.connection
    protocol: Any = None if connection is None else connection.protocol
    return None if protocol is None else protocol.events


def _check_encoding(error: aiohttp.ClientPayloadError) -> None:
    if any(type(cause).__name__ == "ContentEncodingError" for cause in causes(error)):
        raise Unreadable("the answer is not compressed as its header says") from error


def _redirect(answer: aiohttp.ClientResponse, request: httpx2.Request, url: str) -> str:
    """Where a redirect leads, "" for another answer. Raises Redirected for one that is not followed."""
    location = answer.headers.get("Location")
    if location is None or not 300 <= answer.status < 400:
        return ""
    try:
        there = "" if has_no_host(location) else str(httpx2.URL(url).join(location))
    except (httpx2.InvalidURL, ValueError):
        there = ""
    if not may_follow(answer.status, request.method, url, there):
        answer.close()
        raise Redirected(answer.status, url, there)
    return there


def _streamed(answer: aiohttp.ClientResponse, request: httpx2.Request, max_bytes: int) -> httpx2.Response:
    return httpx2.Response(
        answer.status, headers=_headers(answer), stream=Body(answer, max_bytes), request=request
    )


def _headers(answer: aiohttp.ClientResponse) -> list[tuple[bytes, bytes]]:
    """Only those that are read: each costs httpx2 a pass or two, and a cookie that cannot be sent back would
    end all later calls."""
    return [pair for pair in answer.raw_headers if pair[0].lower().startswith(_PASSED_ON)]


def _response(answer: aiohttp.ClientResponse, content: bytes, request: httpx2.Request) -> httpx2.Response:
    stream = httpx2.ByteStream(content)
    response = httpx2.Response(answer.status, headers=_headers(answer), stream=stream, request=request)
    response._content = content  # it has been read; reading it again would cost as much as all the rest
    return response


class Client(httpx2.AsyncClient):
    """The `http_client` of an SDK, which uses little of httpx2.

    The SDK has made the headers and encoded the body, and the transport follows redirects. So nothing is
    merged with the client's own headers, cookies and parameters, no authentication or hook runs, and an
    address is parsed once: together a quarter of a call. aiohttp adds the headers of HTTP itself.
    """

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport=transport)
        self._own_transport = transport

    def build_request(  # type: ignore[override]  # what the SDKs pass
        self,
        method: str,
        url: httpx2.URL | str,
        *,
        timeout: httpx2.Timeout,
        headers: Any = None,
        content: bytes | None = None,
        **others: Any,
    ) -> httpx2.Request:
        """A request with these headers and this body, or with `files` to upload and the form `data`.

        Raises TypeError for other parts of a request.
        """
        form = {name: value for name in ("files", "data") if (value := others.pop(name, None))}
        if any(others.values()):
            raise TypeError(f"not supported: {', '.join(name for name, value in others.items() if value)}")
        if form:
            extensions = {"timeout": timeout.as_dict()}
            upload = httpx2.Request(method, url, headers=headers, extensions=extensions, **form)
            upload.read()
            return upload
        request = httpx2.Request(
            method,
            _parsed(url) if isinstance(url, str) else url,
            headers=headers,
            stream=httpx2.ByteStream(content or b""),
            extensions={"timeout": timeout.as_dict()},
        )
        request.read()
        return request

    async def send(self, request: httpx2.Request, *, stream: bool = False, **_: Any) -> httpx2.Response:
        """One exchange; its answer has been read, unless it is a stream. Other options: authentication."""
        return await self._own_transport.exchange(request, stream=stream)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._own_transport.aclose()
        await super().aclose()


_parsed = functools.lru_cache(maxsize=256)(httpx2.URL)


def http_client(base_url: str, slots: int, connect_timeout_s: float, max_bytes: int) -> Client:
    """The `http_client` for an SDK."""
    return Client(Transport(base_url, slots, connect_timeout_s, max_bytes))


def timeout(total_s: float, connect_timeout_s: float) -> httpx2.Timeout:
    """A call ends after `total_s` of silence. The total is the caller's, which comes a little earlier."""
    return httpx2.Timeout(total_s + GRACE_S, connect=connect_timeout_s, pool=None)
