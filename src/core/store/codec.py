"""Between records and the columns and JSON they are stored in."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from typing import Any

from ...records import Attempt, Candidate, Message, Outcome, RefusalKind, Task, Usage
from ...storable import clean, is_clean

_T = typing.TypeVar("_T")
dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
loads = json.loads
PREVIEW_CHARS = 120


# ---------------------------------------------------------------- tasks


def request_of(task: Task) -> dict[str, Any]:
    """What decides the answer: two tasks with equal requests ask the same. Defaults are left out."""
    wishes: dict[str, Any] = {
        "messages": [[m.role, m.content] for m in task.messages],
        "task_type": task.task_type,
    }
    if task.tier != "auto":
        wishes["tier"] = task.tier
    for name in ("max_tokens", "temperature", "response_schema"):
        if (value := getattr(task, name)) is not None:
            wishes[name] = value
    for name in ("stop", "models", "providers"):
        if value := getattr(task, name):
            wishes[name] = list(value)
    return wishes


def encode_task(task: Task) -> tuple[bytes, str, str]:
    """`(content hash, preview, body)`. The hash leaves out metadata, line, priority and deadline."""
    request = request_of(task)
    body = dumps(request)
    digest = hashlib.blake2b(body.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    if task.metadata:
        request["metadata"] = dict(task.metadata)
        body = dumps(request)
    return digest, clean(_preview(task.messages)), body if is_clean(body) else json.dumps(request)


def decode_task(body: str | None, **columns: Any) -> Task:
    """The task whose content is `body`; one whose content was purged (None) has no messages."""
    request = loads(body) if body else {}
    return Task(
        messages=tuple(Message(role, content) for role, content in request.get("messages", ())),
        tier=request.get("tier", "auto"),
        max_tokens=request.get("max_tokens"),
        temperature=request.get("temperature"),
        stop=tuple(request.get("stop", ())),
        models=tuple(request.get("models", ())),
        providers=tuple(request.get("providers", ())),
        metadata=request.get("metadata", {}),
        response_schema=request.get("response_schema"),
        **columns,
    )


def _preview(messages: tuple[Message, ...]) -> str:
    """The beginning of the last thing the user said, on one line."""
    said = next((m.content for m in reversed(messages) if m.role == "user"), "")
    return " ".join(said[: 2 * PREVIEW_CHARS].split())[:PREVIEW_CHARS]


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
    """An attempt from a row of `attempts`; its number is its place in the task's whole life."""
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
    """JSON of a frozen dataclass, nested ones included."""
    return json.dumps(record, default=_fields, ensure_ascii=False, separators=(",", ":"))


def _fields(record: Any) -> dict[str, Any]:
    if isinstance(record, Mapping):
        return dict(record)
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def load_record(kind: type[_T], text: str) -> _T:
    """The dataclass `kind` from `dump_record`'s JSON. Fields that `kind` no longer has are ignored."""
    return typing.cast(_T, _decode(kind, loads(text)))


def _decode(kind: Any, value: Any) -> Any:
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return kind(**{name: _decode(t, value[name]) for name, t in _types(kind).items() if name in value})
    origin = typing.get_origin(kind)
    if origin is tuple:
        inner = typing.get_args(kind)[0]
        return tuple(_decode(inner, item) for item in value)
    if origin in (types.UnionType, typing.Union) and value is not None:
        return _decode(next(t for t in typing.get_args(kind) if t is not type(None)), value)
    return float(value) if kind is float else value


@functools.cache
def _types(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
