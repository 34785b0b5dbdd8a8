"""One provider that fails some of its calls at random takes little longer than a script that retries them."""

from __future__ import annotations

import heapq
import random
import statistics

import pytest

from src.errors import RateLimited, ServerError
from src.records import Placement, TaskStatus

from .build import make_settings, make_task
from .virtual import Answer, Provider, World

ROWS, LATENCY_S, SEEDS = 200, 0.3, 8
MIXES = {  # the shares of 500s and of 429s, and how many times as long as the script it may take
    "no errors": (0.0, 0.0, 2.2),
    "5 % 500s": (0.05, 0.0, 2.2),
    "10 % 500s": (0.10, 0.0, 2.2),
}


class Failing(World):
    """Its provider answers a share of all calls with 500 and another one with 429, whatever the pace."""

    shares = (0.0, 0.0)

    def _served(self, placement: Placement, provider: Provider, now: float) -> tuple[float, Answer]:
        drawn = self.rng.random()
        if drawn < self.shares[0]:
            return 0.003, ServerError("it broke", status=500)
        if drawn < sum(self.shares):
            return 0.003, RateLimited("too fast", status=429, retry_after_s=2.0)
        return super()._served(placement, provider, now)


def pool(shares: tuple[float, float], seed: int) -> World:
    world = Failing(
        make_settings(), {"openai": Provider(lambda: LATENCY_S)}, configured=["openai"], seed=seed
    )
    world.shares = shares
    world.offer(0.0, *[make_task(number) for number in range(ROWS)])
    return world.run(600.0)


def script_s(shares: tuple[float, float], seed: int) -> float:
    """16 calls in flight and five retries, with the waits of the openai SDK."""
    dice, ends = random.Random(seed), [0.0] * 16
    for _ in range(ROWS):
        now = heapq.heappop(ends)
        for retry in range(5):
            drawn = dice.random()
            if drawn >= sum(shares):
                break
            now += min(0.5 * 2**retry, 8.0) * dice.uniform(0.75, 1.0) if drawn < shares[0] else 2.0
        heapq.heappush(ends, now + LATENCY_S + 0.02)
    return max(ends)


@pytest.mark.parametrize("mix", MIXES)
def test_random_errors_cost_little_more_than_a_retry_script_needs(mix: str) -> None:
    *shares, at_most = MIXES[mix]
    worlds = [pool((shares[0], shares[1]), seed) for seed in range(SEEDS)]
    assert all(world.statuses == {TaskStatus.SUCCEEDED: ROWS} for world in worlds)
    script = [script_s((shares[0], shares[1]), seed) for seed in range(SEEDS)]
    took = [world.makespan_s for world in worlds]
    assert statistics.median(took) <= at_most * statistics.median(script)
    assert max(took) <= 6.0 * max(script)
