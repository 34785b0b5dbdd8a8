"""Answers that are not a model's: JSON, errors in the shape of the API that was called, ids of requests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from .formats.base import Format
from .formats.chat import CHAT
from .formats.messages import MESSAGES
from .formats.problems import Problem
from .formats.responses import RESPONSES
from .guard import Caller

REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
CALLER: web.RequestKey[Caller] = web.RequestKey("caller", Caller)
JSON_TYPE = "application/json"


def format_of(request: web.Request) -> Format:
    """The API that the client speaks: by the route, and elsewhere by Anthropic's version header."""
    if request.path.startswith("/v1/messages"):
        return MESSAGES
    if request.path.startswith("/v1/responses"):
        return RESPONSES
    if request.path.startswith(("/v1/chat/", "/v1/embeddings")) or "anthropic-version" not in request.headers:
        return CHAT
    return MESSAGES


def body_response(
    content: bytes, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A JSON body that is written already."""
    return web.Response(body=content, status=status, headers=headers, content_type=JSON_TYPE)


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON body."""
    return body_response(json.dumps(body, ensure_ascii=False).encode(), status, headers)


def error_response(request: web.Request, problem: Problem) -> web.Response:
    """A problem with status, body and headers as the SDKs of the API expect them."""
    form = format_of(request)
    return body_response(form.error(problem), form.status(problem), form.error_headers(problem))


def id_headers(request: web.Request) -> dict[str, str]:
    """The request's id under the name that the API's SDK reads."""
    name = "request-id" if format_of(request) is MESSAGES else "x-request-id"
    return {name: request[REQUEST_ID]}
