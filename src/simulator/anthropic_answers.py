"""Anthropic Messages: the body of a 200, whole or as a stream of events.

Most of the JSON is written as text: that takes a quarter of the time that dictionaries take.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from json.encoder import encode_basestring_ascii as quoted

from .reasoning import signature
from .shapes import Ask, Frame, Json, Reply, Slicer, ToolCall

_FINISH = {"stop": "end_turn", "length": "max_tokens", "stop_sequence": "stop_sequence", "refusal": "refusal"}
_REFUSED = '{"type":"refusal","category":"general_harms","explanation":null}'
_NO_END = '"stop_reason":null,"stop_sequence":null,"stop_details":null'
_PING = b'event: ping\ndata: {"type": "ping"}\n\n'


def whole(ask: Ask, reply: Reply, ident: str) -> bytes:
    """The message."""
    if reply.calls or reply.thinking is not None:
        content = json.dumps([_finished(block) for block in _blocks(reply, ident, ask.model)])
    else:
        content = f'[{{"type":"text","text":{quoted(reply.text)}}}]' if reply.text else "[]"
    return _message(ask, reply, ident, content, _end(reply), _output_usage(reply)).encode()


def _message(ask: Ask, reply: Reply, ident: str, content: str, end: str, output: str) -> str:
    """A message as JSON; `content`, `end` and `output` are parts of it."""
    return (
        f'{{"id":"msg_{ident}","type":"message","role":"assistant","model":{quoted(ask.model)},'
        f'"content":{content},{end},"usage":{{{_input_usage(reply)},'
        f'"cache_creation":{{"ephemeral_5m_input_tokens":{reply.cache_write_tokens},'
        f'"ephemeral_1h_input_tokens":0}},{output},"service_tier":"standard"}}}}'
    )


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


def _end(reply: Reply) -> str:
    finish = None if reply.finish is None else _FINISH[reply.finish]
    if reply.calls and finish == "end_turn":
        finish = "tool_use"
    reason = "null" if finish is None else f'"{finish}"'
    stop = "null" if reply.stop_sequence is None else quoted(reply.stop_sequence)
    details = _REFUSED if finish == "refusal" else "null"
    return f'"stop_reason":{reason},"stop_sequence":{stop},"stop_details":{details}'


def _input_usage(reply: Reply) -> str:
    return (
        f'"input_tokens":{reply.input_tokens - reply.cache_read_tokens - reply.cache_write_tokens},'
        f'"cache_creation_input_tokens":{reply.cache_write_tokens},'
        f'"cache_read_input_tokens":{reply.cache_read_tokens}'
    )


def _output_usage(reply: Reply) -> str:
    usage = f'"output_tokens":{reply.output_tokens}'
    if reply.thinking_tokens:
        usage += f',"output_tokens_details":{{"thinking_tokens":{reply.thinking_tokens}}}'
    return usage


def frames(ask: Ask, reply: Reply, ident: str, slicer: Slicer) -> Iterator[Frame]:
    """message_start, then start, deltas and stop of each block, then message_delta and message_stop."""
    begun = f'"output_tokens":{min(1, reply.output_tokens)}'  # the whole count comes at the end
    message = _message(ask, reply, ident, "[]", _NO_END, begun)
    yield Frame(_event("message_start", f',"message":{message}'), slicer.tokens, is_content=False)
    for i, block in enumerate(_blocks(reply, ident, ask.model)):
        emptied, kind, pieces = _streamed(block, slicer)
        opening = _event("content_block_start", f',"index":{i},"content_block":{json.dumps(emptied)}')
        yield Frame(opening, slicer.tokens, is_content=False)
        if i == 0:
            yield Frame(_PING, slicer.tokens, is_content=False)
        name = _FIELD[kind]
        head = f'event: content_block_delta\ndata: {{"type":"content_block_delta","index":{i},"delta":'
        for piece in pieces:
            delta = f'{{"type":"{kind}","{name}":{quoted(piece)}}}}}\n\n'
            yield Frame((head + delta).encode(), slicer.tokens)
        if block["type"] == "thinking":
            signed = {"type": "signature_delta", "signature": block["signature"]}
            event = _event("content_block_delta", f',"index":{i},"delta":{json.dumps(signed)}')
            yield Frame(event, slicer.tokens, is_content=False)
        yield Frame(_event("content_block_stop", f',"index":{i}'), slicer.tokens, is_content=False)
    usage = f"{_input_usage(reply)},{_output_usage(reply)}"
    end = f',"delta":{{{_end(reply)}}},"usage":{{{usage}}}'
    yield Frame(_event("message_delta", end), reply.output_tokens, is_content=False)
    yield Frame(_event("message_stop", ""), reply.output_tokens, is_content=False)


_FIELD = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


def _streamed(block: Json, slicer: Slicer) -> tuple[Json, str, Iterator[str]]:
    """How a block is streamed: as it starts, the type of its deltas, and what they hold."""
    if block["type"] == "tool_use":
        return {**block, "input": {}}, "input_json_delta", slicer.cut(block["input"].text)
    if block["type"] == "thinking":
        return {**block, "thinking": "", "signature": ""}, "thinking_delta", slicer.cut(block["thinking"])
    return {**block, "text": ""}, "text_delta", slicer.cut(block["text"])


def _event(name: str, more: str) -> bytes:
    """An event; `more` is what its data has beside the type."""
    return f'event: {name}\ndata: {{"type":"{name}"{more}}}\n\n'.encode()
