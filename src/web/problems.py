"""Errors in one shape: JSON {"error": {"code", "message", "details"}}, or a page."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from flask import Flask, Response, jsonify, make_response, render_template, request
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from ..errors import InputError, StoreError

log = logging.getLogger(__name__)


class Problem(Exception):
    """An error response. `code` is for programs, `message` for people, `details` for both."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.details, self.headers = dict(details or {}), dict(headers or {})


def not_found(what: str) -> Problem:
    return Problem(404, "not_found", f"There is no {what}.")


def wants_json() -> bool:
    return request.path.startswith(("/api/", "/healthz", "/readyz", "/leader", "/metrics"))


def answer(problem: Problem) -> Response:
    """The problem as JSON for API paths, as a page for others."""
    if wants_json():
        error = {"code": problem.code, "message": problem.message, "details": problem.details}
        response = jsonify(error=error)
    else:
        response = make_response(render_template("error.html", problem=problem))
    response.status_code = problem.status
    response.headers.update(problem.headers)
    return response


def install(app: Flask) -> None:
    """Turn every exception of a request into a response of this shape."""
    app.register_error_handler(Problem, answer)
    app.register_error_handler(ValidationError, lambda error: answer(from_validation(error)))
    app.register_error_handler(InputError, lambda error: answer(_from_input(error)))
    app.register_error_handler(StoreError, lambda error: answer(_from_store(error)))
    app.register_error_handler(HTTPException, lambda error: answer(_from_http(error)))
    app.register_error_handler(Exception, _unexpected)


def from_validation(error: ValidationError) -> Problem:
    """422 with every invalid field and the reason."""
    fields = [
        {"field": ".".join(map(str, e["loc"])), "message": e["msg"].removeprefix("Value error, ")}
        for e in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    first = fields[0]
    where = f"{first['field']}: " if first["field"] else ""
    details = {"field": first["field"], "fields": fields}
    return Problem(422, "invalid", f"{where}{first['message']}", details)


def _from_input(error: InputError) -> Problem:
    details: dict[str, Any] = {} if error.line is None else {"line": error.line}
    return Problem(422, "invalid", error.what, details | ({"field": error.field} if error.field else {}))


def _from_store(error: StoreError) -> Problem:
    log.error("database unavailable", extra={"action": "web", "error": str(error)})
    return Problem(503, "store_unavailable", f"Database unavailable: {error}", headers={"Retry-After": "2"})


_WORDS = {
    404: ("not_found", "Page not found."),
    405: ("method_not_allowed", "This path does not allow that method."),
    413: ("too_large", "The request body is too large."),
    415: ("unsupported_media_type", "Send this as application/json."),
}


def _from_http(error: HTTPException) -> Problem:
    status = error.code or 500
    code, message = _WORDS.get(
        status, (error.name.lower().replace(" ", "_"), error.description or error.name)
    )
    headers = {}
    valid_methods = getattr(error, "valid_methods", None)
    if valid_methods:
        headers["Allow"] = ", ".join(sorted(valid_methods))
    return Problem(status, code, message, headers=headers)


def _unexpected(error: Exception) -> Response:
    """The broad handler: the log gets the traceback, the response none of it."""
    log.error(
        "unexpected internal error during a request",
        exc_info=error,
        extra={"action": "web", "path": request.path},
    )
    return answer(Problem(500, "internal", "Internal error; see the log."))
