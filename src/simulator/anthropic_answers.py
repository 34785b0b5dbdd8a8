"""Anthropic Messages: the body of a 200, whole or as a stream of events."""

from __future__ import annotations

import json
from collections.abc import Iterator

from .reasoning import signature
from .shapes import Ask, Frame, Json, Reply, Slicer, ToolCall

_FINISH = {"stop": "end_turn", "length": "max_tokens", "stop_sequence": "stop_sequence", "refusal": "refusal"}
_REFUSED = {"type": "refusal", "category": "general_harms", "explanation": None}
_PING = b'event: ping\ndata: {"type": "ping"}\n\n'


def whole(ask: Ask, reply: Reply, ident: str) -> bytes:
    """The message."""
    message = _opened(ask, reply, ident)
    message["content"] = [_finished(block) for block in _blocks(reply, ident, ask.model)]
    message.update(_end(reply))
    return json.dumps(message).encode()


def _opened(ask: Ask, reply: Reply, ident: str) -> Json:
    return {
        "id": f"msg_{ident}",
        "type": "message",
        "role": "assistant",
        "model": ask.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "usage": _usage(reply),
    }


def _blocks(reply: Reply, ident: str, model: str) -> Iterator[Json]:
    """The content in its order; the input of a call is still the ToolCall."""
    if reply.thinking is not None:
        signed = signature(model, reply.thinking)
        yield {"type": "thinking", "thinking": reply.thinking, "signature": signed}
    if reply.text:
        yield {"type": "text", "text": reply.text}
    for i, call in enumerate(reply.calls):
        ident_of_call = f"toolu_{ident}{i:02d}"
        yield {"type": "tool_use", "id": ident_of_call, "name": call.name, "input": call}


def _finished(block: Json) -> Json:
    if block["type"] != "tool_use":
        return block
    call: ToolCall = block["input"]
    return {**block, "input": call.arguments if call.is_whole else {}}


def _end(reply: Reply) -> Json:
    finish = None if reply.finish is None else _FINISH[reply.finish]
    if reply.calls and finish == "end_turn":
        finish = "tool_use"
    refused = _REFUSED if finish == "refusal" else None
    return {"stop_reason": finish, "stop_sequence": reply.stop_sequence, "stop_details": refused}


def _input_usage(reply: Reply) -> Json:
    return {
        "input_tokens": reply.input_tokens - reply.cache_read_tokens - reply.cache_write_tokens,
        "cache_creation_input_tokens": reply.cache_write_tokens,
        "cache_read_input_tokens": reply.cache_read_tokens,
    }


def _output_usage(reply: Reply) -> Json:
    usage: Json = {"output_tokens": reply.output_tokens}
    if reply.thinking_tokens:
        usage["output_tokens_details"] = {"thinking_tokens": reply.thinking_tokens}
    return usage


def _usage(reply: Reply) -> Json:
    written = {"ephemeral_5m_input_tokens": reply.cache_write_tokens, "ephemeral_1h_input_tokens": 0}
    return {
        **_input_usage(reply),
        "cache_creation": written,
        **_output_usage(reply),
        "service_tier": "standard",
    }


def frames(ask: Ask, reply: Reply, ident: str, slicer: Slicer) -> Iterator[Frame]:
    """message_start, then start, deltas and stop of each block, then message_delta and message_stop."""
    message = _opened(ask, reply, ident)
    message["usage"] |= {"output_tokens": min(1, reply.output_tokens)}  # the whole count comes at the end
    message["usage"].pop("output_tokens_details", None)
    yield Frame(_event("message_start", {"message": message}), slicer.tokens, is_content=False)
    for i, block in enumerate(_blocks(reply, ident, ask.model)):
        emptied, kind, pieces = _streamed(block, slicer)
        opening = _event("content_block_start", {"index": i, "content_block": emptied})
        yield Frame(opening, slicer.tokens, is_content=False)
        if i == 0:
            yield Frame(_PING, slicer.tokens, is_content=False)
        name = _FIELD[kind]
        head = f'event: content_block_delta\ndata: {{"type":"content_block_delta","index":{i},"delta":'
        for piece in pieces:
            delta = f'{{"type":"{kind}","{name}":{json.dumps(piece)}}}}}\n\n'
            yield Frame((head + delta).encode(), slicer.tokens)
        if block["type"] == "thinking":
            signed = {"type": "signature_delta", "signature": block["signature"]}
            event = _event("content_block_delta", {"index": i, "delta": signed})
            yield Frame(event, slicer.tokens, is_content=False)
        yield Frame(_event("content_block_stop", {"index": i}), slicer.tokens, is_content=False)
    end = {"delta": _end(reply), "usage": {**_input_usage(reply), **_output_usage(reply)}}
    yield Frame(_event("message_delta", end), reply.output_tokens, is_content=False)
    yield Frame(_event("message_stop", {}), reply.output_tokens, is_content=False)


_FIELD = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


def _streamed(block: Json, slicer: Slicer) -> tuple[Json, str, Iterator[str]]:
    """How a block is streamed: as it starts, the type of its deltas, and what they hold."""
    if block["type"] == "tool_use":
        return {**block, "input": {}}, "input_json_delta", slicer.cut(block["input"].text)
    if block["type"] == "thinking":
        return {**block, "thinking": "", "signature": ""}, "thinking_delta", slicer.cut(block["thinking"])
    return {**block, "text": ""}, "text_delta", slicer.cut(block["text"])


def _event(name: str, data: Json) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode()
