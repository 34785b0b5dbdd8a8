"""Events that differ in their text alone: what is found by comparing is what JSON says, or nothing is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.providers.repeated_text import RepeatedText
from src.providers.sse import EventParser
from src.stream_events import TextDelta

from .test_stream_readers import Recorded, adapter_of

FORMS = ("anthropic", "openai", "responses")


def event(form: str, text: str, number: int = 3, **more: Any) -> dict[str, Any]:
    """The commonest event of a stream, with everything that varies."""
    if form == "anthropic":
        return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    if form == "openai":
        choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
        return {"id": "c", "choices": [choice], "usage": None, "obfuscation": "x" * (number % 7), **more}
    place = {"sequence_number": number, "item_id": "m", "output_index": 0, "content_index": 0}
    obfuscation = "y" * (number % 5)
    return {"type": "response.output_text.delta", **place, "delta": text, "obfuscation": obfuscation, **more}


def path(form: str) -> tuple[str, ...]:
    return {"anthropic": ("delta", "text"), "responses": ("delta",)}.get(form, ())


def text_in(form: str, data: bytes) -> str:
    found = json.loads(data)
    if form == "openai":
        return str(found["choices"][0]["delta"]["content"])
    for key in path(form):
        found = found[key]
    return str(found)


def learned(form: str, into: list[str], **how: Any) -> RepeatedText:
    repeated = RepeatedText()
    repeated.follow(b"", json.dumps(event(form, "River"), **how).encode(), "River", into.append)
    return repeated


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("compact", [False, True])
def test_the_commonest_events_are_found(form: str, compact: bool) -> None:
    how: Any = {"separators": (",", ":")} if compact else {}
    into: list[str] = []
    repeated = learned(form, into, **how)
    for number, text in enumerate([" Elbe", "x", "12", "}", ", ", "ü", "\U0001f30a"], 99):
        data = json.dumps(event(form, text, number), ensure_ascii=False, **how).encode()
        assert repeated.find(b"", data) == text == into[-1]


@given(
    form=st.sampled_from(FORMS), text=st.text(max_size=12), number=st.integers(0, 2000), ascii=st.booleans()
)
def test_what_is_found_is_what_json_says(form: str, text: str, number: int, ascii: bool) -> None:
    text = text.encode("utf-8", "replace").decode()
    data = json.dumps(event(form, text, number), ensure_ascii=ascii).encode()
    found = learned(form, []).find(b"", data)
    assert found is None or found == text == text_in(form, data)


@given(form=st.sampled_from(FORMS), data=st.data())
def test_a_changed_event_is_read_as_json(form: str, data: st.DataObject) -> None:
    """Any bytes anywhere: nothing is found that JSON would read otherwise, or not at all."""
    whole = json.dumps(event(form, "Elbe", 7)).encode()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 4)))
    piece = data.draw(
        st.sampled_from([b"", b'"', b"\\", b"\\u0000", b"}", b'","a":"', b"\n", b"\xff", b"null"])
    )
    changed = whole[:start] + piece + whole[end:]
    found = learned(form, []).find(b"", changed)
    if found is not None:
        assert found == text_in(form, changed)
        same = {"obfuscation": None, "sequence_number": None}
        assert json.loads(changed) | same == event(form, found, 7) | same


def test_what_happens_between_two_texts_counts() -> None:
    one, two = list[str](), list[str]()
    data = json.dumps(event("anthropic", "River")).encode()
    repeated = learned("anthropic", one)
    repeated.follow(b"", b"{}", "", None)
    assert repeated.find(b"", data) is None, "after another kind of event one has to be read"
    repeated.follow(b"", json.dumps(event("anthropic", "a\nb")).encode(), "a\nb", one.append)
    assert repeated.find(b"", data) == "River"
    assert repeated.find(b"other", data) is None, "an event of another name"
    repeated.follow(b"", json.dumps(event("anthropic", "a\nb")).encode(), "a\nb", two.append)
    assert repeated.find(b"", data) is None, "another block"
    assert (one, two) == (["River"], [])


def test_a_stream_that_repeats_nothing_is_not_compared_for_ever() -> None:
    repeated, into = RepeatedText(), list[str]()
    for number in range(50):
        data = json.dumps({"id": str(number), "delta": "text"}).encode()
        assert repeated.find(b"", data) is None
        repeated.follow(b"", data, "text", into.append)
    repeated.follow(b"", json.dumps({"delta": "text"}).encode(), "text", into.append)
    assert repeated.find(b"", json.dumps({"delta": "other"}).encode()) is None


@pytest.mark.parametrize("form", FORMS)
@given(texts=st.lists(st.text(max_size=6), max_size=30))
def test_an_answer_is_the_same_with_and_without_repeated_texts(form: str, texts: list[str]) -> None:
    texts = [text.encode("utf-8", "replace").decode().replace("\0", "") for text in texts]
    chunks = [event(form, text, number) for number, text in enumerate(texts)]
    start: list[dict[str, Any]] = []
    if form == "anthropic":
        start = [{"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}]
    stream = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in (*start, *chunks))
    found = []
    for compares in (True, False):
        case = Recorded(form, "text", b"", stream)
        reader = adapter_of(case.api)._reader(case.request())
        events = []
        for received in EventParser(10**6).feed(stream):
            if not compares:
                reader._repeated = RepeatedText()
            events.extend(reader.read(received))
        found.append((events, reader.body()))
    assert found[0] == found[1]
    told = "".join(each.text for each in found[0][0] if isinstance(each, TextDelta))
    assert told == "".join(texts)
