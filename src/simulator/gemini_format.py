"""Gemini REST: POST /v1beta/models/{model}:generateContent and :streamGenerateContent, GET the models."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import gemini_answers, gemini_requests
from .shapes import Answer, Ask, Frame, Json, Level, Reply, Slicer, StreamForm

_PREFIXES = ("/v1beta/models", "/v1/models")  # google-generativeai asks for v1beta, google-genai for v1
_SERVICE = "generativelanguage.googleapis.com"
_QUOTA = (
    "You exceeded your current quota, please check your plan and billing details. "
    "For more information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits."
)
_QUOTAS = {
    "requests": ("generate_requests_per_model", "GenerateRequestsPerMinutePerProjectPerModel"),
    "requests_per_day": ("generate_requests_per_model_per_day", "GenerateRequestsPerDayPerProjectPerModel"),
    "tokens": ("generate_content_input_token_count", "GenerateContentInputTokensPerModelPerMinute"),
    "input_tokens": ("generate_content_input_token_count", "GenerateContentInputTokensPerModelPerMinute"),
}
_KEY = "API key not valid. Please pass a valid API key."
_EXHAUSTED = "Resource has been exhausted (e.g. check quota)."

# kind: (status, error.status, message)
_ERRORS: Mapping[str, tuple[int, str, str]] = {
    "limited": (429, "RESOURCE_EXHAUSTED", _QUOTA),
    "rate_limit": (429, "RESOURCE_EXHAUSTED", _QUOTA),
    "rate_limit_bare": (429, "RESOURCE_EXHAUSTED", _EXHAUSTED),
    "slow_down": (429, "RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later."),
    "daily_quota": (429, "RESOURCE_EXHAUSTED", _QUOTA),
    "spend_cap": (429, "RESOURCE_EXHAUSTED", "Your project has exceeded its spending cap."),
    "server_error": (500, "INTERNAL", "An internal error has occurred. Please retry."),
    "overloaded": (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    "unavailable": (503, "UNAVAILABLE", "The service is currently unavailable."),
    "timeout_status": (504, "DEADLINE_EXCEEDED", "The request timed out. Please try again."),
    "auth": (401, "UNAUTHENTICATED", "Request had invalid authentication credentials."),
    "bad_key": (400, "INVALID_ARGUMENT", _KEY),
    "no_key": (403, "PERMISSION_DENIED", "Method doesn't allow unregistered callers. Please use API Key."),
    "forbidden": (403, "PERMISSION_DENIED", "The caller does not have permission"),
    "model_not_found": (
        404,
        "NOT_FOUND",
        "models/{model} is not found for API version v1beta, or is not supported for generateContent.",
    ),
    "not_found": (404, "NOT_FOUND", "Requested entity was not found."),
    "context_length": (
        400,
        "INVALID_ARGUMENT",
        "The input token count ({used}) exceeds the maximum number of tokens allowed ({window}).",
    ),
    "sampling_refused": (400, "INVALID_ARGUMENT", "{param} is not supported for this model."),
    "bad_request": (400, "INVALID_ARGUMENT", "{message}"),
    "queue_full": (429, "RESOURCE_EXHAUSTED", "{message}"),
    "no_such_file": (403, "PERMISSION_DENIED", "{message}"),
    "no_such": (404, "NOT_FOUND", "{message}"),
}


_VERBS = {"generateContent": "generate", "streamGenerateContent": "stream", "countTokens": "count"}


class GeminiFormat:
    """The Gemini API."""

    name = "gemini"
    blocks_prompts = True
    max_body_bytes: int | None = None
    chunk_tokens = 25

    def route(self, method: str, path: str) -> tuple[str, str] | None:
        prefix = next((each for each in _PREFIXES if path.startswith(each)), None)
        if prefix is None:
            return None
        rest = path.removeprefix(prefix)
        model, colon, verb = rest.removeprefix("/").rpartition(":")
        if method == "POST":
            kind = _VERBS.get(verb)
            return (kind, model) if kind and model else None
        if method != "GET" or colon:
            return None
        if not rest:
            return "models", ""
        return ("model", rest[1:]) if rest.startswith("/") else None

    def key(self, headers: Mapping[str, str], query: Mapping[str, str]) -> str:
        return headers.get("x-goog-api-key") or query.get("key", "")

    def parse(self, body: Json, model: str, query: Mapping[str, str], kind: str = "generate") -> Ask:
        if kind == "count":
            body = body.get("generateContentRequest") or body
        return gemini_requests.read_content(body, model, query, kind)

    def count(self, input_tokens: int) -> bytes:
        details = [{"modality": "TEXT", "tokenCount": input_tokens}]
        return json.dumps({"totalTokens": input_tokens, "promptTokensDetails": details}).encode()

    def answer(self, ask: Ask, reply: Reply, ident: str) -> bytes:
        return gemini_answers.whole(ask, reply, ident)

    def stream_type(self, form: StreamForm) -> str:
        return "application/json; charset=UTF-8" if form.as_array else "text/event-stream"

    def frames(self, ask: Ask, reply: Reply, ident: str, slicer: Slicer) -> Iterator[Frame]:
        return gemini_answers.frames(ask, reply, ident, slicer)

    def error_frame(self, ask: Ask, facts: Mapping[str, Any], *, is_first: bool) -> bytes:
        body = self.error("overloaded", facts).body
        if ask.stream is not None and ask.stream.as_array:
            return (b"[" if is_first else b",\r\n") + body + b"]"
        return b"data: " + body + b"\r\n\r\n"

    def error(self, kind: str, facts: Mapping[str, Any]) -> Answer:
        """The error body and status of a failure."""
        if kind == "bad_gateway":
            page = b"<!DOCTYPE html><html lang=en><title>Error 502 (Server Error)!!1</title><p>502.</html>"
            return Answer(502, page, {"Content-Type": "text/html"})
        status, name, message = _ERRORS[kind]
        error: Json = {"code": status, "message": message.format(**facts), "status": name}
        details = self._details(kind, facts)
        if details:
            error["details"] = details
        return Answer(status, json.dumps({"error": error}).encode())

    def _details(self, kind: str, facts: Mapping[str, Any]) -> list[Json]:
        model = facts.get("model", "")
        if kind == "limited":
            return [_violation(facts["limit_kind"], facts["limit"], model), *_retry_info(facts["wait_s"])]
        if kind == "rate_limit":
            return [_violation("requests", 60, model), *_retry_info(facts["wait_s"])]
        if (
            kind == "daily_quota"
        ):  # the real one asks for a retry within the minute, although the day is spent
            return [_violation("requests_per_day", 250, model), *_retry_info(37.0)]
        if kind == "spend_cap":  # nothing is allowed any more: a quota of 0 for the day
            return [_violation("requests_per_day", 0, model)]
        if kind == "bad_key":
            return [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "API_KEY_INVALID",
                    "domain": "googleapis.com",
                    "metadata": {"service": _SERVICE},
                },
                {
                    "@type": "type.googleapis.com/google.rpc.LocalizedMessage",
                    "locale": "en-US",
                    "message": _KEY,
                },
            ]
        return []

    def models(self, ids: Sequence[str], window: int) -> bytes:
        return json.dumps({"models": [_model(ident, window) for ident in ids]}).encode()

    def model(self, ident: str, window: int) -> bytes:
        return json.dumps(_model(ident, window)).encode()

    def limit_headers(self, levels: Sequence[Level], now: float) -> dict[str, str]:
        """None: Gemini reports no limits."""
        return {}  # Gemini reports no limits in headers

    def id_headers(self, ident: str) -> dict[str, str]:
        return {}


def _violation(kind: str, limit: float, model: str) -> Json:
    metric, quota = _QUOTAS[kind]
    return {
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [
            {
                "quotaMetric": f"{_SERVICE}/{metric}",
                "quotaId": quota,
                "quotaDimensions": {"location": "global", "model": model},
                "quotaValue": f"{limit:.0f}",
            }
        ],
    }


def _retry_info(wait_s: float | None) -> list[Json]:
    if wait_s is None:
        return []
    return [
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{max(1, math.ceil(wait_s))}s"}
    ]


def _model(ident: str, window: int) -> Json:
    return {
        "name": f"models/{ident}",
        "version": "001",
        "displayName": ident,
        "description": "A simulated model",
        "inputTokenLimit": window,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
    }
