"""aiohttp's connections with eight additional rules. Imported only together with an SDK.

- A connection is reused only if it has no unread data. Data that arrived before the request was written is
  not its answer: the connection is closed and another one taken. The same goes for one that the server has
  closed. Nothing was sent on either, so nothing is billed.
- The head of an answer is given to aiohttp's parser apart from its body, so that bytes behind the body end
  the connection and not the answer.
- Chunks that break the rules of HTTP end the answer at once. aiohttp reports this to the head only, which
  has been read by then, and would wait for the body without end.
- A chunk's header without end cuts the answer off: aiohttp reads it until the call's time limit.
- A head with `Content-Length` beside `Transfer-Encoding`, or twice alike, is read as RFC 9112 (6.3) and h11
  do, and the connection is not used again. aiohttp's parser refuses both.
- The chunks of an event stream are read without aiohttp, which takes 40 us for each.
- A read takes 64 KiB at most. asyncio's 256 KiB are given back to the system after each read and fetched
  again for the next one: 17 us, more than the read itself.
- One timer measures the silence of a connection, and is set anew when it rings. aiohttp sets three for an
  answer.

`ResponseHandler`, its timeout methods, `BaseConnector._factory`, `ClientRequest.write_bytes` and the
`max_size` of asyncio's transports are internals. Tests send such answers, and fail if an update changes the
internals.
"""

from __future__ import annotations

import asyncio
import functools
import math
import re
import select
import sys
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest, ClientResponse
from aiohttp.helpers import set_exception
from aiohttp.http_exceptions import HttpProcessingError

from ..fence import check
from .event_body import EventBody

LONGEST_HEAD = 256 * 1024  # httpx reads 100 KiB
MOST_HEADERS = 4_000
LONGEST_CHUNK_HEADER = LONGEST_HEAD  # bytes without any of the body
READ_BYTES = 64 * 1024

_BLANK_LINE = re.compile(rb"\n\r?\n")
_FRAMING = re.compile(
    rb"\n(content-length|transfer-encoding)[ \t]*:[ \t]*([^\r\n]*?)[ \t]*\r?(?=\n)", re.IGNORECASE
)
_INTERIM = (b"HTTP/1.1 1", b"HTTP/1.0 1")


class StaleConnection(aiohttp.ClientConnectionError):
    """The connection was closed, or spoke, before the request was written: nothing of it was sent."""


class Handler(ResponseHandler):
    """One connection. `expects` is False from when the pool returns it until its request is written."""

    def __init__(self, loop: Any) -> None:
        super().__init__(loop)
        self.used = False
        self.expects = True  # a proxy's answer to CONNECT comes before the request
        self._is_readable: Callable[[], bool] | None = None
        self._head: bytes | None = None  # the received part of an incomplete head; None: no head is due
        self._without_body = 0  # bytes since the last ones that were part of the body
        self.events: EventBody | None = None  # the body, where it is not aiohttp's
        self._silent_since = math.inf  # by the loop's clock; no bytes are due
        self._rings_at = math.inf

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        super().connection_made(transport)
        # Over TLS asyncio reads into a buffer, and out of that in pieces of such a size.
        reading: tuple[Any, Any] = transport, getattr(transport, "_ssl_protocol", None)
        for each in reading:
            if hasattr(each, "max_size"):
                each.max_size = READ_BYTES

    def set_response_params(self, **params: Any) -> None:
        """An answer's head is due."""
        self._head, self.events = b"", None
        super().set_response_params(**params)

    def begin(self) -> bool:
        """The request is about to be written. False if the connection is unusable."""
        self.used = True
        self.expects = self.is_connected() and not self.should_close
        return self.expects

    def has_unread_data(self) -> bool:
        """Whether there is unread data, or the other side has closed. Costs a system call."""
        if self.should_close or self.transport is None:
            return True
        if self._is_readable is None:
            socket = self.transport.get_extra_info("socket")
            self._is_readable = readable_check(socket.fileno()) if socket is not None else bool
        return self._is_readable()

    def data_received(self, data: bytes) -> None:
        """Bytes from the server: a head is passed on whole and repaired, a body as it comes."""
        if self.events is not None and not self.events.is_over:
            self.events.received(data)
            return
        if self._head is None:
            self._pass_on(data)
            return
        if not self.expects:  # what comes before the request cannot be its answer
            self._close()
            return
        data = self._pass_on_heads(self._head + data if self._head else data)
        if self._head is not None and len(data) <= LONGEST_HEAD:
            self._head = data
            self.start_timeout()
        elif data and self._exception is None:
            self._head = None
            (self._pass_on if self.events is None else self.events.received)(data)

    def _pass_on_heads(self, data: bytes) -> bytes:
        """Pass on the heads that are whole, up to that of the answer; what follows them."""
        while self._head is not None and (end := _end_of_head(data)):
            head, data = data[:end], data[end:]
            self._head = b"" if head.startswith(_INTERIM) else None
            super().data_received(head := self._repaired(head))
            if self._exception is None and _is_event_stream(head):
                self.events = EventBody(self.transport, self._pass_on)
                self._drop_timeout()  # its reader has its own
        return data

    def _pass_on(self, data: bytes) -> None:
        """Part of a body; or of what surrounds it, which has its limit."""
        body = self._payload
        before = 0 if body is None else body.total_bytes
        super().data_received(data)
        if body is None or body.total_bytes > before:
            self._without_body = 0
            return
        self._without_body += len(data)
        if self._without_body > LONGEST_CHUNK_HEADER and not body.is_eof():
            set_exception(body, aiohttp.ClientPayloadError("a chunk's header without end"))
            self._close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection has ended; before the request was written that is a `StaleConnection`."""
        rest, self._head = self._head, None
        if self.events is not None:
            self.events.hand_over()
        if rest:  # not HTTP: aiohttp reports why
            super().data_received(rest)
        if not self.expects:
            self.set_exception(StaleConnection("the connection was closed before the request was sent"))
        super().connection_lost(exc)
        self._set_timer(math.inf)

    def _reschedule_timeout(self) -> None:
        """Bytes have come, or are due from now on."""
        self._silent_since = self._loop.time()
        if self._read_timeout and self._silent_since + self._read_timeout < self._rings_at:
            self._set_timer(self._silent_since + self._read_timeout)

    def _drop_timeout(self) -> None:
        """No bytes are due."""
        self._silent_since = math.inf

    def _on_read_timeout(self) -> None:
        self._rings_at = math.inf
        due_at = self._silent_since + (self._read_timeout or math.inf)
        if self._loop.time() >= due_at:
            super()._on_read_timeout()
        else:
            self._set_timer(due_at)

    def _set_timer(self, at: float) -> None:
        if self._read_timeout_handle is not None:
            self._read_timeout_handle.cancel()
        self._rings_at, self._read_timeout_handle = at, None
        if at < math.inf:
            self._read_timeout_handle = self._loop.call_at(at, self._on_read_timeout)

    def set_exception(self, exc: Any, *cause: Any) -> None:
        """The first one decides whether anything was sent. Broken chunks end the body too."""
        body = self._payload
        if isinstance(exc, HttpProcessingError) and body is not None and not body.is_eof():
            set_exception(body, aiohttp.ClientPayloadError(f"not a valid HTTP body: {exc.message}"), exc)
        if not isinstance(self._exception, StaleConnection):
            super().set_exception(exc, *cause)

    def _close(self) -> None:
        self._head = None
        self.force_close()
        if self.transport is not None:
            self.transport.close()

    def _repaired(self, head: bytes) -> bytes:
        """The head with one header for the length of the body, where it has several that agree."""
        fields = [(name.lower(), value.lower()) for name, value in _FRAMING.findall(head)]
        is_plain = len(fields) < 2 and not any(b"," in value for _, value in fields)
        kept = None if is_plain else _framing(fields)
        if kept is None:
            return head  # aiohttp refuses contradictions
        self.force_close()
        return _FRAMING.sub(b"", head).rstrip() + b"\r\n" + b": ".join(kept) + b"\r\n\r\n"


def _framing(fields: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes] | None:
    """The header that decides where a body ends; None where several contradict each other."""
    coded = {field for field in fields if field[0] == b"transfer-encoding"}
    if coded:
        return coded.pop() if len(coded) == 1 else None
    lengths = {length.strip() for _, value in fields for length in value.split(b",")}
    return (b"content-length", lengths.pop()) if len(lengths) == 1 else None


class Request(ClientRequest):
    """A request that is written only to a connection that is silent."""

    async def send(self, conn: Any) -> ClientResponse:
        """Write the request, unless the connection has become useless meanwhile, or it is too late."""
        check()
        if not self.body:
            conn.protocol.begin()
        return await super().send(conn)

    async def write_bytes(self, writer: Any, conn: Any, content_length: int | None = None) -> None:
        """Write the body, unless the connection has become useless meanwhile."""
        if conn.protocol.begin():
            await super().write_bytes(writer, conn, content_length)
        else:
            conn.protocol.set_exception(
                StaleConnection("the connection was closed before the request was sent")
            )


class Connector(aiohttp.TCPConnector):
    """A pool that returns silent connections only."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = functools.partial(Handler, loop=self._loop)  # type: ignore[assignment]

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:
        """A connection without unread data; others are closed."""
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol: Any = connection.protocol
            if not (protocol.used and protocol.has_unread_data()):
                protocol.expects = False
                return connection
            connection.close()


def _end_of_head(data: bytes) -> int:
    """Where the body begins; 0 where the head is not whole. Some servers end lines with LF alone."""
    end = _BLANK_LINE.search(data)
    return end.end() if end else 0


def _is_event_stream(head: bytes) -> bool:
    """Whether a body of server-sent events follows, in chunks and not compressed."""
    fields = head.lower()
    if b"\ncontent-type: text/event-stream" not in fields or not fields.startswith(b"http/1.1 200 "):
        return False
    others = (b"\ncontent-encoding:", b"\ncontent-length:")
    return b"\ntransfer-encoding: chunked\r\n" in fields and not any(each in fields for each in others)


def readable_check(fileno: int) -> Callable[[], bool]:
    """A function that returns whether a socket has data, or its end, to be read."""
    if sys.platform == "win32":
        return lambda: bool(select.select([fileno], [], [], 0)[0])
    poll = select.poll()
    poll.register(fileno, select.POLLIN)
    return lambda: bool(poll.poll(0))
