"""Requests, placements, answers and errors as plain data, both ways: see `port.py` for what plain is.

Fields that have their default are left out. Tuples become lists, enums their values, and moments durations:
`resets_at` of an error, which is UTC epoch seconds, travels as the time from now.

An error travels as its kind, which is the name of its class, and its fields. Which class a kind means is the
table `PROVIDER_ERRORS`; which fields a class has beside those of all, the table `_OWN_FIELDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

from ..errors import PROVIDER_ERRORS, InternalError, ProviderError, SchemaMismatch
from ..message_json import (
    decode_message,
    decode_part,
    decode_tool,
    encode_content,
    encode_part,
    encode_tool,
)
from ..messages import Message
from ..records import (
    Candidate,
    Completion,
    CompletionRequest,
    FinishReason,
    LimitReport,
    Native,
    Placement,
    Task,
    Usage,
)
from .port import Plain

# ------------------------------------------------------------------ requests


def _defaults(record: type) -> dict[str, Any]:
    """What each field of a record that has a default is without being set."""
    found = {}
    for each in fields(record):
        if each.default is not MISSING:
            found[each.name] = each.default
        elif each.default_factory is not MISSING:
            found[each.name] = each.default_factory()
    return found


_REQUEST_DEFAULTS = _defaults(CompletionRequest)
_REQUEST_NAMES = tuple(each.name for each in fields(CompletionRequest))


def encode_request(request: CompletionRequest) -> Plain:
    """The request as plain data."""
    found: Plain = {}
    for name in _REQUEST_NAMES:
        value = getattr(request, name)
        if name in _REQUEST_DEFAULTS and value == _REQUEST_DEFAULTS[name]:
            continue
        encode = _REQUEST_ENCODERS.get(name)
        found[name] = value if encode is None else encode(value)
    return found


def decode_request(value: Plain) -> CompletionRequest:
    """The request from `encode_request`."""
    found = dict(value)
    for name, decode in _REQUEST_DECODERS.items():
        if name in found:
            found[name] = decode(found[name])
    return CompletionRequest(**found)


def _encode_messages(messages: Iterable[Message]) -> list[list[Any]]:
    return [[each.role, encode_content(each.content)] for each in messages]


def _decode_messages(values: Iterable[Sequence[Any]]) -> tuple[Message, ...]:
    return tuple(decode_message(role, content) for role, content in values)


def _encode_native(native: Native) -> Plain:
    return {"form": native.form, "body": plain_json(native.body), "headers": dict(native.headers)}


def _encode_parameters(parameters: Mapping[str, Any]) -> Plain:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in parameters.items()}


def _decode_parameters(values: Mapping[str, Any]) -> Plain:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def plain_json(value: Any) -> Any:
    """A JSON value with mappings as dicts and sequences as lists."""
    if isinstance(value, Mapping):
        return {key: plain_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(each) for each in value]
    return value


_REQUEST_ENCODERS: dict[str, Callable[[Any], Any]] = {
    "messages": _encode_messages,
    "stop": list,
    "response_schema": plain_json,
    "tools": lambda tools: [plain_json(encode_tool(tool)) for tool in tools],
    "native": _encode_native,
    "parameters": _encode_parameters,
}
_REQUEST_DECODERS: dict[str, Callable[[Any], Any]] = {
    "messages": _decode_messages,
    "stop": tuple,
    "tools": lambda tools: tuple(map(decode_tool, tools)),
    "native": lambda native: Native(**native),
    "parameters": _decode_parameters,
}

# ------------------------------------------------------------------ placements

_PLACED_NAMES = (
    "provider", "model", "group", "tier", "agent", "max_tokens", "choice", "timeout_s", "attempt",
    "reserved_nanos", "forced", "cache_key", "cached_turns", "service_tier",
)  # fmt: skip
_OF_TASK = ("row", "batch", "id", "submitter")


def encode_placement(placement: Placement) -> Plain:
    """What another leader needs of a placement to go on with its call, with names of the task in `task`."""
    found: Plain = {name: getattr(placement, name) for name in _PLACED_NAMES}
    found["warnings"] = list(placement.warnings)
    found["reasons"] = [[*each[:3], str(each.kind), each.detail] for each in placement.reasons]
    found["task"] = {name: getattr(placement.task, name) for name in _OF_TASK}
    return found


def decode_placement(value: Plain, task: Task, at: float) -> Placement:
    """The placement from `encode_placement`, made `at` by this process's clock. Its permit is not known."""
    facts = {name: value[name] for name in _PLACED_NAMES}
    reasons = tuple(Candidate(*each) for each in value["reasons"])
    warnings = tuple(value["warnings"])
    return Placement(permit=0, task=task, at=at, reasons=reasons, warnings=warnings, **facts)


# ------------------------------------------------------------------ answers


def encode_completion(completion: Completion) -> Plain:
    """The answer as plain data."""
    found: Plain = {
        "text": completion.text,
        "finish_reason": completion.finish_reason.value,
        "usage": _encode_usage(completion.usage),
        "model": completion.model,
    }
    if completion.limits:
        found["limits"] = _encode_limits(completion.limits)
    if completion.warnings:
        found["warnings"] = list(completion.warnings)
    if completion.request_id:
        found["request_id"] = completion.request_id
    if completion.parts:
        found["parts"] = [encode_part(part) for part in completion.parts]
    if completion.service_tier:
        found["service_tier"] = completion.service_tier
    if completion.raw is not None:
        found["raw"] = completion.raw if isinstance(completion.raw, bytes) else plain_json(completion.raw)
    return found


def decode_completion(value: Plain) -> Completion:
    """The answer from `encode_completion`."""
    return Completion(
        value["text"],
        FinishReason(value["finish_reason"]),
        Usage(*value["usage"]),
        value["model"],
        _decode_limits(value.get("limits", ())),
        tuple(value.get("warnings", ())),
        value.get("request_id", ""),
        tuple(map(decode_part, value.get("parts", ()))),
        value.get("raw"),
        value.get("service_tier", ""),
    )


def _encode_usage(usage: Usage) -> list[int]:
    return [
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
    ]


def _encode_limits(limits: Iterable[LimitReport]) -> list[list[Any]]:
    return [[each.dimension, each.limit, each.remaining, each.window_s] for each in limits]


def _decode_limits(values: Iterable[Sequence[Any]]) -> tuple[LimitReport, ...]:
    return tuple(LimitReport(*each) for each in values)


# ------------------------------------------------------------------ errors

_FIELDS = ("provider", "model", "status", "code", "retry_after_s", "reset_guessed", "sent")
_OWN_FIELDS: dict[type[ProviderError], tuple[str, ...]] = {SchemaMismatch: ("answer", "problems")}


def encode_error(error: ProviderError, now: float) -> Plain:
    """The error as plain data. `now`: UTC epoch seconds by the clock that `resets_at` was computed with."""
    found: Plain = {"kind": error.kind, "message": error.message}
    for name in (*_FIELDS, *_OWN_FIELDS.get(type(error), ())):
        found[name] = getattr(error, name)
    if error.resets_at is not None:
        found["resets_in_s"] = error.resets_at - now
    if error.limits:
        found["limits"] = _encode_limits(error.limits)
    if error.usage is not None:
        found["usage"] = _encode_usage(error.usage)
    return found


def decode_error(value: Plain, now: float) -> ProviderError:
    """The error from `encode_error`. `now`: UTC epoch seconds of this process, when the error was made.

    A kind that this version does not know becomes an InternalError, which is nobody's fault.
    """
    facts = {name: value[name] for name in _FIELDS}
    facts["limits"] = _decode_limits(value.get("limits", ()))
    if "resets_in_s" in value:
        facts["resets_at"] = now + value["resets_in_s"]
    if "usage" in value:
        facts["usage"] = Usage(*value["usage"])
    cls = PROVIDER_ERRORS.get(value["kind"])
    if cls is None:
        return InternalError(f"unknown error {value['kind']}: {value['message']}", **facts)
    own = {name: value[name] for name in _OWN_FIELDS.get(cls, ())}
    return cls(value["message"], **facts, **own)
