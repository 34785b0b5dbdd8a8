"""Answers, requests and histories that the tests of the formats share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from src.gateway.formats.base import CallerRequest, Format, Served
from src.gateway.formats.chat import CHAT
from src.gateway.formats.messages import MESSAGES
from src.gateway.formats.responses import RESPONSES
from src.messages import ContentPart, Reasoning, Text, ToolCall
from src.records import Completion, FinishReason, Usage
from src.stream_events import Finished, ReasoningDelta, StreamEvent, TextDelta, ToolCallDelta, deltas_of

SERVED = Served("0123456789abcdef", 1_800_000_000.25, "gemini-3.8-flash")
FORMATS: dict[str, Format] = {"openai": CHAT, "responses": RESPONSES, "anthropic": MESSAGES}
USAGE = Usage(100, 20, 5, 40, 12)
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: dict[str, list[dict[str, Any]]] = {
    "openai": [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}],
    "responses": [{"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": False}],
    "anthropic": [{"name": "get_weather", "input_schema": WEATHER}],
}
SIGNED = Reasoning('{"thoughtSignature": "c2ln"}', "gemini/gemini-3.8-flash", "The tide follows the moon.")
CALL = ToolCall("call_1", "get_weather", '{"city": "Brest"}')
PARTS: dict[str, tuple[ContentPart, ...]] = {
    "text": (Text('The moon pulls.\nTwice a day: "high" and \u2028 low \u2713 \U0001f30a'),),
    "a call": (CALL,),
    "text and calls": (Text("Let me look."), CALL, ToolCall("call_2", "get_weather", '{"city": "Kiel"}')),
    "reasoning, text and a call": (SIGNED, Text("Let me look."), CALL),
    "a signed call": (Reasoning('"c2ln"', "gemini/gemini-3.8-flash"), CALL),
    "nothing": (),
}


def body_for(form: str, **more: Any) -> dict[str, Any]:
    """A small request of an API that shows all reasoning."""
    if form == "responses":
        return {"model": "auto", "input": "Tides?", "reasoning": {"summary": "auto"}, **more}
    body: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "Tides?"}]}
    if form == "anthropic":
        body |= {"max_tokens": 4000, "thinking": {"type": "adaptive"}}
    return {**body, **more}


def request_for(form: str, **more: Any) -> CallerRequest:
    return FORMATS[form].read(body_for(form, **more), {})


def completion(
    parts: Sequence[ContentPart], reason: FinishReason | None = None, *, raw: Any = None
) -> Completion:
    text = "".join(part.text for part in parts if isinstance(part, Text))
    calls = any(isinstance(part, ToolCall) for part in parts)
    default = FinishReason.TOOL if calls else FinishReason.STOP if text else FinishReason.REFUSED
    return Completion(text, reason or default, USAGE, "gemini-3.8-flash", parts=tuple(parts), raw=raw)


def streamed(form: str, events: Sequence[StreamEvent], **more: Any) -> bytes:
    """The bytes of a stream."""
    writer = FORMATS[form].stream(request_for(form, stream=True, **more), SERVED)
    return b"".join([*map(writer.event, events), writer.end("provider gemini, cost $0.0001")])


def stream_of(answer: Completion, sizes: Sequence[int] = ()) -> list[StreamEvent]:
    """An answer as deltas of some length each."""
    found: list[StreamEvent] = []
    for event in deltas_of(answer):
        found.extend(_cut(event, sizes))
    return [*found, Finished(answer)]


def _cut(event: StreamEvent, sizes: Sequence[int]) -> list[StreamEvent]:
    if isinstance(event, TextDelta):
        return [TextDelta(piece) for piece in _pieces(event.text, sizes)]
    if isinstance(event, ToolCallDelta):
        pieces = _pieces(event.arguments, sizes)
        first = ToolCallDelta(event.number, event.id, event.name)
        return [first, *(ToolCallDelta(event.number, arguments=piece) for piece in pieces)]
    if isinstance(event, ReasoningDelta):
        return [
            *(ReasoningDelta(piece) for piece in _pieces(event.text, sizes)),
            ReasoningDelta("", whole=event.whole),
        ]
    return [event]


def _pieces(text: str, sizes: Sequence[int]) -> list[str]:
    found, at = [], 0
    for size in sizes:
        found.append(text[at : at + size])
        at += size
    return [*found, text[at:]]


def data_in(stream: bytes) -> list[Any]:
    """The JSON of the events of a stream."""
    found = []
    for block in stream.decode().split("\n\n"):
        lines = [line.removeprefix("data: ") for line in block.split("\n") if line.startswith("data: ")]
        found.extend(json.loads(line) for line in lines if line != "[DONE]")
    return found


TEXTS = st.one_of(
    st.sampled_from(["a", "The moon pulls.", ' "high"\n', "\u2028\u2713 \U0001f30a", "\t{}", "\x00."]),
    st.text(st.characters(exclude_categories=["Cs", "Z", "Cc"]), min_size=1, max_size=12),
)
NAMES = st.sampled_from(["f", "get_weather", "a-B_9"])
ARGUMENTS = st.dictionaries(NAMES, st.one_of(st.integers(-9, 9), TEXTS, st.none()), max_size=2)
REASONING = st.builds(
    Reasoning,
    st.one_of(ARGUMENTS, TEXTS).map(json.dumps),
    st.just("gemini/gemini-3.8-flash"),
    st.one_of(st.just(""), TEXTS),
)


@st.composite
def turns(draw: st.DrawFn) -> tuple[ContentPart, ...]:
    """What an assistant may answer: thoughts and texts, and calls with ids of their own at the end."""
    said = draw(st.lists(st.one_of(TEXTS.map(Text), REASONING), max_size=4))
    given = draw(st.lists(st.tuples(NAMES, ARGUMENTS), min_size=0 if said else 1, max_size=3))
    calls = [ToolCall(f"call_{i}", name, json.dumps(value)) for i, (name, value) in enumerate(given)]
    if said and not calls and not any(isinstance(part, Text) for part in said):
        said.append(Text(draw(TEXTS)))
    return (*said, *calls)
