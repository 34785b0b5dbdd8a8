"""The control port: what the providers have seen, and changing them while they run. JSON in and out.

GET   /stats              counters of every provider
GET   /config             the configuration in force
PATCH /providers/{name}   a partial provider configuration, merged into the one in force; null removes a key
POST  /reset              counters, clocks and buckets as at the start, without batches and files
GET   /batch-clock        the time of batches, and how fast it runs
POST  /batch-clock        {"factor": F, "advance_s": S}: run F times as fast, jump S seconds forward
POST  /providers/{name}/batch-faults   {"fault": FAULT, "times": N}: the next N requests that can meet it do
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from aiohttp import web

from .batches.faults import BATCH_FAULTS
from .config import ProviderConfig
from .net import HOST
from .readers import ConfigError, nearest, read_number, read_object, read_whole, shown
from .simulator import Simulator

_FIXED = ("api_format", "port")


class UnknownProviderError(Exception):
    """The address names a provider that there is not."""


_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=status)


@web.middleware
async def _one_shape(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except UnknownProviderError as error:
        return _error(404, "unknown_provider", str(error))
    except ConfigError as error:
        return _error(400, "invalid_config", str(error))
    except json.JSONDecodeError as error:
        return _error(400, "invalid_json", str(error))
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
        app.router.add_get("/batch-clock", self._batch_clock)
        app.router.add_post("/batch-clock", self._set_batch_clock)
        app.router.add_post("/providers/{name}/batch-faults", self._order_batch_fault)
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
        return web.json_response(await self._simulator.stats())

    async def _config(self, request: web.Request) -> web.Response:
        providers = {name: _shown(provider.config) for name, provider in self._simulator.providers.items()}
        return web.json_response({"seed": self._simulator.seed, "providers": providers})

    def _provider(self, request: web.Request) -> str:
        name = request.match_info["name"]
        if name not in self._simulator.providers:
            raise UnknownProviderError(f"{name!r}: {nearest(name, self._simulator.providers)}")
        return name

    async def _patch(self, request: web.Request) -> web.Response:
        name = self._provider(request)
        change = read_object(json.loads(await request.read()), f"providers.{name}")
        for key in _FIXED:
            if key in change:
                return _error(400, "invalid_config", f"providers.{name}.{key} can't be changed while it runs")
        config = self._simulator.patch(name, change)
        await self._simulator.ready()
        return web.json_response(_shown(config))

    async def _batch_clock(self, request: web.Request) -> web.Response:
        clock = self._simulator.batch_clock
        return web.json_response({"now": clock.now(), "factor": clock.factor})

    async def _set_batch_clock(self, request: web.Request) -> web.Response:
        where = "batch-clock"
        table = read_object(json.loads(await request.read()), where, ("factor", "advance_s"))
        factor = table.get("factor")
        if factor is not None:
            factor = read_number(factor, f"{where}.factor", 0)
        advance_s = read_number(table.get("advance_s", 0), f"{where}.advance_s", 0)
        self._simulator.batch_clock.set(factor=factor, advance_s=advance_s)
        return await self._batch_clock(request)

    async def _order_batch_fault(self, request: web.Request) -> web.Response:
        name, where = self._provider(request), "batch-faults"
        table = read_object(json.loads(await request.read()), where, ("fault", "times"))
        fault = str(table.get("fault"))
        if fault not in BATCH_FAULTS:
            raise ConfigError(where, f"unknown fault {shown(fault)}, {nearest(fault, BATCH_FAULTS)}")
        times = read_whole(table.get("times", 1), f"{where}.times", 1)
        self._simulator.providers[name].batches.store.fault_plan.order(fault, times)
        return web.json_response({"ok": True})

    async def _reset(self, request: web.Request) -> web.Response:
        self._simulator.reset()
        await self._simulator.ready()
        return web.json_response({"ok": True})
