"""Scores by the documented formula, a window that forgets, and turns that a test can predict."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.routing.health.scoring import (
    LATENCIES_KEPT,
    History,
    RoundRobin,
    final_score,
    neutral_response_s,
    performance_multiplier,
    shares,
    time_multiplier,
)

from .build import NAMES, START, Desk, answer, make_balancer, make_settings, make_task, told_limits

WINDOW_S = 300.0

# ------------------------------------------------------------------ the formula


@pytest.mark.parametrize(
    ("base_weight", "error_rate", "avg_response_s", "performance", "time", "score"),
    [
        pytest.param(0.3, 0.0, 0.0, 1.0, 1.0, 0.3, id="perfect"),
        pytest.param(0.4, 1.0, 0.0, 0.5, 1.0, 0.2, id="all-fail"),
        pytest.param(0.4, 0.0, 10.0, 1.0, 0.5, 0.2, id="ten-seconds"),
        pytest.param(0.3, 0.2, 2.5, 0.9, 0.8, 0.216, id="both"),
        pytest.param(0.3, 0.5, 30.0, 0.75, 0.25, 0.05625, id="slow-and-failing"),
        pytest.param(0.0, 0.1, 1.0, 0.95, 1 / 1.1, 0.0, id="weight-0"),
    ],
)
def test_the_score_is_the_documented_product(
    base_weight: float,
    error_rate: float,
    avg_response_s: float,
    performance: float,
    time: float,
    score: float,
) -> None:
    assert performance_multiplier(error_rate) == pytest.approx(performance)
    assert time_multiplier(avg_response_s) == pytest.approx(time)
    assert final_score(base_weight, error_rate, avg_response_s) == pytest.approx(score)


@given(
    weight=st.floats(0, 10),
    errors=st.floats(0, 1),
    response_s=st.floats(0, 1000),
)
def test_a_score_is_never_above_the_weight_nor_below_zero(
    weight: float, errors: float, response_s: float
) -> None:
    assert 0.0 <= final_score(weight, errors, response_s) <= weight


def test_shares_sum_to_one_and_are_zero_without_any_score() -> None:
    assert shares({"a": 0.3, "b": 0.1}) == pytest.approx({"a": 0.75, "b": 0.25})
    assert shares({"a": 0.0, "b": 0.0}) == {"a": 0.0, "b": 0.0}
    assert shares({}) == {}


def test_the_live_score_follows_what_is_settled() -> None:
    desk = Desk()
    desk.offer(make_task(1, providers=("gemini",)))
    desk.ok(desk.one(), seconds=2.5)
    gemini = desk.provider("gemini")
    assert gemini.score == pytest.approx(0.3 * 1.0 * 0.8)
    assert gemini.time_multiplier == pytest.approx(0.8)
    for name in ("anthropic", "openai"):  # neutral: as fast as the others, not faster
        other = desk.provider(name)
        assert other.score == pytest.approx(final_score(other.weight, 0.0, 2.5))


# ------------------------------------------------------------------ history


def test_errors_and_times_count_over_the_window_and_then_leave_it() -> None:
    history = History(WINDOW_S)
    for _ in range(3):
        history.record(True, 2.0, START)
    history.record(False, 60.0, START)
    assert history.error_rate == 0.25
    assert history.avg_response_s == 2.0  # how long a failure took says nothing about an answer
    assert not history.expire(START + WINDOW_S - 20.0)
    history.record(True, 4.0, START + 200.0)
    assert (history.error_rate, history.avg_response_s) == (0.2, 2.5)
    assert history.expire(START + WINDOW_S + 10.0)
    assert (history.error_rate, history.avg_response_s) == (0.0, 4.0)
    history.expire(START + 2 * WINDOW_S)
    assert (history.calls, history.error_rate, history.avg_response_s) == (0, 0.0, None)


@given(
    st.lists(
        st.tuples(st.booleans(), st.floats(0, 100), st.floats(0, 120)),
        max_size=60,
    )
)
def test_a_history_is_the_sum_of_what_is_in_its_window(calls: list[tuple[bool, float, float]]) -> None:
    history = History(WINDOW_S)
    now, recorded = START, []
    for ok, latency_s, pause_s in calls:
        now += pause_s
        history.record(ok, latency_s, now)
        recorded.append((now, ok, latency_s))
    slot_s = WINDOW_S / 30  # the window slides in slots: what is as old as one slot more is gone for sure
    surely = [c for c in recorded if now - c[0] < WINDOW_S - slot_s]
    perhaps = [c for c in recorded if now - c[0] <= WINDOW_S]
    assert len(surely) <= history.calls <= len(perhaps)
    kept = recorded[len(recorded) - history.calls :]
    good = [latency for _, ok, latency in kept if ok]
    assert (history.ok, history.failures) == (len(good), len(kept) - len(good))
    if good:
        assert history.avg_response_s == pytest.approx(sum(good) / len(good), abs=1e-6)
    else:
        assert history.avg_response_s is None


def test_a_recovered_provider_gets_its_share_back() -> None:
    balancer = make_balancer()
    openai = balancer.by_name["openai"]
    for _ in range(20):
        openai.history.record(False, 1.0, START)
    balancer.registry.rescore(START)
    assert openai.score == pytest.approx(0.2)
    balancer.place(make_task(), START + WINDOW_S + 11.0)  # nothing was settled meanwhile
    assert openai.score == pytest.approx(0.4)


def test_no_history_is_neutral_and_never_the_fastest() -> None:
    assert neutral_response_s([]) == 0.0
    assert neutral_response_s([None, None]) == 0.0
    assert neutral_response_s([None, 2.0, 4.0]) == 3.0


def test_quantiles_are_of_the_newest_successes() -> None:
    history = History(WINDOW_S)
    assert history.quantiles() is None
    history.record(False, 100.0, START)
    assert history.quantiles() is None
    for number in range(1, 101):
        history.record(True, number / 100, START)
    p50, p95 = history.quantiles() or (0.0, 0.0)
    assert p50 == pytest.approx(0.5, abs=0.1)
    assert p95 == pytest.approx(0.95, abs=0.1)
    for _ in range(300):
        history.record(True, 7.0, START)
    assert history.quantiles() == (7.0, 7.0)


@given(st.lists(st.floats(0.0, 1e4), min_size=1, max_size=300))
def test_the_quantiles_that_people_read_are_those_of_this_moment(latencies: list[float]) -> None:
    history, seen = History(WINDOW_S), []
    for latency_s in latencies:
        history.record(True, latency_s, START)
        history.quantiles()  # a decision in between
        seen = [*seen, latency_s][-LATENCIES_KEPT:]
        p50, p95 = history.exact_quantiles() or (-1.0, -1.0)
        for value, percent in ((p50, 50), (p95, 95)):  # the least value that so many do not exceed
            assert 100 * sum(each <= value for each in seen) >= percent * len(seen)
            assert 100 * sum(each < value for each in seen) < percent * len(seen)


# ------------------------------------------------------------------ turns


def expected(steps: list[tuple[list[int], list[float]]]) -> Counter[int]:
    """The sum over steps of score_i / sum of the scores of the eligible."""
    due: Counter[int] = Counter()
    for eligible, scores in steps:
        for index, score in zip(eligible, scores, strict=True):
            due[index] += score / sum(scores)  # type: ignore[assignment]
    return due


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=6), st.integers(1, 400))
def test_turns_never_stray_far_from_the_shares(scores: list[float], steps: int) -> None:
    indices = list(range(len(scores)))
    turns = RoundRobin(len(scores), 3.0)
    counts = Counter(turns.turn(indices, scores) for _ in range(steps))
    for index, due in expected([(indices, scores)] * steps).items():
        assert abs(counts[index] - due) < len(scores)
    assert sum(turns.credit) == pytest.approx(0.0, abs=1e-9)


def test_a_provider_that_is_not_eligible_neither_earns_nor_pays() -> None:
    turns = RoundRobin(3, 3.0)
    turns.turn([0, 1, 2], [0.3, 0.4, 0.3])
    before = turns.credit[2]
    for _ in range(50):
        turns.turn([0, 1], [0.3, 0.4])
    assert turns.credit[2] == before


def test_credit_stays_within_its_clamp_however_often_one_is_preferred() -> None:
    turns = RoundRobin(2, 3.0)
    for _ in range(1000):
        assert turns.turn([0, 1], [0.5, 0.5], forced=0) == 0
        assert min(turns.credit) >= -3.0 and max(turns.credit) <= 3.0
    counts = Counter(turns.turn([0, 1], [0.5, 0.5]) for _ in range(100))
    assert 5 <= counts[1] - counts[0] <= 7  # the weights are restored: from the clamp, and no further


def test_without_any_score_all_take_turns_evenly() -> None:
    turns = RoundRobin(3, 3.0)
    counts = Counter(turns.turn([0, 1, 2], [0.0, 0.0, 0.0]) for _ in range(30))
    assert counts == {0: 10, 1: 10, 2: 10}


def test_ten_thousand_untyped_placements_match_the_scores_within_one_percent() -> None:
    """Latencies differ and change on the way, so the scores move; the count follows their sum."""
    desk = Desk(make_settings(limits=told_limits(), routing={"history_window_s": 60.0}))
    rng = random.Random(7)
    counts: Counter[str] = Counter()
    due: Counter[str] = Counter()
    for number in range(10_000):
        slow = {"anthropic": 1.0, "openai": 2.0 if number < 5000 else 6.0, "gemini": 4.0}
        desk.offer(make_task(number))
        placement = desk.one(seconds=0.02)
        weights = {c.provider: c.score for c in placement.reasons if not c.kind}
        assert set(weights) == set(NAMES)
        for name, share in shares(weights).items():
            due[name] += share  # type: ignore[assignment]
        counts[placement.provider] += 1
        assert placement.choice == "weighted"
        desk.dispatch.settle(
            placement,
            desk.now,
            completion=answer(placement),
            started_at=desk.now - slow[placement.provider] * rng.uniform(0.5, 1.5),
        )
    for name in NAMES:
        assert counts[name] == pytest.approx(due[name], rel=0.01)


def test_the_count_holds_while_providers_come_and_go_and_preferences_are_charged() -> None:
    """Untyped tasks restore the weights that preferences bend, whichever provider is unavailable."""
    desk = Desk()
    rng = random.Random(3)
    counts: Counter[str] = Counter()
    due: Counter[str] = Counter()
    typed = ("research", "analysis", "code_generation", "creative_writing")
    for number in range(10_000):
        if number % 97 == 0:  # one of three is paused for a while, now and then none
            for name in NAMES:
                desk.provider(name).set_paused(False)
            if rng.random() < 0.7:
                desk.provider(rng.choice(NAMES)).set_paused(True)
            desk.dispatch.wake_all()
        kind = rng.choice(typed) if number % 5 == 0 else "general"
        desk.offer(make_task(number, kind))
        placement = desk.one(seconds=0.02)
        weights = {c.provider: c.score for c in placement.reasons if not c.kind}
        for name, share in shares(weights).items():
            due[name] += share  # type: ignore[assignment]
        counts[placement.provider] += 1
        desk.dispatch.settle(placement, desk.now, completion=answer(placement), started_at=desk.now - 1.0)
    for name in NAMES:
        assert counts[name] == pytest.approx(due[name], rel=0.01)
