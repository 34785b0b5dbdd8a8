"""A proxy in front of a simulated provider that adds what the simulator can't: silence of the calls alone,
connects that hang, latency that grows with load, answers of 100 MB.

It runs in a thread of the benchmark. `FaultProxy.url` takes the place of the provider's base URL.
"""

from __future__ import annotations

import asyncio
import math
import socket
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

CHUNK = b"x" * 65_536


@dataclass
class FaultProxy:
    """One provider with a fault: "" (none), silent, hangs, slow, huge, from `from_s` to `to_s`.

    Seconds count from the last POST to /reset, which a client sends right before its first task; until then
    there is no fault. `hangs` holds for the whole run. `slow`: the provider carries `carries` calls at once,
    and each takes its time times calls in flight / `carries` beyond that. `hits`: how many calls met the
    fault, but for the connects that hang: they never arrive here.
    """

    target: str
    fault: str
    from_s: float = 0.0
    to_s: float = float("inf")
    carries: int = 2
    huge_mb: int = 100
    calls: list[float] = field(default_factory=list)
    hits: int = 0
    in_flight: int = 0
    most_in_flight: int = 0

    def __enter__(self) -> Self:
        self._begun = math.inf
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        if self.fault == "hangs":
            self._hang()
            return self
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the proxy did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.fault == "hangs":
            for each in self._sockets:
                each.close()
            return
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)

    @property
    def control_urls(self) -> list[str]:
        """Where a client posts /reset; none where connects hang."""
        return [] if self.fault == "hangs" else [self._origin]

    # ------------------------------------------------------------------ connects that hang

    def _hang(self) -> None:
        """A listening socket whose queue is full: further SYNs are not answered."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}{urlsplit(self.target).path}"
        self._sockets = [listener]
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            self._sockets.append(filler)

    # ------------------------------------------------------------------ the others

    async def _serve(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/reset", self._reset)
        app.router.add_route("*", "/{path:.*}", self._handle)
        async with aiohttp.ClientSession(auto_decompress=False) as self._session:
            runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0, shutdown_timeout=0.1)
            await site.start()
            self._origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
            self.url = self._origin + urlsplit(self.target).path
            self._ready.set()
            await self._ended.wait()
            await runner.cleanup()

    async def _reset(self, request: web.Request) -> web.Response:
        self._begun = time.monotonic()
        self.calls.clear()
        self.hits = self.most_in_flight = 0
        return web.json_response({})

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if request.method != "POST":
            return await self._forward(request, body)
        at_s = time.monotonic() - self._begun
        self.calls.append(at_s)
        fault = self.fault if self.from_s <= at_s < self.to_s else ""
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._answer(fault, request, body)
        finally:
            self.in_flight -= 1

    async def _answer(self, fault: str, request: web.Request, body: bytes) -> web.StreamResponse:
        """The provider's answer as `fault` changes it."""
        if fault in ("silent", "huge"):
            self.hits += 1
        if fault == "silent":
            await asyncio.sleep(3_600)
        if fault == "huge":
            return await self._huge(request)
        began = time.monotonic()
        answer = await self._forward(request, body)
        over = self.in_flight / self.carries - 1.0
        if fault == "slow" and over > 0.0:
            self.hits += 1
            await asyncio.sleep((time.monotonic() - began) * over)
        return answer

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        parts = urlsplit(self.target)
        skipped = {"host", "content-length", "transfer-encoding", "connection"}
        headers = {name: value for name, value in request.headers.items() if name.lower() not in skipped}
        url = f"{parts.scheme}://{parts.netloc}{request.path_qs}"
        async with self._session.request(request.method, url, data=body, headers=headers) as found:
            kept = {name: value for name, value in found.headers.items() if name.lower() not in skipped}
            return web.Response(status=found.status, body=await found.read(), headers=kept)

    async def _huge(self, request: web.Request) -> web.StreamResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b'{"choices":[{"message":{"content":"'
            for _ in range(self.huge_mb * 16):
                yield CHUNK
            yield b'"}}]}'

        answer = web.StreamResponse(headers={"content-type": "application/json"})
        await answer.prepare(request)
        async for part in parts():
            await answer.write(part)
        await answer.write_eof()
        return answer
