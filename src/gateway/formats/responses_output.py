"""OpenAI Responses: the response object and the items of its output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...messages import ContentPart, Reasoning, Text, ToolCall
from ...records import Completion, FinishReason, Usage
from .base import CallerRequest, Json, Served
from .sealing import seal
from .writing import call_id, end_of

# What a response repeats of its request, and its value where the request does not have it.
_ECHOED: Json = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "store": False,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
_INCOMPLETE = {FinishReason.LENGTH: "max_output_tokens", FinishReason.REFUSED: "content_filter"}


def opened(request: CallerRequest, served: Served) -> Json:
    """The response before anything of its output is there."""
    sent = request.native.body
    echoed = {name: usual if sent.get(name) is None else sent[name] for name, usual in _ECHOED.items()}
    return {
        "id": f"resp_{served.id}",
        "object": "response",
        "created_at": int(served.created_at),
        "completed_at": None,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": served.model,
        "output": [],
        "reasoning": {"effort": None, "summary": None, **(sent.get("reasoning") or {})},
        "service_tier": "default",
        "usage": None,
        **echoed,
    }


def ended(response: Json, completion: Completion, output: Sequence[Json]) -> Json:
    """The response with its output, as it ends."""
    why = _INCOMPLETE.get(end_of(completion))
    return {
        **response,
        "status": "incomplete" if why else "completed",
        "completed_at": None if why else response["created_at"],
        "incomplete_details": {"reason": why} if why else None,
        "output": list(output),
        "usage": _usage(completion.usage),
    }


def _usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


def shows_reasoning(request: CallerRequest) -> bool:
    """Whether the caller wants to read what was thought."""
    reasoning = request.native.body.get("reasoning") or {}
    return bool(reasoning.get("summary") or reasoning.get("generate_summary"))


def item_id(prefix: str, served: Served, index: int) -> str:
    """The id of the item `index` of the output."""
    return f"{prefix}_{served.id}{index:02d}"


def text_part(text: str) -> Json:
    """A part of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def message_item(ident: str, parts: Sequence[Json], status: str = "completed") -> Json:
    """What the model says."""
    return {"id": ident, "type": "message", "status": status, "role": "assistant", "content": list(parts)}


def call_item(ident: str, call: ToolCall, status: str = "completed") -> Json:
    """A call of a function. Its `id` is already the caller's."""
    return {
        "id": ident,
        "type": "function_call",
        "status": status,
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
    }


def reasoning_item(ident: str, reasoning: Reasoning, *, shown: bool, place: int = -1) -> Json:
    """What the model thought, sealed, and readable where the caller asked for it."""
    is_shown = shown and bool(reasoning.text)
    return {
        "id": ident,
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": reasoning.text}] if is_shown else [],
        "encrypted_content": seal(reasoning, with_text=not is_shown, place=place),
    }


def items_of(parts: Sequence[ContentPart], served: Served, *, shown: bool, cut: bool) -> list[Json]:
    """The output of a whole answer. `cut`: its last message is incomplete."""
    found: list[Json] = []
    calls = 0
    for group in _groups(parts, shown=shown):
        first, index = group[0], len(found)
        if isinstance(first, Text):
            texts = [text_part(part.text) for part in group if isinstance(part, Text)]
            found.append(message_item(item_id("msg", served, index), texts))
        elif isinstance(first, Reasoning):
            found.append(reasoning_item(item_id("rs", served, index), first, shown=shown))
        elif isinstance(first, ToolCall):
            call = ToolCall(call_id(first.id, "call_", served.id, calls), first.name, first.arguments)
            found.append(call_item(item_id("fc", served, index), call))
            calls += 1
    if cut and found and "status" in found[-1]:
        found[-1]["status"] = "incomplete"
    return found


def _groups(parts: Sequence[ContentPart], *, shown: bool) -> Iterator[list[ContentPart]]:
    """The parts of one item each: texts in a row are one message.

    Reasoning that is neither shown nor sealed is left out.
    """
    texts: list[ContentPart] = []
    for part in parts:
        if isinstance(part, Text):
            texts.append(part)
            continue
        if isinstance(part, Reasoning) and not part.opaque and not (shown and part.text):
            continue
        if texts:
            yield texts
            texts = []
        yield [part]
    if texts:
        yield texts
