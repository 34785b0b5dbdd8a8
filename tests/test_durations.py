"""Durations as users write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.durations import LONGEST_S, UNITS_S, parse_duration, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90.0),
        ("30m", 1_800.0),
        ("24h", 86_400.0),
        ("7d", 604_800.0),
        ("1.5w", 907_200.0),
        ("1h30m", 5_400.0),
        (" 2d12h ", 216_000.0),
        ("0s", 0.0),
    ],
)
def test_a_duration_has_units(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "30", "d", "-1d", "1 d", "1e3d", "1M", "1h 30m", "yesterday", "9" * 400 + "d", "१h", "1d\n2h"],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="such as 90s, 30m, 24h"):
        parse_duration(text)


@pytest.mark.parametrize(("value", "seconds"), [(90, 90.0), (0.5, 0.5), ("600", 600.0), ("10m", 600.0)])
def test_a_number_is_seconds_where_a_field_says_so(value: object, seconds: float) -> None:
    assert seconds_of(value) == seconds


@pytest.mark.parametrize(
    "value", [0, -1, "0s", "-5", math.inf, "nan", "inf", True, None, [], {}, "soon", 1e12, "999999999w"]
)
def test_what_is_no_time_ahead_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        seconds_of(value)


@given(st.integers(1, 500), st.sampled_from(sorted(UNITS_S)))
def test_every_unit_is_read(number: int, unit: str) -> None:
    assert seconds_of(f"{number}{unit}") == number * UNITS_S[unit] <= LONGEST_S
