"""Limits on connections: their number, their speed, and bodies that would be refused anyway.

waitress reads a whole request before the application sees it, closes a silent connection after two minutes,
and stops accepting at its limit of connections. So a hundred half-sent requests would block the server, and
a client without a token could fill the disk with a large body. Therefore

    a body above CHECKED_BODY_BYTES     is admitted or refused by its headers, before it is read (`Admission`)
    a request that comes too slowly     is cut off (`is_too_slow`)
    one connection too many             closes an idle or unfinished one, if possible of its address

Trusted proxies are exempt from the limit per address. A server that is reachable from outside its own network
needs such a proxy in front, with limits of its own.
"""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from waitress.parser import HTTPRequestParser  # type: ignore[import-untyped]
from waitress.utilities import RequestEntityTooLarge  # type: ignore[import-untyped]

HEADERS_ONLY = "orchestrator.headers_only"  # in the environ: a list for the limit; the body has not been read
CHECKED_BODY_BYTES = 64 * 1024
HEADERS_S = 10.0  # from the first byte of a request, or from the connection, to the end of its headers
BODY_GRACE_S = 30.0
MIN_BYTES_PER_S = 10_000.0  # of a body: the largest upload takes at most 14 hours
MAX_CONNECTIONS = 500  # connections at once
MAX_PER_ADDRESS = 200  # a program may have 64 requests that wait for answers, and others


class EarlyResponse:
    """The application's response to the headers of a request, sent like one of waitress's own errors."""

    def __init__(self, status: str, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        self._answer = status, [*headers, ("Connection", "close")], body

    def to_response(self, _ident: Any = None) -> tuple[str, list[tuple[str, str]], bytes]:
        return self._answer


class Admission:
    """Asks the application for the size of body it accepts, by the headers of a request alone."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application

    def limit(self, request: HTTPRequestParser, address: str) -> int | EarlyResponse:
        """The largest body that this path accepts, or the response that refuses the request."""
        limit: list[int] = []
        answers: list[tuple[str, list[tuple[str, str]]]] = []
        environ = {
            **{f"HTTP_{name}": value for name, value in request.headers.items()},
            "CONTENT_LENGTH": str(request.content_length),
            "CONTENT_TYPE": request.headers.get("CONTENT_TYPE", ""),
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query,
            "REMOTE_ADDR": address,
            "REQUEST_METHOD": request.command,
            "SCRIPT_NAME": "",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "0",
            "SERVER_PROTOCOL": f"HTTP/{request.version}",
            "wsgi.errors": io.StringIO(),
            "wsgi.input": io.BytesIO(),
            "wsgi.multiprocess": False,
            "wsgi.multithread": True,
            "wsgi.run_once": False,
            "wsgi.url_scheme": "http",
            "wsgi.version": (1, 0),
            HEADERS_ONLY: limit,
        }

        def listen(status: str, headers: list[tuple[str, str]], _: Any = None) -> None:
            answers.append((status, headers))

        body = b"".join(self._application(environ, listen))
        return limit[0] if limit else EarlyResponse(*answers[-1], body)


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """Parses a request as it comes in, and completes it early if its body is refused."""

    error: Any
    expect_continue: bool
    content_length: int
    body_bytes_received: int

    def __init__(self, admission: Admission, address: str, adj: Any) -> None:
        super().__init__(adj)
        self.began_at = time.monotonic()
        self._admission, self._address = admission, address
        self._limit: int = adj.max_request_body_size

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        if not (self.chunked or self.content_length):
            self.expect_continue = False  # no body follows, for which waitress would wait all the same
        if not (self.chunked or self.expect_continue or self.content_length > CHECKED_BODY_BYTES):
            return
        answer = self._admission.limit(self, self._address)
        if isinstance(answer, int):
            self._limit = answer
            return
        self.error, self.body_rcv = answer, None  # complete: the body is not read
        self.expect_continue, self.content_length = False, 0

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        if self.error is None and self.body_bytes_received > self._limit:
            self.error = RequestEntityTooLarge(f"more than {self._limit} bytes")
            self.completed = True
        return consumed


def is_too_slow(channel: Any, now: float) -> bool:
    """Whether the request of a connection comes too slowly; `now` is monotonic."""
    if channel.requests:
        return False
    request = channel.request
    if request is None:
        return not channel.has_asked and now - channel.began_at > HEADERS_S
    took_s = now - request.began_at
    if not request.headers_finished:
        return bool(took_s > HEADERS_S)
    return bool(took_s > BODY_GRACE_S + request.body_bytes_received / MIN_BYTES_PER_S)


def connection_to_close(
    channels: Sequence[Any], newest: Any, most: int, exempt: Callable[[str], bool]
) -> Any | None:
    """The connection to close for a new one; None while the limits allow it."""
    address = newest.addr[0]
    of_address = [each for each in channels if each.addr[0] == address]
    if len(of_address) > MAX_PER_ADDRESS and not exempt(address):
        return _waits_longest(of_address, newest)
    if len(channels) <= most:
        return None
    counts = Counter(each.addr[0] for each in channels if not exempt(each.addr[0]))
    busiest = counts.most_common(1)[0][0] if counts else address
    return _waits_longest([each for each in channels if each.addr[0] == busiest], newest)


def _waits_longest(channels: Sequence[Any], newest: Any) -> Any:
    """The connection with the oldest unfinished headers, else an idle one, else the one with the oldest body.

    Connections that wait for their answer stay; if all do, the newest is closed.
    """
    waiting = [each for each in channels if not each.requests and not each.will_close and each is not newest]
    return min(waiting, key=_rank, default=newest)


def _rank(channel: Any) -> tuple[int, float]:
    request = channel.request
    if request is not None:
        return (2 if request.headers_finished else 0), request.began_at
    return (1 if channel.has_asked else 0), channel.began_at
