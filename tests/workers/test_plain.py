"""Requests, answers and errors survive the way to a worker and back, as plain data alone."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.errors import PROVIDER_ERRORS, InternalError, ProviderError, SchemaMismatch
from src.messages import Document, Image, Message, Reasoning, Text, Tool, ToolCall, ToolResult
from src.records import (
    Candidate,
    Completion,
    CompletionRequest,
    FinishReason,
    LimitReport,
    Native,
    Placement,
    RefusalKind,
    Task,
    Usage,
)
from src.workers.plain import (
    decode_completion,
    decode_error,
    decode_placement,
    decode_request,
    encode_completion,
    encode_error,
    encode_placement,
    encode_request,
)

PLAIN = (dict, list, str, int, float, bool, bytes, type(None))
NOW = 1_800_000_000.0

texts = st.text(max_size=20)
names = st.text("abcdefgh-", min_size=1, max_size=8)
numbers = st.integers(0, 10**9)
seconds = st.floats(0, 1e6)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(names, json_values, max_size=3)
media = (
    st.builds(Text, texts, st.booleans()) | st.builds(Image, names, texts) | st.builds(Document, names, texts)
)
parts = st.lists(
    media
    | st.builds(ToolCall, texts, names, texts)
    | st.builds(ToolResult, texts, st.lists(media, max_size=2).map(tuple), st.booleans())
    | st.builds(Reasoning, texts, names, texts),
    max_size=3,
).map(tuple)
messages = st.builds(Message, st.sampled_from(["system", "user", "assistant", "tool"]), texts | parts)
usages = st.builds(Usage, numbers, numbers, numbers, numbers, numbers)
limits = st.lists(
    st.builds(LimitReport, names, numbers, st.none() | numbers, st.none() | seconds), max_size=2
).map(tuple)
requests = st.builds(
    CompletionRequest,
    names,
    st.lists(messages, max_size=3).map(tuple),
    numbers,
    temperature=st.none() | seconds,
    top_p=st.none() | seconds,
    seed=st.none() | numbers,
    stop=st.lists(texts, max_size=2).map(tuple),
    timeout_s=seconds,
    response_schema=st.none() | objects,
    reasoning_effort=st.none() | names,
    tools=st.lists(
        st.builds(Tool, names, texts, st.none() | objects, st.none() | st.booleans()), max_size=2
    ).map(tuple),
    tool_choice=texts,
    parallel_tool_calls=st.none() | st.booleans(),
    native=st.none() | st.builds(Native, names, objects, st.dictionaries(names, texts, max_size=2)),
    first_token_timeout_s=st.none() | seconds,
    stall_timeout_s=st.none() | seconds,
    parameters=st.fixed_dictionaries({"unsent": st.lists(names).map(tuple), "thinking": names}),
    cache_key=texts,
    cached_turns=numbers,
    service_tier=st.sampled_from(["", "flex"]),
)
completions = st.builds(
    Completion,
    texts,
    st.sampled_from(FinishReason),
    usages,
    names,
    limits,
    st.lists(texts, max_size=2).map(tuple),
    texts,
    parts,
    st.none() | st.binary(max_size=5) | objects,
    st.sampled_from(["", "flex"]),
)


def assert_plain(value: Any) -> None:
    """By exact type: an enum that is a str would be pickled as a class of this project."""
    assert type(value) in PLAIN, f"{type(value)} is no plain data"
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        assert_plain(each)


@given(requests)
def test_a_request_comes_back_as_it_was(request: CompletionRequest) -> None:
    plain = encode_request(request)
    assert_plain(plain)
    assert decode_request(plain) == request


def test_every_field_of_a_request_is_drawn() -> None:
    """Else a new field could get lost on the way."""
    drawn = set(requests.wrapped_strategy.kwargs) | {"model", "messages", "max_tokens"}  # type: ignore[attr-defined]
    assert drawn == {each.name for each in fields(CompletionRequest)}


@given(completions)
def test_an_answer_comes_back_as_it_was(completion: Completion) -> None:
    plain = encode_completion(completion)
    assert_plain(plain)
    assert decode_completion(plain) == completion


candidates = st.builds(
    Candidate, names, names, seconds, st.sampled_from(["", *RefusalKind, *map(str, RefusalKind)]), texts
)
placements = st.builds(
    Placement,
    permit=st.just(0),
    task=st.just(Task("t1", "b", (Message("user", "x"),), row=7)),
    provider=names,
    model=names,
    group=names,
    tier=names,
    agent=names,
    max_tokens=numbers,
    choice=names,
    reasons=st.lists(candidates, max_size=3).map(tuple),
    at=st.just(NOW),
    timeout_s=seconds,
    attempt=numbers,
    warnings=st.lists(texts, max_size=2).map(tuple),
    reserved_nanos=numbers,
    forced=st.booleans(),
    cache_key=texts,
    cached_turns=numbers,
)


@given(placements)
def test_a_placement_comes_back_to_the_next_leader(placement: Placement) -> None:
    plain = encode_placement(placement)
    assert_plain(plain)
    assert decode_placement(plain, placement.task, NOW) == placement
    assert plain["task"] == {"row": 7, "batch": "b", "id": "t1", "submitter": "local"}


def error_of(kind: str, facts: dict[str, Any]) -> ProviderError:
    cls = PROVIDER_ERRORS[kind]
    if cls is SchemaMismatch:
        return SchemaMismatch("it failed", answer="a", problems="p", **facts)
    return cls("it failed", **facts)


errors = st.builds(
    error_of,
    st.sampled_from(sorted(PROVIDER_ERRORS)),
    st.fixed_dictionaries(
        {},
        optional={
            "provider": names,
            "model": names,
            "status": st.none() | numbers,
            "code": texts,
            "retry_after_s": st.none() | seconds,
            "resets_at": st.none() | st.integers(0, 10**6).map(lambda s: NOW + s),
            "reset_guessed": st.booleans(),
            "sent": st.booleans(),
            "limits": limits,
            "usage": st.none() | usages,
        },
    ),
)


@given(errors)
def test_an_error_comes_back_with_its_class_and_all_fields(error: ProviderError) -> None:
    plain = encode_error(error, NOW)
    assert_plain(plain)
    found = decode_error(plain, NOW)
    assert type(found) is type(error)
    assert vars(found) == vars(error)
    assert str(found) == str(error)


@pytest.mark.parametrize("kind", PROVIDER_ERRORS)
def test_no_class_has_a_field_that_does_not_travel(kind: str) -> None:
    error = error_of(kind, {"provider": "openai", "resets_at": NOW + 5.0})
    assert vars(decode_error(encode_error(error, NOW), NOW)) == vars(error)


def test_a_reset_moves_with_the_clock_of_the_leader() -> None:
    error = error_of("QuotaExhausted", {"resets_at": NOW + 60.0})
    assert decode_error(encode_error(error, NOW), NOW + 1_000.0).resets_at == NOW + 1_060.0


def test_an_error_of_a_later_version_is_nobodys_fault() -> None:
    plain = encode_error(error_of("TimedOut", {"provider": "openai"}), NOW)
    found = decode_error({**plain, "kind": "OutOfPaper"}, NOW)
    assert isinstance(found, InternalError)
    assert "OutOfPaper" in found.message
    assert not found.counts_against_health
