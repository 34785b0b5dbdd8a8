"""The control port: what the providers have seen, and changing them while they run. JSON in and out.

GET   /stats              counters of every provider
GET   /config             the configuration in force
PATCH /providers/{name}   a partial provider configuration, merged into the one in force; null removes a key
POST  /reset              counters, clock and buckets as at the start
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from aiohttp import web

from .config import ProviderConfig
from .net import HOST
from .readers import ConfigError, nearest
from .simulator import Simulator

_FIXED = ("api_format", "port")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=status)


@web.middleware
async def _one_shape(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ConfigError as error:
        return _error(400, "invalid_config", str(error))
    except web.HTTPException as error:
        code = error.reason.lower().replace(" ", "_")
        return _error(error.status, code, f"{request.method} {request.path}: {error.reason}")


def _shown(config: ProviderConfig) -> dict[str, Any]:
    shown = asdict(config)
    if config.keys is not None:
        shown["keys"] = [f"{key[:3]}***" for key in config.keys]
    return shown


class Control:
    """The handlers, and the port they listen on."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        app = web.Application(middlewares=[_one_shape])
        app.router.add_get("/stats", self._stats)
        app.router.add_get("/config", self._config)
        app.router.add_patch("/providers/{name}", self._patch)
        app.router.add_post("/reset", self._reset)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.0)

    async def start(self) -> str:
        """Listen on a free port; the URL."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, 0)
        await site.start()
        return f"http://{HOST}:{self._runner.addresses[0][1]}"

    async def end(self) -> None:
        """Close the port."""
        await self._runner.cleanup()

    async def _stats(self, request: web.Request) -> web.Response:
        return web.json_response(self._simulator.stats())

    async def _config(self, request: web.Request) -> web.Response:
        providers = {name: _shown(provider.config) for name, provider in self._simulator.providers.items()}
        return web.json_response({"seed": self._simulator.seed, "providers": providers})

    async def _patch(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self._simulator.providers:
            return _error(404, "unknown_provider", f"{name!r}: {nearest(name, self._simulator.providers)}")
        try:
            change = json.loads(await request.read())
        except ValueError as error:
            return _error(400, "invalid_json", str(error))
        if not isinstance(change, dict):
            return _error(400, "invalid_config", f"providers.{name}: expected an object")
        for key in _FIXED:
            if key in change:
                return _error(400, "invalid_config", f"providers.{name}.{key} can't be changed while it runs")
        config = self._simulator.patch(name, change)
        await self._simulator.ready()
        return web.json_response(_shown(config))

    async def _reset(self, request: web.Request) -> web.Response:
        self._simulator.reset()
        await self._simulator.ready()
        return web.json_response({"ok": True})
