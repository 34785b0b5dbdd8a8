"""A gateway in the test's own event loop: over a real socket, with time limits of the test's choice."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from src.access import AccessPolicy
from src.core.clock import Clock
from src.core.leadership import Leadership
from src.core.orchestrator import Orchestrator
from src.core.store import Store
from src.gateway.context import GatewayContext
from src.gateway.guard import Guard
from src.gateway.server import Gateway, Listener
from src.gateway.time_limits import STANDARD, TimeLimits
from src.settings import Settings
from tests.core.direct_pool import Served, serving

HOST = "127.0.0.1"


@dataclass(frozen=True)
class InProcess:
    """A gateway that serves, and the pool behind it; of a standby, the pool behind its leader."""

    port: int
    served: Served
    context: GatewayContext

    @property
    def pool(self) -> Orchestrator:
        return self.served.pool

    @asynccontextmanager
    async def sent(
        self, path: str, body: Mapping[str, Any], *, receive_bytes: int = 0, header: str = ""
    ) -> AsyncIterator[socket.socket]:
        """A request that is sent. `receive_bytes`: what the client's system takes unread; 0: its default.
        `header`: a further one, with its line end.
        """
        with socket.socket() as client:
            if receive_bytes:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            client.settimeout(60)
            client.connect((HOST, self.port))  # the system accepts it
            content = json.dumps(body).encode()
            head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
            client.sendall(f"{head}{header}Content-Length: {len(content)}\r\n\r\n".encode() + content)
            yield client


@asynccontextmanager
async def in_process(
    store: Store,
    base_urls: Mapping[str, str],
    settings: Settings,
    times: TimeLimits = STANDARD,
    *,
    tokens: str = "",
) -> AsyncIterator[InProcess]:
    """A gateway on a port of its own, over a pool that calls the simulator."""
    access = AccessPolicy.from_environment(HOST, {"ORCHESTRATOR_TOKENS": tokens} if tokens else {}, ())
    leadership = Leadership(store, settings.pool.lease_s)
    await asyncio.to_thread(leadership.acquire)
    async with serving(store, base_urls, settings, leadership) as served:
        listener = Listener(HOST, 0)
        context = GatewayContext(
            settings=settings,
            store=store,
            access=access,
            called=tuple(base_urls),
            guard=Guard(access, (), via="a-test"),
            metrics=lambda _accept: (b"", "text/plain"),
            clock=Clock(),
            simulated=False,
            incarnation=served.pool.incarnation,
            times=times,
        )
        gateway = Gateway(listener, context)
        leadership.publish(gateway.published)
        try:
            async with gateway.serving(served.pool):
                yield InProcess(listener.port, served, context)
        finally:
            listener.close()


@asynccontextmanager
async def standby_of(leader: InProcess, settings: Settings | None = None) -> AsyncIterator[InProcess]:
    """The gateway of a standby, which passes requests on to that leader from a thread of its own.

    `settings`: its own, if not those of the leader.
    """
    listener = Listener(HOST, 0)
    guard = Guard(leader.context.access, (), via="a-standby")
    settings = settings or leader.context.settings
    context = replace(leader.context, settings=settings, guard=guard, incarnation="a-standby")
    standing_by = Gateway(listener, context).standing_by()
    standing_by.__enter__()
    try:
        yield replace(leader, port=listener.port, context=context)
    finally:  # on a thread, since it waits for answers of the leader in this loop
        await asyncio.to_thread(standing_by.__exit__, None, None, None)
        listener.close()
