"""Routes that call no provider: health, metrics, models."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from ..package import version
from .answers import json_response
from .context import CONTEXT, GatewayContext
from .formats.base import FormatError
from .formats.problems import ProblemKind
from .names import choose, listed

CREATED_AT = 1_767_225_600  # a fixed time, since clients expect one: 2026-01-01
CREATED_TEXT = "2026-01-01T00:00:00Z"
RETRY_AFTER_S = 2


async def health(request: web.Request) -> web.Response:
    """Whether the process runs."""
    context = request.app[CONTEXT]
    return json_response({"status": "ok", "version": version(), "simulated": context.simulated})


async def readiness(request: web.Request) -> web.Response:
    """Whether requests are placed now."""
    if request.app[CONTEXT].leading() is None:
        headers = {"retry-after": str(RETRY_AFTER_S)}
        return json_response({"status": "not leading"}, status=503, headers=headers)
    return json_response({"status": "ok"})


async def metrics(request: web.Request) -> web.Response:
    """The figures for Prometheus, the same as those of the pages."""
    accept = request.headers.get("Accept", "")
    body, kind = await asyncio.to_thread(request.app[CONTEXT].metrics, accept)
    return web.Response(body=body, headers={"content-type": kind})


async def models(request: web.Request) -> web.Response:
    """Every name of the settings, in a form that the SDKs of both APIs read."""
    context = request.app[CONTEXT]
    found = [_shown(name, owner) for name, owner in listed(context.settings, context.called)]
    page = {"has_more": False, "first_id": found[0]["id"], "last_id": found[-1]["id"]}
    return json_response({"object": "list", "data": found, **page})


async def model(request: web.Request) -> web.Response:
    """One model, also one that the list leaves out."""
    name = request.match_info["model"]
    return json_response(_shown(name, _owner(name, request.app[CONTEXT])))


def _owner(name: str, context: GatewayContext) -> str:
    """Who serves the model `name`. Raises FormatError for an unknown one."""
    known = dict(listed(context.settings, context.called))
    if name in known:
        return known[name]
    choice = choose(name, context.settings, context.called)
    able = choice.providers or context.settings.left_by(choice.models, ())
    found = next((each for each in able if each in context.called), None)
    if found is None:
        raise FormatError("no provider serves this model", kind=ProblemKind.MODEL_NOT_FOUND)
    return found


def _shown(name: str, owner: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": CREATED_AT,
        "owned_by": owner,
        "type": "model",
        "display_name": name,
        "created_at": CREATED_TEXT,
    }
