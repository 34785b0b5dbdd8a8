"""Limits by each provider's own rules, with explicit time."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count

import pytest

from src.simulator.buckets import Bucket, Cost, Denied, Gate, next_pacific_midnight, next_utc_midnight
from src.simulator.config import Limits

START = 1_800_000_000.0
SMALL = Cost(input_tokens=10, reserve=10)


def gate(api: str, **limits: float) -> Gate:
    return Gate(api, Limits(**limits), {}, START)


def admitted(gate: Gate, cost: Cost, now: float) -> int:
    """How many calls enter at once."""
    return next(n for n in count() if gate.admit("m", cost, now) is not None)


@pytest.mark.parametrize("api", ["anthropic", "openai", "gemini"])
def test_a_second_s_worth_of_requests_enters_at_once_and_then_as_many_as_refill(api: str) -> None:
    limited = gate(api, requests_per_minute=600)
    assert admitted(limited, SMALL, START) == 10
    # OpenAI took one more for the refused call; it was empty, so nothing more could be taken
    assert admitted(limited, SMALL, START + 0.5) == 5
    assert admitted(limited, SMALL, START + 100) == 10


def test_a_bucket_never_holds_less_than_one_request() -> None:
    assert admitted(gate("anthropic", requests_per_minute=6), SMALL, START) == 1


def test_the_stated_wait_is_the_wait_until_the_call_enters() -> None:
    limited = gate("anthropic", input_tokens_per_minute=6_000)
    assert limited.admit("m", Cost(6_000, 0), START) is None
    denied = limited.admit("m", Cost(300, 0), START)
    assert denied == Denied("input_tokens", 6_000, 6_000, 300, 3.0)
    assert limited.admit("m", Cost(300, 0), START + 2.99) is not None
    assert limited.admit("m", Cost(300, 0), START + 3.0) is None


def test_a_refused_call_changes_no_bucket() -> None:
    limited = gate("anthropic", requests_per_minute=6_000, input_tokens_per_minute=100)
    before = limited.levels("m", START)
    assert limited.admit("m", Cost(101, 0), START) is not None
    assert limited.levels("m", START) == before


def test_above_the_burst_a_full_bucket_is_enough_above_the_minute_nothing_is() -> None:
    limited = gate("gemini", tokens_per_minute=6_000, token_burst_s=1)
    assert limited.admit("m", Cost(1_000, 0), START) is None  # 100 in the bucket, now 900 below zero
    denied = limited.admit("m", Cost(10, 0), START)
    assert denied is not None
    assert denied.wait_s == pytest.approx(9.1)
    never = limited.admit("m", Cost(6_001, 0), START + 60)
    assert never is not None
    assert never.wait_s is None


def test_the_longest_wait_is_stated() -> None:
    limited = gate("anthropic", requests_per_minute=60, input_tokens_per_minute=600)
    assert limited.admit("m", Cost(600, 0), START) is None
    denied = limited.admit("m", Cost(100, 0), START)
    assert denied is not None
    assert (denied.kind, denied.wait_s) == ("input_tokens", pytest.approx(10.0))


def test_anthropic_counts_output_when_it_is_there_and_admits_while_any_is_left() -> None:
    limited = gate("anthropic", output_tokens_per_minute=600)
    assert limited.admit("m", Cost(10, 100_000), START) is None  # max_tokens does not count
    limited.produced("m", 1_000, START)
    denied = limited.admit("m", SMALL, START)
    assert denied is not None
    assert (denied.kind, denied.wait_s) == ("output_tokens", pytest.approx(40.0))
    assert limited.admit("m", SMALL, START + 40.1) is None


def test_anthropic_gives_the_tokens_of_a_failed_call_back_but_not_its_request() -> None:
    limited = gate("anthropic", requests_per_minute=600, input_tokens_per_minute=6_000)
    cost = Cost(5_000, 0)
    assert limited.admit("m", cost, START) is None
    limited.refund("m", cost, START, with_request=False)
    remaining = {level.kind: level.remaining for level in limited.levels("m", START)}
    assert remaining == {"requests": 599, "input_tokens": 6_000}


def test_openai_charges_the_larger_of_max_tokens_and_estimate_and_gives_nothing_back() -> None:
    limited = gate("openai", requests_per_minute=600, tokens_per_minute=6_000)
    cost = Cost(input_tokens=10, reserve=4_000)
    assert limited.admit("m", cost, START) is None
    limited.produced("m", 5, START)
    limited.refund("m", cost, START, with_request=True)
    remaining = {level.kind: level.remaining for level in limited.levels("m", START)}
    assert remaining == {"requests": 599, "tokens": 2_000}


def test_openai_counts_a_rejected_call_as_a_request_but_a_storm_locks_no_client_out() -> None:
    limited = gate("openai", requests_per_minute=600, tokens_per_minute=6_000)
    assert limited.admit("m", Cost(0, 6_001), START) is not None
    assert admitted(limited, SMALL, START) == 9
    for _ in range(1_000):
        assert limited.admit("m", SMALL, START) is not None
    assert limited.admit("m", SMALL, START + 0.11) is None


def test_openai_s_daily_requests_refill_through_the_day() -> None:
    limited = gate("openai", requests_per_day=200)
    assert admitted(limited, SMALL, START) == 200
    denied = limited.admit("m", SMALL, START)
    assert denied is not None
    assert (denied.kind, denied.wait_s) == ("requests_per_day", pytest.approx(432.0))


def test_gemini_s_daily_requests_come_back_at_midnight_in_california() -> None:
    limited = gate("gemini", requests_per_day=3)
    assert admitted(limited, SMALL, START) == 3
    midnight = next_pacific_midnight(START)
    denied = limited.admit("m", SMALL, START)
    assert denied is not None
    assert denied.wait_s == midnight - START
    assert limited.admit("m", SMALL, midnight - 1) is not None
    assert limited.admit("m", SMALL, midnight) is None


@pytest.mark.parametrize(
    ("now", "midnight"),
    [
        pytest.param("2026-07-01T06:59:00", "2026-07-01T07:00:00", id="summer"),
        pytest.param("2026-01-01T12:00:00", "2026-01-02T08:00:00", id="winter"),
        pytest.param("2026-03-08T09:00:00", "2026-03-09T07:00:00", id="the day the clocks go forward"),
    ],
)
def test_midnight_in_california_follows_daylight_saving(now: str, midnight: str) -> None:
    at = datetime.fromisoformat(now).replace(tzinfo=UTC).timestamp()
    assert datetime.fromtimestamp(next_pacific_midnight(at), UTC).isoformat()[:19] == midnight


def test_midnight_utc_is_the_next_one() -> None:
    assert datetime.fromtimestamp(next_utc_midnight(START), UTC).isoformat() == "2027-01-16T00:00:00+00:00"


def test_a_model_s_limits_hold_in_addition_to_the_common_ones() -> None:
    both = Gate("openai", Limits(requests_per_minute=600), {"big": Limits(requests_per_minute=120)}, START)
    assert both.admit("big", SMALL, START) is None
    assert both.admit("big", SMALL, START) is None
    denied = both.admit("big", SMALL, START)
    assert denied is not None
    assert denied.limit == 120
    assert [level.limit for level in both.levels("big", START)] == [120]
    assert both.admit("other", SMALL, START) is None


def test_new_limits_keep_what_was_used_and_clip_to_the_new_capacity() -> None:
    limited = gate("gemini", requests_per_minute=600, tokens_per_minute=6_000)
    limited.admit("m", Cost(5_000, 0), START)
    halved = limited.replaced("gemini", Limits(requests_per_minute=300, tokens_per_minute=3_000), {}, START)
    assert admitted(halved, Cost(0, 0), START) == 5
    denied = halved.admit("m", Cost(1_011, 0), START + 0.2)  # 1,000 left, and 10 refilled
    assert denied is not None
    assert denied.kind == "tokens"
    raised = halved.replaced("gemini", Limits(requests_per_minute=6_000), {}, START + 10)
    assert admitted(raised, Cost(0, 0), START + 10) == 5  # not full by being raised


def test_a_time_in_the_past_refills_nothing() -> None:
    bucket = Bucket(600, 60, 1, START)
    bucket.take(10)
    bucket.refill(START - 100)
    assert bucket.level == 0


@pytest.mark.parametrize("calls_per_s", [7, 10, 33])
def test_exactly_the_rate_passes_over_a_minute(calls_per_s: int) -> None:
    limited = gate("anthropic", requests_per_minute=60 * calls_per_s)
    passed = sum(limited.admit("m", SMALL, START + i / 250) is None for i in range(15_000))
    assert passed == 61 * calls_per_s - 1  # the burst, and what refilled up to the last call, a moment early
