"""Providers as raw servers that fail by a rule: no limits, no headers, the model list always answers.

    with Upstream("openai", rule) as server:      server.base_url, server.calls

`rule(second, prompt)` gives the fault that a call meets, or None. A fault is a status, with headers where
one needs them; EMPTY is an answer without text. Seconds are counted from the first call, or from the
last POST to /reset.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

from aiohttp import web

from .work import Json

LATENCY_S = 0.3
EMPTY, RESET = 200, 0
_PATHS = {"anthropic": "", "openai": "/v1", "gemini": ""}


class Fault(NamedTuple):
    """How a call fails."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()


class Call(NamedTuple):
    """One call as the server saw it."""

    at_s: float
    status: int  # 200 where it was answered well


Rule = Callable[[float, str], Fault | None]


class Upstream:
    """One provider on a port of its own, in a thread of its own."""

    def __init__(self, api: str, rule: Rule, latency_s: float = LATENCY_S) -> None:
        self._format, self._rule, self._latency_s = api, rule, latency_s
        self._zero: float | None = None
        self._port = 0
        self.calls: list[Call] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._ready = threading.Event()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def base_url(self) -> str:
        return self.origin + _PATHS[self._format]

    def __enter__(self) -> Upstream:
        self._thread.start()
        self._ready.wait(10.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10.0)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application()
        app.router.add_get("/{path:.*}", self._list)
        app.router.add_post("/reset", self._reset)
        app.router.add_post("/{path:.*}", self._call)
        runner = web.AppRunner(app)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self._port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _reset(self, request: web.Request) -> web.Response:
        self._zero = time.monotonic()
        self.calls.clear()
        return web.json_response({})

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [], "models": [], "object": "list", "has_more": False})

    async def _call(self, request: web.Request) -> web.Response:
        body = await request.text()
        now = time.monotonic()
        self._zero = self._zero or now
        second = now - self._zero
        fault = self._rule(second, body)
        if fault is None:
            self.calls.append(Call(second, 200))
            await asyncio.sleep(self._latency_s)
            return web.json_response(_answer(self._format, json.loads(body), "An answer."))
        self.calls.append(Call(second, fault.status if fault.status != EMPTY else 204))
        if fault.status == RESET and request.transport is not None:
            request.transport.abort()
        if fault.status == EMPTY:
            return web.json_response(_answer(self._format, json.loads(body), ""))
        text = json.dumps(_error(self._format, fault.status))
        return web.Response(
            status=fault.status or 500,
            headers=dict(fault.headers),
            text=text,
            content_type="application/json",
        )


def _answer(api: str, body: Json, text: str) -> Json:
    if api == "openai":
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 300, "completion_tokens": 9, "total_tokens": 309}
        return {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"],
                "choices": [choice], "usage": usage}  # fmt: skip
    if api == "anthropic":
        content = [{"type": "text", "text": text}] if text else []
        usage = {"input_tokens": 300, "output_tokens": 9}
        return {"id": "m", "type": "message", "role": "assistant", "model": body["model"], "content": content,
                "stop_reason": "end_turn", "stop_sequence": None, "usage": usage}  # fmt: skip
    content_of: Any = {"role": "model", "parts": [{"text": text}] if text else []}
    counts = {"promptTokenCount": 300, "candidatesTokenCount": 9, "totalTokenCount": 309}
    return {"candidates": [{"content": content_of, "finishReason": "STOP", "index": 0}],
            "usageMetadata": counts}  # fmt: skip


def _error(api: str, status: int) -> Json:
    if api == "anthropic":
        kind = {429: "rate_limit_error", 529: "overloaded_error"}.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": "no"}}
    if api == "gemini":
        word = {429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}.get(status, "INTERNAL")
        return {"error": {"code": status, "message": "no", "status": word}}
    code = "rate_limit_exceeded" if status == 429 else None
    return {"error": {"message": "no", "type": "server_error", "code": code, "param": None}}
