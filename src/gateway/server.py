"""The gateway's address, and the gateway as a part of the orchestrator's process.

It listens from the start of the process. Until this process leads, a thread of its own passes requests on to
the leader (`forwarding.py`); then the application runs in the orchestrator's event loop, so that a request is
placed without a detour through the database. The socket stays open in between: no connection is refused, and
requests that the thread still holds go to the application. At the end requests that were not answered are
passed on to the next leader.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import web

from ..access import is_loopback
from ..config import ProviderAccess
from ..core.store import PublishedGateway
from ..errors import ConfigError
from ..formatting import plural
from .app import build_app
from .bodies import BODIES, Bodies
from .connections import CONNECTIONS, Connections
from .context import GatewayContext
from .forwarding import FINISH_S, Place, forwarding

if TYPE_CHECKING:
    from ..core.orchestrator import Orchestrator

BACKLOG = 512
# The system keeps up to this many bytes for a reader that is behind, instead of megabytes. A connection can
# then be written to whenever its client has read a little, which is what tells a slow one from a stalled one.
UNSENT_BYTES = 64 * 1024
LINGER_S = 2.0  # to read what a refused client still sends, so that it sees the answer
IDLE_S = 75.0  # longer than clients keep idle connections, so that they close them
# While another thread computes, the loop gets the interpreter back after this time only. A byte echoed to
# another process every 3 ms, beside one such thread: median 7 to 10 ms with Python's default of 5 ms, 0.46 ms
# with 0.2 ms, 0.15 ms without the thread. Two computing threads were 7 % slower with 0.1 ms.
SWITCH_INTERVAL_S = 0.0002

_unlogged = logging.getLogger("aiohttp.unlogged")  # a malformed request is quoted there, with its keys
_unlogged.addHandler(logging.NullHandler())
_unlogged.propagate = False


class Listener:
    """The bound sockets of a gateway. As a context manager it closes them."""

    def __init__(self, host: str, port: int) -> None:
        """Raises ConfigError if the port can't be used: clients know the address, so no other is taken."""
        self._sockets = [_bound(host, port)]
        self.host, self.port = host, int(self._sockets[0].getsockname()[1])
        if host in ("127.0.0.1", "localhost"):  # some clients resolve localhost to IPv6 first
            with suppress(ConfigError):
                self._sockets.append(_bound("::1", self.port))

    @property
    def url(self) -> str:
        """The base URL for a client on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{self.port}"

    @property
    def url_for_others(self) -> str:
        """The base URL for other machines, as far as it is known; on loopback, the one for this machine."""
        if self.host not in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
            return self.url
        name = socket.gethostname()
        with suppress(OSError):
            address = socket.gethostbyname(name)  # a container's name is often unknown elsewhere
            name = name if is_loopback(address) else address
        return f"http://{name}:{self.port}"

    def copies(self) -> list[socket.socket]:
        """The same sockets for one event loop, which closes its copies."""
        return [each.dup() for each in self._sockets]

    def close(self) -> None:
        """Stop listening."""
        for each in self._sockets:
            each.close()

    def is_reached_by(self, base_url: str) -> bool:
        """Whether an address of a provider leads here."""
        parts = urlsplit(base_url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        if port != self.port or not parts.hostname:
            return False
        with suppress(OSError, UnicodeError):
            found = {info[4][0] for info in socket.getaddrinfo(parts.hostname, port)}
            return not found.isdisjoint(self._own_addresses())
        return False

    def _own_addresses(self) -> set[str | int]:
        own: set[str | int] = {"127.0.0.1", "::1", "0.0.0.0", "::"}  # noqa: S104 - compared, not bound
        names = [self.host]
        if self.host in ("0.0.0.0", "::"):  # noqa: S104
            names.append(socket.gethostname())
        for name in names:
            with suppress(OSError):
                own |= {info[4][0] for info in socket.getaddrinfo(name.strip("[]"), None)}
        return own


def _bound(host: str, port: int) -> socket.socket:
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # on Windows this option would let two servers share the port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # accepted connections inherit it
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        bound.bind((host, port))
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise ConfigError(_listen_error(host, port, error)) from error
    bound.setblocking(False)
    return bound


def _listen_error(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"gateway: port {port} is taken; choose another with --gateway-port, ORCHESTRATOR_GATEWAY_PORT "
            "or [gateway] port, or use --no-gateway"
        )
    if error.errno == errno.EACCES:
        return f"gateway: no permission for port {port}; use one above 1023"
    return f"gateway: can't listen on {host}:{port} ({error.strerror or error})"


def refuse_own_address(listener: Listener, access: Mapping[str, ProviderAccess]) -> None:
    """Raises ConfigError if a provider's address is the gateway: clients set the variables that name it."""
    for each in access.values():
        if each.configured and listener.is_reached_by(each.base_url):
            variable = each.config.base_url_env
            where = variable if each.base_url != each.config.base_url else f"providers.{each.name}.base_url"
            raise ConfigError(
                f"the address of {each.name} is this gateway, which would call itself; unset it here and set "
                "it for clients only",
                where=where,
            )


class Gateway:
    """One gateway over a listener; `serving` is its time in the orchestrator's loop."""

    def __init__(self, listener: Listener, context: GatewayContext) -> None:
        self.listener, self._context = listener, context
        self._place = Place(socket.gethostname(), context.incarnation, context.settings.gateway.max_waiting)

    @property
    def published(self) -> PublishedGateway:
        """What standbys need."""
        url = self._context.settings.gateway.advertise_url or self.listener.url_for_others
        return PublishedGateway(url, self._context.key)

    def reload(self) -> str:
        """Read the tokens file again; returns what it did. Raises ConfigError: the old tokens stay."""
        return f"{plural(self._context.access.reload(), 'token')} for the gateway"

    @asynccontextmanager
    async def serving(self, pool: Orchestrator) -> AsyncIterator[None]:
        """Place requests with `pool` while the block runs. It ends when another orchestrator may lead: then
        the next leader answers what this one has not, and may listen on the same port.
        """
        before = sys.getswitchinterval()
        sys.setswitchinterval(min(before, SWITCH_INTERVAL_S))
        try:
            async with self._forwarding(pool) as context, self._running(context) as doors:
                yield
                doors.close()
                self.listener.close()
                await self._end(context, doors)
        finally:
            sys.setswitchinterval(before)

    @contextmanager
    def standing_by(self) -> Iterator[Callable[[], None]]:
        """Pass requests on to the leader, on a thread of its own, while the block runs, which blocks.

        Call what it returns when this process leads: it accepts no further connections then, and requests
        that have waited go to the gateway that `serving` runs.
        """
        loop, over, handed_over = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
        leads = False

        async def stand_by() -> None:
            async with self._forwarding() as context, self._running(context) as doors:
                forwarder = context.passes_on
                forwarder.stands_by = True
                await over.wait()
                doors.close()
                forwarder.stands_by = False
                if leads:
                    forwarder.lead(PublishedGateway(self.listener.url, self._context.key))
                    handed_over.set()
                    await doors.empty()
                    await forwarder.settled()
                else:
                    await self._end(context, doors)

        def run() -> None:
            try:
                with asyncio.Runner(loop_factory=lambda: loop) as runner:
                    runner.run(stand_by())
            finally:
                handed_over.set()

        def lead() -> None:
            nonlocal leads
            leads = True
            loop.call_soon_threadsafe(over.set)
            handed_over.wait()

        thread = threading.Thread(target=run, name="gateway", daemon=True)
        thread.start()
        try:
            yield lead
        finally:
            if not leads:
                loop.call_soon_threadsafe(over.set)
            thread.join(self._context.settings.pool.shutdown_grace_s + FINISH_S)

    @asynccontextmanager
    async def _forwarding(self, pool: Orchestrator | None = None) -> AsyncIterator[GatewayContext]:
        """What requests need in this event loop."""
        context = self._context
        async with forwarding(context.store, self._place) as forwarder:
            yield replace(context, pool=pool, forwarder=forwarder)

    async def _end(self, context: GatewayContext, doors: _Doors) -> None:
        """Wait for answers of the leader, as long as calls in flight may take at the end."""
        await doors.empty()
        await context.passes_on.settled(context.settings.pool.shutdown_grace_s)

    @asynccontextmanager
    async def _running(self, context: GatewayContext) -> AsyncIterator[_Doors]:
        app = build_app(context)
        connections = app[CONNECTIONS]
        runner = web.AppRunner(
            app,
            access_log=None,
            logger=_unlogged,
            handler_cancellation=True,  # a client that goes away ends its request at once
            keepalive_timeout=IDLE_S,
            lingering_time=LINGER_S,
            shutdown_timeout=FINISH_S,
        )
        await runner.setup()
        serve = runner.server
        if serve is None:
            raise RuntimeError("a runner has a server once it is set up")

        loop, accept = asyncio.get_running_loop(), partial(connections.accepted, serve)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(connections.watched())
            stack.push_async_callback(runner.cleanup)
            doors = _Doors(serve, connections, app[BODIES])
            stack.callback(doors.close)
            for each in self.listener.copies():
                doors.open(await loop.create_server(accept, sock=each, backlog=BACKLOG))
            yield doors


class _Doors:
    """Where connections come in, for one event loop."""

    def __init__(self, server: web.Server, connections: Connections, bodies: Bodies) -> None:
        self._server, self._connections, self._bodies = server, connections, bodies
        self._accepting: list[asyncio.Server] = []

    def open(self, accepting: asyncio.Server) -> None:
        """Connections come in here."""
        self._accepting.append(accepting)

    def close(self) -> None:
        """Accept no further connections."""
        for each in self._accepting:
            each.close()

    async def empty(self) -> None:
        """Take what has been sent on connections that were accepted, and close those that are idle."""
        await self._connections.first_requests()
        await self._bodies.arrived(FINISH_S)  # aiohttp drops what comes later
        self._server.pre_shutdown()
