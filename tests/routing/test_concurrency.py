"""A provider gets as many calls at once as it carries, and one that carries all loses nothing."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.records import RefusalKind, Task, TaskStatus
from src.routing.limits.concurrency import INITIAL, LEAST, NO_LIMIT_PER_S, WINDOW, Concurrency

from .build import NAMES, START, Desk, make_settings, make_task, told_limits
from .servers import Server
from .virtual import Provider, World

SLOWS: dict[str, Callable[[int], float]] = {
    "carries 4": lambda n: max(1.0, n / 4),
    "carries 8": lambda n: max(1.0, n / 8),
    "carries 20": lambda n: max(1.0, n / 20),
    "by a tenth for each": lambda n: 1.0 + n / 10,
    "by a fortieth for each": lambda n: 1.0 + n / 40,
    "falls off a cliff": lambda n: 1.0 if n <= 12 else 6.0,
}


def drive(
    limit: Concurrency, latency_of: Callable[[int], float], seconds: float, seed: int = 1, wanted: int = 1_000
) -> list[int]:
    """Keep as many calls in flight as are wanted and it allows; the limit after each second."""
    dice, now, limits = random.Random(seed), START, [limit.limit]
    ends: list[tuple[float, float, float, int]] = []
    while now < START + seconds:
        while len(ends) < min(wanted, limit.limit):
            there = len(ends) + 1
            limit.placed(there)
            took_s = latency_of(there) * dice.lognormvariate(-0.045, 0.3)
            ends.append((now + took_s, now, took_s, there))
        ends.sort()
        now, placed_at, took_s, there = ends.pop(0)
        limit.answered(placed_at=placed_at, kind="m", latency_s=took_s)
        limit.record(ok=True, placed_at=placed_at, latency_s=took_s, kind="m", in_flight=there, now=now)
        if now - START >= len(limits):
            limits.append(limit.limit)
    return limits


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("latency_s", [0.3, 3.0])
def test_constant_latency_gets_all_slots_and_keeps_them(latency_s: float, seed: int) -> None:
    limits = drive(Concurrency(64), lambda n: latency_s, 60 * latency_s, seed)
    assert 64 in limits[: round(14 * latency_s) + 1]
    assert sum(limits[len(limits) // 3 :]) / len(limits[len(limits) // 3 :]) >= 56


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("carries", [4, 12, 30])
def test_what_queues_is_held_near_what_it_carries(carries: int, seed: int) -> None:
    limits = drive(Concurrency(64), lambda n: 0.5 * max(1.0, n / carries), 120.0, seed)
    assert max(limits[20:]) <= 3.0 * max(carries, INITIAL)
    assert sum(limits[20:]) / len(limits[20:]) <= 2.0 * max(carries, INITIAL)
    assert min(limits[20:]) >= carries / 2


def test_work_that_has_become_longer_is_no_overload() -> None:
    """A cut that does not help is taken back, and the longer answers are the usual ones from then on."""
    limit = Concurrency(64)
    drive(limit, lambda n: 0.5, 30.0)
    assert limit.limit == 64
    limits = drive(limit, lambda n: 4.0, 200.0, seed=2)
    assert min(limits) >= 24
    assert sum(limits[60:]) / len(limits[60:]) >= 52


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("latency_s", [0.5, 2.0])
def test_more_work_that_takes_longer_is_held_back_for_some_answers_only(latency_s: float, seed: int) -> None:
    """Few short answers at once, and then many long ones, look like a provider that slows down."""
    limit = Concurrency(128)
    drive(limit, lambda n: 0.1, 5.0, seed, wanted=16)
    assert max(drive(limit, lambda n: latency_s, 40 * latency_s, seed, wanted=100)) >= 100


@pytest.mark.parametrize(
    ("limit_per_s", "most", "initial"),
    [
        (None, 67, INITIAL), (1.0, 67, INITIAL), (10.0, 67, 40), (100.0, 67, 67), (NO_LIMIT_PER_S, 67, 67),
        (2.0 * NO_LIMIT_PER_S, 67, INITIAL), (None, 3, 3), (10.0, 1, 1),
    ],
)  # fmt: skip
def test_how_many_go_before_the_first_answer(limit_per_s: float | None, most: int, initial: int) -> None:
    assert Concurrency(most, limit_per_s).limit == initial


def test_failures_cut_it_and_successes_bring_it_back() -> None:
    limit = Concurrency(64)
    limit.start_at(64)

    def end(ok: bool, count: int) -> None:
        for _ in range(count):
            limit.placed(limit.limit)
            if ok:
                limit.answered(placed_at=START, kind="m", latency_s=0.3)
            limit.record(ok=ok, placed_at=START, latency_s=0.3, kind="m", in_flight=limit.limit, now=START)

    end(ok=False, count=64)
    assert limit.limit == 32  # one burst is one observation
    end(ok=False, count=500)
    assert limit.limit == INITIAL
    end(ok=True, count=WINDOW * 4 + 16 + 32 + 64)
    assert limit.limit == 64


def test_a_tenth_of_random_failures_costs_nothing() -> None:
    dice, limit = random.Random(1), Concurrency(64)
    limit.start_at(64)
    for _ in range(5_000):
        ok = dice.random() >= 0.1
        limit.record(ok=ok, placed_at=START, latency_s=0.3, kind="m", in_flight=64, now=START)
        assert limit.limit >= 40


@settings(deadline=None)
@given(
    most=st.integers(1, 100),
    calls=st.lists(
        st.tuples(st.booleans(), st.floats(0.0, 100.0), st.integers(1, 100), st.integers(0, 400)),
        max_size=300,
    ),
)
def test_whatever_comes_back_the_limit_stays_within_its_bounds(
    most: int, calls: list[tuple[bool, float, int, int]]
) -> None:
    limit, now = Concurrency(most), START
    for ok, latency_s, in_flight, kind in calls:
        now += 0.01
        limit.record(
            ok=ok, placed_at=now - latency_s, latency_s=latency_s, kind=kind, in_flight=in_flight, now=now
        )
        assert min(LEAST, most) <= limit.limit <= most
        assert len(limit._usual) <= 256


def test_slow_start_doubles_with_each_latency_and_waits_for_no_slow_answer() -> None:
    """One call in flight takes a minute; each answer to another lets one more go."""
    limit = Concurrency(64)
    for n in range(INITIAL):
        limit.placed(n + 1)
    for expected in (INITIAL - 1, 2 * (INITIAL - 1), 4 * (INITIAL - 1)):
        before = limit.limit
        for _ in range(expected):
            limit.answered(placed_at=START, kind="m", latency_s=3.0)
            limit.placed(limit.limit)
        assert limit.limit == before + expected


def test_many_kinds_of_tasks_do_not_delay_it() -> None:
    """None of them has had enough answers to know its usual latency."""
    limit = Concurrency(64)
    for n in range(64):
        limit.placed(limit.limit)
        kind, latency_s = n, 3.0
        limit.answered(placed_at=START, kind=kind, latency_s=latency_s)
        limit.record(
            ok=True, placed_at=START, latency_s=latency_s, kind=kind, in_flight=limit.limit, now=START
        )
    assert limit.limit == 64


def test_slow_answers_undo_what_others_have_raised() -> None:
    limit = Concurrency(64)
    limit.start_at(20)

    def answers(latency_s: float, count: int) -> int:
        for _ in range(count):
            limit.placed(limit.limit)
            limit.answered(placed_at=START, kind="m", latency_s=latency_s)
            limit.record(ok=True, placed_at=START, latency_s=latency_s, kind="m", in_flight=1, now=START)
        return limit.limit

    assert answers(1.0, 10) == 30
    assert answers(1.4, 1) == 31
    assert answers(3.0, 1) == 30
    assert answers(3.0, 6) == 24


def test_little_traffic_raises_nothing() -> None:
    """What was never in flight together has not been carried, nor has twice as much."""
    limit = Concurrency(64)
    for _ in range(100):
        limit.placed(4)
        limit.answered(placed_at=START, kind="m", latency_s=1.0)
        limit.record(ok=True, placed_at=START, latency_s=1.0, kind="m", in_flight=4, now=START)
    assert limit.limit == INITIAL


# ------------------------------------------------------------------ in the whole pool


def tasks(count: int) -> list[Task]:
    return [make_task(n) for n in range(count)]


def healthy(seed: int) -> Callable[[], float]:
    dice = random.Random(seed)
    return lambda: 0.5 * dice.lognormvariate(-0.045, 0.3)


HEALTHY_P95_S = 0.5 * 1.57 + 0.02  # of that lognormal


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", SLOWS)
@pytest.mark.parametrize("ill", ["openai", "gemini"])
def test_few_tasks_wait_long_for_one_that_slows_down_under_load(ill: str, name: str, seed: int) -> None:
    """About 67 calls were in flight to it at once, and tasks waited a minute."""
    providers = {n: Provider(healthy(seed)) for n in NAMES}
    providers[ill] = Provider(healthy(seed), slows=SLOWS[name])
    world = World(make_settings(limits=told_limits()), providers, seed=seed)
    world.spread(tasks(1_500), per_s=50.0)
    world.run()
    assert world.statuses == {TaskStatus.SUCCEEDED: 1_500}
    latencies = sorted(call.back_s - call.at_s for call in world.calls)
    # But for 1 in 20 (10 before a cliff): what it carries is found by those that are too many
    assert latencies[-150 if "cliff" in name else -75] <= 3.0 * HEALTHY_P95_S
    assert latencies[-1] <= (12.0 if "cliff" in name else 5.5) * HEALTHY_P95_S


def test_alone_it_is_still_used_to_the_full() -> None:
    """It is the only provider: tasks queue in the scheduler, not there."""
    world = World(
        make_settings(limits=told_limits()), {"openai": Provider(healthy(1), slows=SLOWS["carries 8"])},
        configured=("openai",),
    )  # fmt: skip
    world.offer(0.0, *tasks(400))
    world.run()
    assert world.makespan_s <= 1.15 * 400 / 8 * 0.5
    late = [call.back_s - call.at_s for call in world.calls[100:]]
    assert max(late) <= 3.0 * HEALTHY_P95_S


@pytest.mark.parametrize("latency_s", [0.3, 1.0])
def test_honest_limits_lose_no_speed(latency_s: float) -> None:
    dice = random.Random(3)
    per_minute = {"anthropic": 600.0, "openai": 900.0, "gemini": 600.0}
    providers = {
        name: Provider(lambda: latency_s * dice.uniform(0.7, 1.3), server=Server(name, START, requests=limit))
        for name, limit in per_minute.items()
    }
    request_limits = {name: {"requests_per_minute": limit} for name, limit in per_minute.items()}
    world = World(make_settings(limits=request_limits), providers)
    world.offer(0.0, *tasks(1_500))
    world.run()
    assert sum(p.server.denied for p in providers.values() if p.server) == 0
    bound_s = (1_500 - 35) / 35 + latency_s
    assert world.makespan_s <= 1.03 * bound_s


@pytest.mark.parametrize(
    ("per_minute", "mean_s", "worst_s"),
    [(3_000.0, 1.0, 3.5), (60_000_000.0, 4.5, 8.0)],  # was 8.0 and 17.2 s for both
    ids=["stated", "no limit"],
)
def test_a_burst_right_after_the_start_waits_for_two_answers_at_most(
    per_minute: float, mean_s: float, worst_s: float
) -> None:
    dice = random.Random(5)
    providers = {n: Provider(lambda: 3.0 * dice.lognormvariate(-0.045, 0.3)) for n in NAMES}
    limits = {n: {"requests_per_minute": per_minute} for n in NAMES}
    world = World(make_settings(limits=limits), providers)
    world.offer(0.0, *tasks(150))
    world.run()
    waits = [call.at_s for call in world.calls]
    assert sum(waits) / len(waits) <= mean_s
    assert max(waits) <= worst_s


def test_the_limit_is_in_the_snapshot_and_in_the_reasons() -> None:
    desk = Desk(make_settings(limits=told_limits()), proven=False, configured=("openai",))
    desk.offer(*tasks(40))
    assert len(desk.go()) == INITIAL
    assert desk.balancer.snapshot(desk.now).providers[0].concurrency_limit == INITIAL
    assert desk.dispatch.waiting_for()[0].reason.kind == RefusalKind.CONCURRENCY_LIMIT
