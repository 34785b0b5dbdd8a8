"""Convert records to the columns and JSON that store them, and back."""

from __future__ import annotations

import functools
import hashlib
import json
import typing
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ...message_json import decode_message, decode_part, decode_tool, encode_content, encode_part, encode_tool
from ...messages import ContentPart, Message, Text, media_in
from ...records import Attempt, Candidate, Outcome, RefusalKind, Task, Usage
from ...storable import clean, is_clean

_T = typing.TypeVar("_T")
dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
loads = json.loads
PREVIEW_CHARS = 120
_OUTPUT = {"output": 1}  # stands for the part of an answer that is its output


# ---------------------------------------------------------------- tasks


def request_of(task: Task) -> dict[str, Any]:
    """The fields that decide the answer, without defaults: two tasks with equal requests are equal."""
    request: dict[str, Any] = {"messages": list(map(_turn, task.messages)), "task_type": task.task_type}
    if task.tier != "auto":
        request["tier"] = task.tier
    for name in ("max_tokens", "temperature", "top_p", "seed", "response_schema"):
        if (value := getattr(task, name)) is not None:
            request[name] = value
    if task.agent:
        request["agent"] = task.agent
    for name in ("stop", "models", "providers"):
        if value := getattr(task, name):
            request[name] = list(value)
    if task.reasoning_effort is not None:
        request["reasoning_effort"] = task.reasoning_effort
    return request | _tools_of(task) if task.tools else request


def _turn(message: Message) -> list[Any]:
    content = message.content
    return [message.role, content if type(content) is str else encode_content(content)]


def _tools_of(task: Task) -> dict[str, Any]:
    """The tools of a request, and how they may be called."""
    found: dict[str, Any] = {"tools": [encode_tool(tool) for tool in task.tools]}
    for name in ("tool_choice", "parallel_tool_calls"):
        if (value := getattr(task, name)) not in (None, ""):
            found[name] = value
    return found


def encode_task(task: Task) -> tuple[bytes, str, str]:
    """`(content hash, preview, body)`. The hash covers neither metadata, line, priority and deadline, nor the
    service tier.
    """
    request = request_of(task)
    body = dumps(request)
    digest = hashlib.blake2b(body.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    if task.service_tier:
        request["service_tier"] = task.service_tier
    if task.metadata:
        request["metadata"] = dict(task.metadata)
    if task.metadata or task.service_tier:
        body = dumps(request)
    return digest, clean(_preview(task.messages)), body if is_clean(body) else json.dumps(request)


def decode_task(body: str | None, **columns: Any) -> Task:
    """The task with the content `body`; if that was purged (None), the task has no messages."""
    request = loads(body) if body else {}
    return Task(
        messages=tuple(decode_message(role, content) for role, content in request.get("messages", ())),
        tier=request.get("tier", "auto"),
        agent=request.get("agent", ""),
        max_tokens=request.get("max_tokens"),
        temperature=request.get("temperature"),
        top_p=request.get("top_p"),
        seed=request.get("seed"),
        stop=tuple(request.get("stop", ())),
        models=tuple(request.get("models", ())),
        providers=tuple(request.get("providers", ())),
        metadata=request.get("metadata", {}),
        response_schema=request.get("response_schema"),
        reasoning_effort=request.get("reasoning_effort"),
        service_tier=request.get("service_tier", ""),
        tools=tuple(map(decode_tool, request.get("tools", ()))),
        tool_choice=request.get("tool_choice", ""),
        parallel_tool_calls=request.get("parallel_tool_calls"),
        **columns,
    )


def _preview(messages: tuple[Message, ...]) -> str:
    """The first `PREVIEW_CHARS` characters of the last user message, on one line."""
    last = next((m for m in reversed(messages) if m.role == "user"), None)
    if last is None:
        return ""
    text = last.text or ", ".join(medium.label for medium in media_in([last]))
    return " ".join(text[: 2 * PREVIEW_CHARS].split())[:PREVIEW_CHARS]


# ---------------------------------------------------------------- answers


def encode_parts(parts: Sequence[ContentPart], output: str | None) -> str | None:
    """The parts of an answer as JSON; None where its output is all of it. They do not repeat the output."""
    if not parts:
        return None
    values = [_OUTPUT if part == Text(output or "") else encode_part(part) for part in parts]
    text = dumps(values)
    return text if is_clean(text) else json.dumps(values)


def decode_parts(text: str | None, output: str | None) -> tuple[ContentPart, ...]:
    """The parts from `encode_parts`, with the output that it was called with."""
    values = loads(text) if text else ()
    return tuple(Text(output or "") if value == _OUTPUT else decode_part(value) for value in values)


# ---------------------------------------------------------------- attempts


def encode_reasons(reasons: tuple[Candidate, ...]) -> str:
    """JSON: `[provider, model, score, refusal kind, detail]` for each."""
    return dumps(reasons) if reasons else ""


def decode_reasons(text: str) -> tuple[Candidate, ...]:
    """The reasons from `encode_reasons`; earlier versions stored four fields, the last one a text."""
    return tuple(_candidate(*fields) for fields in loads(text)) if text else ()


def _candidate(
    provider: str, model: str, score: float, kind: str = "", detail: str | None = None
) -> Candidate:
    if detail is None and kind:
        return Candidate(provider, model, score, RefusalKind.OTHER, kind)
    return Candidate(provider, model, score, kind, detail or "")


def attempt_columns(attempt: Attempt) -> tuple[Any, ...]:
    """The columns of `attempts` after `task_row` and `seq`, in the table's order."""
    usage = attempt.usage
    return (
        attempt.number,
        attempt.provider,
        attempt.model,
        attempt.agent,
        str(attempt.outcome),
        attempt.started_at,
        attempt.latency_s,
        attempt.choice,
        encode_reasons(attempt.reasons),
        int(attempt.forced),
        attempt.error_kind,
        clean(attempt.error),
        attempt.status,
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        attempt.cost_nanos,
        attempt.max_tokens,
    )


def decode_attempt(row: Any) -> Attempt:
    """An attempt from a row of `attempts`, numbered over the task's whole life."""
    return Attempt(
        number=row.seq,
        provider=row.provider,
        model=row.model,
        agent=row.agent,
        outcome=Outcome(row.outcome),
        started_at=row.started_at,
        latency_s=row.latency_s,
        choice=row.choice,
        reasons=decode_reasons(row.reasons),
        forced=bool(row.forced),
        error_kind=row.error_kind,
        error=row.error,
        status=row.status,
        usage=Usage(
            row.input_tokens,
            row.cache_read_tokens,
            row.cache_write_tokens,
            row.output_tokens,
            row.reasoning_tokens,
        ),
        cost_nanos=row.cost_nanos,
        max_tokens=row.max_tokens,
    )


# ---------------------------------------------------------------- any record


def dump_record(record: Any) -> str:
    """The JSON of a frozen dataclass, nested ones included."""
    # Not `dump_json`: it turns infinity into null and refuses text that is not valid Unicode.
    return dumps(_adapter_of(type(record)).dump_python(record, mode="json"))


def load_record(kind: type[_T], text: str) -> _T | None:
    """The dataclass `kind` from `dump_record`'s JSON; None if a version with other fields wrote it.

    Fields that `kind` does not have are ignored, and missing ones get their default.
    """
    try:
        return typing.cast(_T, _adapter_of(kind).validate_json(text))
    except ValidationError:
        return None


def _adapter_of(kind: type) -> TypeAdapter[Any]:  # not `type[_T]`, which mypy does not take for hashable
    return _adapter(kind)


@functools.cache  # building one takes as long as hundreds of uses
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
