"""Answers 429 that have nothing to do with the pace hold their own task and not the group."""

from __future__ import annotations

import random
import statistics

import pytest

from src.errors import RateLimited
from src.records import Placement, RefusalKind, TaskStatus
from src.routing.limits.group import ONE_CALL, RateLimitGroup

from .build import START, make_settings, make_task, told_limits
from .servers import Server
from .test_limits import closed, group_of
from .virtual import Answer, Provider, World

STRAY_429 = RateLimited("stray", status=429, retry_after_s=2.0)


def test_a_429_does_not_multiply_over_calls_that_were_sent_before_its_hold_began() -> None:
    group = group_of("openai", requests_per_minute=60_000)
    for number in range(20):
        group.rate_limited(2.0, START, START + 0.05 * number)
    assert group.held_until == START + 2.0


def test_answers_to_calls_sent_beside_refused_ones_end_the_hold_and_keep_the_pace() -> None:
    group = group_of("openai", requests_per_minute=60_000)
    before = group.buckets["requests"].rate
    held = [group.reserve(ONE_CALL, START) for _ in range(12)]
    for refused in held[:3]:
        group.rate_limited(2.0, refused.sent_at, START + 0.05)
    assert closed(group, START + 0.2).kind is RefusalKind.HELD_AFTER_429
    for answered in held[3:]:
        group.succeeded(answered, START + 0.3)
    assert group.closed(START + 0.4) is None
    assert group.buckets["requests"].rate == before


def test_refusals_without_answers_beside_them_are_the_limit() -> None:
    group = group_of("openai", requests_per_minute=60_000)
    held = [group.reserve(ONE_CALL, START) for _ in range(12)]
    for answered in held[:6]:
        group.succeeded(answered, START + 0.02)
    for refused in held[6:]:
        group.rate_limited(2.0, refused.sent_at, START + 0.05)
    assert closed(group, START + 0.4).kind is RefusalKind.HELD_AFTER_429


def inferred(rate: float = 10.0) -> RateLimitGroup:
    """A group that infers its limit, at this pace."""
    group = group_of("gemini")
    group.restore({"slow_start_rate": rate, "slow_start_met": True}, START)
    return group


def send(group: RateLimitGroup, start: float, count: int, per_s: float) -> float:
    """So many calls one after the other, each answered at once; when the last one went."""
    for number in range(count):
        at = start + number / per_s
        held = group.reserve(ONE_CALL, at)
        group.settle(held, None, charged=False, now=at)
        group.succeeded(held, at)
    return start + (count - 1) / per_s


def refuse(group: RateLimitGroup, now: float) -> None:
    held = group.reserve(ONE_CALL, now)
    group.settle(held, None, charged=False, now=now)
    group.rate_limited(1.0, now, now)


def measured(group: RateLimitGroup) -> float:
    """Twenty calls pass between two 429s: the pace is measured. When the second one came."""
    refuse(group, START)
    last = send(group, START + 1.0, 20, 10.0) + 0.1
    refuse(group, last)
    return last


def test_a_429_at_a_pace_that_has_passed_is_stray() -> None:
    group = inferred()
    last = measured(group)
    assert group.buckets["requests"].rate < 7.0
    last = send(group, last + 1.2, 8, 6.0) + 0.2
    refuse(group, last)
    assert group.rejections.is_stray(last)
    assert group.closed(last + 0.2) is None  # nothing is held for
    assert group.buckets["requests"].rate == pytest.approx(10.0)


def test_a_429_at_a_pace_that_has_grown_since_is_the_limit() -> None:
    group = inferred()
    last = measured(group)
    group.buckets["requests"]._set_rate(7.5)  # type: ignore[attr-defined]
    refuse(group, last + 5.0)
    assert not group.rejections.is_stray(last + 5.0)
    assert closed(group, last + 5.1).kind is RefusalKind.HELD_AFTER_429


@pytest.mark.parametrize("in_flight", [0, 4])
def test_more_refused_than_passed_by_five_and_the_calls_in_flight_are_the_limit_after_all(
    in_flight: int,
) -> None:
    group = inferred()
    group.rejections.begin_stray(START)
    for _ in range(in_flight):
        group.reserve(ONE_CALL, START)
    for number in range(1, 5 + in_flight):
        refuse(group, START + 0.01 * number)
    assert group.rejections.is_stray(START + 0.2)
    refuse(group, START + 0.2)
    assert not group.rejections.is_stray(START + 0.2)
    assert closed(group, START + 0.3).kind is RefusalKind.HELD_AFTER_429


@pytest.mark.parametrize("retry_after_s", [None, 1.0])
@pytest.mark.parametrize("burst_s", [1.0, 10.0, 60.0])
@pytest.mark.parametrize("latency_s", [0.5, 2.0])
@pytest.mark.parametrize(
    ("per_s", "at_most"), [(0.25, 20), (1.0, 16), (2.0, 16), (5.0, 20), (10.0, 20), (30.0, 40)]
)
def test_a_limit_that_is_reached_is_never_taken_for_stray_429s(
    per_s: float, at_most: int, latency_s: float, burst_s: float, retry_after_s: float | None
) -> None:
    """2,162 answers 429 came in a minute at a limit of 60 a minute, taken for stray ones."""
    for seed in (1, 2):
        rng = random.Random(seed)
        server = Server("gemini", START, requests=per_s * 60.0, burst_s=burst_s)
        provider = Provider(
            lambda rng=rng: latency_s * rng.uniform(0.7, 1.5), server, retry_after_s=retry_after_s,
            on_the_way_s=lambda rng=rng: rng.uniform(0.0, 0.05),
        )  # fmt: skip
        world = World(make_settings(), {"openai": provider}, configured=["openai"], seed=seed)
        world.offer(0.0, *[make_task(number) for number in range(int(per_s * 90.0) + 20)])
        world.run(60.0)
        assert server.denied <= (at_most if burst_s > 1.0 else at_most // 2)


class Moody(World):
    """Its provider refuses every fifth call, whatever the pace."""

    def _served(self, placement: Placement, provider: Provider, now: float) -> tuple[float, Answer]:
        if self.rng.random() < 0.2:
            return 0.02, STRAY_429
        return super()._served(placement, provider, now)


def moody(*, configured: bool, seed: int = 3) -> World:
    settings = make_settings(limits=told_limits() if configured else None)
    world = Moody(settings, {"openai": Provider(lambda: 0.3)}, configured=["openai"], seed=seed)
    world.offer(0.0, *[make_task(number) for number in range(200)])
    return world.run(600.0)


@pytest.mark.parametrize(
    ("configured", "median_s", "worst_s"),
    [(True, 12.0, 24.0), (False, 32.0, 60.0)],
    ids=["stated limit", "unknown limit"],
)
def test_one_call_in_five_refused_at_random_costs_a_wait_each_and_not_the_pace(
    configured: bool, median_s: float, worst_s: float
) -> None:
    """Over many seeds, since one unlucky task decides. A script with 16 calls in flight takes 13 s."""
    worlds = [moody(configured=configured, seed=seed) for seed in range(1, 13)]
    assert all(world.statuses == {TaskStatus.SUCCEEDED: 200} for world in worlds)
    took = [world.makespan_s for world in worlds]
    assert statistics.median(took) <= median_s
    assert max(took) <= worst_s


def test_a_task_refused_by_a_stray_429_waits_for_its_retry_after() -> None:
    world = moody(configured=True)
    again = [r for r in world.results if len(r.attempts) > 1]
    assert again
    for result in again:
        for first, second in zip(result.attempts, result.attempts[1:], strict=False):
            assert second.started_at - first.started_at >= 1.9
