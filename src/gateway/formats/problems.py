"""What can go wrong with a request, and how each API says it: the one table of statuses, types and codes.

Sources: the error pages of both APIs and the exception classes of their SDKs. An SDK repeats 408, 409, 429
and 5xx unless `x-should-retry` says otherwise; here a repetition would pay twice, or wait anew at the end of
the queue, so that only what was not placed at all may come again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from ...errors import ProviderError


class ProblemKind(StrEnum):
    """What went wrong."""

    BAD_REQUEST = "bad_request"
    UNAUTHORIZED = "unauthorized"  # the gateway's own token
    FORBIDDEN = "forbidden"  # an origin, a host, what a token may not do
    NOT_FOUND = "not_found"  # a route, a task
    METHOD_NOT_ALLOWED = "method_not_allowed"
    MODEL_NOT_FOUND = "model_not_found"
    CONFLICT = "conflict"  # an idempotency key whose first request still runs, or whose body differs
    BODY_TOO_LARGE = "body_too_large"
    MEDIA_TYPE = "media_type"  # the body is not application/json
    CONTEXT_TOO_LONG = "context_too_long"
    CONTENT_REFUSED = "content_refused"
    RATE_LIMITED = "rate_limited"  # too many requests wait already, or a provider's limit with no other route
    QUOTA_SPENT = "quota_spent"  # a budget, or the provider's own
    OVERLOADED = "overloaded"  # the providers have no capacity
    UNAVAILABLE = "unavailable"  # the gateway starts or stops
    EXPIRED = "expired"  # the deadline of the request
    TIMED_OUT = "timed_out"  # the provider sent no whole answer in time
    LOOP = "loop"  # the gateway is its own provider
    PROVIDER_FAILED = "provider_failed"
    INTERNAL = "internal"


class _Shape(NamedTuple):
    status: int
    type: str
    code: str = ""


_INVALID, _SERVER, _API = "invalid_request_error", "server_error", "api_error"

OPENAI: dict[ProblemKind, _Shape] = {
    ProblemKind.BAD_REQUEST: _Shape(400, _INVALID),
    ProblemKind.UNAUTHORIZED: _Shape(401, _INVALID, "invalid_api_key"),
    ProblemKind.FORBIDDEN: _Shape(403, _INVALID, "permission_denied"),
    ProblemKind.NOT_FOUND: _Shape(404, _INVALID),
    ProblemKind.METHOD_NOT_ALLOWED: _Shape(405, _INVALID, "method_not_supported"),
    ProblemKind.MODEL_NOT_FOUND: _Shape(404, _INVALID, "model_not_found"),
    ProblemKind.CONFLICT: _Shape(409, _INVALID, "idempotency_conflict"),
    ProblemKind.BODY_TOO_LARGE: _Shape(413, _INVALID, "request_too_large"),
    ProblemKind.MEDIA_TYPE: _Shape(415, _INVALID, "unsupported_media_type"),
    ProblemKind.CONTEXT_TOO_LONG: _Shape(400, _INVALID, "context_length_exceeded"),
    ProblemKind.CONTENT_REFUSED: _Shape(400, _INVALID, "content_policy_violation"),
    ProblemKind.RATE_LIMITED: _Shape(429, "requests", "rate_limit_exceeded"),
    ProblemKind.QUOTA_SPENT: _Shape(429, "insufficient_quota", "insufficient_quota"),
    ProblemKind.OVERLOADED: _Shape(503, _SERVER, "server_is_overloaded"),
    ProblemKind.UNAVAILABLE: _Shape(503, _SERVER, "unavailable"),
    ProblemKind.EXPIRED: _Shape(504, _SERVER, "deadline_exceeded"),
    ProblemKind.TIMED_OUT: _Shape(504, _SERVER, "timeout"),
    ProblemKind.LOOP: _Shape(508, _INVALID, "loop_detected"),
    ProblemKind.PROVIDER_FAILED: _Shape(502, _SERVER, "provider_error"),
    ProblemKind.INTERNAL: _Shape(500, _SERVER, "internal_error"),
}

ANTHROPIC: dict[ProblemKind, _Shape] = {
    ProblemKind.BAD_REQUEST: _Shape(400, _INVALID),
    ProblemKind.UNAUTHORIZED: _Shape(401, "authentication_error"),
    ProblemKind.FORBIDDEN: _Shape(403, "permission_error"),
    ProblemKind.NOT_FOUND: _Shape(404, "not_found_error"),
    ProblemKind.METHOD_NOT_ALLOWED: _Shape(405, _INVALID),
    ProblemKind.MODEL_NOT_FOUND: _Shape(404, "not_found_error"),
    ProblemKind.CONFLICT: _Shape(409, _INVALID),
    ProblemKind.BODY_TOO_LARGE: _Shape(413, "request_too_large"),
    ProblemKind.MEDIA_TYPE: _Shape(415, _INVALID),
    ProblemKind.CONTEXT_TOO_LONG: _Shape(400, _INVALID),
    ProblemKind.CONTENT_REFUSED: _Shape(400, _INVALID),
    ProblemKind.RATE_LIMITED: _Shape(429, "rate_limit_error"),
    ProblemKind.QUOTA_SPENT: _Shape(402, "billing_error"),
    ProblemKind.OVERLOADED: _Shape(529, "overloaded_error"),
    ProblemKind.UNAVAILABLE: _Shape(503, _API),
    ProblemKind.EXPIRED: _Shape(529, "overloaded_error"),
    ProblemKind.TIMED_OUT: _Shape(504, "timeout_error"),
    ProblemKind.LOOP: _Shape(508, _API),
    ProblemKind.PROVIDER_FAILED: _Shape(502, _API),
    ProblemKind.INTERNAL: _Shape(500, _API),
}

_MAY_COME_AGAIN = (ProblemKind.RATE_LIMITED, ProblemKind.UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there is no answer. `param` is the field that is wrong, `code` says more than the kind."""

    kind: ProblemKind
    message: str
    param: str = ""
    code: str = ""
    retry_after_s: float | None = None


# What a failed call is to the caller, whose own key and request may be fine where a provider's are not.
_OF_ERRORS = {
    "RateLimited": ProblemKind.RATE_LIMITED,
    "QuotaExhausted": ProblemKind.QUOTA_SPENT,
    "Overloaded": ProblemKind.OVERLOADED,
    "FlexUnavailable": ProblemKind.OVERLOADED,
    "ServerError": ProblemKind.PROVIDER_FAILED,
    "TimedOut": ProblemKind.TIMED_OUT,
    "Unreachable": ProblemKind.PROVIDER_FAILED,
    "InvalidResponse": ProblemKind.PROVIDER_FAILED,
    "UnusableAnswer": ProblemKind.PROVIDER_FAILED,
    "SchemaMismatch": ProblemKind.PROVIDER_FAILED,
    "AuthFailed": ProblemKind.PROVIDER_FAILED,
    "ModelUnavailable": ProblemKind.MODEL_NOT_FOUND,
    "ContextTooLong": ProblemKind.CONTEXT_TOO_LONG,
    "RequestTooLarge": ProblemKind.BODY_TOO_LARGE,
    "ContentRefused": ProblemKind.CONTENT_REFUSED,
    "Truncated": ProblemKind.PROVIDER_FAILED,
    "WorkerLost": ProblemKind.INTERNAL,
    "InternalError": ProblemKind.INTERNAL,
    "BadRequest": ProblemKind.BAD_REQUEST,
}


def problem_of(error: ProviderError) -> Problem:
    """The problem that a failed call is."""
    return Problem(_OF_ERRORS[error.kind], error.message, retry_after_s=error.retry_after_s)


def retry_headers(problem: Problem) -> dict[str, str]:
    """What an SDK reads before it tries again: `retry-after` is in whole seconds, `retry-after-ms` exact."""
    found = {"x-should-retry": "true" if problem.kind in _MAY_COME_AGAIN else "false"}
    if problem.retry_after_s is not None:
        wait_s = max(0.0, problem.retry_after_s)
        found["retry-after"] = str(math.ceil(wait_s))
        found["retry-after-ms"] = str(math.ceil(wait_s * 1000))
    return found
