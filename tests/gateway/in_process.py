"""A gateway in the test's own event loop: over a real socket, with time limits of the test's choice."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from src.access import AccessPolicy
from src.core.clock import Clock
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
    """A gateway that serves, and the pool behind it."""

    port: int
    served: Served

    @property
    def pool(self) -> Orchestrator:
        return self.served.pool

    @asynccontextmanager
    async def sent(
        self, path: str, body: Mapping[str, Any], *, receive_bytes: int = 0
    ) -> AsyncIterator[socket.socket]:
        """A request that is sent. `receive_bytes`: what the client's system takes unread; 0: its default."""
        with socket.socket() as client:
            if receive_bytes:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            client.settimeout(60)
            client.connect((HOST, self.port))  # the system accepts it
            content = json.dumps(body).encode()
            head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
            client.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
            yield client


@asynccontextmanager
async def in_process(
    store: Store, base_urls: Mapping[str, str], settings: Settings, times: TimeLimits = STANDARD
) -> AsyncIterator[InProcess]:
    """A gateway on a port of its own, over a pool that calls the simulator."""
    access = AccessPolicy.from_environment(HOST, {}, ())
    async with serving(store, base_urls, settings) as served:
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
        try:
            async with Gateway(listener, context).serving(served.pool):
                yield InProcess(listener.port, served)
        finally:
            listener.close()
