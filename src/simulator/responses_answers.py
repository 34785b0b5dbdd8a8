"""OpenAI Responses: the body of a 200, whole or as a stream of events."""

from __future__ import annotations

import json
from collections.abc import Iterator

from .reasoning import signature
from .shapes import Ask, Frame, Json, Reply, Slicer, StreamForm

_CREATED = 1_800_000_000  # fixed: equal runs give equal bytes
_SEALED = "reasoning.encrypted_content"
_PADDING = "aK3vRz8QmX1tLw6Y"
# what a response repeats of its request, and its value where the request has none
_ECHOED: Json = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}


def whole(ask: Ask, reply: Reply, ident: str) -> bytes:
    """The response."""
    return json.dumps(_ended(ask, reply, ident)).encode()


def _ended(ask: Ask, reply: Reply, ident: str) -> Json:
    why = {"length": "max_output_tokens", "refusal": "content_filter"}.get(reply.finish or "")
    status = None if reply.finish is None else "incomplete" if why else "completed"
    return _response(ask, ident) | {
        "status": status,
        "completed_at": _CREATED if status == "completed" else None,
        "incomplete_details": {"reason": why} if why else None,
        "output": list(_items(ask, reply, ident)),
        "usage": _usage(reply),
    }


def _response(ask: Ask, ident: str) -> Json:
    sent = ask.response_to or {}
    echoed = {name: usual if sent.get(name) is None else sent[name] for name, usual in _ECHOED.items()}
    reasoning = {"effort": None, "summary": None, **(sent.get("reasoning") or {})}
    return {
        "id": f"resp_{ident}",
        "object": "response",
        "created_at": _CREATED,
        "completed_at": None,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": ask.model,
        "output": [],
        "reasoning": reasoning,
        "service_tier": ask.service_tier,
        "usage": None,
        **echoed,
    }


def _usage(reply: Reply) -> Json:
    return {
        "input_tokens": reply.input_tokens,
        "input_tokens_details": {
            "cached_tokens": reply.cache_read_tokens,
            "cache_write_tokens": reply.cache_write_tokens,
        },
        "output_tokens": reply.output_tokens,
        "output_tokens_details": {"reasoning_tokens": reply.thinking_tokens},
        "total_tokens": reply.input_tokens + reply.output_tokens,
    }


def _items(ask: Ask, reply: Reply, ident: str) -> Iterator[Json]:
    """The output: reasoning, a message, function calls."""
    sent = ask.response_to or {}
    if reply.thinking_tokens:
        item: Json = {"id": f"rs_{ident}", "type": "reasoning", "summary": []}
        if (sent.get("reasoning") or {}).get("summary"):
            text = f"Thought about it for {reply.thinking_tokens} tokens."
            item["summary"] = [{"type": "summary_text", "text": text}]
        if _SEALED in (sent.get("include") or ()):
            item["encrypted_content"] = signature(ask.model, item["id"])
        yield item
    status = "incomplete" if reply.finish in ("length", "refusal") else "completed"
    if reply.text:
        content = {"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}
        yield {
            "id": f"msg_{ident}",
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": [content],
        }
    for i, call in enumerate(reply.calls):
        yield {
            "id": f"fc_{ident}{i:02d}",
            "type": "function_call",
            "status": "completed" if call.is_whole else "incomplete",
            "call_id": f"call_{ident}{i:02d}",
            "name": call.name,
            "arguments": call.text,
        }


def frames(ask: Ask, reply: Reply, ident: str, slicer: Slicer) -> Iterator[Frame]:
    """created and in_progress, the events of each item, completed or incomplete."""
    events = _Events(ask.stream or StreamForm())
    opened = _response(ask, ident)
    for name in ("response.created", "response.in_progress"):
        yield Frame(events.event(name, {"response": opened}), slicer.tokens, is_content=False)
    for i, item in enumerate(_items(ask, reply, ident)):
        if item["type"] == "reasoning":
            yield from _reasoning(events, item, i, slicer)
        elif item["type"] == "message":
            yield from _message(events, item, i, slicer)
        else:
            yield from _call(events, item, i, slicer)
    ended = _ended(ask, reply, ident)
    name = "response.incomplete" if ended["status"] == "incomplete" else "response.completed"
    yield Frame(events.event(name, {"response": ended}), reply.output_tokens, is_content=False)


def failed(ask: Ask, message: str, ident: str) -> bytes:
    """The events of an error in the middle of a stream."""
    events, error = _Events(ask.stream or StreamForm()), {"code": "server_error", "message": message}
    response = _response(ask, ident) | {"status": "failed", "error": error}
    return events.event("error", {**error, "param": None}) + events.event(
        "response.failed", {"response": response}
    )


class _Events:
    """Numbers the events of one response."""

    def __init__(self, form: StreamForm) -> None:
        self._number = -1
        self._obfuscates = form.obfuscation

    def event(self, name: str, data: Json) -> bytes:
        self._number += 1
        whole = {"type": name, "sequence_number": self._number, **data}
        return f"event: {name}\ndata: {json.dumps(whole)}\n\n".encode()

    def delta(self, name: str, data: Json, piece: str) -> bytes:
        padding = {"obfuscation": _PADDING[len(piece) % 16 :]} if self._obfuscates else {}
        return self.event(name, {**data, "delta": piece, **padding})


def _side(events: _Events, name: str, data: Json, slicer: Slicer) -> Frame:
    return Frame(events.event(name, data), slicer.tokens, is_content=False)


def _reasoning(events: _Events, item: Json, i: int, slicer: Slicer) -> Iterator[Frame]:
    yield _side(
        events, "response.output_item.added", {"output_index": i, "item": {**item, "summary": []}}, slicer
    )
    for j, part in enumerate(item["summary"]):
        at = {"item_id": item["id"], "output_index": i, "summary_index": j}
        start = "response.reasoning_summary"
        yield _side(events, f"{start}_part.added", {**at, "part": {**part, "text": ""}}, slicer)
        yield Frame(events.delta(f"{start}_text.delta", at, part["text"]), slicer.tokens, is_content=False)
        yield _side(events, f"{start}_text.done", {**at, "text": part["text"]}, slicer)
        yield _side(events, f"{start}_part.done", {**at, "part": part}, slicer)
    yield _side(events, "response.output_item.done", {"output_index": i, "item": item}, slicer)


def _message(events: _Events, item: Json, i: int, slicer: Slicer) -> Iterator[Frame]:
    opened = {**item, "status": "in_progress", "content": []}
    yield _side(events, "response.output_item.added", {"output_index": i, "item": opened}, slicer)
    part = item["content"][0]
    at = {"item_id": item["id"], "output_index": i, "content_index": 0}
    yield _side(events, "response.content_part.added", {**at, "part": {**part, "text": ""}}, slicer)
    for piece in slicer.cut(part["text"]):
        delta = events.delta("response.output_text.delta", {**at, "logprobs": []}, piece)
        yield Frame(delta, slicer.tokens)
    done = {**at, "text": part["text"], "logprobs": []}
    yield _side(events, "response.output_text.done", done, slicer)
    yield _side(events, "response.content_part.done", {**at, "part": part}, slicer)
    yield _side(events, "response.output_item.done", {"output_index": i, "item": item}, slicer)


def _call(events: _Events, item: Json, i: int, slicer: Slicer) -> Iterator[Frame]:
    opened = {**item, "status": "in_progress", "arguments": ""}
    yield _side(events, "response.output_item.added", {"output_index": i, "item": opened}, slicer)
    at = {"item_id": item["id"], "output_index": i}
    for piece in slicer.cut(item["arguments"]):
        yield Frame(events.delta("response.function_call_arguments.delta", at, piece), slicer.tokens)
    done = {**at, "name": item["name"], "arguments": item["arguments"]}
    yield _side(events, "response.function_call_arguments.done", done, slicer)
    yield _side(events, "response.output_item.done", {"output_index": i, "item": item}, slicer)
