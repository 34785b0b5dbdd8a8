"""Limits and waits as the providers write them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.providers import headers
from src.records import LimitReport

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("120ms", 0.12),
        ("6m0s", 360.0),
        ("1m30.5s", 90.5),
        ("24h0m0s", 86_400.0),
        ("1d2h", 93_600.0),
        ("37s", 37.0),
        ("0.5", 0.5),
        ("12", 12.0),
        ("", None),
        (None, None),
        ("soon", None),
        ("1s and more", None),
        ("-3s", None),
        ("nan", None),
        ("inf", None),
    ],
)
def test_durations(text: str | None, seconds: float | None) -> None:
    assert headers.duration_s(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("found", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT", "date": "Fri, 15 Jan 2027 08:00:00 GMT"}, 30.0),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"}, 30.0),  # NOW is that day at 08:00:00
        ({"retry-after": "Thu, 01 Jan 2026 00:00:00 GMT"}, 0.0),
        ({"retry-after": "later"}, None),
        ({"retry-after": "-1"}, None),
        ({}, None),
    ],
)
def test_how_long_to_wait(found: dict[str, str], seconds: float | None) -> None:
    assert headers.retry_after_s(found, NOW) == seconds


def test_a_date_is_the_providers_own_clock() -> None:
    assert headers.answered_at({"date": "Fri, 15 Jan 2027 08:00:05 GMT"}, 0.0) == NOW + 5
    assert headers.answered_at({"date": "nonsense"}, NOW) == NOW
    assert headers.answered_at({}, NOW) == NOW


def test_only_what_is_read_is_picked_and_in_lower_case() -> None:
    raw = [
        (b"X-RateLimit-Limit-Requests", b"60"),
        (b"Retry-After", b"1"),
        (b"Content-Type", b"text/html"),
        (b"X-Request-Id", b"req_1"),
        (b"set-cookie", b"secret"),
    ]
    assert headers.select_headers(raw) == {
        "x-ratelimit-limit-requests": "60",
        "retry-after": "1",
        "x-request-id": "req_1",
    }


def anthropic(**values: Any) -> dict[str, str]:
    return {f"anthropic-ratelimit-{name.replace('_', '-')}": str(value) for name, value in values.items()}


def test_anthropic_reports_requests_input_and_output_a_minute() -> None:
    found = anthropic(
        requests_limit=50,
        requests_remaining=49,
        requests_reset="2027-01-15T08:00:01Z",
        tokens_limit=48_000,
        tokens_remaining=48_000,
        input_tokens_limit=40_000,
        input_tokens_remaining=39_000,
        output_tokens_limit=8_000,
        output_tokens_remaining=8_000,
    )
    assert headers.anthropic_limits(found) == (
        LimitReport("requests", 50, 49, 60.0),
        LimitReport("input_tokens", 40_000, 39_000, 60.0),
        LimitReport("output_tokens", 8_000, 8_000, 60.0),
    )


def test_anthropics_tokens_count_only_without_their_parts() -> None:
    found = anthropic(tokens_limit=48_000, tokens_remaining=47_000, requests_limit=50)
    assert headers.anthropic_limits(found) == (
        LimitReport("requests", 50, None, 60.0),
        LimitReport("tokens", 48_000, 47_000, 60.0),
    )
    assert headers.anthropic_limits({}) == ()


def openai(dimension: str, limit: object, remaining: object, reset: str | None) -> dict[str, str]:
    found = {
        f"x-ratelimit-limit-{dimension}": str(limit),
        f"x-ratelimit-remaining-{dimension}": str(remaining),
    }
    return found if reset is None else {**found, f"x-ratelimit-reset-{dimension}": reset}


@pytest.mark.parametrize(
    ("limit", "remaining", "reset", "window_s"),
    [
        (500, 499, "120ms", 60.0),
        (10_000, 9_999, "8.64s", 86_400.0),
        (200, 0, "24h0m0s", 86_400.0),
        (60, 0, "1m0s", 60.0),
        (60, 59, "1s", 60.0),
        (14_400, 14_370, "2m59.56s", 86_400.0),
        (30_000, 29_999, "2ms", 60.0),
        (2_000_000, 1_999_950, "1ms", 60.0),
        (150_000_000, 149_999_990, "1ms", 60.0),  # of a day it would be 6ms
        (60, 60, "0s", None),
        (60, 59, None, None),
        (60, 59, "soon", None),
        (1_000, 0, "1h0m0s", None),  # an hour: neither of the two
    ],
)
def test_openais_reset_gives_the_window(
    limit: int, remaining: int, reset: str | None, window_s: float | None
) -> None:
    assert headers.openai_limits(openai("requests", limit, remaining, reset)) == (
        LimitReport("requests", limit, remaining, window_s),
    )


@pytest.mark.parametrize("limit", [-1, 0, "unlimited", ""])
def test_an_invalid_limit_is_not_reported(limit: object) -> None:
    assert headers.openai_limits(openai("tokens", limit, -1, "0s")) == ()


def test_a_remaining_that_is_none_is_left_open() -> None:
    assert headers.openai_limits(openai("tokens", 1_000, -1, "1s")) == (
        LimitReport("tokens", 1_000, None, None),
    )


@given(
    limit=st.integers(10, 5_000_000),
    used=st.floats(0.01, 1.0),
    window_s=st.sampled_from([60.0, 86_400.0]),
)
def test_the_window_is_found_again_from_what_openai_makes_of_it(
    limit: int, used: float, window_s: float
) -> None:
    spent = max(1, int(limit * used))
    reset_s = spent * window_s / limit
    shown = f"{reset_s * 1000:.0f}ms"
    assert headers.openai_window_s(limit, limit - spent, shown) in (window_s, None)
    if reset_s > 0.01:
        assert headers.openai_window_s(limit, limit - spent, shown) == window_s


def test_a_day_is_spent_when_nothing_of_it_remains() -> None:
    assert headers.day_is_spent([LimitReport("requests", 200, 0, 86_400.0)])
    assert not headers.day_is_spent([LimitReport("requests", 200, 1, 86_400.0)])
    assert not headers.day_is_spent([LimitReport("requests", 200, 0, 60.0)])


def test_google_details() -> None:
    details = [
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37s"},
        {
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{"quotaId": "GenerateRequestsPerDayPerProject"}, {"quotaMetric": "m"}, "odd"],
        },
        "odd",
        {"@type": 3},
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": "odd"},
        {"@type": "type.googleapis.com/google.rpc.Help"},
    ]
    assert headers.google_details(details) == (
        ("API_KEY_INVALID",),
        ("GenerateRequestsPerDayPerProject",),
        37.0,
    )
    assert headers.google_details([]) == ((), (), None)
