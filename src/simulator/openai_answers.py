"""OpenAI Chat Completions: the body of a 200, whole or as a stream of chunks.

Most of the JSON is written as text: that takes a quarter of the time that dictionaries take.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from json.encoder import encode_basestring_ascii as quoted

from .shapes import Ask, Frame, Json, Reply, Slicer, StreamForm, ToolCall

_FINISH = {"stop": "stop", "length": "length", "stop_sequence": "stop", "refusal": "content_filter"}
_CREATED = 1_800_000_000  # fixed: equal runs give equal bytes
_PADDING = "aK3vRz8QmX1tLw6Y"  # what `obfuscation` is made of
DONE = b"data: [DONE]\n\n"


def whole(ask: Ask, reply: Reply, ident: str) -> bytes:
    """The completion."""
    text = "null" if reply.calls and not reply.text else quoted(reply.text)
    calls = ""
    if reply.calls:
        calls = ',"tool_calls":' + json.dumps([_call(call, ident, i) for i, call in enumerate(reply.calls)])
    message = f'{{"role":"assistant","content":{text},"refusal":null,"annotations":[]{calls}}}'
    finish = json.dumps(_finish(reply))
    return (
        f'{{"id":"chatcmpl-{ident}","object":"chat.completion","created":{_CREATED},"model":{quoted(ask.model)},'
        f'"choices":[{{"index":0,"message":{message},"logprobs":null,"finish_reason":{finish}}}],'
        f'"usage":{_usage(reply)},"service_tier":"{ask.service_tier}","system_fingerprint":"fp_simulated"}}'
    ).encode()


def _usage(reply: Reply) -> str:
    """The tokens of a completion, as JSON."""
    return (
        f'{{"prompt_tokens":{reply.input_tokens},"completion_tokens":{reply.output_tokens},'
        f'"total_tokens":{reply.input_tokens + reply.output_tokens},'
        f'"prompt_tokens_details":{{"cached_tokens":{reply.cache_read_tokens},'
        f'"cache_write_tokens":{reply.cache_write_tokens},"audio_tokens":0}},'
        f'"completion_tokens_details":{{"reasoning_tokens":{reply.thinking_tokens},"audio_tokens":0,'
        '"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}'
    )


def _finish(reply: Reply) -> str | None:
    if reply.calls and reply.finish == "stop":
        return "tool_calls"
    return None if reply.finish is None else _FINISH[reply.finish]


def _call(call: ToolCall, ident: str, number: int) -> Json:
    function = {"name": call.name, "arguments": call.text}
    return {"id": f"call_{ident}{number:02d}", "type": "function", "function": function}


def frames(ask: Ask, reply: Reply, ident: str, slicer: Slicer) -> Iterator[Frame]:
    """A chunk with the role, the deltas, one with the reason for the end, the usage if asked for, [DONE]."""
    form = ask.stream or StreamForm()
    chunk = _Chunks(ask, ident, form)
    # content is "" only where text follows; before tool calls it is null
    opening = {"role": "assistant", "content": None if reply.calls else "", "refusal": None}
    yield Frame(chunk.delta(json.dumps(opening)), slicer.tokens, is_content=False)
    for piece in slicer.cut(reply.text):
        yield Frame(chunk.delta('{"content":' + quoted(piece) + "}"), slicer.tokens)
    for i, call in enumerate(reply.calls):
        asked = _call(call, ident, i)
        arguments, asked["function"]["arguments"] = asked["function"]["arguments"], ""
        yield Frame(chunk.delta(json.dumps({"tool_calls": [{"index": i, **asked}]})), slicer.tokens)
        for piece in slicer.cut(arguments):
            delta = {"tool_calls": [{"index": i, "function": {"arguments": piece}}]}
            yield Frame(chunk.delta(json.dumps(delta)), slicer.tokens)
    finish = _finish(reply)
    if finish is not None:
        yield Frame(chunk.delta("{}", json.dumps(finish)), reply.output_tokens, is_content=False)
    if form.usage:
        yield Frame(chunk.usage(reply), reply.output_tokens, is_content=False)
    yield Frame(DONE, reply.output_tokens, is_content=False)


class _Chunks:
    """The chunks of one completion: all alike but for their choices and usage."""

    def __init__(self, ask: Ask, ident: str, form: StreamForm) -> None:
        head = {
            "id": f"chatcmpl-{ident}",
            "object": "chat.completion.chunk",
            "created": _CREATED,
            "model": ask.model,
            "service_tier": ask.service_tier,
            "system_fingerprint": "fp_simulated",
        }
        self._head = "data: " + json.dumps(head)[:-1]
        self._usage = ',"usage":null' if form.usage else ""
        self._obfuscates = form.obfuscation

    def delta(self, delta: str, finish: str = "null") -> bytes:
        """A chunk with one choice, whose delta is JSON."""
        choice = f'{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}'
        padding = f',"obfuscation":"{_PADDING[len(delta) % 16 :]}"' if self._obfuscates else ""
        return f'{self._head},"choices":[{choice}]{self._usage}{padding}}}\n\n'.encode()

    def usage(self, reply: Reply) -> bytes:
        """The chunk without choices that says what the completion used."""
        return f'{self._head},"choices":[],"usage":{_usage(reply)}}}\n\n'.encode()
