"""waitress, with a short way for answers that lie ready.

waitress hands each request to a thread, which then wakes the loop. For an answer that is only copied the two
hand-overs cost more than all the rest, so the loop's own thread gives those, and every other request goes the
usual way. What is changed are three attributes of waitress's servers; a test asks for an answer both ways.
The limits of connections and of bodies are in `connections`.
"""

from __future__ import annotations

import functools
import logging
import select
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from flask import Flask
from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
from waitress.server import BaseWSGIServer, create_server  # type: ignore[import-untyped]

from .access import TrustedProxies
from .connections import MAX_CONNECTIONS, Admission, Parser, connection_to_close, is_too_slow
from .context import AppContext
from .quick import QuickAnswers
from .uploads import MAX_UPLOAD_BYTES

THREADS = 120  # 64 may wait for answers and 40 bring tasks: 16 are left for all other requests


class Server(Protocol):
    """What is used of a waitress server."""

    def run(self) -> None: ...
    def close(self) -> None: ...


def make_server(app: Flask, places: Sequence[tuple[str, int]], threads: int = THREADS) -> Server:
    """A server that listens at these addresses and ports. Raises OSError where one is taken."""
    sockets: dict[int, Any] = {}
    most = min(MAX_CONNECTIONS, _files_at_once() // 2)
    server: Server = create_server(
        app,
        map=sockets,
        listen=" ".join(joined(*place) for place in places),
        threads=threads,
        ident=None,
        max_request_body_size=MAX_UPLOAD_BYTES + (1 << 20),
        clear_untrusted_proxy_headers=False,  # `Proxied` does, which knows several proxies
        connection_limit=most + 100,  # where waitress would stop accepting: ours are closed before
        cleanup_interval=1,
        asyncore_use_poll=hasattr(select, "poll"),  # select() can't count beyond 1,024
    )
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a full queue for a moment is no news
    quick = app.wsgi_app
    here: AppContext = app.extensions["orchestrator"]
    if isinstance(quick, QuickAnswers):
        listening = [each for each in sockets.values() if isinstance(each, BaseWSGIServer)]
        limits = _Limits(Admission(quick), here.access.trusted_proxies, most, listening)
        for each in listening:
            _shorten(each, quick, limits)
    return server


def _files_at_once() -> int:
    """Files and connections that this process may have open, raised as far as that goes without asking."""
    if sys.platform == "win32":
        return 2 * MAX_CONNECTIONS
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, 4 * MAX_CONNECTIONS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (ValueError, OSError):  # macOS has a lower one that it does not tell
            pass
    return 4 * MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else soft


class _Limits:
    """What holds for the connections of all listening sockets together."""

    def __init__(
        self, admission: Admission, trusted_proxies: TrustedProxies, most: int, servers: Sequence[Any]
    ) -> None:
        self.admission = admission
        self._proxies, self._most, self._servers = trusted_proxies, most, servers

    def make_place(self, newest: Any) -> None:
        channels = [each for server in self._servers for each in server.active_channels.values()]
        channels = [each for each in channels if not each.will_close]
        leaves = connection_to_close(channels, newest, self._most, self._proxies.includes)
        if leaves is not None:
            leaves.will_close = True

    def close_late(self, now: float) -> None:
        for server in self._servers:
            for channel in list(server.active_channels.values()):
                if is_too_slow(channel, now):
                    channel.will_close = True


def joined(host: str, port: int) -> str:
    """As in a URL."""
    return f"[{host.strip('[]')}]:{port}" if ":" in host else f"{host}:{port}"


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection. `receiving_in` is set while the loop's thread takes bytes in, and only then."""

    receiving_in: int | None = None
    ready: bytes | None = None
    has_asked = False  # whether a whole request has come
    limits: _Limits

    def __init__(self, server: Any, sock: Any, addr: Any, adj: Any, map: Any = None) -> None:
        self.began_at = time.monotonic()
        super().__init__(server, sock, addr, adj, map)
        self.parser_class = functools.partial(Parser, self.limits.admission, addr[0])
        self.limits.make_place(self)

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


def _shorten(server: Any, quick: QuickAnswers, limits: _Limits) -> None:
    """Let this listening socket's connections give ready answers without a thread, and hold to the limits."""
    hand_to_thread: Callable[[Any], None] = server.add_task
    close_silent: Callable[[float], None] = server.maintenance

    def maintenance(now: float) -> None:
        close_silent(now)
        limits.close_late(time.monotonic())

    def add_task(channel: _Channel) -> None:
        channel.has_asked = True
        on_the_loop = channel.receiving_in == threading.get_ident()
        channel.ready = _ready(channel, quick) if on_the_loop else None
        if channel.ready is None:
            hand_to_thread(channel)

    server.channel_class = type("_ChannelOfServer", (_Channel,), {"limits": limits})
    server.add_task, server.maintenance = add_task, maintenance


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
