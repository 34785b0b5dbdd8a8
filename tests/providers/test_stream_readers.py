"""Recorded streams of each API: any division of their bytes gives the same events and the same answer."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.messages import Reasoning, Text, Tool, ToolCall
from src.providers.answer_reader import AnswerReader
from src.providers.factory import build_adapter
from src.providers.sse import EventParser
from src.providers.stream_reader import BrokenStream, ErrorEvent
from src.records import Completion, CompletionRequest, Native
from src.simulator.process import SimulatorProcess
from src.stream_events import ReasoningDelta, StreamEvent, TextDelta, ToolCallDelta

from ..simulator.histories import request as body_for
from ..simulator.histories import tools, user
from .conftest import FAST, access_to, ask

FORMS = ("anthropic", "openai", "responses", "gemini")
TOOLS = (Tool("get_weather"), Tool("get_time"))
PATHS = {
    "anthropic": ("/v1/messages", "/v1/messages"),
    "openai": ("/chat/completions", "/chat/completions"),
    "responses": ("/responses", "/responses"),
    "gemini": (
        "/v1beta/models/gemini-3.8-flash:generateContent",
        "/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse",
    ),
}
KINDS = ("text", "unicode", "tools", "reasoning")
PROMPTS = {
    "text": "Explain the tides.",
    "unicode": "\U0001f30a naïve “café” \u2028",
    "tools": "call get_weather and get_time",
    "reasoning": "call get_weather",
}
REASONS: dict[str, dict[str, Any]] = {
    "anthropic": {"thinking": {"type": "enabled", "budget_tokens": 1_024}},
    "openai": {"reasoning_effort": "high"},
    "responses": {
        "reasoning": {"effort": "high", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
    },
    "gemini": {"generationConfig": {"thinkingConfig": {"includeThoughts": True, "thinkingLevel": "HIGH"}}},
}


@dataclass(frozen=True)
class Recorded:
    """One answer of the simulator, at once and as a stream."""

    form: str
    kind: str
    whole: bytes
    stream: bytes

    @property
    def api(self) -> str:
        return "openai" if self.form == "responses" else self.form

    def request(self, *, native: bool = False) -> CompletionRequest:
        found = ask(self.api, PROMPTS[self.kind], tools=TOOLS, max_tokens=4_000)
        if not native and self.form != "responses":
            return found
        return replace(found, native=Native(self.form, {"stream_options": {"include_usage": True}}))

    def read(self, pieces: Sequence[bytes], *, native: bool = False) -> tuple[list[StreamEvent], Completion]:
        adapter, request = adapter_of(self.api), self.request(native=native)
        reader, parser = adapter._reader(request), EventParser(10_000_000)
        events: list[StreamEvent] = []
        for piece in pieces:
            for event in parser.feed(piece):
                events.extend(reader.read(event))
        events.extend(reader.last())
        assert reader.whole
        return events, adapter._whole(reader.body(), request, {}, (), ())


@cache
def adapter_of(api: str) -> Any:
    found = build_adapter(access_to(api, "http://127.0.0.1:9", responses_api=api == "openai"), 1)
    assert isinstance(found, AnswerReader)
    return found


def body_of(form: str, kind: str) -> dict[str, Any]:
    more: dict[str, Any] = {}
    if kind in ("tools", "reasoning"):
        more["tools"] = tools("openai" if form == "responses" else form)
    if kind == "reasoning":
        more |= REASONS[form]
    if form == "responses":
        more["tools"] = [{"type": "function", **each["function"]} for each in more.get("tools", ())]
        return {"model": "gpt-6-luna", "input": PROMPTS[kind], **more}
    found = body_for(form, [user(form, PROMPTS[kind])], **more)
    if form != "gemini":
        found["max_tokens"] = 4_000
    return found


def post(url: str, body: dict[str, Any]) -> bytes:
    headers = {
        "x-api-key": "k",
        "Authorization": "Bearer k",
        "x-goog-api-key": "k",
        "Content-Type": "application/json",
    }
    asked = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 - of loopback
    with urllib.request.urlopen(asked, timeout=30) as response:  # noqa: S310
        return bytes(response.read())


@pytest.fixture(scope="module")
def recorded(own_simulator: SimulatorProcess) -> Iterator[dict[tuple[str, str], Recorded]]:
    found = {}
    for form in FORMS:
        api = "openai" if form == "responses" else form
        own_simulator.patch(api, {**FAST, "chunk_tokens": 3})
        for kind in KINDS:
            body, (path, stream_path) = body_of(form, kind), PATHS[form]
            own_simulator.reset()  # equal numbers of calls give equal ids
            whole = post(own_simulator.base_urls[api] + path, body)
            own_simulator.reset()
            streamed = body if form == "gemini" else {**body, "stream": True}
            if form == "openai":
                streamed["stream_options"] = {"include_usage": True}
            stream = post(own_simulator.base_urls[api] + stream_path, streamed)
            found[form, kind] = Recorded(form, kind, whole, stream)
        own_simulator.patch(api, {"chunk_tokens": None})
    yield found


CASES = [pytest.param(form, kind, id=f"{form}-{kind}") for form in FORMS for kind in KINDS]


def told(events: Sequence[StreamEvent]) -> tuple[str, list[tuple[str, str, str]], list[Reasoning]]:
    """Text, calls and reasoning, put together from the deltas."""
    text, calls, thoughts = "", {}, []
    for event in events:
        if isinstance(event, TextDelta):
            text += event.text
        elif isinstance(event, ToolCallDelta):
            ident, name, arguments = calls.get(event.number, ("", "", ""))
            calls[event.number] = (ident or event.id, name or event.name, arguments + event.arguments)
        elif isinstance(event, ReasoningDelta) and event.whole is not None:
            thoughts.append(event.whole)
    return text, [calls[number] for number in sorted(calls)], thoughts


def held(completion: Completion) -> tuple[str, list[tuple[str, str, str]], list[Reasoning]]:
    parts = completion.parts or (Text(completion.text),)
    calls = [(part.id, part.name, part.arguments) for part in parts if isinstance(part, ToolCall)]
    return completion.text, calls, [part for part in parts if isinstance(part, Reasoning)]


def plain(completion: Completion) -> Completion:
    """Without what the API itself makes different: ids, and the body."""
    parts = tuple(replace(p, id="") if isinstance(p, ToolCall) else p for p in completion.parts)
    return replace(completion, parts=parts, raw=None, request_id="")


@pytest.mark.parametrize(("form", "kind"), CASES)
def test_a_stream_is_the_same_answer(recorded: dict[tuple[str, str], Recorded], form: str, kind: str) -> None:
    case = recorded[form, kind]
    events, completion = case.read([case.stream])
    at_once = adapter_of(case.api)._answer(case.whole, case.request(), {}, (), ())
    assert plain(completion) == plain(at_once)
    assert completion.warnings == ()
    text, calls, thoughts = told(events)
    expected = held(completion)
    assert (text, [(i, n, json.loads(a)) for i, n, a in calls]) == (
        expected[0],
        [(i, n, json.loads(a)) for i, n, a in expected[1]],
    )
    assert len(calls) == {"tools": 2, "reasoning": 1}.get(kind, 0)
    if form != "responses":  # its caller reads the events as they are
        assert thoughts == [each for each in expected[2] if each.opaque != "{}"]
    if kind == "reasoning" and form != "openai":
        assert expected[2]


@given(cuts=st.lists(st.integers(0, 30_000), max_size=60), data=st.data())
@settings(deadline=None, max_examples=60)
def test_any_division_gives_the_same_events_and_answer(
    recorded: dict[tuple[str, str], Recorded], cuts: list[int], data: st.DataObject
) -> None:
    case = recorded[data.draw(st.sampled_from(FORMS)), data.draw(st.sampled_from(KINDS))]
    at = sorted({0, len(case.stream), *(cut % len(case.stream) for cut in cuts)})
    pieces = [case.stream[start:end] for start, end in pairwise(at)]
    native = data.draw(st.booleans()) and case.form != "gemini"
    events, completion = case.read(pieces, native=native)
    expected_events, expected = case.read([case.stream], native=native)
    if case.form == "gemini":  # its calls have no ids, so each reading makes up new ones
        events, expected_events = [without_id(e) for e in events], [without_id(e) for e in expected_events]
        completion, expected = plain(completion), plain(expected)
    assert events == expected_events
    assert completion == expected


def without_id(event: StreamEvent) -> StreamEvent:
    return event._replace(id="") if isinstance(event, ToolCallDelta) else event


@pytest.mark.parametrize(("form", "kind"), [each for each in CASES if "gemini" not in str(each.id)])
def test_native_events_are_the_stream_as_it_was_received(
    recorded: dict[tuple[str, str], Recorded], form: str, kind: str
) -> None:
    case = recorded[form, kind]
    events, completion = case.read([case.stream], native=True)
    reader = adapter_of(case.api)._reader(case.request(native=True))
    for event in EventParser(10_000_000).feed(case.stream):
        reader.read(event)
    received = [event.raw for event in events] + [reader.final_raw]
    blocks = [block for block in case.stream.split(b"\n\n") if block]
    if form == "openai":
        assert blocks.pop() == b"data: [DONE]"
        received.pop()
    assert received == blocks
    assert completion.raw is not None
    sent = json.loads(case.whole)
    if form != "openai":  # whose chunks leave out empty lists of a message
        assert {**completion.raw, "id": ""} == {**sent, "id": ""}


def test_the_usage_that_the_caller_did_not_ask_for_is_not_passed_on(
    recorded: dict[tuple[str, str], Recorded],
) -> None:
    case = recorded["openai", "text"]
    request = replace(case.request(), native=Native("openai", {"messages": []}))
    reader = adapter_of("openai")._reader(request)
    events = [event for each in EventParser(10_000_000).feed(case.stream) for event in reader.read(each)]
    assert not any(b'"choices":[]' in event.raw for event in events)
    assert reader.body()["usage"]["completion_tokens"] > 0


# -- what compatible servers send, and what nobody should --


def chat(*chunks: Any) -> bytes:
    return (
        b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"
    )


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"id": "c", "model": "m", "choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


USAGE = {"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 8}}
CALL = {"id": "a", "type": "function", "function": {"name": "get_weather", "arguments": "{"}}
MORE = {"function": {"arguments": "}"}}
ODD_CHATS: dict[str, tuple[bytes, str, list[tuple[str, str, str]]]] = {
    "no-index": (
        chat(delta(tool_calls=[CALL]), delta(tool_calls=[MORE]), delta("stop"), USAGE),
        "",
        [("a", "get_weather", "{}")],
    ),
    "no-index-two": (
        chat(
            delta(tool_calls=[CALL]),
            delta(tool_calls=[MORE]),
            delta(tool_calls=[{**CALL, "id": "b"}, MORE]),
            delta("tool_calls"),
            USAGE,
        ),
        "",
        [("a", "get_weather", "{}"), ("b", "get_weather", "{}")],
    ),
    "id-in-every-chunk": (
        chat(
            delta(tool_calls=[{"index": 0, **CALL}]),
            delta(tool_calls=[{"index": 0, "id": "a", **MORE}]),
            delta("stop"),
            USAGE,
        ),
        "",
        [("a", "get_weather", "{}")],
    ),
    "text-and-end-in-one": (
        chat(delta(role="assistant", content="Hi "), delta("stop", content="you."), USAGE),
        "Hi you.",
        [],
    ),
    "empty-reason": (chat(delta("", content="Hi."), delta("stop", content=""), USAGE), "Hi.", []),
    "parts": (
        chat(
            delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]),
            delta(content="Hi."),
            delta("stop"),
            USAGE,
        ),
        "Hi.",
        [],
    ),
    "usage-in-every-chunk": (
        chat(
            {**delta(content="Hi."), "usage": {"prompt_tokens": 12, "completion_tokens": 1}},
            delta("stop"),
            USAGE,
        ),
        "Hi.",
        [],
    ),
    "no-content-type-of-delta": (
        chat(delta(content="Hi."), {"choices": [{"finish_reason": "stop"}]}, USAGE),
        "Hi.",
        [],
    ),
    "azure-filter-first": (
        chat({"choices": [], "prompt_filter_results": []}, delta(content="Hi."), delta("stop"), USAGE),
        "Hi.",
        [],
    ),
}


@pytest.mark.parametrize(("stream", "text", "calls"), ODD_CHATS.values(), ids=ODD_CHATS)
def test_chunks_of_compatible_servers(stream: bytes, text: str, calls: list[tuple[str, str, str]]) -> None:
    case = Recorded("openai", "text", b"", stream)
    events, completion = case.read([stream])
    assert told(events)[:2] == (text, calls)
    assert held(completion)[:2] == (text, calls)
    assert completion.usage.output_tokens == 8


def test_reasoning_of_compatible_servers_is_told_before_the_text() -> None:
    stream = chat(
        delta(reasoning_content="h"), delta(reasoning_content="m"), delta(content="Hi."), delta("stop"), USAGE
    )
    events, completion = Recorded("openai", "text", b"", stream).read([stream])
    assert [type(event) for event in events[:4]] == [
        ReasoningDelta,
        ReasoningDelta,
        ReasoningDelta,
        TextDelta,
    ]
    assert (
        told(events)[2]
        == held(completion)[2]
        == [Reasoning('{"reasoning_content": "hm"}', "openai/gpt-6-luna", "hm")]
    )


BROKEN = {
    "not JSON": b"data: {\n\n",
    "a list": b"data: []\n\n",
    "an index out of range": chat({"choices": [{"index": 10**9, "delta": {"content": "x"}}]}),
    "a negative index": chat({"choices": [{"index": -1, "delta": {"content": "x"}}]}),
    "arguments that are no text": chat(
        delta(tool_calls=[{**CALL, "function": {"name": "f", "arguments": {"a": 1}}}])
    ),
    "nested too deeply": b"data: " + b"[" * 100_000 + b"\n\n",
}


@pytest.mark.parametrize("stream", BROKEN.values(), ids=BROKEN)
def test_events_that_are_none_of_the_api_are_refused(stream: bytes) -> None:
    with pytest.raises(BrokenStream):
        Recorded("openai", "text", b"", stream).read([stream])


@pytest.mark.parametrize("form", FORMS)
@given(st.data())
@settings(deadline=None, max_examples=60)
def test_any_json_is_read_or_refused(form: str, data: st.DataObject) -> None:
    """Whatever an event holds: no other exception than those two."""
    keys = st.sampled_from(
        [
            "type",
            "index",
            "delta",
            "choices",
            "content",
            "text",
            "tool_calls",
            "function",
            "candidates",
            "parts",
            "content_block",
            "message",
            "usage",
            "item",
            "response",
            "finish_reason",
            "functionCall",
            "arguments",
            "output_index",
            "thinking",
            "partial_json",
            "error",
            "usageMetadata",
            "citation",
            "reasoning",
        ]
    )
    kinds = st.sampled_from(
        [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "text_delta",
            "input_json_delta",
            "tool_use",
            "thinking",
            "response.output_item.added",
            "function_call",
            "response.output_text.delta",
            "response.function_call_arguments.delta",
            "citations_delta",
        ]
    )
    leaves = st.none() | st.booleans() | st.integers(-2, 3) | st.text("ab", max_size=2) | kinds
    values = st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=5),
        max_leaves=12,
    )
    request = Recorded(form, "text", b"", b"").request()
    reader = adapter_of("openai" if form == "responses" else form)._reader(request)
    for chunk in data.draw(st.lists(st.dictionaries(keys, values, max_size=6), max_size=4)):
        event = EventParser(10_000).feed(b"data: " + json.dumps(chunk).encode() + b"\n\n")[0]
        try:
            for told_ in reader.read(event):
                assert told_ is not None
        except (BrokenStream, ErrorEvent):
            return
    json.dumps(reader.body())
    reader.last()


def test_a_long_text_in_small_chunks_takes_linear_time() -> None:
    async def seconds(chunks: int) -> float:
        stream = chat(*[delta(content="word ", refusal="x")] * chunks, delta("stop"), USAGE)
        request = Recorded("openai", "text", b"", b"").request()
        loop = asyncio.get_running_loop()
        start = loop.time()
        reader = adapter_of("openai")._reader(request)
        for event in EventParser(10**9).feed(stream):
            reader.read(event)
        reader.body()
        return loop.time() - start

    small, large = asyncio.run(seconds(2_000)), asyncio.run(seconds(20_000))
    assert large < 40 * small + 0.5
