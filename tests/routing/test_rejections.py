"""Answers 429 that have nothing to do with the pace hold their own task and not the group."""

from __future__ import annotations

import statistics

import pytest

from src.errors import RateLimited
from src.records import Placement, RefusalKind, TaskStatus
from src.routing.limits.group import ONE_CALL

from .build import START, make_settings, make_task, told_limits
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


class Moody(World):
    """Its provider refuses every fifth call, whatever the pace."""

    def _served(self, placement: Placement, provider: Provider, now: float) -> tuple[float, Answer]:
        if self.rng.random() < 0.2:
            return 0.02, STRAY_429
        return super()._served(placement, provider, now)


def moody(*, are_configured: bool, seed: int = 3) -> World:
    settings = make_settings(limits=told_limits() if are_configured else None)
    world = Moody(settings, {"openai": Provider(lambda: 0.3)}, configured=["openai"], seed=seed)
    world.offer(0.0, *[make_task(number) for number in range(200)])
    return world.run(600.0)


@pytest.mark.parametrize(
    ("are_configured", "median_s", "worst_s"),
    [(True, 12.5, 30.0), (False, 32.0, 60.0)],
    ids=["stated limit", "unknown limit"],
)
def test_one_call_in_five_refused_at_random_costs_a_wait_each_and_not_the_pace(
    are_configured: bool, median_s: float, worst_s: float
) -> None:
    """Over many seeds, since one unlucky task decides. A script with 16 calls in flight takes 13 s."""
    worlds = [moody(are_configured=are_configured, seed=seed) for seed in range(1, 13)]
    assert all(world.statuses == {TaskStatus.SUCCEEDED: 200} for world in worlds)
    took = [world.makespan_s for world in worlds]
    assert statistics.median(took) <= median_s
    assert max(took) <= worst_s


def test_a_task_refused_by_a_stray_429_waits_for_its_retry_after() -> None:
    world = moody(are_configured=True)
    again = [r for r in world.results if len(r.attempts) > 1]
    assert again
    for result in again:
        for first, second in zip(result.attempts, result.attempts[1:], strict=False):
            assert second.started_at - first.started_at >= 1.9
