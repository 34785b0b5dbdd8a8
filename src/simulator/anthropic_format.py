"""Anthropic Messages: POST /v1/messages and /v1/messages/count_tokens, GET /v1/models."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from . import anthropic_answers, anthropic_requests
from .buckets import next_utc_midnight
from .shapes import Answer, Ask, Frame, Json, Level, Reply, Slicer, StreamForm

_UNITS = {
    "requests": "requests per minute",
    "requests_per_day": "requests per day",
    "tokens": "tokens per minute",
    "input_tokens": "input tokens per minute",
    "output_tokens": "output tokens per minute",
}
_LIMITED = "This request would exceed your organization's rate limit of {limit:,.0f} {unit} (model: {model})."

# kind: (status, error.type, message, error.details.error_code)
_ERRORS: Mapping[str, tuple[int, str, str, str | None]] = {
    "limited": (429, "rate_limit_error", _LIMITED, None),
    "rate_limit": (
        429,
        "rate_limit_error",
        "This request would exceed your organization's rate limit.",
        None,
    ),
    "rate_limit_bare": (429, "rate_limit_error", "Rate limited. Please try again later.", None),
    "slow_down": (
        429,
        "rate_limit_error",
        "Your usage grows faster than its ramp limit.",
        "ramp_limit_exceeded",
    ),
    "daily_quota": (
        429,
        "rate_limit_error",
        "Number of request tokens has exceeded your daily rate limit.",
        None,
    ),
    "spend_cap": (
        429,
        "rate_limit_error",
        "You have reached the API usage limit of your tier for this month.",
        "enforced_spend_limit_reached",
    ),
    "server_error": (500, "api_error", "Internal server error", None),
    "overloaded": (529, "overloaded_error", "Overloaded", None),
    "unavailable": (503, "api_error", "Service unavailable", None),
    "timeout_status": (504, "timeout_error", "The request timed out while it was processed.", None),
    "auth": (401, "authentication_error", "invalid x-api-key", None),
    "bad_key": (401, "authentication_error", "invalid x-api-key", None),
    "no_key": (401, "authentication_error", "x-api-key header is required", None),
    "forbidden": (403, "permission_error", "Your API key may not use this resource.", None),
    "model_not_found": (404, "not_found_error", "model: {model}", None),
    "not_found": (404, "not_found_error", "Not Found", None),
    "context_length": (
        400,
        "invalid_request_error",
        "prompt is too long: {used} tokens > {window} maximum",
        None,
    ),
    "content_policy": (400, "invalid_request_error", "Output blocked by content filtering policy", None),
    "sampling_refused": (400, "invalid_request_error", "`{param}` is deprecated for this model.", None),
    "too_large": (413, "request_too_large", "Request exceeds the maximum size", None),
    "bad_request": (400, "invalid_request_error", "{message}", None),
    "no_such": (404, "not_found_error", "{message}", None),
    "queue_full": (429, "rate_limit_error", "{message}", None),
}


def rfc3339(at: float) -> str:
    """Epoch seconds as the rate-limit headers show them: UTC, whole seconds."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class AnthropicFormat:
    """Anthropic's Messages API."""

    name = "anthropic"
    blocks_prompts = False
    max_body_bytes: int | None = 32 * 1024 * 1024
    chunk_tokens = 5

    def route(self, method: str, path: str) -> tuple[str, str] | None:
        if method == "POST" and path == "/v1/messages":
            return "generate", ""
        if method == "POST" and path == "/v1/messages/count_tokens":
            return "count", ""
        if method == "GET" and path == "/v1/models":
            return "models", ""
        if method == "GET" and path.startswith("/v1/models/"):
            return "model", path.removeprefix("/v1/models/")
        return None

    def key(self, headers: Mapping[str, str], query: Mapping[str, str]) -> str:
        return headers.get("x-api-key") or headers.get("Authorization", "").removeprefix("Bearer ").strip()

    def parse(self, body: Json, model: str, query: Mapping[str, str], kind: str = "generate") -> Ask:
        return anthropic_requests.read_message(body, only_counts=kind == "count")

    def count(self, input_tokens: int) -> bytes:
        return json.dumps({"input_tokens": input_tokens}).encode()

    def answer(self, ask: Ask, reply: Reply, ident: str) -> bytes:
        return anthropic_answers.whole(ask, reply, ident)

    def stream_type(self, form: StreamForm) -> str:
        return "text/event-stream; charset=utf-8"

    def frames(self, ask: Ask, reply: Reply, ident: str, slicer: Slicer) -> Iterator[Frame]:
        return anthropic_answers.frames(ask, reply, ident, slicer)

    def error_frame(self, ask: Ask, facts: Mapping[str, Any], *, is_first: bool) -> bytes:
        return b"event: error\ndata: " + self.error("overloaded", facts).body + b"\n\n"

    def error(self, kind: str, facts: Mapping[str, Any]) -> Answer:
        """The error body and status of a failure."""
        if kind == "bad_gateway":
            page = b"<html><head><title>502 Bad Gateway</title></head><body>Bad Gateway</body></html>"
            return Answer(502, page, {"Content-Type": "text/html"})
        status, error_type, message, code = _ERRORS[kind]
        unit = _UNITS.get(facts.get("limit_kind", ""), "")
        error: Json = {"type": error_type, "message": message.format(**{"unit": unit, **facts})}
        if code is not None:
            error["details"] = {"error_code": code}
        headers = self._retry_after(kind, facts)
        headers["x-should-retry"] = (
            "true" if status in (429, 500, 503, 504, 529) and kind != "spend_cap" else "false"
        )
        body = {"type": "error", "error": error, "request_id": f"req_{facts['ident']}"}
        return Answer(status, json.dumps(body).encode(), headers)

    def _retry_after(self, kind: str, facts: Mapping[str, Any]) -> dict[str, str]:
        wait_s: float | None = None
        if kind in ("limited", "rate_limit", "slow_down"):
            wait_s = facts["wait_s"]
        elif kind == "daily_quota":
            wait_s = next_utc_midnight(facts["now"]) - facts["now"]
        return {} if wait_s is None else {"retry-after": str(max(1, math.ceil(wait_s)))}

    def models(self, ids: Sequence[str], window: int) -> bytes:
        page = {
            "data": [_model(ident, window) for ident in ids],
            "has_more": False,
            "first_id": ids[0] if ids else None,
            "last_id": ids[-1] if ids else None,
        }
        return json.dumps(page).encode()

    def model(self, ident: str, window: int) -> bytes:
        return json.dumps(_model(ident, window)).encode()

    def limit_headers(self, levels: Sequence[Level], now: float) -> dict[str, str]:
        """The `anthropic-ratelimit-*` headers."""
        headers: dict[str, str] = {}
        by_kind = {level.kind: level for level in levels}
        parts = [by_kind[kind] for kind in ("input_tokens", "output_tokens") if kind in by_kind]
        if parts and "tokens" not in by_kind:  # shown as the sum where only the two parts are limited
            by_kind["tokens"] = Level(
                "tokens",
                sum(part.limit for part in parts),
                sum(part.remaining for part in parts),
                max(part.reset_s for part in parts),
            )
        for kind, level in by_kind.items():
            if kind == "requests_per_day":
                continue
            remaining = math.floor(level.remaining)
            if kind != "requests":
                remaining = min(level.limit, round(remaining, -3))
            name = f"anthropic-ratelimit-{kind.replace('_', '-')}"
            headers[f"{name}-limit"] = str(level.limit)
            headers[f"{name}-remaining"] = str(remaining)
            headers[f"{name}-reset"] = rfc3339(now + level.reset_s)
        return headers

    def id_headers(self, ident: str) -> dict[str, str]:
        return {"request-id": f"req_{ident}"}


def _model(ident: str, window: int) -> Json:
    return {
        "type": "model",
        "id": ident,
        "display_name": ident,
        "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": window,
        "max_tokens": 64_000,
    }
