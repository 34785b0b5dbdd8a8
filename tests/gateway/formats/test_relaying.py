"""What comes from the API of the caller goes out as it came."""

from __future__ import annotations

import json
from typing import Any

import pytest

from src.gateway.formats.problems import Problem, ProblemKind
from src.stream_events import Finished, Passed, ReasoningDelta, StreamEvent, TextDelta, ToolCallDelta

from .samples import CALL, FORMATS, SERVED, completion, request_for, streamed

RAW = {"id": "x", "choices": [{"index": 1, "logprobs": {"a": 1.5}}], "new": "\u2713"}


@pytest.mark.parametrize("form", FORMATS)
def test_an_answer_of_the_api_is_unchanged(form: str) -> None:
    body = FORMATS[form].answer(request_for(form), SERVED, completion((CALL,), raw=RAW))
    assert json.loads(body) == RAW


@pytest.mark.parametrize("form", FORMATS)
def test_a_stream_of_the_api_is_unchanged(form: str) -> None:
    raw = [b"event: a\ndata: {}", b'data: {"text":"\xc3\xbc"}', b"data: 2", b": c", b"data: 3", b"data: 4"]
    events: list[StreamEvent] = [
        Passed(b""),  # something came, and nothing is decided
        Passed(raw[0]),
        TextDelta("ü", raw[1]),
        ReasoningDelta("hm", raw[2]),
        Passed(raw[3]),
        ToolCallDelta(0, "a", "f", "", raw[4]),
        TextDelta("not sent again"),
        Finished(completion((CALL,)), raw[5]),
    ]
    end = b": provider gemini, cost $0.0001\n\n" + (b"data: [DONE]\n\n" if form == "openai" else b"")
    assert streamed(form, events) == b"".join(each + b"\n\n" for each in raw) + end


@pytest.mark.parametrize("form", FORMATS)
def test_a_relayed_stream_can_break(form: str) -> None:
    writer = FORMATS[form].stream(request_for(form, stream=True), SERVED)
    assert writer.event(TextDelta("a", b"data: 1")) == b"data: 1\n\n"
    assert b"It broke." in writer.error(Problem(ProblemKind.PROVIDER_FAILED, "It broke."))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("text", ["\ud83d", "a\u2028b\x85c", "\x00\x1f\x7f", "\U0001f30a", '"\\\r\n'])
def test_any_text_is_one_line_of_json(form: str, text: str) -> None:
    stream = streamed(form, [TextDelta(f"<{text}>")])
    lines = stream.decode().splitlines()
    assert all(line == "" or line.startswith(("data: ", "event: ", ": ")) for line in lines)
    shown = text.encode("utf-8", "replace").decode()
    found: list[Any] = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert f"<{shown}>" in strings(found)


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for each in value for text in strings(each)]
    return [value] if isinstance(value, str) else []


def test_the_usage_comes_with_a_chunk_of_its_own_where_it_was_asked_for() -> None:
    answer = completion((CALL,))
    plain = streamed("openai", [Finished(answer)])
    asked = streamed("openai", [Finished(answer)], stream_options={"include_usage": True})
    assert b"usage" not in plain
    last = asked.decode().split("\n\n")[-4]
    found = json.loads(last.removeprefix("data: "))
    assert (found["choices"], found["usage"]["total_tokens"]) == ([], 165)
