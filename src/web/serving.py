"""waitress with limits of its own on connections and bodies.

Two attributes of waitress's listening sockets are replaced: the class of their connections, and the
maintenance that runs once a second. The limits themselves are in `connections`.
"""

from __future__ import annotations

import functools
import logging
import select
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from flask import Flask
from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
from waitress.server import BaseWSGIServer, create_server  # type: ignore[import-untyped]

from ..access import TrustedProxies
from ..open_files import most_open_files
from .connections import MAX_CONNECTIONS, Admission, Parser, connection_to_close, is_too_slow
from .context import AppContext
from .uploads import MAX_UPLOAD_BYTES

THREADS = 120  # up to 64 requests wait for answers and 40 submit tasks, which leaves 16 for all others


class Server(Protocol):
    """The part of a waitress server that this program uses."""

    def run(self) -> None: ...
    def close(self) -> None: ...


def make_server(app: Flask, places: Sequence[tuple[str, int]], threads: int = THREADS) -> Server:
    """A server that listens on these hosts and ports. Raises OSError where one is taken."""
    sockets: dict[int, Any] = {}
    max_connections = min(MAX_CONNECTIONS, most_open_files(4 * MAX_CONNECTIONS) // 2)
    server: Server = create_server(
        app,
        map=sockets,
        listen=" ".join(joined(*place) for place in places),
        threads=threads,
        ident=None,
        max_request_body_size=MAX_UPLOAD_BYTES + (1 << 20),
        clear_untrusted_proxy_headers=False,  # `TrustedProxyMiddleware` does it, for several proxies
        connection_limit=max_connections + 100,  # waitress stops accepting here; `_Limits` closes one before
        cleanup_interval=1,
        asyncore_use_poll=hasattr(select, "poll"),  # select() is limited to 1,024 descriptors
    )
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a queue that is full for a moment is normal
    context: AppContext = app.extensions["orchestrator"]
    listening = [each for each in sockets.values() if isinstance(each, BaseWSGIServer)]
    limits = _Limits(Admission(app.wsgi_app), context.access.trusted_proxies, max_connections, listening)
    for each in listening:
        _apply(limits, each)
    return server


def joined(host: str, port: int) -> str:
    """Host and port as in a URL."""
    return f"[{host.strip('[]')}]:{port}" if ":" in host else f"{host}:{port}"


class _Limits:
    """Limits that the connections of all listening sockets share."""

    def __init__(
        self,
        admission: Admission,
        trusted_proxies: TrustedProxies,
        max_connections: int,
        servers: Sequence[Any],
    ) -> None:
        self.admission = admission
        self._trusted_proxies, self._max_connections = trusted_proxies, max_connections
        self._servers = servers

    def make_place(self, newest: Any) -> None:
        """Close one connection if the newest is one too many."""
        channels = [each for server in self._servers for each in server.active_channels.values()]
        channels = [each for each in channels if not each.will_close]
        leaves = connection_to_close(channels, newest, self._max_connections, self._trusted_proxies.includes)
        if leaves is not None:
            leaves.will_close = True

    def close_slow(self, now: float) -> None:
        """Close the connections whose request comes too slowly; `now` is monotonic."""
        for server in self._servers:
            for channel in list(server.active_channels.values()):
                if is_too_slow(channel, now):
                    channel.will_close = True


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection that counts towards the limits of its server."""

    has_asked = False  # whether a whole request has come
    limits: _Limits

    def __init__(self, server: Any, sock: Any, addr: Any, adj: Any, map: Any = None) -> None:
        self.began_at = time.monotonic()
        super().__init__(server, sock, addr, adj, map)
        self.parser_class = functools.partial(Parser, self.limits.admission, addr[0])
        self.limits.make_place(self)

    def service(self) -> None:
        self.has_asked = True
        super().service()


def _apply(limits: _Limits, server: Any) -> None:
    """Hold the connections of this listening socket to the limits."""
    close_silent: Callable[[float], None] = server.maintenance

    def maintenance(now: float) -> None:
        close_silent(now)
        limits.close_slow(time.monotonic())

    server.channel_class = type("_ChannelOfServer", (_Channel,), {"limits": limits})
    server.maintenance = maintenance
