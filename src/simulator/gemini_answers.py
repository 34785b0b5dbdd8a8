"""Gemini: the body of a 200, whole or as a stream of partial answers."""

from __future__ import annotations

import json
from collections.abc import Iterator

from .reasoning import signature
from .shapes import Ask, Frame, Json, Reply, Slicer, StreamForm, ToolCall

# each name beside the number that stands for it with enum-encoding=int
_FINISH = {
    "stop": ("STOP", 1),
    "stop_sequence": ("STOP", 1),
    "length": ("MAX_TOKENS", 2),
    "refusal": ("SAFETY", 3),
}
_BLOCKED = ("SAFETY", 1)
_TEXT = ("TEXT", 1)
_HARM = (("HARM_CATEGORY_DANGEROUS_CONTENT", 10), ("HIGH", 4))


def whole(ask: Ask, reply: Reply, ident: str) -> bytes:
    """The answer."""
    parts: list[Json] = [{"text": reply.thinking, "thought": True}] if reply.thinking else []
    if reply.text:
        parts.append({"text": reply.text})
    parts.extend(_calls(reply))
    return json.dumps(_answer(ask, reply, ident, parts, reply.output_tokens, ended=True)).encode()


def _calls(reply: Reply) -> Iterator[Json]:
    """The calls that are whole: one that a token limit has cut is not shown at all."""
    for i, call in enumerate(reply.calls):
        if call.is_whole:
            yield _call(call, i)


def _call(call: ToolCall, number: int) -> Json:
    """The first of parallel calls is signed."""
    signed = {"thoughtSignature": signature("", call.name)} if number == 0 else {}
    return {"functionCall": {"name": call.name, "args": call.arguments}, **signed}


def _answer(ask: Ask, reply: Reply, ident: str, parts: list[Json], tokens: int, *, ended: bool) -> Json:
    """A whole answer, or one of a stream: `parts` are its own, `tokens` are those so far."""
    found: Json = {
        "usageMetadata": _usage(reply, tokens, ask.integer_enums),
        "modelVersion": ask.model,
        "responseId": ident,
    }
    if reply.blocked:
        found["promptFeedback"] = {"blockReason": _BLOCKED[ask.integer_enums]}
    else:
        found["candidates"] = [_candidate(reply, parts, ask.integer_enums, ended=ended)]
    return found


def _usage(reply: Reply, tokens: int, as_int: bool) -> Json:
    usage: Json = {
        "promptTokenCount": reply.input_tokens,
        "totalTokenCount": reply.input_tokens + tokens,
        "promptTokensDetails": [{"modality": _TEXT[as_int], "tokenCount": reply.input_tokens}],
    }
    if tokens > reply.thinking_tokens:
        usage["candidatesTokenCount"] = tokens - reply.thinking_tokens
    if reply.thinking_tokens:
        usage["thoughtsTokenCount"] = reply.thinking_tokens
    if reply.cache_read_tokens:
        usage["cachedContentTokenCount"] = reply.cache_read_tokens
    return usage


def _candidate(reply: Reply, parts: list[Json], as_int: bool, *, ended: bool) -> Json:
    candidate: Json = {"index": 0, "content": {"role": "model"}}
    if parts:
        candidate["content"]["parts"] = parts
    if not ended:
        return candidate
    if reply.finish is not None:
        candidate["finishReason"] = _FINISH[reply.finish][as_int]
    if reply.finish == "refusal":
        category, probability = _HARM
        candidate["safetyRatings"] = [
            {"category": category[as_int], "probability": probability[as_int], "blocked": True}
        ]
    return candidate


def frames(ask: Ask, reply: Reply, ident: str, slicer: Slicer) -> Iterator[Frame]:
    """Answers with a part each; the last one has no new text and says how and at what count it ended."""
    form = ask.stream or StreamForm()
    start, after, last = ("[", "", "]") if form.as_array else ("data: ", "\r\n\r\n", "\r\n\r\n")
    for part in _streamed(reply, slicer):
        said = _answer(ask, reply, ident, [part], slicer.tokens, ended=False)
        yield Frame(f"{start}{json.dumps(said)}{after}".encode(), slicer.tokens)
        start = ",\r\n" if form.as_array else start
    ended = [{"text": ""}] if reply.text else []
    said = _answer(ask, reply, ident, ended, reply.output_tokens, ended=True)
    yield Frame(f"{start}{json.dumps(said)}{last}".encode(), reply.output_tokens, is_content=False)


def _streamed(reply: Reply, slicer: Slicer) -> Iterator[Json]:
    for piece in slicer.cut(reply.thinking or ""):
        yield {"text": piece, "thought": True}
    for piece in slicer.cut(reply.text):
        yield {"text": piece}
    for i, call in enumerate(reply.calls):  # a call comes whole, but takes its time
        for _ in slicer.cut(call.text):
            pass
        if call.is_whole:
            yield _call(call, i)
