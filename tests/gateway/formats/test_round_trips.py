"""What an answer says comes back unharmed in the next turn, however it was cut into deltas."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.gateway.formats.base import FormatError
from src.gateway.formats.sealing import PREFIX, is_sealed, seal
from src.messages import ContentPart, Reasoning, Text, ToolCall
from src.simulator.anthropic_requests import read_message
from src.simulator.openai_requests import read_chat
from src.simulator.responses_requests import read_response
from src.stream_events import Finished, ReasoningDelta, StreamEvent, ToolCallDelta

from .next_turn import accumulated, came_back, comparable, next_body
from .samples import (
    CALL,
    FORMATS,
    REASONING,
    SERVED,
    SIGNED,
    TOOLS,
    completion,
    request_for,
    stream_of,
    streamed,
    turns,
)

SIZES = st.lists(st.integers(0, 6), max_size=6)


def answered(form: str, parts: Sequence[ContentPart], **more: Any) -> dict[str, Any]:
    body = FORMATS[form].answer(request_for(form, **more), SERVED, completion(parts))
    found: dict[str, Any] = json.loads(body)
    return found


@pytest.mark.parametrize("form", FORMATS)
@given(parts=turns())
def test_an_answer_comes_back_as_it_was(form: str, parts: tuple[ContentPart, ...]) -> None:
    found = came_back(form, answered(form, parts))
    assert comparable(form, found, texts_joined=False) == comparable(form, parts, texts_joined=False)


@pytest.mark.parametrize("form", FORMATS)
@given(parts=turns(), sizes=SIZES)
def test_a_stream_comes_back_as_it_was(form: str, parts: tuple[ContentPart, ...], sizes: list[int]) -> None:
    found = came_back(form, accumulated(form, streamed(form, stream_of(completion(parts), sizes))))
    assert comparable(form, found, texts_joined=True) == comparable(form, parts, texts_joined=True)


@pytest.mark.parametrize("form", FORMATS)
@given(parts=turns(), sizes=SIZES)
def test_the_pieces_of_a_stream_do_not_matter(
    form: str, parts: tuple[ContentPart, ...], sizes: list[int]
) -> None:
    answer = completion(parts)
    whole = accumulated(form, streamed(form, stream_of(answer)))
    assert accumulated(form, streamed(form, stream_of(answer, sizes))) == whole
    assert accumulated(form, streamed(form, [Finished(answer)])) == whole


def without_wholes(events: Sequence[StreamEvent]) -> list[StreamEvent]:
    return [event._replace(whole=None) if isinstance(event, ReasoningDelta) else event for event in events]


@pytest.mark.parametrize("form", ["responses", "anthropic"])
@given(parts=turns())
def test_reasoning_that_only_the_end_brings_comes_back_in_its_place(
    form: str, parts: tuple[ContentPart, ...]
) -> None:
    joined = comparable("", parts, texts_joined=True)
    if any(isinstance(part, Text) for part in parts):  # adapters join texts in a row
        parts = tuple(
            next(p for p in parts if isinstance(p, ToolCall) and p.id == part[0])
            if isinstance(part, tuple)
            else part
            for part in joined
        )
    found = came_back(form, accumulated(form, streamed(form, without_wholes(stream_of(completion(parts))))))
    assert comparable(form, found, texts_joined=True) == joined


@pytest.mark.parametrize("form", ["responses", "anthropic"])
@given(reasoning=REASONING)
def test_reasoning_comes_back_to_a_caller_that_does_not_read_it(form: str, reasoning: Reasoning) -> None:
    hidden: dict[str, Any] = {"thinking": None} if form == "anthropic" else {"reasoning": None}
    reasoning = replace(reasoning, text=f"\N{SNOWMAN}{reasoning.text}")  # no word of the API itself
    for answer in (
        answered(form, (reasoning, CALL), **hidden),
        accumulated(form, streamed(form, stream_of(completion((reasoning, CALL)), [2]), **hidden)),
    ):
        readable = without_seals(answer)
        assert reasoning.text not in json.dumps(readable, ensure_ascii=False)
        assert came_back(form, answer)[0] == reasoning


def without_seals(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_seals(each) for key, each in value.items() if not is_sealed(each)}
    return [without_seals(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("form", ["responses", "anthropic"])
def test_thoughts_that_no_model_wants_back_are_shown_and_forgotten(form: str) -> None:
    thought = Reasoning("", "", "The tide follows the moon.")
    answer = answered(form, (thought, CALL))
    assert thought.text in json.dumps(answer)
    assert came_back(form, answer) == (replace(CALL),)
    events = [
        ReasoningDelta("The tide "),
        ReasoningDelta("follows the moon."),
        *stream_of(completion((CALL,))),
    ]
    found = accumulated(form, streamed(form, events))
    assert thought.text in json.dumps(found)
    assert came_back(form, found) == (CALL,)


@pytest.mark.parametrize("form", ["responses", "anthropic"])
def test_the_api_itself_gets_no_reasoning_of_others(form: str) -> None:
    body = next_body(form, answered(form, (SIGNED, Text("Let me look."), CALL)))
    read = FORMATS[form].read(body, {})
    assert PREFIX in json.dumps(body)
    assert PREFIX not in json.dumps(read.native.body)
    assert "Let me look." in json.dumps(read.native.body)
    assert any(SIGNED in message.parts for message in read.messages)


@pytest.mark.parametrize("form", ["responses", "anthropic"])
@pytest.mark.parametrize("word", ["", "x", "AAAA", "W10=", "WyJ7IiwgIm8iLCAiIiwgLTFd"])
def test_a_broken_seal_is_a_bad_request(form: str, word: str) -> None:
    answer = answered(form, (SIGNED, CALL))
    text = json.dumps(next_body(form, answer)).replace(seal(SIGNED, with_text=False), PREFIX + word)
    assert PREFIX + word in text
    with pytest.raises(FormatError, match="has been changed"):
        FORMATS[form].read(json.loads(text), {})


IDS = ["", "functions.get_weather:0", "x" * 41, "ü"]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("ident", IDS)
def test_an_id_that_the_api_would_refuse_gets_another_one(form: str, ident: str) -> None:
    calls = (replace(CALL, id=ident), replace(CALL, id=ident))
    found = [part.id for part in came_back(form, answered(form, calls)) if isinstance(part, ToolCall)]
    assert len(set(found)) == 2
    assert all(each.startswith("toolu_" if form == "anthropic" else "call_") for each in found)
    again = came_back(form, accumulated(form, streamed(form, stream_of(completion(calls)))))
    assert [part.id for part in again if isinstance(part, ToolCall)] == found


@pytest.mark.parametrize("form", ["responses", "anthropic"])
def test_pieces_of_a_call_that_has_ended_are_an_error(form: str) -> None:
    events = [
        ToolCallDelta(0, "a", "f", "{"),
        ToolCallDelta(1, "b", "f", "{"),
        ToolCallDelta(0, arguments="}"),
    ]
    with pytest.raises(Exception, match="continued a tool call"):
        streamed(form, events)


@pytest.mark.parametrize("form", FORMATS)
def test_white_space_before_a_call_is_no_text_that_anthropic_would_refuse(form: str) -> None:
    parts = (Text("\n\n"), CALL)
    expected = [CALL] if form == "anthropic" else list(parts)
    assert list(came_back(form, answered(form, parts))) == expected
    assert (
        list(came_back(form, accumulated(form, streamed(form, stream_of(completion(parts), [1])))))
        == expected
    )
    said = accumulated(form, streamed(form, stream_of(completion((Text("\n\n The moon"),)), [1, 2])))
    assert came_back(form, said) == (Text("\n\n The moon"),)


READERS: dict[str, Callable[[Any], object]] = {
    "openai": read_chat,
    "responses": read_response,
    "anthropic": read_message,
}


@pytest.mark.parametrize("form", FORMATS)
@given(parts=turns(), sizes=SIZES)
def test_the_api_itself_takes_the_next_turn(
    form: str, parts: tuple[ContentPart, ...], sizes: list[int]
) -> None:
    """The simulator is as strict as the real APIs."""
    for answer in (
        answered(form, parts),
        accumulated(form, streamed(form, stream_of(completion(parts), sizes))),
        accumulated(form, streamed(form, without_wholes(stream_of(completion(parts), sizes)))),
    ):
        body = {**next_body(form, answer), "tools": TOOLS[form]}
        if form == "responses":
            body |= {"store": False, "include": ["reasoning.encrypted_content"]}
        READERS[form](FORMATS[form].read(body, {}).native.body)
