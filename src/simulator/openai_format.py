"""OpenAI: POST /v1/chat/completions and /v1/responses, GET /v1/models. Also what compatible servers speak."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import counting, openai_answers, openai_requests, responses_answers, responses_requests
from .shapes import Answer, Ask, Frame, Json, Level, Reply, Slicer, StreamForm

_UNITS = {
    "requests": ("requests", "requests per min (RPM)"),
    "requests_per_day": ("requests", "requests per day (RPD)"),
    "tokens": ("tokens", "tokens per min (TPM)"),
}
_LIMITED = (
    "Rate limit reached for {model} in organization org-simulated on {unit}: Limit {limit:.0f}, "
    "Used {used:.0f}, Requested {requested:.0f}. Please try again in {wait}. "
    "Visit https://platform.openai.com/account/rate-limits to learn more."
)
_TOO_LARGE = (
    "Request too large for {model} in organization org-simulated on {unit}: Limit {limit:.0f}, "
    "Requested {requested:.0f}. The input or output tokens must be reduced in order to run successfully."
)
_DAILY_LIMIT = 200  # requests a day of the account that `daily_quota` pretends to
_SPENT = "You exceeded your current quota, please check your plan and billing details."
_NO_FLEX = "Resource unavailable: flex processing has no capacity for this model now. You are not charged."
_NO_KEY = "You didn't provide an API key. You need to send it in an Authorization header using Bearer auth."
_BAD = "invalid_request_error"

# kind: (status, error.type, error.code, error.param, message)
_ERRORS: Mapping[str, tuple[int, str, str | None, str | None, str]] = {
    "limited": (429, "{limit_type}", "rate_limit_exceeded", None, _LIMITED),
    "too_large": (429, "{limit_type}", "rate_limit_exceeded", None, _TOO_LARGE),
    "rate_limit": (
        429,
        "requests",
        "rate_limit_exceeded",
        None,
        "Rate limit reached. Please try again in {wait}.",
    ),
    "rate_limit_bare": (429, "requests", "rate_limit_exceeded", None, "Rate limit reached."),
    "slow_down": (429, "rate_limit_error", "slow_down", None, "Traffic rose too fast. Please slow down."),
    "flex_unavailable": (429, "resource_unavailable", "resource_unavailable", None, _NO_FLEX),
    "daily_quota": (429, "requests", "rate_limit_exceeded", None, _LIMITED),
    "spend_cap": (429, "insufficient_quota", "organization_spend_limit_exceeded", None, _SPENT),
    "server_error": (
        500,
        "server_error",
        None,
        None,
        "The server had an error while processing your request.",
    ),
    "overloaded": (
        503,
        "service_unavailable_error",
        "server_is_overloaded",
        None,
        "Our servers are overloaded.",
    ),
    "unavailable": (
        503,
        "server_error",
        None,
        None,
        "The engine is currently unavailable, please try again later.",
    ),
    "timeout_status": (504, "server_error", None, None, "The request took too long."),
    "auth": (401, _BAD, "invalid_api_key", None, "Incorrect API key provided: {masked_key}."),
    "bad_key": (401, _BAD, "invalid_api_key", None, "Incorrect API key provided: {masked_key}."),
    "no_key": (401, _BAD, None, None, _NO_KEY),
    "forbidden": (
        403,
        _BAD,
        "unsupported_country_region_territory",
        None,
        "Country, region, or territory not supported",
    ),
    "model_not_found": (
        404,
        _BAD,
        "model_not_found",
        None,
        "The model `{model}` does not exist or you do not have access to it.",
    ),
    "not_found": (404, _BAD, None, None, "Invalid URL ({method} {path})"),
    "context_length": (
        400,
        _BAD,
        "context_length_exceeded",
        "messages",
        "This model's maximum context length is {window} tokens. However, your messages resulted in "
        "{used} tokens. Please reduce the length of the messages.",
    ),
    "content_policy": (
        400,
        _BAD,
        "content_policy_violation",
        None,
        "Your request was rejected as a result of our safety system.",
    ),
    "sampling_refused": (
        400,
        _BAD,
        "unsupported_value",
        "{param}",
        "Unsupported value: '{param}' does not support {value:g} with this model. "
        "Only the default (1) value is supported.",
    ),
    "parameter_refused": (
        400,
        _BAD,
        "unsupported_parameter",
        "{param}",
        "Unsupported parameter: '{param}' is not supported with this model.{hint}",
    ),
    "bad_request": (400, _BAD, None, "{param}", "{message}"),
    "no_such": (404, _BAD, None, "{param}", "{message}"),
    "conflict": (409, _BAD, None, None, "{message}"),
}


def duration(seconds: float) -> str:
    """Seconds as OpenAI's headers write them: 120ms, 1.5s, 6m0s, 24h0m0s."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    whole, fraction = divmod(round(seconds, 3), 1)
    minutes, rest = divmod(int(whole), 60)
    hours, minutes = divmod(minutes, 60)
    tail = f"{rest + fraction:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{tail}"
    return f"{minutes}m{tail}" if minutes else tail


# what a spent daily limit says of itself: one request is 86,400 / limit seconds away, all of them a day
_DAILY: Json = {
    "limit_kind": "requests_per_day",
    "limit": _DAILY_LIMIT,
    "used": _DAILY_LIMIT,
    "requested": 1,
    "wait_s": 86_400 / _DAILY_LIMIT,
    "limit_headers": {
        "x-ratelimit-limit-requests": str(_DAILY_LIMIT),
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": duration(86_400),
    },
}


_KINDS = {
    "/v1/chat/completions": "generate",
    "/v1/responses": "responses",
    "/v1/responses/input_tokens": "count",
    "/v1/embeddings": "embeddings",
}


class OpenAIFormat:
    """OpenAI's Chat Completions and Responses."""

    name = "openai"
    blocks_prompts = False
    max_body_bytes: int | None = None
    chunk_tokens = 1

    def route(self, method: str, path: str) -> tuple[str, str] | None:
        if method == "POST" and path in _KINDS:
            return _KINDS[path], ""
        if method == "GET" and path == "/v1/models":
            return "models", ""
        if method == "GET" and path.startswith("/v1/models/"):
            return "model", path.removeprefix("/v1/models/")
        return None

    def key(self, headers: Mapping[str, str], query: Mapping[str, str]) -> str:
        return headers.get("Authorization", "").removeprefix("Bearer ").strip()

    def parse(self, body: Json, model: str, query: Mapping[str, str], kind: str = "generate") -> Ask:
        if kind in ("responses", "count"):
            return responses_requests.read_response(body)
        if kind == "embeddings":
            return counting.read_embeddings(body)
        return openai_requests.read_chat(body)

    def count(self, input_tokens: int) -> bytes:
        return json.dumps({"object": "response.input_tokens", "input_tokens": input_tokens}).encode()

    def answer(self, ask: Ask, reply: Reply, ident: str) -> bytes:
        if ask.embeds:
            return counting.embeddings(ask, reply.input_tokens)
        if ask.response_to is not None:
            return responses_answers.whole(ask, reply, ident)
        return openai_answers.whole(ask, reply, ident)

    def stream_type(self, form: StreamForm) -> str:
        return "text/event-stream; charset=utf-8"

    def frames(self, ask: Ask, reply: Reply, ident: str, slicer: Slicer) -> Iterator[Frame]:
        if ask.response_to is not None:
            return responses_answers.frames(ask, reply, ident, slicer)
        return openai_answers.frames(ask, reply, ident, slicer)

    def error_frame(self, ask: Ask, facts: Mapping[str, Any], *, is_first: bool) -> bytes:
        if ask.response_to is not None:
            return responses_answers.failed(ask, _ERRORS["server_error"][-1], facts["ident"])
        return b"data: " + self.error("server_error", facts).body + b"\n\n" + openai_answers.DONE

    def error(self, kind: str, facts: Mapping[str, Any]) -> Answer:
        """The error body and status of a failure."""
        if kind == "bad_gateway":
            page = b"<html><head><title>502 Bad Gateway</title></head><body>bad gateway</body></html>"
            return Answer(502, page, {"Content-Type": "text/html"})
        if kind == "limited" and facts["wait_s"] is None:
            kind = "too_large"
        if kind == "sampling_refused" and facts["param"] != "temperature":
            kind = "parameter_refused"
        known = {**facts, **_DAILY} if kind == "daily_quota" else dict(facts)
        known.setdefault("hint", "")
        wait_s: float | None = known.get("wait_s")
        known["limit_type"], known["unit"] = _UNITS.get(known.get("limit_kind", ""), ("requests", ""))
        known["wait"] = duration(wait_s or 0.0)
        status, error_type, code, param, message = _ERRORS[kind]
        error = {
            "message": message.format(**known),
            "type": error_type.format(**known),
            "param": None if param is None else (param.format(**{"param": "", **known}) or None),
            "code": known.get("code", code),
        }
        headers = dict(known.get("limit_headers", {}))
        if wait_s is not None and kind in ("limited", "rate_limit", "slow_down", "daily_quota"):
            headers["retry-after"] = str(max(1, math.ceil(wait_s)))
            headers["retry-after-ms"] = str(max(1, math.ceil(wait_s * 1000)))
        return Answer(status, json.dumps({"error": error}).encode(), headers)

    def models(self, ids: Sequence[str], window: int) -> bytes:
        return json.dumps({"object": "list", "data": [_model(ident) for ident in ids]}).encode()

    def model(self, ident: str, window: int) -> bytes:
        return json.dumps(_model(ident)).encode()

    def limit_headers(self, levels: Sequence[Level], now: float) -> dict[str, str]:
        """The `x-ratelimit-*` headers."""
        shown: dict[str, Level] = {}
        for level in levels:
            name = "requests" if level.kind == "requests_per_day" else level.kind
            other = shown.get(name)
            # one set of headers for requests: of the minute or of the day, whichever is nearer its end
            if other is None or level.remaining / level.limit < other.remaining / other.limit:
                shown[name] = level
        headers: dict[str, str] = {}
        for name, level in shown.items():
            headers[f"x-ratelimit-limit-{name}"] = str(level.limit)
            headers[f"x-ratelimit-remaining-{name}"] = str(math.floor(level.remaining))
            headers[f"x-ratelimit-reset-{name}"] = duration(level.reset_s)
        return headers

    def id_headers(self, ident: str) -> dict[str, str]:
        return {"x-request-id": f"req_{ident}", "openai-version": "2020-10-01"}


def _model(ident: str) -> Json:
    return {"id": ident, "object": "model", "created": 1_767_225_600, "owned_by": "system"}
