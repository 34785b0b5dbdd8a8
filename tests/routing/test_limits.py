"""Buckets against servers that count for themselves, and each rule of charging, learning and holding."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from src.pacific import next_midnight_pacific
from src.providers.api_formats import API_FORMATS
from src.records import LimitReport, LimitSource, RefusalKind, Usage
from src.routing.limits.adaptive_limit import (
    CATCH_UP,
    CUT,
    FIRST_CUT,
    GROWTH,
    RECOVERY,
    SAFE,
    START_RATE,
    AdaptiveLimit,
)
from src.routing.limits.group import Closed, Need, RateLimitGroup, Reservation
from src.routing.limits.token_bucket import (
    COLD_S,
    DAILY,
    INPUT,
    MARGIN_S,
    OUTPUT,
    REQUESTS,
    TICK_S,
    TOKENS,
    Bucket,
    DailyCounter,
)
from src.settings import LimitSettings

from .build import START
from .servers import Server, configured_limits, run

SMALL = (Need(10, 10, 10), Usage(10, 0, 0, 10))


def group_of(api: str, now: float = START, **limits: float) -> RateLimitGroup:
    return RateLimitGroup("model", API_FORMATS[api].limits, LimitSettings(**limits), now)


def closed(group: RateLimitGroup, now: float) -> Closed:
    found = group.closed(now)
    assert found is not None
    return found


def level(group: RateLimitGroup, dimension: str, now: float = START) -> float:
    group.buckets[dimension].refill(now)
    return group.buckets[dimension].level


def jitter(seed: int = 1, most_s: float = 0.05) -> Callable[[], float]:
    rng = random.Random(seed)
    return lambda: rng.uniform(0.0, most_s)


@pytest.mark.parametrize(
    ("api", "limit", "dimension"),
    [(api.name, *each) for api in API_FORMATS.values() for each in api.limits.counted.items()],
)
def test_each_limit_that_an_api_counts_fills_its_bucket(api: str, limit: str, dimension: str) -> None:
    group = group_of(api, **{limit: 600.0})
    assert set(group.buckets) == {dimension}
    assert (group.buckets[dimension].limit, group.buckets[dimension].configured) == (600.0, 600.0)


def test_of_two_names_for_the_input_tokens_of_gemini_the_plain_one_counts() -> None:
    group = group_of("gemini", tokens_per_minute=600.0, input_tokens_per_minute=60.0)
    assert {name: bucket.limit for name, bucket in group.buckets.items()} == {INPUT: 60.0}


# ------------------------------------------------------------------ one bucket


def test_a_bucket_holds_a_margin_less_than_the_server_and_refills_at_its_full_rate() -> None:
    bucket = warm(Bucket(REQUESTS, 600.0, 60.0, 1.0, START, configured=True))
    assert (bucket.capacity, bucket.rate) == (pytest.approx(9.5), 10.0)
    for _ in range(9):
        assert bucket.wait_s(1.0, START) == 0.0
        bucket.take(1.0)
    assert bucket.wait_s(1.0, START) == pytest.approx(0.05)
    assert bucket.wait_s(1.0, START + 0.05) == 0.0


def warm(bucket: Bucket) -> Bucket:
    """As if it had just been used: connections are there."""
    bucket.full_since = START
    return bucket


def test_the_margin_is_a_matter_of_time_not_of_size() -> None:
    assert Bucket(TOKENS, 90_000.0, 60.0, 60.0, START, configured=True).capacity == pytest.approx(
        90_000.0 - 1_500.0 * MARGIN_S
    )


def test_after_a_pause_a_full_bucket_refills_late_since_the_servers_does_until_the_first_call_arrives() -> (
    None
):
    bucket = Bucket(REQUESTS, 600.0, 60.0, 1.0, START, configured=True)
    for _ in range(9):
        bucket.take(1.0)
    refills_at = START + COLD_S - 0.05
    assert bucket.wait_s(1.0, START) == pytest.approx(refills_at - START + 0.05)
    assert bucket.wait_s(1.0, refills_at) == pytest.approx(0.05)
    assert bucket.wait_s(1.0, refills_at + 0.05) == 0.0
    bucket.take(1.0)
    bucket.refill(refills_at + 1.05)
    bucket.take(1.0)  # full again, but in use
    assert bucket.wait_s(9.0, refills_at + 1.05) == pytest.approx(0.05)


def test_the_first_return_shows_that_the_calls_have_arrived() -> None:
    group = group_of("gemini", requests_per_minute=600)
    held = [group.reserve(SMALL[0], START) for _ in range(9)]
    _, until, _ = closed(group, START + 0.3)
    assert until == pytest.approx(START + COLD_S)
    group.settle(held[0], SMALL[1], charged=True, now=START + 0.3)
    _, until, _ = closed(group, START + 0.3)
    assert until == pytest.approx(START + 0.35)


def test_a_call_above_the_capacity_goes_at_a_full_bucket_and_takes_it_below_zero() -> None:
    bucket = Bucket(TOKENS, 60_000.0, 60.0, 10.0, START, configured=True)
    assert warm(bucket).capacity == pytest.approx(9_600.0)
    bucket.take(1_000.0)
    assert bucket.wait_s(40_000.0, START) == pytest.approx(1.0)  # only until it is full
    assert bucket.wait_s(40_000.0, START + 1.0) == 0.0
    bucket.take(40_000.0)
    assert bucket.level < -30_000.0
    assert bucket.wait_s(1.0, START + 1.0) > 30.0  # and nothing goes until it is back


def test_only_what_no_window_holds_is_refused_and_at_once() -> None:
    bucket = Bucket(TOKENS, 60_000.0, 60.0, 10.0, START, configured=True)
    assert bucket.wait_s(60_000.0, START) == 0.0
    assert bucket.wait_s(60_001.0, START) == math.inf


@given(
    limit=st.floats(1.0, 1e9),
    burst_s=st.floats(0.1, 60.0),
    steps=st.lists(st.tuples(st.floats(0.0, 30.0), st.floats(0.0, 1.0)), max_size=30),
)
def test_a_bucket_is_where_it_says_after_exactly_the_wait_it_says(
    limit: float, burst_s: float, steps: list[tuple[float, float]]
) -> None:
    """`reserve` never takes it below zero, and a wait is never too short, and ends with capacity."""
    bucket = Bucket(TOKENS, limit, 60.0, burst_s, START, configured=True)
    now = START
    for pause_s, share in steps:
        now += pause_s
        need = share * bucket.capacity
        wait_s = bucket.wait_s(need, now)
        assert wait_s == 0.0 or now + wait_s > now
        now += wait_s
        assert bucket.wait_s(need, now) == 0.0
        bucket.take(need)
        assert bucket.level >= -bucket.rate * 2 * TICK_S
        assert bucket.level <= bucket.capacity
    assert bucket.spent == pytest.approx(sum(share for _, share in steps) * bucket.capacity)


# ------------------------------------------------------------------ never above the server


@pytest.mark.parametrize("api", ["anthropic", "openai", "gemini"])
@pytest.mark.parametrize("per_second", [0.2, 1.0, 1.5, 2.0, 7.3, 10.0, 15.0, 100.0])
def test_at_full_rate_no_call_is_refused_and_the_limit_is_used(api: str, per_second: float) -> None:
    """Calls arrive up to 50 ms late, each by another delay, and the server has one second's capacity."""
    server = Server(api, START, requests=per_second * 60)
    group = RateLimitGroup("model", API_FORMATS[api].limits, configured_limits(server), START)
    seconds = 600.0 if per_second <= 2.0 else 60.0
    seen = run(group, server, seconds, need=lambda: SMALL, on_the_way_s=jitter())
    assert seen.denied == []
    # Below one call a second the margin costs rate: it can't be taken from a burst that isn't there.
    assert server.admitted >= (0.95 if per_second > 1.1 else 0.94) * server.most("requests", seconds)


@pytest.mark.parametrize(
    ("api", "limits", "binding", "least"),
    [
        pytest.param(
            "anthropic", {"input_tokens": 120_000.0, "output_tokens": 90_000.0}, "input_tokens", 0.95,
            id="anthropic-input",
        ),
        pytest.param(
            "anthropic", {"input_tokens": 1e7, "output_tokens": 60_000.0}, "output_tokens", 0.85,
            id="anthropic-output",
        ),
        pytest.param("openai", {"tokens": 150_000.0}, "tokens", 0.95, id="openai"),
        pytest.param("gemini", {"tokens": 120_000.0}, "tokens", 0.95, id="gemini"),
    ],
)  # fmt: skip
def test_tokens_are_never_overrun_either(
    api: str, limits: dict[str, float], binding: str, least: float
) -> None:
    """Sizes spread over three orders; what is reserved is up to a tenth above what is used.

    OpenAI charges by characters, which are known; an answer still being written holds more than it uses.
    """
    rng = random.Random(5)

    def need() -> tuple[Need, Usage]:
        size = int(min(max(rng.lognormvariate(6, 1), 20), 20_000))
        return Need(int(size * 1.1) + 8, 600, max(600, size)), Usage(size, 0, 0, rng.randint(20, 600))

    server = Server(api, START, **limits)  # type: ignore[arg-type]
    group = RateLimitGroup("model", API_FORMATS[api].limits, configured_limits(server), START)
    seen = run(group, server, 180.0, need=need, on_the_way_s=jitter())
    assert seen.denied == []
    assert server.taken[binding] >= least * server.most(binding, 180.0)


@hypothesis_settings(max_examples=40, deadline=None)
@given(
    api=st.sampled_from(["anthropic", "openai", "gemini"]),
    per_second=st.floats(0.1, 60.0),
    tokens=st.one_of(st.none(), st.floats(2_000.0, 1_000_000.0)),
    latency_s=st.floats(0.0, 20.0),
    seed=st.integers(0, 1000),
)
def test_whatever_they_are_configured_limits_draw_no_429(
    api: str, per_second: float, tokens: float | None, latency_s: float, seed: int
) -> None:
    rng = random.Random(seed)

    def need() -> tuple[Need, Usage]:
        size, output = rng.randint(1, 1500), rng.randint(1, 200)
        return Need(size, 200, max(200, size)), Usage(size, 0, 0, output)

    name = "input_tokens" if api == "anthropic" else "tokens"
    limits = {name: tokens} if tokens is not None else {}
    server = Server(api, START, requests=per_second * 60, **limits)  # type: ignore[arg-type]
    group = RateLimitGroup("model", API_FORMATS[api].limits, configured_limits(server), START)
    seen = run(group, server, 30.0, need=need, on_the_way_s=jitter(seed), latency_s=latency_s)
    assert seen.denied == []
    assert server.admitted >= 1


# ------------------------------------------------------------------ what is charged


@pytest.mark.parametrize(
    ("api", "reserved"),
    [
        pytest.param("anthropic", {REQUESTS: 1, INPUT: 500, OUTPUT: 200}, id="anthropic"),
        pytest.param("openai", {REQUESTS: 1, TOKENS: 1000}, id="openai"),
        pytest.param("gemini", {REQUESTS: 1, INPUT: 500}, id="gemini"),
    ],
)
def test_a_call_reserves_what_its_provider_charges_at_most(api: str, reserved: dict[str, float]) -> None:
    group = wide(api)
    before = {name: level(group, name) for name in reserved}
    group.reserve(Need(500, 200, 1000), START)
    for name, amount in reserved.items():
        assert before[name] - level(group, name) == pytest.approx(amount)


def wide(api: str) -> RateLimitGroup:
    return group_of(
        api,
        requests_per_minute=60_000,
        tokens_per_minute=600_000,
        input_tokens_per_minute=600_000,
        output_tokens_per_minute=600_000,
    )


CACHED = Usage(input_tokens=300, cache_read_tokens=150, cache_write_tokens=40, output_tokens=80)


@pytest.mark.parametrize(
    ("api", "usage", "charged", "kept"),
    [
        pytest.param("anthropic", CACHED, False, {REQUESTS: 1, INPUT: 340, OUTPUT: 80}, id="anthropic"),
        pytest.param("anthropic", None, False, {REQUESTS: 1, INPUT: 0, OUTPUT: 0}, id="anthropic-error"),
        pytest.param("anthropic", None, True, {REQUESTS: 1, INPUT: 500, OUTPUT: 200}, id="anthropic-cut-off"),
        pytest.param("openai", CACHED, False, {REQUESTS: 1, TOKENS: 1000}, id="openai"),
        pytest.param("openai", None, False, {REQUESTS: 1, TOKENS: 1000}, id="openai-error"),
        pytest.param("openai", None, True, {REQUESTS: 1, TOKENS: 1000}, id="openai-cut-off"),
        pytest.param("gemini", CACHED, False, {REQUESTS: 1, INPUT: 490}, id="gemini"),
        pytest.param("gemini", None, False, {REQUESTS: 1, INPUT: 0}, id="gemini-error"),
        pytest.param("gemini", None, True, {REQUESTS: 1, INPUT: 500}, id="gemini-cut-off"),
    ],
)
def test_settled_is_what_its_provider_keeps(
    api: str, usage: Usage | None, charged: bool, kept: dict[str, float]
) -> None:
    group = wide(api)
    before = {name: level(group, name) for name in kept}
    held = group.reserve(Need(500, 200, 1000), START)
    group.settle(held, usage, charged=charged, now=START)
    for name, amount in kept.items():
        assert before[name] - level(group, name) == pytest.approx(amount)


def test_an_answer_above_its_estimate_takes_the_bucket_below_zero_and_nothing_goes_until_it_is_back() -> None:
    group = group_of("anthropic", output_tokens_per_minute=6_000)
    held = group.reserve(Need(10, 5_700, 50_000), START)
    group.settle(held, Usage(10, 0, 0, 9_000), charged=False, now=START)
    assert level(group, OUTPUT) == pytest.approx(5_960 - 9_000)
    assert group.wait(Need(10, 100, 100), START) == (OUTPUT, pytest.approx(31.4))


def test_the_dimension_that_binds_longest_is_named() -> None:
    group = group_of(
        "anthropic", requests_per_minute=600, input_tokens_per_minute=6_000, output_tokens_per_minute=600
    )
    group.reserve(Need(5_000, 500, 500), START)
    name, wait_s = group.wait(Need(1_200, 100, 100), START)
    assert (name, wait_s) == (
        INPUT,
        pytest.approx(2.4 + COLD_S - MARGIN_S),
    )  # 960 of 1,200 are left; output has 96 of 100


def test_what_no_minute_holds_waits_for_ever() -> None:
    group = group_of("openai", tokens_per_minute=10_000)
    assert group.wait(Need(10, 10, 10_001), START) == (TOKENS, math.inf)
    assert group.wait(Need(10, 10, 10_000), START) == ("", 0.0)


# ------------------------------------------------------------------ what headers teach


def learned(api: str, *reports: LimitReport, sent_at: float = START, now: float = START) -> RateLimitGroup:
    group = group_of(api)
    held = group.reserve(SMALL[0], sent_at)
    group.settle(held, SMALL[1], charged=False, now=now)
    group.learn(reports, held, now)
    return group


def test_headers_give_a_group_its_limits() -> None:
    group = learned(
        "anthropic",
        LimitReport(REQUESTS, 300, 299, 60.0),
        LimitReport(INPUT, 40_000, 40_000, 60.0),
        LimitReport(OUTPUT, 8_000, 8_000, 60.0),
    )
    assert not group.unknown
    assert {name: bucket.limit for name, bucket in group.buckets.items()} == {
        REQUESTS: 300, INPUT: 40_000, OUTPUT: 8_000,
    }  # fmt: skip


def test_what_is_left_lowers_the_level_and_never_raises_it() -> None:
    group = wide("openai")
    first = group.reserve(Need(100, 100, 10_000), START)
    before = level(group, TOKENS)
    group.learn([LimitReport(TOKENS, 600_000, 600_000, 60.0)], first, START)
    assert level(group, TOKENS) == before
    group.learn([LimitReport(TOKENS, 600_000, 100_000, 60.0)], first, START)
    assert level(group, TOKENS) == pytest.approx(100_000 - MARGIN_S * 10_000)


def test_calls_sent_since_the_snapshot_are_taken_off_it() -> None:
    group = wide("openai")
    first = group.reserve(Need(100, 100, 10_000), START)
    group.reserve(Need(100, 100, 20_000), START + 1)
    group.learn([LimitReport(TOKENS, 600_000, 100_000, 60.0)], first, START + 1)
    refilled = 10_000
    assert level(group, TOKENS, START + 1) == pytest.approx(100_000 - MARGIN_S * 10_000 + refilled - 20_000)


def test_calls_sent_together_arrive_in_any_order_and_are_not_taken_off_twice() -> None:
    """The first call of a burst that arrives last reports what all of them have left."""
    group = wide("openai")
    held = [group.reserve(Need(100, 100, 10_000), START + number / 1000) for number in range(50)]
    before = level(group, TOKENS, START + 0.1)
    group.learn([LimitReport(TOKENS, 600_000, 100_000, 60.0)], held[0], START + 0.1)
    assert level(group, TOKENS, START + 0.1) == pytest.approx(before, abs=1_100)


@pytest.mark.parametrize("api", ["anthropic", "openai"])
def test_headers_of_answers_that_overtake_each_other_cost_no_capacity(api: str) -> None:
    """A minute's tokens go in one burst, and the answers come back in any order."""
    rng = random.Random(3)
    name = "input_tokens" if api == "anthropic" else "tokens"
    server = Server(api, START, **{name: 60_000.0})  # type: ignore[arg-type]
    group = RateLimitGroup("model", API_FORMATS[api].limits, configured_limits(server), START)
    need = Need(1_000, 100, 1_000), Usage(1_000, 0, 0, 100)
    seen = run(group, server, 60.0, need=lambda: need, on_the_way_s=jitter(), latency_s=rng.random)
    assert seen.denied == []
    assert server.taken[name] >= 0.95 * server.most(name, 60.0)


def test_only_the_newest_sending_counts() -> None:
    group = wide("openai")
    old = group.reserve(SMALL[0], START)
    new = group.reserve(SMALL[0], START + 1)
    group.learn([LimitReport(REQUESTS, 6_000, 5_900, 60.0)], new, START + 2)
    group.learn([LimitReport(REQUESTS, 60, 0, 60.0)], old, START + 3)  # overtaken on its way back
    bucket = group.buckets[REQUESTS]
    assert bucket.limit == 6_000
    assert level(group, REQUESTS, START + 3) > 0


def test_only_a_stated_limit_raises_the_rate_and_not_above_the_configured_one() -> None:
    group = learned("openai", LimitReport(REQUESTS, 600, 599, 60.0))
    held = group.reserve(SMALL[0], START + 1)
    group.learn([LimitReport(REQUESTS, 1_200, 1_199, 60.0)], held, START + 1)
    assert group.buckets[REQUESTS].rate == 20.0
    ceiling = group_of("openai", requests_per_minute=600)
    held = ceiling.reserve(SMALL[0], START)
    ceiling.learn([LimitReport(REQUESTS, 1_200, 1_199, 60.0)], held, START)
    assert ceiling.buckets[REQUESTS].rate == 10.0
    ceiling.learn([LimitReport(REQUESTS, 300, 299, 60.0)], held, START)
    assert ceiling.buckets[REQUESTS].rate == 5.0


def test_a_lowered_limit_cuts_the_level_to_its_capacity() -> None:
    group = group_of("openai", requests_per_minute=60_000)
    held = group.reserve(SMALL[0], START)
    group.learn([LimitReport(REQUESTS, 600, 599, 60.0)], held, START)
    assert level(group, REQUESTS) <= 9.5


def test_openais_daily_requests_are_a_bucket_of_their_own() -> None:
    group = learned(
        "openai", LimitReport(REQUESTS, 10_000, 40, 86_400.0), LimitReport(TOKENS, 90_000, 89_000)
    )
    assert set(group.buckets) == {DAILY, TOKENS}
    daily = group.buckets[DAILY]
    assert daily.rate == pytest.approx(10_000 / 86_400)
    assert daily.level == 40


def test_a_daily_token_limit_does_not_cut_the_minutes_bucket() -> None:
    group = wide("openai")
    held = group.reserve(SMALL[0], START)
    group.learn([LimitReport(TOKENS, 1_000, 0, 86_400.0)], held, START)
    assert group.buckets[TOKENS].limit == 600_000


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_of_zero_or_less_means_unknown(limit: int) -> None:
    group = group_of("openai")
    held = group.reserve(SMALL[0], START)
    group.learn([LimitReport(REQUESTS, limit, limit, 60.0)], held, START)
    assert group.buckets == {}


def test_dimensions_that_a_provider_does_not_count_are_not_learned() -> None:
    assert learned("anthropic", LimitReport(TOKENS, 1000, 0)).buckets == {}


# ------------------------------------------------------------------ the first call


def test_where_nothing_is_known_one_call_goes_by_itself_until_it_is_answered() -> None:
    group = group_of("anthropic")
    assert group.closed(START) is None
    probe = group.reserve(SMALL[0], START)
    assert group.closed(START) == Closed(RefusalKind.LIMITS_UNKNOWN, None)
    group.settle(probe, SMALL[1], charged=False, now=START + 1)
    group.learn([LimitReport(REQUESTS, 300, 299, 60.0)], probe, START + 1)
    assert group.closed(START + 1) is None


def test_a_first_call_that_is_lost_is_followed_by_another() -> None:
    group = group_of("anthropic")
    probe = group.reserve(SMALL[0], START)
    group.settle(probe, None, charged=True, now=START + 60)
    assert group.unknown
    assert group.closed(START + 60) is None


def test_an_answer_without_headers_begins_the_slow_start() -> None:
    group = group_of("gemini")
    probe = group.reserve(SMALL[0], START)
    group.settle(probe, SMALL[1], charged=False, now=START + 1)
    group.answered_without_headers(START + 1)
    assert isinstance(group.buckets[REQUESTS], AdaptiveLimit)
    assert group.buckets[REQUESTS].rate == START_RATE


def test_headers_end_a_slow_start() -> None:
    group = group_of("anthropic")
    probe = group.reserve(SMALL[0], START)
    group.settle(probe, None, charged=False, now=START + 1)
    group.answered_without_headers(START + 1)  # a proxy's 503, say
    first = group.reserve(SMALL[0], START + 1)
    second = group.reserve(SMALL[0], START + 1)
    group.settle(first, SMALL[1], charged=False, now=START + 2)
    group.learn([LimitReport(REQUESTS, 600, 3, 60.0)], first, START + 2)
    bucket = group.buckets[REQUESTS]
    assert not isinstance(bucket, AdaptiveLimit)
    assert bucket.limit == 600
    assert bucket.level == pytest.approx(9.5)  # 3 left, one taken since, ten refilled: more than it holds
    group.settle(second, SMALL[1], charged=False, now=START + 2)


def test_what_went_through_a_slow_start_is_taken_off_what_headers_say_is_left() -> None:
    group = group_of("openai")
    group.settle(group.reserve(SMALL[0], START), None, charged=False, now=START + 1)
    group.answered_without_headers(START + 1)
    first = group.reserve(SMALL[0], START + 1)
    for second in (2, 3):
        group.reserve(SMALL[0], START + second)
    group.learn([LimitReport(REQUESTS, 6, 0, 60.0)], first, START + 3)
    assert level(group, REQUESTS, START + 3) == pytest.approx(-2.0 + 2 * 0.1, abs=0.01)


# ------------------------------------------------------------------ slow start


@pytest.mark.parametrize("retry_after_s", [None, 0.0, 1.0])
def test_slow_start_finds_ten_a_second_with_few_429s(retry_after_s: float | None) -> None:
    """The figures of the simulation that the rule was chosen by: at most 5, and 85 % of the limit."""
    server = Server("gemini", START, requests=600.0)
    seen = run(
        group_of("gemini"), server, 60.0, need=lambda: SMALL, on_the_way_s=jitter(),
        retry_after_s=retry_after_s,
    )  # fmt: skip
    assert len(seen.denied) <= 5
    assert server.admitted >= 0.85 * server.most("requests", 60.0)


def test_slow_start_grows_only_while_it_is_used() -> None:
    idle, busy = AdaptiveLimit(START), AdaptiveLimit(START)
    for second in range(1, 6):
        idle.refill(START + second)
        for _ in range(round(busy.rate)):
            busy.take(1.0)
        busy.refill(START + second)
    assert idle.rate == START_RATE
    assert busy.rate == pytest.approx(START_RATE * GROWTH**5)


def test_of_the_429s_of_one_burst_only_the_first_cuts_the_rate() -> None:
    bucket = AdaptiveLimit(START, 20.0)
    for late in (0.1, 0.2, 0.3):
        bucket.cut(START, START + late)
    assert bucket.rate == pytest.approx(20.0 * FIRST_CUT)
    bucket.cut(START + 0.5, START + 0.6)
    assert bucket.rate == pytest.approx(20.0 * FIRST_CUT * CUT)


def use(bucket: AdaptiveLimit, seconds: int, start: float = START) -> list[float]:
    """Its rate at the end of each second in which it was used to the full."""
    rates = []
    for second in range(1, seconds + 1):
        for _ in range(20):
            bucket.take(1.0)
        bucket.refill(start + second)
        rates.append(bucket.rate)
    return rates


def test_between_two_429s_the_pace_is_measured_and_then_it_grows_slowly_after_clean_seconds_only() -> None:
    bucket = AdaptiveLimit(START, 40.0)
    bucket.cut(START, START)
    assert use(bucket, 3) == pytest.approx([20.0 * CATCH_UP**n for n in (1, 2, 3)])
    bucket.cut(START + 3.0, START + 3.0)
    measured = SAFE * 58 / 3.0  # sixty went, the last in vain, and what was left of one passed before
    assert bucket.rate == pytest.approx(measured)
    assert use(bucket, 7, START + 3.0) == pytest.approx(
        [measured * RECOVERY ** max(0, n - 4) for n in range(1, 8)]
    )


def test_a_configured_limit_that_is_too_high_is_inferred_where_no_header_corrects_it() -> None:
    server = Server("gemini", START, requests=300.0)
    group = group_of("gemini", requests_per_minute=600)
    seen = run(group, server, 60.0, need=lambda: SMALL, on_the_way_s=jitter())
    assert len([at for at in seen.denied if at > START + 1.0]) <= 5  # the first burst went at once
    assert server.admitted >= 0.8 * server.most("requests", 60.0)


def test_an_inferred_limit_never_grows_above_the_configured_one() -> None:
    server = Server("gemini", START, requests=6_000.0)
    group = group_of("gemini", requests_per_minute=600)
    group.rate_limited(1.0, START, START)  # one stray 429
    run(group, server, 120.0, need=lambda: SMALL)
    assert group.buckets[REQUESTS].rate == pytest.approx(10.0)


@pytest.mark.parametrize("api", ["anthropic", "openai", "gemini"])
def test_a_limit_halved_in_mid_run_draws_few_429s(api: str) -> None:
    server = Server(api, START, requests=600.0)
    group = RateLimitGroup("model", API_FORMATS[api].limits, configured_limits(server), START)
    run(group, server, 60.0, need=lambda: SMALL, on_the_way_s=jitter())
    server.change(requests=300.0)
    before = server.admitted
    server.now = START + 60.0
    seen = run(group, server, 60.0, need=lambda: SMALL, on_the_way_s=jitter())
    assert len(seen.denied) <= 5
    assert server.admitted - before >= 0.8 * 300


TOKENS_STATED = {
    "anthropic": {"input_tokens_per_minute": 6_000_000, "output_tokens_per_minute": 6_000_000},
    "openai": {"tokens_per_minute": 6_000_000},
    "gemini": {"tokens_per_minute": 6_000_000},
}


@pytest.mark.parametrize("states", [True, False], ids=["headers", "no headers"])
@pytest.mark.parametrize("api", ["anthropic", "openai", "gemini"])
def test_a_request_limit_is_inferred_beside_configured_token_limits(api: str, states: bool) -> None:
    """8,492 answers 429 for 427 answers, where a token bucket alone was configured."""
    server = Server(api, START, requests=600.0)
    group = group_of(api, **TOKENS_STATED[api])
    if not states:
        server.headers = lambda now: ()  # type: ignore[method-assign]
    seen = run(group, server, 60.0, need=lambda: SMALL, on_the_way_s=jitter())
    assert len(seen.denied) <= 3
    assert server.admitted >= 0.85 * server.most("requests", 60.0)
    assert {g.dimension for g in group.gauges(START + 60)} >= {
        REQUESTS,
        *(b.dimension for b in group.token_buckets),
    }


@pytest.mark.parametrize("api", ["anthropic", "openai", "gemini"])
def test_a_token_limit_is_kept_as_a_pace_beside_a_configured_request_limit(api: str) -> None:
    tokens = {"tokens": 60_000.0} if api != "anthropic" else {"input_tokens": 60_000.0}
    server = Server(api, START, token_burst_s=1.0, **tokens)
    server.headers = lambda now: ()  # type: ignore[method-assign]
    group = group_of(api, requests_per_minute=6_000)
    seen = run(group, server, 60.0, need=lambda: SMALL, on_the_way_s=jitter())
    assert len([at for at in seen.denied if at > START + 1.0]) <= 12
    assert server.admitted >= 0.7 * 600


def test_a_limit_inferred_beside_configured_token_limits_is_known_after_a_restart() -> None:
    before = group_of("gemini", **TOKENS_STATED["gemini"])
    run(before, Server("gemini", START, requests=600.0), 30.0, need=lambda: SMALL, on_the_way_s=jitter())
    after = group_of("gemini", START + 100, **TOKENS_STATED["gemini"])
    after.restore(before.export(), START + 100)
    assert not after.unknown
    assert after.buckets[REQUESTS].rate == pytest.approx(before.buckets[REQUESTS].rate)


# ------------------------------------------------------------------ holds


def test_a_429_holds_the_group_until_retry_after_and_it_starts_empty() -> None:
    group = group_of("openai", requests_per_minute=600, tokens_per_minute=60_000)
    group.rate_limited(7.0, START, START)
    kind, until, _ = closed(group, START)
    assert kind is RefusalKind.HELD_AFTER_429
    assert until is not None
    assert until >= START + 7.0
    assert level(group, TOKENS, START + 7.0) == 0.0
    assert level(group, TOKENS, START + 8.0) == pytest.approx(1_000.0)


def test_a_hold_ends_when_the_first_call_really_fits() -> None:
    group = group_of("openai", requests_per_minute=60)
    group.reserve(SMALL[0], START)
    group.rate_limited(7.0, START, START)
    _, until, _ = closed(group, START)
    assert until is not None
    assert group.closed(until - 0.01) is not None
    assert group.closed(until) is None


@pytest.mark.parametrize("per_minute", [0.0, 60.0, 600.0])
@pytest.mark.parametrize("api", ["anthropic", "openai", "gemini"])
def test_what_is_remembered_of_a_closed_group_is_what_a_new_evaluation_finds(
    api: str, per_minute: float
) -> None:
    rng = random.Random(api)
    for _ in range(60):
        group, now = (
            group_of(api, **({"requests_per_minute": per_minute} if per_minute else {})),
            START,
        )
        out: list[Reservation] = []
        for _ in range(30):
            step = rng.choice(("wait", "fill", "fill", "answer", "learn", "learn", "429", "hold", "release"))
            if step == "wait":
                now += rng.uniform(0.0, 2.0)
            elif step == "fill":
                while group.closed(now) is None and len(out) < 40:
                    out.append(group.reserve(SMALL[0], now))
            elif step == "answer" and out:
                group.settle(out.pop(0), SMALL[1], charged=False, now=now)
                group.answered_without_headers(now)
            elif step == "learn" and out:
                limit = rng.choice((60, 600, 6_000))
                group.learn([LimitReport(REQUESTS, limit, limit - 1, 60.0)], out[-1], now)
            elif step == "429":
                group.rate_limited(None, now, now)
            elif step == "hold":
                group.hold(now + rng.uniform(0.0, 2.0), RefusalKind.QUOTA_SPENT, now)
            elif step == "release":
                group.release(now)
            afresh = copy.deepcopy(group)
            afresh._shut = (None, 0.0)
            remembered, truly = group.closed(now), afresh.closed(now)
            assert (remembered is None) == (truly is None)
            if remembered is None or truly is None:
                continue
            assert (remembered.kind, remembered.detail) == (truly.kind, truly.detail)
            until, opens = remembered.until, truly.until
            assert until == opens or (until is not None and until == pytest.approx(opens, rel=0, abs=1e-5))


def test_of_two_holds_the_later_end_counts() -> None:
    group = group_of("gemini", requests_per_minute=60_000)
    group.rate_limited(30.0, START, START)
    group.rate_limited(2.0, START, START + 1)
    assert group.held_until == START + 30.0
    group.rate_limited(40.0, START, START + 2)
    assert group.held_until == START + 40.0  # it was sent before the hold began, and is counted from there
    group.rate_limited(40.0, START + 2, START + 3)
    assert group.held_until == START + 43.0


@pytest.mark.parametrize("retry_after_s", [None, 0.0, -3.0])
def test_without_a_retry_after_holds_double_to_a_minute(retry_after_s: float | None) -> None:
    group = group_of("openai", requests_per_minute=60_000)
    now, holds = START, []
    for _ in range(9):
        group.rate_limited(retry_after_s, now, now)
        holds.append(round(group.held_until - now))
        now = group.held_until
    assert holds == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    group.succeeded()
    group.rate_limited(retry_after_s, now, now)
    assert round(group.held_until - now) == 1


def test_the_429s_of_one_burst_are_one_hold() -> None:
    group = group_of("openai", requests_per_minute=60_000)
    for late in range(10):
        group.rate_limited(None, START, START + late / 100)
    assert group.held_until - START == pytest.approx(1.0, abs=0.1)


def test_days_of_429s_do_no_harm() -> None:
    group = group_of("gemini", requests_per_minute=600)
    now = START
    for _ in range(2000):
        group.rate_limited(None, now, now)
        now = group.held_until
    assert group.held_until - now <= 60.0


def test_what_comes_back_during_a_hold_does_not_fill_the_bucket() -> None:
    group = group_of("anthropic", requests_per_minute=600, output_tokens_per_minute=60_000)
    held = [group.reserve(Need(10, 4_000, 4_000), START) for _ in range(5)]
    group.rate_limited(10.0, START, START)
    for each in held:
        group.settle(each, Usage(10, 0, 0, 100), charged=False, now=START + 1)
    assert level(group, OUTPUT, START + 10.0) == 0.0


def test_released_by_hand_it_refills_from_that_moment() -> None:
    group = group_of("gemini", requests_per_minute=600)
    group.hold(START + 40_000.0, RefusalKind.QUOTA_SPENT, START)
    group.release(START + 10)
    _, until, dimension = closed(group, START + 10)
    assert dimension == REQUESTS
    assert until == pytest.approx(START + 10.1)
    assert group.closed(START + 10.1 + 2 * TICK_S) is None


# ------------------------------------------------------------------ a day's requests


def test_of_a_daily_limit_exactly_that_many_pass_and_again_from_midnight_pacific() -> None:
    group = group_of("gemini", requests_per_day=25, requests_per_minute=60_000)
    now, passed = START, 0
    while group.closed(now) is None:
        group.reserve(SMALL[0], now)
        passed += 1
        now += 1.0
    assert passed == 25
    _, until, dimension = closed(group, now)
    assert (dimension, until) == (DAILY, next_midnight_pacific(START))
    assert until is not None
    assert closed(group, until - 0.001).detail == DAILY
    again = 0
    while group.closed(until) is None:
        group.reserve(SMALL[0], until)
        again += 1
    assert again == 25


def test_a_daily_counter_does_not_refill_before_its_time() -> None:
    counter = DailyCounter(3.0, START)
    for _ in range(3):
        counter.take(1.0)
    assert counter.wait_s(1.0, START + 600.0) == counter.resets_at - START - 600.0


# ------------------------------------------------------------------ after a restart


def test_what_was_learned_is_known_after_a_restart_and_buckets_start_empty() -> None:
    before = learned(
        "openai", LimitReport(REQUESTS, 600, 599, 60.0), LimitReport(TOKENS, 90_000, 80_000, 60.0)
    )
    after = group_of("openai", START + 100)
    after.restore(before.export(), START + 100)
    assert not after.unknown
    assert level(after, REQUESTS, START + 100) == 0.0
    assert level(after, REQUESTS, START + 101) == pytest.approx(9.5)
    assert level(after, TOKENS, START + 101) == pytest.approx(1_500)


def test_a_restart_does_not_make_a_days_limit_a_trickle() -> None:
    before = learned("openai", LimitReport(REQUESTS, 10_000, 9_999, 86_400.0))
    after = group_of("openai", START + 100)
    after.restore(before.export(), START + 100)
    assert level(after, DAILY, START + 100) > 9_000
    held = after.reserve(SMALL[0], START + 101)
    after.learn([LimitReport(REQUESTS, 10_000, 12, 86_400.0)], held, START + 102)  # the next answer tells
    assert level(after, DAILY, START + 102) == pytest.approx(12, abs=0.2)


def test_a_slow_start_goes_on_at_the_rate_it_had_reached() -> None:
    before = group_of("gemini")
    before.reserve(SMALL[0], START)
    before.answered_without_headers(START)
    bucket = before.buckets[REQUESTS]
    assert isinstance(bucket, AdaptiveLimit)
    bucket._set_rate(8.0)
    after = group_of("gemini", START + 100)
    after.restore(before.export(), START + 100)
    assert after.buckets[REQUESTS].rate == 8.0
    assert level(after, REQUESTS, START + 100) == 0.0
    assert not after.unknown


def test_configured_limits_are_not_exported_and_win_over_learned_ones() -> None:
    group = group_of("openai", requests_per_minute=600)
    assert group.export() == {}
    group.restore({REQUESTS: 6_000.0}, START)
    assert group.buckets[REQUESTS].limit == 600


# ------------------------------------------------------------------ gauges


def test_gauges_show_where_each_limit_comes_from() -> None:
    group = group_of("openai", requests_per_minute=600)
    held = group.reserve(SMALL[0], START)
    group.learn([LimitReport(TOKENS, 90_000, 80_000, 60.0)], held, START)
    found = {gauge.dimension: gauge for gauge in group.gauges(START)}
    assert (found[REQUESTS].source, found[REQUESTS].per_minute) == (LimitSource.CONFIGURED, 600)
    assert (found[TOKENS].source, found[TOKENS].per_minute) == (LimitSource.LEARNED, 90_000)
    assert found[TOKENS].level <= 80_000
