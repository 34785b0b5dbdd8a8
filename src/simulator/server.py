"""A provider as an HTTP server on a port of its own; one asyncio loop for all.

A call goes: fault on the way? -> key -> request (engine.read) -> limits, error, reply (engine.enter)
-> latency and answer (sending.py). A step that ends it raises Fail, which becomes the provider's own error.
"""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from .batches.clock import BatchClock
from .batches.server import BatchServer, Broken
from .checks import check_key
from .config import ProviderConfig
from .engine import Engine
from .faults import BEFORE_READING
from .net import HOST, Listener, reset_connection, whole
from .sending import Sender
from .shapes import Answer, Fail
from .stats import Stats

MAX_BODY_BYTES = 64 * 1024 * 1024
_REOPEN_S = 0.1  # seconds to the next try
BASE_PATHS = {"anthropic": "", "openai": "/v1", "gemini": ""}
DEFAULT_MODELS = {
    "anthropic": ("claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"),
    "openai": ("gpt-6-luna", "gpt-6.1-terra", "gpt-6.1-sol"),
    "gemini": ("gemini-3.5-flash-lite", "gemini-3.8-flash", "gemini-4-argon"),
}


class ProviderServer:
    """One provider: its port and its connections."""

    def __init__(self, engine: Engine, batch_clock: BatchClock, paid: set[str]) -> None:
        self.engine = engine
        self.batches = BatchServer(engine, batch_clock, paid)
        self.clock = engine.clock
        self.listener = Listener(engine.config.port)
        self._sender = Sender(self.engine)
        self._timer: asyncio.TimerHandle | None = None
        self._opening: asyncio.Task[None] | None = None
        self._server = web.Server(
            self._handle,
            request_factory=self._request,
            handler_cancellation=True,
            access_log=None,
            lingering_time=0,
        )

    @property
    def config(self) -> ProviderConfig:
        """The configuration in force."""
        return self.engine.config

    @property
    def stats(self) -> Stats:
        """What the provider has seen."""
        return self.engine.stats

    @property
    def base_url(self) -> str:
        """The address that a client takes as its base URL."""
        return f"http://{HOST}:{self.listener.port}{BASE_PATHS[self.config.api_format]}"

    # -- life --

    async def ready(self) -> None:
        """Wait until the port is open or closed as scheduled; opening takes a moment."""
        if self._opening is not None:
            await self._opening

    def configure(self, config: ProviderConfig) -> None:
        """Apply a new configuration at once. Buckets keep their use, calls in flight their configuration."""
        self.engine.configure(config)
        self.follow_schedule()

    def reset(self) -> None:
        """Set counters to zero, fill buckets, reseed, clear the cache and drop calls that hang."""
        self.engine.reset()
        self.batches.reset()
        self._sender.drop()
        self.follow_schedule()

    def follow_schedule(self) -> None:
        """Open or close the port as the schedule of faults says, now and at its next change."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        t, plan = self.clock.t(), self.engine.plan
        if plan.is_down(t):
            self.listener.close()
            self._drop_connections()
        elif not self.listener.is_open and (self._opening is None or self._opening.done()):
            self._opening = asyncio.create_task(self._open())
        change = plan.next_change(t)
        if change is not None:
            self._timer = asyncio.get_running_loop().call_later(change - t + 0.001, self.follow_schedule)

    async def _open(self) -> None:
        while True:
            try:
                await self.listener.open(self._server)
                break
            except OSError:
                # the port could not be kept while it was closed, and another process has it
                await asyncio.sleep(_REOPEN_S)
        if self.engine.plan.is_down(self.clock.t()):
            self.follow_schedule()

    def end(self) -> None:
        """Close everything at once."""
        if self._timer is not None:
            self._timer.cancel()
        self.listener.end()
        self._drop_connections()

    def _drop_connections(self) -> None:
        for connection in self._server.connections:
            reset_connection(connection.transport)

    # -- requests --

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        loop = asyncio.get_running_loop()
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY_BYTES)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        route = self.engine.api_format.route(request.method, request.path)
        if route is None:
            return await self._batch(request)
        kind, model = route
        if kind in ("models", "model"):
            return await self._list_models(request, model)
        if kind == "count":
            return await self._count(request, model)
        stats, outcome = self.stats, "gone"
        run = stats.enter(self.clock.t())
        try:
            response, outcome = await self._call(request, kind, model)
        finally:
            stats.leave(run, self.clock.t(), outcome)
        return response

    async def _batch(self, request: web.BaseRequest) -> web.StreamResponse:
        """Batches and their files, and pages that the provider does not have."""
        try:
            return await self.batches.handle(request)
        except Broken as broken:
            return (await self._break(request, broken.fault))[0]
        except Fail as fail:
            return self._error(request, fail)

    async def _list_models(self, request: web.BaseRequest, model: str) -> web.StreamResponse:
        engine = self.engine
        engine.stats.model_list_calls += 1
        fault = engine.pick_fault_of_models()
        if fault in BEFORE_READING:
            return (await self._break(request, fault))[0]
        config, api_format = engine.config, engine.api_format
        try:
            if fault is not None:
                raise Fail(fault)
            check_key(api_format, config, request)
            if model and config.models is not None and model not in config.models:
                raise Fail("model_not_found", model=model)
        except Fail as fail:
            return self._error(request, fail)
        ids = DEFAULT_MODELS[api_format.name] if config.models is None else config.models
        window = config.context_window
        body = api_format.model(model, window) if model else api_format.models(ids, window)
        return whole(Answer(200, body), api_format.id_headers(engine.ident()))

    async def _count(self, request: web.BaseRequest, model: str) -> web.StreamResponse:
        """Counting tokens is free, has no limits here, and fails only with the whole provider."""
        engine = self.engine
        engine.stats.count_calls += 1
        fault = engine.pick_fault_of_models()
        if fault in BEFORE_READING:
            return (await self._break(request, fault))[0]
        try:
            if fault is not None:
                raise Fail(fault)
            check_key(engine.api_format, engine.config, request)
            body = engine.count(await request.read(), model, request.query)
        except Fail as fail:
            return self._error(request, fail)
        return whole(Answer(200, body), engine.api_format.id_headers(engine.ident()))

    async def _call(self, request: web.BaseRequest, kind: str, model: str) -> tuple[web.StreamResponse, str]:
        """The response and how it counts."""
        engine = self.engine
        fault = engine.pick_fault()
        if fault in BEFORE_READING:
            engine.stats.by_fault[fault] += 1
            return await self._break(request, fault)
        headers: dict[str, str] = {}
        try:
            check_key(engine.api_format, engine.config, request)
            ask = engine.read(await request.read(), kind, model, request.query)
            call = engine.enter(ask, fault, headers)
        except Fail as fail:
            response = self._error(request, fail, headers)
            return response, str(response.status)
        if ask.stream is None:
            return await self._sender.send(request, call)
        return await self._sender.stream(request, call, ask.stream)

    async def _break(self, request: web.BaseRequest, fault: str) -> tuple[web.StreamResponse, str]:
        if fault == "silence":
            await self._sender.hang()
        reset_connection(request.transport)
        return web.Response(), "reset"

    def _error(
        self, request: web.BaseRequest, fail: Fail, extra: dict[str, str] | None = None
    ) -> web.Response:
        return whole(*self.engine.error(fail, request.method, request.path, extra))
