"""Usage that can't be true is estimated, with a warning, whatever the API format."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.messages import Message
from src.providers import usage
from src.providers.usage import USAGE_ESTIMATED, Reported
from src.records import CompletionRequest, Usage

REQUEST = CompletionRequest("m", (Message("user", "p" * 400),), max_tokens=50)
TEXT = "a" * 80  # estimates: 100 and 20 tokens


def read(prompt: int | None, output: int | None, **more: int) -> tuple[Usage, tuple[str, ...]]:
    return usage.of_answer(Reported(prompt, output, **more), REQUEST, TEXT)


POSSIBLE = [(100, 20), (2_800, 100), (2, 1)]


@pytest.mark.parametrize(("prompt", "output"), POSSIBLE)
def test_what_can_be_true_is_taken(prompt: int, output: int) -> None:
    assert read(prompt, output) == (Usage(prompt, 0, 0, output, 0), ())


IMPOSSIBLE: list[tuple[int | None, int | None, tuple[int, int], str]] = [
    (None, None, (100, 20), USAGE_ESTIMATED),
    (None, 7, (100, 7), "the provider reported no input tokens; estimated from characters"),
    (100, None, (100, 20), "the provider reported no output tokens; estimated from characters"),
    (0, 20, (100, 20), "the provider reported only 0 input tokens; estimated from characters"),
    (100, 0, (100, 20), "the provider reported only 0 output tokens; estimated from characters"),
    (
        2_801,
        20,
        (100, 20),
        "the provider reported 2,801 (at most 2,800 are possible) input tokens; estimated from characters",
    ),
    (
        100,
        101,
        (100, 20),
        "the provider reported 101 (at most 100 are possible) output tokens; estimated from characters",
    ),
    (
        0,
        0,
        (100, 20),
        "the provider reported only 0 input tokens and only 0 output tokens; estimated from characters",
    ),
]


@pytest.mark.parametrize(("prompt", "output", "found", "warning"), IMPOSSIBLE)
def test_what_can_not_be_true_is_estimated_and_said(
    prompt: int | None, output: int | None, found: tuple[int, int], warning: str
) -> None:
    counted, warnings = read(prompt, output)
    assert (counted.prompt_tokens, counted.output_tokens) == found
    assert warnings == (warning,)


def test_thinking_headroom_and_a_prompt_in_bytes_are_allowed_for() -> None:
    thinking = CompletionRequest("m", (Message("user", "ü" * 400),), 50, parameters={usage.HEADROOM: 1_000})
    reported = Reported(3_600, 2_100, reasoning=2_000)
    assert usage.of_answer(reported, thinking, TEXT) == (Usage(3_600, 0, 0, 2_100, 2_000), ())


def test_parts_are_never_more_than_the_whole() -> None:
    counted, _ = read(100, 20, cache_read=90, cache_write=90, reasoning=70)
    assert counted == Usage(0, 90, 10, 20, 20)


def test_an_error_books_only_what_can_be_true() -> None:
    assert usage.of_error(Reported(100, 0), REQUEST) == Usage(100)
    assert usage.of_error(Reported(100, 101), REQUEST) is None
    assert usage.of_error(usage.NOTHING, REQUEST) is None


WHOLE: list[tuple[str, Reported, bool]] = [
    ("A sentence that ends. " * 4, Reported(100, 22), True),
    ("x", Reported(12, 9), True),
    ('{"a": 1}', Reported(100, 6), True),
    ("A sentence that breaks off in the mid", Reported(100, 9), False),
    ("A sentence that ends.", Reported(100, 49), False),  # there was more
    ("A sentence that ends.", Reported(100, 50), False),  # at the limit
    ("A sentence that ends.", usage.NOTHING, False),
    ("", Reported(100, 9), False),
]


@pytest.mark.parametrize(("text", "reported", "whole"), WHOLE)
def test_a_text_without_a_stop_reason_is_whole_where_its_end_and_its_tokens_agree(
    text: str, reported: Reported, whole: bool
) -> None:
    assert usage.is_whole(reported, REQUEST, text) is whole


@given(
    st.none() | st.integers(0, 10**9),
    st.none() | st.integers(0, 10**9),
    st.tuples(*[st.integers(0, 10**9)] * 3),
    st.text(max_size=300),
)
def test_whatever_is_reported_the_cost_is_bounded(
    prompt: int | None, output: int | None, parts: tuple[int, int, int], text: str
) -> None:
    counted, warnings = usage.of_answer(Reported(prompt, output, *parts), REQUEST, text)
    assert counted.prompt_tokens <= 2_800
    assert counted.output_tokens <= max(100, len(text.encode()))
    assert counted.prompt_tokens > 0
    assert counted.output_tokens > 0 or not text
    each: list[Any] = [counted.input_tokens, counted.cache_read_tokens, counted.cache_write_tokens]
    assert min(*each, counted.output_tokens, counted.reasoning_tokens) >= 0
    if (prompt, output) != (counted.prompt_tokens, counted.output_tokens):
        assert warnings
