"""The batch and file endpoints of one provider: what all three APIs share.

A request goes: fault of the provider, or one before anything is done -> key -> rate limit -> page of the API
-> fault after it was done. What ends it raises Fail, or Broken where the connection breaks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from aiohttp import web

from ..buckets import Bucket
from ..checks import check_key
from ..engine import Engine
from ..faults import BEFORE_READING
from ..net import begin
from ..shapes import Fail
from .anthropic_batches import AnthropicBatches
from .clock import BatchClock
from .faults import BEFORE, BatchFault
from .gemini_batches import GeminiBatches
from .openai_batches import OpenAIBatches
from .pages import Page
from .store import BatchStore

_BURST_S = 10.0  # how many seconds' worth of requests may come at once


class Broken(Exception):
    """The connection breaks as the live fault of this name says."""

    def __init__(self, fault: str) -> None:
        super().__init__(fault)
        self.fault = fault


class BatchApi(Protocol):
    """What an API must be able to do."""

    def route(self, request: web.BaseRequest) -> Page | None:
        """The page that a request is for. None where the API has no such page."""

    async def handle(self, request: web.BaseRequest, name: str, ident: str) -> web.Response:
        """Answer a request for a page. Raises Fail."""


_APIS: Mapping[str, Callable[[BatchStore], BatchApi]] = {
    "anthropic": AnthropicBatches,
    "openai": OpenAIBatches,
    "gemini": GeminiBatches,
}


class BatchServer:
    """Answers what is not a live call."""

    def __init__(self, engine: Engine, clock: BatchClock, paid: set[str]) -> None:
        self._engine = engine
        self.store = BatchStore(engine, clock, paid)
        self.reset()

    def reset(self) -> None:
        """Without batches, and counters at zero."""
        self.store.reset()
        self._api: BatchApi = _APIS[self._engine.api_format.name](self.store)
        self._bucket: Bucket | None = None

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request. Raises Fail, and Broken."""
        page = self._api.route(request) if self._engine.config.batches.available else None
        if page is None:
            raise Fail("not_found")
        engine, action = self._engine, page.action
        self.store.stats.requests[action] += 1
        fault = self._fault_before(action)
        if page.needs_key:
            check_key(engine.api_format, engine.config, request)
        self._admit()
        response = await self._api.handle(request, page.name, page.ident)
        response.headers.update(engine.api_format.id_headers(engine.ident()))
        return response if fault is None else await self._break(request, response, action, fault)

    def _fault_before(self, action: str) -> BatchFault | None:
        """Raises what stops a request before anything is done; the fault that comes after."""
        fault_of_all = self._engine.pick_fault_of_models()
        if fault_of_all in BEFORE_READING:
            raise Broken(fault_of_all)
        if fault_of_all is not None:
            raise Fail(fault_of_all)
        fault = self.store.fault_plan.pick(action, self._engine.config.batches.faults, self.store.rng)
        if fault is not None:
            self.store.stats.by_fault[fault.name] += 1
            if fault.effect in BEFORE:
                raise Fail(BEFORE[fault.effect])
        return fault

    async def _break(
        self, request: web.BaseRequest, response: web.Response, action: str, fault: BatchFault
    ) -> web.StreamResponse:
        if fault.effect == "error":
            raise Fail("server_error")
        if fault.effect == "cut" and isinstance(response.body, bytes):
            lines = response.body.splitlines(keepends=True)
            response.body = b"".join(lines[: len(lines) // 2])
            return response
        if fault.effect == "reset" and action == "results" and isinstance(response.body, bytes):
            head = {"Content-Type": response.content_type}
            begun = await begin(request, response.body, head)
            await begun.write(response.body[: len(response.body) // 2])
            raise Broken("reset_midway")
        raise Broken(fault.effect)

    def _admit(self) -> None:
        """Raises Fail where the limit of the batch endpoints refuses a request."""
        limit, now = self._engine.config.batches.requests_per_minute, self._engine.clock.now()
        if limit is None:
            self._bucket = None
            return
        if self._bucket is None or self._bucket.limit != limit:
            self._bucket = Bucket(limit, 60.0, _BURST_S, now)
        bucket = self._bucket
        bucket.refill(now)
        if not bucket.fits(1.0):
            facts = {"limit": limit, "used": bucket.used(), "requested": 1, "wait_s": bucket.wait_s(1.0, now)}
            raise Fail("limited", limit_kind="requests", model="batches", **facts)
        bucket.take(1.0)
