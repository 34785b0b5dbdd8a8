"""Answers that are not a model's: JSON, errors in the shape of the API that was called, ids of requests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from .formats.problems import ANTHROPIC, OPENAI, Problem, retry_headers

REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)


def is_anthropic(request: web.Request) -> bool:
    """Whether the client speaks the Anthropic API: by the route, and elsewhere by its version header."""
    return request.path.startswith("/v1/messages") or "anthropic-version" in request.headers


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON body."""
    content = json.dumps(body, ensure_ascii=False).encode()
    return web.Response(body=content, status=status, headers=headers, content_type="application/json")


def error_response(request: web.Request, problem: Problem) -> web.Response:
    """A problem with status, body and headers as the SDKs of the API expect them."""
    if is_anthropic(request):
        shape = ANTHROPIC[problem.kind]
        body: dict[str, Any] = {
            "type": "error",
            "error": {"type": shape.type, "message": problem.message},
            "request_id": request.get(REQUEST_ID),
        }
    else:
        shape = OPENAI[problem.kind]
        body = {
            "error": {
                "message": problem.message,
                "type": shape.type,
                "param": problem.param or None,
                "code": problem.code or shape.code or None,
            }
        }
    return json_response(body, shape.status, retry_headers(problem))


def id_headers(request: web.Request) -> dict[str, str]:
    """The request's id under the name that the API's SDK reads."""
    name = "request-id" if is_anthropic(request) else "x-request-id"
    return {name: request[REQUEST_ID]}
