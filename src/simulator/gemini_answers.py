"""Gemini: the body of a 200, whole or as a stream of partial answers.

Most of the JSON is written as text: that takes a quarter of the time that dictionaries take.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from json.encoder import encode_basestring_ascii as quoted

from .reasoning import signature
from .shapes import Ask, Frame, Reply, Slicer, StreamForm, ToolCall

# each name beside the number that stands for it with enum-encoding=int
_FINISH = {
    "stop": ("STOP", 1),
    "stop_sequence": ("STOP", 1),
    "length": ("MAX_TOKENS", 2),
    "refusal": ("SAFETY", 3),
}
_BLOCKED = ("SAFETY", 1)
_TEXT = ('"TEXT"', 1)
_HARM = (("HARM_CATEGORY_DANGEROUS_CONTENT", 10), ("HIGH", 4))


def whole(ask: Ask, reply: Reply, ident: str) -> bytes:
    """The answer."""
    parts = [_thought(reply.thinking)] if reply.thinking else []
    if reply.text:
        parts.append(_text(reply.text))
    if reply.calls:
        parts.extend(_calls(reply))
    return _answer(ask, reply, ident, parts, reply.output_tokens, ended=True).encode()


def _text(text: str) -> str:
    return f'{{"text":{quoted(text)}}}'


def _thought(text: str) -> str:
    return f'{{"text":{quoted(text)},"thought":true}}'


def _calls(reply: Reply) -> Iterator[str]:
    """The calls that are whole: one that a token limit has cut is not shown at all."""
    for i, call in enumerate(reply.calls):
        if call.is_whole:
            yield _call(call, i)


def _call(call: ToolCall, number: int) -> str:
    """The first of parallel calls is signed."""
    signed = {"thoughtSignature": signature("", call.name)} if number == 0 else {}
    return json.dumps({"functionCall": {"name": call.name, "args": call.arguments}, **signed})


def _answer(ask: Ask, reply: Reply, ident: str, parts: list[str], tokens: int, *, ended: bool) -> str:
    """A whole answer, or one of a stream: `parts` are its own, `tokens` are those so far."""
    as_int = ask.integer_enums
    if reply.blocked:
        said = f'"promptFeedback":{{"blockReason":{json.dumps(_BLOCKED[as_int])}}}'
    else:
        said = f'"candidates":[{_candidate(reply, parts, as_int, ended=ended)}]'
    usage = _usage(reply, tokens, as_int)
    return f'{{{said},"usageMetadata":{{{usage}}},"modelVersion":{quoted(ask.model)},"responseId":"{ident}"}}'


def _usage(reply: Reply, tokens: int, as_int: bool) -> str:
    usage = (
        f'"promptTokenCount":{reply.input_tokens},"totalTokenCount":{reply.input_tokens + tokens},'
        f'"promptTokensDetails":[{{"modality":{_TEXT[as_int]},"tokenCount":{reply.input_tokens}}}]'
    )
    if tokens > reply.thinking_tokens:
        usage += f',"candidatesTokenCount":{tokens - reply.thinking_tokens}'
    if reply.thinking_tokens:
        usage += f',"thoughtsTokenCount":{reply.thinking_tokens}'
    if reply.cache_read_tokens:
        usage += f',"cachedContentTokenCount":{reply.cache_read_tokens}'
    return usage


def _candidate(reply: Reply, parts: list[str], as_int: bool, *, ended: bool) -> str:
    said = f',"parts":[{",".join(parts)}]' if parts else ""
    end = ""
    if ended and reply.finish is not None:
        end = f',"finishReason":{json.dumps(_FINISH[reply.finish][as_int])}'
    if ended and reply.finish == "refusal":
        category, probability = _HARM
        rating = {"category": category[as_int], "probability": probability[as_int], "blocked": True}
        end += f',"safetyRatings":[{json.dumps(rating)}]'
    return f'{{"index":0,"content":{{"role":"model"{said}}}{end}}}'


def frames(ask: Ask, reply: Reply, ident: str, slicer: Slicer) -> Iterator[Frame]:
    """Answers with a part each; the last one has no new text and says how and at what count it ended."""
    form = ask.stream or StreamForm()
    start, after, last = ("[", "", "]") if form.as_array else ("data: ", "\r\n\r\n", "\r\n\r\n")
    for part in _streamed(reply, slicer):
        said = _answer(ask, reply, ident, [part], slicer.tokens, ended=False)
        yield Frame(f"{start}{said}{after}".encode(), slicer.tokens)
        start = ",\r\n" if form.as_array else start
    ended = [_text("")] if reply.text else []
    said = _answer(ask, reply, ident, ended, reply.output_tokens, ended=True)
    yield Frame(f"{start}{said}{last}".encode(), reply.output_tokens, is_content=False)


def _streamed(reply: Reply, slicer: Slicer) -> Iterator[str]:
    for piece in slicer.cut(reply.thinking or ""):
        yield _thought(piece)
    for piece in slicer.cut(reply.text):
        yield _text(piece)
    for i, call in enumerate(reply.calls):  # a call comes whole, but takes its time
        for _ in slicer.cut(call.text):
            pass
        if call.is_whole:
            yield _call(call, i)
