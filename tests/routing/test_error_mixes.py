"""One provider that fails some of its calls at random takes little longer than a script that retries them."""

from __future__ import annotations

import heapq
import random
import statistics
from typing import NamedTuple

import pytest

from src.errors import RateLimited, ServerError
from src.records import Placement, TaskStatus

from .build import make_settings, make_task
from .virtual import Answer, Provider, World

ROWS, LATENCY_S, SEEDS = 200, 0.3, 20
MIXES = {  # the shares of 500s and of 429s, and how many times as long as the script it may take
    "no errors": (0.0, 0.0, 1.5),
    "5 % 500s": (0.05, 0.0, 1.5),
    "10 % 500s": (0.10, 0.0, 1.5),
    "20 % 429s, Retry-After 2": (0.0, 0.2, 2.1),
    "both at 20 %": (0.2, 0.2, 1.8),
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


class Script(NamedTuple):
    """How long the script takes, and how many rows it gives up."""

    took_s: float
    lost: int


def script(shares: tuple[float, float], seed: int) -> Script:
    """16 calls in flight and five retries, with the waits of the openai SDK."""
    dice, ends, lost = random.Random(seed), [0.0] * 16, 0
    for _ in range(ROWS):
        now = heapq.heappop(ends)
        for retry in range(6):
            drawn = dice.random()
            if drawn >= sum(shares):
                now += LATENCY_S + 0.02
                break
            if retry == 5:
                lost += 1
            else:
                now += min(0.5 * 2**retry, 8.0) * dice.uniform(0.75, 1.0) if drawn < shares[0] else 2.0
        heapq.heappush(ends, now)
    return Script(max(ends), lost)


@pytest.mark.parametrize("mix", MIXES)
def test_random_errors_cost_little_more_than_a_retry_script_needs(mix: str) -> None:
    *shares, at_most = MIXES[mix]
    worlds = [pool((shares[0], shares[1]), seed) for seed in range(SEEDS)]
    scripts = [script((shares[0], shares[1]), seed) for seed in range(SEEDS)]
    took = [world.makespan_s for world in worlds]
    assert statistics.median(took) <= at_most * statistics.median(each.took_s for each in scripts)
    assert max(took) <= 5.0 * statistics.median(each.took_s for each in scripts)
    lost = ROWS * SEEDS - sum(world.statuses[TaskStatus.SUCCEEDED] for world in worlds)
    assert lost <= sum(each.lost for each in scripts) // 4
