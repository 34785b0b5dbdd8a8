"""Gemini REST: POST /v1beta/models/{model}:generateContent, GET /v1beta/models."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from .demands import gemini_objection
from .shapes import Answer, Ask, Fail, Json, Level, Reply, first_violation, numbers, positive_int, text_of

_PREFIX = "/v1beta/models"
_RANGES = {"temperature": (0.0, 2.0), "top_p": (0.0, 1.0), "top_k": (1.0, math.inf)}
_SAMPLING = {"temperature": "temperature", "topP": "top_p", "topK": "top_k"}
_FINISH = {
    "stop": ("STOP", 1),
    "stop_sequence": ("STOP", 1),
    "length": ("MAX_TOKENS", 2),
    "refusal": ("SAFETY", 3),
}
_BLOCKED = ("SAFETY", 1)
_TEXT = ("TEXT", 1)
_HARM = (("HARM_CATEGORY_DANGEROUS_CONTENT", 10), ("HIGH", 4))
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
    "stream": (400, "INVALID_ARGUMENT", "This simulator does not stream yet, use generateContent."),
    "bad_request": (400, "INVALID_ARGUMENT", "{message}"),
}


class GeminiFormat:
    """The Gemini API."""

    name = "gemini"
    blocks_prompts = True

    def route(self, method: str, path: str) -> tuple[str, str] | None:
        if not path.startswith(_PREFIX):
            return None
        rest = path.removeprefix(_PREFIX)
        model, colon, verb = rest.removeprefix("/").rpartition(":")
        if method == "POST":
            kind = {"generateContent": "generate", "streamGenerateContent": "stream"}.get(verb)
            return (kind, model) if kind and model else None
        if method != "GET" or colon:
            return None
        if not rest:
            return "models", ""
        return ("model", rest[1:]) if rest.startswith("/") else None

    def key(self, headers: Mapping[str, str], query: Mapping[str, str]) -> str:
        return headers.get("x-goog-api-key") or query.get("key", "")

    def parse(self, body: Json, model: str, query: Mapping[str, str]) -> Ask:
        """The request in a body. Raises Fail for what Gemini refuses."""
        contents = body.get("contents")
        if not contents:
            raise Fail(
                "bad_request", message="* GenerateContentRequest.contents: contents is not specified\n"
            )
        system = body.get("systemInstruction") or body.get("system_instruction") or {}
        parts, chars, last = self._read_prompt(system, contents)
        settings = body.get("generationConfig") or body.get("generation_config") or {}
        sampling = numbers(settings, _SAMPLING)
        wrong = first_violation(_RANGES, sampling)
        if wrong:
            text = f"* GenerateContentRequest.generation_config.{wrong}: {wrong} is out of range.\n"
            raise Fail("bad_request", message=text)
        if objection := gemini_objection(settings["responseSchema"]) if "responseSchema" in settings else "":
            raise Fail("bad_request", message=objection)
        return Ask(
            model=model,
            prompt="\x1e".join(parts),
            chars=chars,
            messages=len(contents),
            last=last,
            max_tokens=positive_int(settings, "maxOutputTokens"),
            sampling=sampling,
            stops=tuple(settings.get("stopSequences") or ()),
            wants_json=settings.get("responseMimeType") == "application/json",
            schema=settings.get("responseSchema") or settings.get("responseJsonSchema"),
            integer_enums="enum-encoding=int" in query.get("$alt", ""),
        )

    def _read_prompt(self, system: Json, contents: Any) -> tuple[list[str], int, str]:
        if not isinstance(contents, list) or not all(isinstance(turn, dict) for turn in contents):
            raise Fail("bad_request", message="Invalid value at 'contents'")
        turns = [("system", system.get("parts"))]
        for i, turn in enumerate(contents):
            role = turn.get("role", "user")
            if role not in ("user", "model", "function"):
                raise Fail(
                    "bad_request", message=f"* contents[{i}].role: Please use a valid role: user, model."
                )
            turns.append(("assistant" if role == "model" else role, turn.get("parts")))
        parts: list[str] = []
        chars, last = 0, ""
        for role, blocks in turns:
            for block in text_of(blocks, "contents.parts"):
                parts.append(f"{role}:{block['text']}")
                chars += len(block["text"])
                if role == "user":
                    last = block["text"]
        return parts, chars, last

    def answer(self, ask: Ask, reply: Reply, ident: str) -> bytes:
        as_int = ask.integer_enums
        usage: Json = {
            "promptTokenCount": reply.input_tokens,
            "totalTokenCount": reply.input_tokens + reply.output_tokens,
            "promptTokensDetails": [{"modality": _TEXT[as_int], "tokenCount": reply.input_tokens}],
        }
        if reply.output_tokens > reply.thinking_tokens:
            usage["candidatesTokenCount"] = reply.output_tokens - reply.thinking_tokens
        if reply.thinking_tokens:
            usage["thoughtsTokenCount"] = reply.thinking_tokens
        if reply.cache_read_tokens:
            usage["cachedContentTokenCount"] = reply.cache_read_tokens
        found: Json = {"usageMetadata": usage, "modelVersion": ask.model, "responseId": ident}
        if reply.blocked:
            found["promptFeedback"] = {"blockReason": _BLOCKED[as_int]}
        else:
            found["candidates"] = [self._candidate(reply, as_int)]
        return json.dumps(found).encode()

    def _candidate(self, reply: Reply, as_int: bool) -> Json:
        candidate: Json = {"index": 0, "content": {"role": "model"}}
        if reply.text:
            candidate["content"]["parts"] = [{"text": reply.text}]
        if reply.finish is not None:
            candidate["finishReason"] = _FINISH[reply.finish][as_int]
        if reply.finish == "refusal":
            category, probability = _HARM
            candidate["safetyRatings"] = [
                {"category": category[as_int], "probability": probability[as_int], "blocked": True}
            ]
        return candidate

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
