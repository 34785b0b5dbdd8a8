"""Routes that call no provider: health, metrics, models."""

from __future__ import annotations

import asyncio

from aiohttp import web

from ..package import version
from .answers import body_response, format_of, json_response
from .context import CONTEXT, GatewayContext
from .formats.base import FormatError
from .formats.listings import ListedModel, anthropic_list, anthropic_model, openai_list, openai_model
from .formats.messages import MESSAGES
from .formats.problems import ProblemKind
from .names import listed

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
    """Every name of the settings, as the client's API lists models."""
    context = request.app[CONTEXT]
    found = [_listed(name, owner, context) for name, owner in listed(context.settings, context.called)]
    write = anthropic_list if format_of(request) is MESSAGES else openai_list
    return body_response(write(found))


async def model(request: web.Request) -> web.Response:
    """One model, also one that the list leaves out."""
    name, context = request.match_info["model"], request.app[CONTEXT]
    found = _listed(name, _owner(name, context), context)
    write = anthropic_model if format_of(request) is MESSAGES else openai_model
    return body_response(write(found))


def _owner(name: str, context: GatewayContext) -> str:
    """The provider that serves the model `name`. Raises FormatError for an unknown one."""
    known = dict(listed(context.settings, context.called))
    if name in known:
        return known[name]
    choice = context.choose(name)
    able = choice.providers or context.settings.left_by(choice.models, ())
    found = next((each for each in able if each in context.called), None)
    if found is None:
        raise FormatError("no provider serves this model", kind=ProblemKind.MODEL_NOT_FOUND)
    return found


def _listed(name: str, owner: str, context: GatewayContext) -> ListedModel:
    current, _ = context.settings.resolve_model(name.rpartition("/")[2])
    return ListedModel(name, owner, max_input_tokens=context.settings.lookup_model(current).context_window)
