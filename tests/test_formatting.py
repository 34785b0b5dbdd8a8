"""How numbers, amounts and times read."""

from __future__ import annotations

from datetime import datetime

import pytest

from src.formatting import (
    count,
    duration,
    iso_time,
    local_time,
    money,
    percent,
    plural,
    rate,
    rough_duration,
    share,
    shortened,
    utc_time,
)
from src.web.template_filters import FILTERS

NOON = datetime(2026, 11, 26, 12, 0, 0).astimezone().timestamp()


@pytest.mark.parametrize(
    ("nanos", "text"),
    [
        (None, "unknown"),
        (0, "$0"),
        (1_000, "$0.000001"),
        (78_000, "$0.000078"),
        (123_456, "$0.00012"),
        (100_000, "$0.0001"),
        (511_300_000, "$0.5113"),
        (-2_000_000, "-$0.0020"),
        (12_345_678, "$0.0123"),
        (1_234_567_890_123, "$1,234.57"),
    ],
)
def test_money_shows_the_significant_digits(nanos: int | None, text: str) -> None:
    assert money(nanos) == text


def test_pages_and_terminal_share_the_formatters() -> None:
    assert (FILTERS["money"], FILTERS["duration"], FILTERS["plural"]) == (money, duration, plural)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (-3.0, "0 ms"),
        (0.0404, "40 ms"),
        (0.44, "440 ms"),
        (0.951, "1.0 s"),
        (9.94, "9.9 s"),
        (12.4, "12 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (180_000, "2 d 2 h"),
    ],
)
def test_durations_have_at_most_two_units(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (59.9, "59 s"), (566, "9 min"), (3599, "59 min"), (7199, "1 h"), (260_000, "3 d")],
)
def test_a_rough_duration_has_one_unit_and_is_rounded_down(seconds: float, text: str) -> None:
    assert rough_duration(seconds) == text


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (percent(share(1, 3)), "33 %"),
        (percent(share(0, 0)), "-"),
        (percent(0.0126, 1), "1.3 %"),
        (plural(1, "task"), "1 task"),
        (plural(1200, "task"), "1,200 tasks"),
        (plural(0, "try", "tries"), "0 tries"),
        (shortened(["a", "b", "c"]), "a, b, c"),
        (shortened(["a", "b", "c", "d"]), "a, b, c, ..."),
        (shortened(["a", "b"], 9), "a, b, ..."),
        (count(None), "-"),
        (count(2.25), "2.2"),
        (count(9_999), "9,999"),
        (count(12_345), "12.3 k"),
        (count(4_560_000), "4.6 M"),
        (rate(0.5), "30.0 /min"),
        (rate(12), "12.0 /s"),
    ],
)
def test_shares_counts_and_rates(shown: str, text: str) -> None:
    assert shown == text


def test_a_time_of_another_day_has_its_date() -> None:
    assert local_time(NOON, NOON) == "12:00"
    assert local_time(NOON, NOON, seconds=True) == "12:00:00"
    assert local_time(NOON + 86_400, NOON) == "2026-11-27 12:00"


def test_times_in_utc_say_so() -> None:
    assert utc_time(1_764_158_400.0, 1_764_158_400.0) == "12:00:00 UTC"
    assert utc_time(1_764_158_400.0, 1_764_244_800.0) == "2025-11-26 12:00 UTC"
    assert iso_time(1_764_158_400.0) == "2025-11-26T12:00:00.000Z"
