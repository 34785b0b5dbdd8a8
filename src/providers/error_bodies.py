"""The error in a body: which object holds it, what its message is, whether an API wrote it at all. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from . import values

_PAGE = "a web page came instead of the API's answer"


def error_in(content: bytes) -> dict[str, Any]:
    """The error in an error answer's body: its `error` object or the equivalent. `message` is the reason.

    `is_page`: the body is not an API's error but empty or a web page, which is not repeated. `is_flagged`: it
    names what a moderation has found in the prompt.
    """
    try:
        body = values.read_json(content).value
    except values.NotJson:
        text = content[: 4 * values.MESSAGE_CHARS].decode("utf-8", "replace").strip()
        is_page = text.startswith("<") or not text
        message = _PAGE if text.startswith("<") else text
        return {"message": message, "is_page": is_page, "is_flagged": False}
    return error_of(body)


def error_of(body: object) -> dict[str, Any]:
    """The same for a body that has been read."""
    if isinstance(body, list) and body:  # Gemini answers a list to a streaming request
        body = body[0]
    if not isinstance(body, dict):
        return {"message": reason_in(body), "is_page": body in (None, [], ""), "is_flagged": False}
    inner = next((body[key] for key in _ERRORS if body.get(key)), None)
    first = inner[0] if isinstance(inner, list) else inner
    error = first if isinstance(first, dict) else body
    message = reason_in(inner) or reason_in(body) or _each_reason(first) or _each_reason(body)
    return {**error, "message": message, "is_page": not body, "is_flagged": _is_flagged(error)}


def _is_flagged(error: Mapping[str, Any]) -> bool:
    """By the fields of OpenRouter's moderation (`metadata`), Azure's (`content_filter_result`), OpenAI's."""
    metadata = values.mapping(error.get("metadata"))
    if metadata.get("reasons") or metadata.get("flagged_input") or error.get("safety_violations"):
        return True
    more = values.mapping(error.get("provider_specific_fields"))  # LiteLLM, of Azure's
    inner = values.mapping(error.get("innererror") or more.get("innererror"))
    found = values.mapping(inner.get("content_filter_result") or error.get("content_filter_result"))
    return any(values.mapping(category).get("filtered") is True for category in found.values())


# Keys of the reason, most specific first: OpenAI and Anthropic, FastAPI, pydantic, RFC 9457, others.
_REASONS = (
    "message", "error", "errors", "detail", "msg", "details", "error_message", "error_msg", "status_msg",
    "Message", "reason", "title", "faultstring", "fault", "description",
)  # fmt: skip
_ERRORS = ("error", "errors", "base_resp", "detail")  # keys of the object with the codes
_PLACES = ("loc", "path")  # lists of steps
_DEEPEST = 6


def reason_in(value: object, depth: int = 0) -> str:
    """The message in an error body of any shape, with the path in the request that it names."""
    if isinstance(value, str):
        return value
    if depth > _DEEPEST:
        return ""
    if isinstance(value, list):
        return "; ".join(filter(None, (reason_in(item, depth + 1) for item in value)))
    if not isinstance(value, dict):
        return ""
    text = next(filter(None, (reason_in(value.get(key), depth + 1) for key in _REASONS)), "")
    place = _place_in(value)
    return f"{place}: {text}" if place and text else text


def _place_in(error: Mapping[str, Any]) -> str:
    """The path in the request that an error names, such as `messages.0.content`."""
    steps = next((error[key] for key in _PLACES if isinstance(error.get(key), list)), ())
    return ".".join(map(str, steps))


def _each_reason(body: object) -> str:
    """For a body that has a reason under the name of each field."""
    if not isinstance(body, dict):
        return ""
    return "; ".join(f"{key}: {text}" for key, value in body.items() if (text := reason_in(value)))


def status_in(error: Mapping[str, Any]) -> int:
    """The status of an error inside a 200, as gateways send them; 200 where it has none."""
    for key in ("status_code", "statusCode", "http_status", "status", "code"):
        value = error.get(key)
        text = value.strip() if isinstance(value, str) else value if isinstance(value, int) else ""
        if str(text).isdecimal() and len(str(text)) == 3 and 400 <= int(text) < 600:
            return int(text)
    return 200


def error_beside(body: Mapping[str, Any], answer_keys: Iterable[str]) -> dict[str, Any] | None:
    """The error inside a 200, or None. An empty `error` beside an answer does not count."""
    if body.get("error"):
        return error_of(body)
    base = body.get("base_resp")  # MiniMax: 0 where all is well
    if isinstance(base, dict) and base.get("status_code"):
        return error_of(body)
    if any(body.get(key) for key in answer_keys) or not (reason_in(body) or body.get("type") == "error"):
        return None
    return error_of(body)
