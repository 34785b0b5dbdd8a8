"""waitress, with a short way for answers that lie ready.

waitress hands each request to a thread, which then wakes the loop. For an answer that is only copied the two
hand-overs cost more than all the rest, so the loop's own thread gives those, and every other request goes the
usual way. What is changed are two attributes of waitress's servers; a test asks for an answer both ways.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from flask import Flask
from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
from waitress.server import BaseWSGIServer, create_server  # type: ignore[import-untyped]

from .quick import QuickAnswers
from .uploads import MOST_BYTES

THREADS = 80  # 64 of which may wait for answers, and cost next to nothing meanwhile


class Server(Protocol):
    """What is used of a waitress server."""

    def run(self) -> None: ...
    def close(self) -> None: ...


def make_server(app: Flask, places: Sequence[tuple[str, int]], threads: int = THREADS) -> Server:
    """A server that listens at these addresses and ports. Raises OSError where one is taken."""
    sockets: dict[int, Any] = {}
    server: Server = create_server(
        app,
        map=sockets,
        listen=" ".join(joined(*place) for place in places),
        threads=threads,
        ident=None,
        max_request_body_size=MOST_BYTES + (1 << 20),
        clear_untrusted_proxy_headers=False,  # `Proxied` does, which knows several proxies
    )
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a full queue for a moment is no news
    quick = app.wsgi_app
    if isinstance(quick, QuickAnswers):
        for each in sockets.values():
            if isinstance(each, BaseWSGIServer):
                _shorten(each, quick)
    return server


def joined(host: str, port: int) -> str:
    """As in a URL."""
    return f"[{host.strip('[]')}]:{port}" if ":" in host else f"{host}:{port}"


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection. `receiving_in` is set while the loop's thread takes bytes in, and only then."""

    receiving_in: int | None = None
    ready: bytes | None = None

    def received(self, data: bytes) -> bool:
        self.receiving_in = threading.get_ident()
        try:
            took: bool = super().received(data)  # holds a lock, so that nothing can be answered inside
            while self.ready is not None:
                self._answer(self.ready)
        finally:
            self.receiving_in = None
        return took

    def _answer(self, packet: bytes) -> None:
        """What `service` does for an answer that an application has to make."""
        self.ready = None
        request = self.requests[0]
        self.write_soon(packet)
        request.close()
        self.current_outbuf_count = self.adj.outbuf_high_watermark  # the next answer takes a new buffer
        with self.requests_lock:
            self.requests.pop(0)
            if self.requests:
                self.server.add_task(self)


def _shorten(server: Any, quick: QuickAnswers) -> None:
    """Let this listening socket's connections give ready answers without a thread."""
    hand_to_thread: Callable[[Any], None] = server.add_task

    def add_task(channel: _Channel) -> None:
        on_the_loop = channel.receiving_in == threading.get_ident()
        channel.ready = _ready(channel, quick) if on_the_loop else None
        if channel.ready is None:
            hand_to_thread(channel)

    server.channel_class, server.add_task = _Channel, add_task


def _ready(channel: Any, quick: QuickAnswers) -> bytes | None:
    request = channel.requests[0]
    headers = request.headers
    if request.error or request.version != "1.1" or "CONNECTION" in headers or not channel.connected:
        return None
    if channel.total_outbufs_len:  # who does not read must not make the loop wait
        return None
    asked = {"REQUEST_METHOD": request.command, "QUERY_STRING": request.query, "PATH_INFO": request.path}
    shown = {f"HTTP_{name}": value for name, value in headers.items()}
    return quick.packet({**shown, **asked, "REMOTE_ADDR": channel.addr[0]})
