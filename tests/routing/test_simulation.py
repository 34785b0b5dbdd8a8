"""Whole runs in virtual time: limits used to the full, and every task answered whatever the providers do."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable

import pytest

from src.errors import ServerError
from src.records import TaskStatus
from src.settings import AgentConfig, Settings

from .build import NAMES, START, make_settings, make_task, told_limits
from .servers import Server
from .virtual import Call, Fault, Provider, World

KINDS = ("general", "research", "analysis", "code_generation", "creative_writing")
RATES = {"anthropic": 10, "openai": 15, "gemini": 10}  # requests a second
ALL_SUCCEEDED = {TaskStatus.SUCCEEDED}


def spread(median_s: float, seed: int = 1) -> Callable[[], float]:
    """Latencies around a median, some of them three times as long."""
    rng = random.Random(seed)
    return lambda: median_s * rng.lognormvariate(0.0, 0.4)


def late(seed: int = 2) -> Callable[[], float]:
    rng = random.Random(seed)
    return lambda: rng.uniform(0.0, 0.05)


# ------------------------------------------------------------------ limits


def limited_world(are_configured: bool, requests_per_minute: dict[str, int], seed: int = 1) -> World:
    limits = (
        {name: {"requests_per_minute": n} for name, n in requests_per_minute.items()}
        if are_configured
        else None
    )
    providers = {
        name: Provider(spread(1.0, seed), Server(name, START, requests=float(n)), on_the_way_s=late(seed))
        for name, n in requests_per_minute.items()
    }
    return World(make_settings(limits=limits), providers, seed=seed)


def many(count: int, seed: int = 1, **fields: object) -> list:  # type: ignore[type-arg]
    """Untyped tasks of lognormal size."""
    rng = random.Random(seed)
    return [
        make_task(n, chars=int(min(rng.lognormvariate(6.0, 1.0), 20_000)) + 1, tier="standard", **fields)
        for n in range(count)
    ]


def bound_s(tasks: int, median_s: float = 1.0) -> float:
    """The smallest time in which the limits let so many through: one second's burst, then the rate."""
    rate = sum(RATES.values())
    return (tasks - rate) / rate + median_s


PER_MINUTE = {name: rate * 60 for name, rate in RATES.items()}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_configured_limits_are_used_fully_and_draw_no_429(seed: int) -> None:
    world = limited_world(True, PER_MINUTE, seed)
    world.offer(0.0, *many(1_500, seed))
    world.run()
    assert set(world.statuses) == ALL_SUCCEEDED
    assert world.outcomes() == {"ok": 1_500}
    assert world.makespan_s <= 1.05 * bound_s(1_500)


def test_unknown_limits_are_found_with_few_429s() -> None:
    world = limited_world(False, PER_MINUTE)
    world.offer(0.0, *many(1_500))
    world.run()
    assert set(world.statuses) == ALL_SUCCEEDED
    for name in NAMES:
        assert world.outcomes(name)["RateLimited"] <= 5
    assert world.makespan_s <= 1.2 * bound_s(1_500)


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_halved_in_mid_run_draws_few_429s_and_the_others_fill_the_gap(name: str) -> None:
    world = limited_world(True, PER_MINUTE)
    server = world.providers[name].server
    assert server is not None
    world.change(10.0, lambda: server.change(requests=PER_MINUTE[name] / 2))
    world.offer(0.0, *many(1_500))
    world.run()
    assert set(world.statuses) == ALL_SUCCEEDED
    assert world.outcomes(name)["RateLimited"] <= 5
    rate = sum(RATES.values())
    least_s = 10.0 + (1_500 - 11 * rate) / (rate - RATES[name] / 2)
    assert world.makespan_s <= 1.2 * least_s


def test_a_daily_quota_spent_in_mid_run_is_left_to_the_others() -> None:
    world = limited_world(True, PER_MINUTE)
    server = world.providers["gemini"].server
    assert server is not None
    server.requests_per_day = 100
    world.providers["gemini"].retry_after_s = 3_600.0 * 5
    world.offer(0.0, *many(1_000))
    world.run()
    assert set(world.statuses) == ALL_SUCCEEDED
    assert world.outcomes("gemini")["ok"] == 100
    assert world.outcomes("gemini")["RateLimited"] <= 10  # those that were out when it was spent
    assert world.makespan_s <= 1.1 * (1_000 - 100 - 25) / 25 + 2.0


def test_where_tokens_bind_they_are_used_to_the_full_and_draw_no_429() -> None:
    limits = {
        "anthropic": {"requests_per_minute": 6_000, "input_tokens_per_minute": 60_000,
                      "output_tokens_per_minute": 600_000},
        "openai": {"requests_per_minute": 6_000, "tokens_per_minute": 150_000},
        "gemini": {"requests_per_minute": 6_000, "tokens_per_minute": 60_000},
    }  # fmt: skip
    servers = {
        "anthropic": Server("anthropic", START, requests=6e3, input_tokens=6e4, output_tokens=6e5),
        "openai": Server("openai", START, requests=6e3, tokens=1.5e5),
        "gemini": Server("gemini", START, requests=6e3, tokens=6e4),
    }
    providers = {name: Provider(spread(1.0), servers[name], on_the_way_s=late()) for name in NAMES}
    world = World(make_settings(limits=limits, routing={"preferences": False}), providers)
    world.offer(0.0, *[make_task(n, chars=2_000, max_tokens=500, tier="standard") for n in range(2_000)])
    world.run()
    assert set(world.statuses) == ALL_SUCCEEDED
    assert world.outcomes() == {"ok": 2_000}
    # 500 tokens a call everywhere: a minute's burst, then 9 calls a second.
    least_s = (2_000 - 540) / 9.0 + 1.0
    assert world.makespan_s <= 1.15 * least_s  # input is reserved a tenth above, openai keeps it


def test_a_large_file_and_single_questions_share_the_limits() -> None:
    world = limited_world(True, PER_MINUTE)
    world.offer(0.0, *many(1_500, batch="file"))
    for second in range(1, 30):
        world.offer(float(second), make_task(f"question{second}"))
    world.run()
    waits = [
        result.finished_at - START - float(result.task.id.removeprefix("question"))
        for result in world.results
        if result.task.batch == "queue"
    ]
    assert len(waits) == 29
    assert max(waits) <= 5.0


# ------------------------------------------------------------------ outages


def outage(kind: str, name: str, *, health: bool = True, timeout_s: float = 20.0) -> World:
    settings = make_settings(limits=told_limits(), providers={n: {"timeout_s": timeout_s} for n in NAMES})
    providers = {each: Provider(spread(0.8, seed)) for seed, each in enumerate(NAMES)}
    providers[name].faults.append(Fault(kind, 10.0, 20.0))
    world = World(settings, providers, health=health)
    world.spread([make_task(n, KINDS[n % 5]) for n in range(800)], per_s=20.0)
    return world.run()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["down", "refused", "busy", "silent"])
def test_every_task_is_answered_through_an_outage_of_each_provider(kind: str, name: str) -> None:
    world = outage(kind, name)
    assert set(world.statuses) == ALL_SUCCEEDED
    assert len({(r.task.batch, r.task.id) for r in world.results}) == 800
    gaps = sorted(world.finished_at)
    busy = [later - earlier for earlier, later in itertools.pairwise(gaps) if later < START + 40.0]
    assert max(busy) <= 2.0  # the others go on


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["down", "refused"])
def test_an_outage_costs_few_calls_and_is_over_soon_after_it_ends(kind: str, name: str) -> None:
    world = outage(kind, name)
    failed = [c for c in world.calls_to(name, 10.0, 20.0) if c.outcome != "ok"]
    # At twenty tasks a second some answers from before still come in and end a row of failures.
    assert len(failed) <= 12
    assert back_after(world, name, 20.0) <= 5.0


def back_after(world: World, name: str, end_s: float) -> float:
    return min(c.at_s for c in world.calls_to(name, end_s) if c.outcome == "ok") - end_s


@pytest.mark.parametrize("name", NAMES)
def test_a_silent_provider_does_not_freeze_the_pool(name: str) -> None:
    world = outage("silent", name, timeout_s=120.0)
    hung = [c for c in world.calls if c.outcome == "TimedOut"]
    assert len(hung) < 0.6 * 7 * 16  # suspect before it holds all slots
    assert back_after(world, name, 20.0) <= 5.0
    others = [c for c in world.calls if c.provider != name and 10.0 <= c.at_s < 20.0]
    assert len(others) >= 130  # of 200 that came meanwhile
    assert max(c.back_s - c.at_s for c in others) < 5.0
    assert set(world.statuses) == ALL_SUCCEEDED


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("timeout_s", [20.0, 120.0])
def test_a_silence_costs_its_detection_whatever_the_time_limit_and_opens_the_breaker_once(
    name: str, timeout_s: float
) -> None:
    world = outage("silent", name, timeout_s=timeout_s)
    assert set(world.statuses) == ALL_SUCCEEDED
    assert back_after(world, name, 20.0) <= 5.0
    slowest_s = max(r.finished_at - r.attempts[0].started_at for r in world.results)
    assert slowest_s <= 5.0 + 2 * 2.4  # known 5 s after the last answer; a call takes up to 2.4 s
    opened = [event.at for event in world.balancer.take_events() if event.kind == "provider_open"]
    assert len(opened) == 1
    assert opened[0] - START <= 10.0 + 2.4 + 6.0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["down", "refused", "busy", "silent"])
def test_a_dead_provider_gets_at_most_four_calls_of_fifteen_tasks(kind: str, name: str) -> None:
    for shift in range(5):  # whatever the first task is
        world = World(
            make_settings(limits=told_limits(), providers={n: {"timeout_s": 5.0} for n in NAMES}),
            {name: Provider(faults=[Fault(kind, 0.0, 1e9)])},
            seed=shift,
        )
        world.spread([make_task(n, KINDS[(n + shift) % 5]) for n in range(15)], per_s=0.25)
        world.run()
        assert len(world.calls_to(name)) <= 4
        assert set(world.statuses) == ALL_SUCCEEDED


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["down", "refused", "silent"])
def test_where_the_health_call_shows_it_a_provider_is_back_within_five_seconds(kind: str, name: str) -> None:
    for end_s in (31.0, 47.5, 75.0, 140.0):
        world = World(
            make_settings(limits=told_limits(), providers={n: {"timeout_s": 5.0} for n in NAMES}),
            {name: Provider(faults=[Fault(kind, 0.0, end_s)])},
        )
        world.spread([make_task(n) for n in range(400)], per_s=2.5)
        world.run()
        assert back_after(world, name, end_s) <= 5.0, end_s


def test_where_no_health_call_shows_it_the_timer_brings_a_provider_back() -> None:
    world = World(
        make_settings(limits=told_limits()),
        {"openai": Provider(faults=[Fault("down", 0.0, 40.0, shows=False)])},
    )
    world.spread([make_task(n) for n in range(400)], per_s=2.5)
    world.run()
    assert back_after(world, "openai", 40.0) <= 1.2 * 60.0 + 1.0
    assert len([c for c in world.calls_to("openai") if c.outcome != "ok"]) <= 6


def test_alone_a_provider_that_comes_back_is_used_at_once() -> None:
    world = World(
        make_settings(limits=told_limits()),
        {"openai": Provider(faults=[Fault("down", 10.0, 22.0)])},
        configured=["openai"],
    )
    world.spread([make_task(n) for n in range(200)], per_s=5.0)
    world.run()
    assert set(world.statuses) == ALL_SUCCEEDED
    assert back_after(world, "openai", 22.0) <= 5.0
    caught_up = [c for c in world.calls_to("openai", 22.0, 35.0) if c.outcome == "ok"]
    assert len(caught_up) >= 100  # those that came meanwhile did not wait for the probe's time limit


def test_a_recovered_provider_gets_its_share_back() -> None:
    world = World(
        make_settings(limits=told_limits(), routing={"history_window_s": 60.0}),
        {"gemini": Provider(faults=[Fault("down", 10.0, 20.0)])},
    )
    world.spread([make_task(n) for n in range(1_500)], per_s=10.0)
    world.run()
    late_calls = [c for c in world.calls if c.at_s >= 100.0]
    share = Counter(c.provider for c in late_calls)["gemini"] / len(late_calls)
    assert share == pytest.approx(0.3, abs=0.02)


# ------------------------------------------------------------------ offline


def test_all_offline_for_half_a_minute_fails_no_task_and_spends_no_attempt() -> None:
    providers = {name: Provider(spread(0.8), faults=[Fault("refused", 10.0, 40.0)]) for name in NAMES}
    world = World(make_settings(limits=told_limits()), providers)
    world.spread([make_task(n, KINDS[n % 5]) for n in range(1_000)], per_s=20.0)
    world.run()
    assert set(world.statuses) == ALL_SUCCEEDED
    assert not [c for c in world.calls if 13.0 <= c.at_s < 40.0]  # nothing is sent once it is noticed
    assert min(c.at_s for c in world.calls if c.at_s >= 40.0) <= 45.0
    assert world.makespan_s <= 55.0  # what waited goes at once, in the order it came
    kinds = Counter(event.kind for event in world.balancer.take_events())
    assert (kinds["offline"], kinds["online"]) == (1, 1)  # reported once
    assert kinds["provider_open"] == 0
    assert max(len(result.attempts) for result in world.results) <= 4


def test_errors_of_every_kind_lose_no_task_and_answer_none_twice() -> None:
    rng = random.Random(4)
    providers = {name: Provider(spread(0.8), faults=[]) for name in NAMES}
    for number, name in enumerate(NAMES):
        for _ in range(40):
            start_s = rng.uniform(0.0, 120.0)
            kind = rng.choice(["down", "refused", "busy", "silent"])
            providers[name].faults.append(Fault(kind, start_s, start_s + rng.uniform(0.05, 0.3)))
        providers[name].faults.append(Fault("down", 10.0 + 20 * number, 20.0 + 20 * number))
        providers[name].faults.append(Fault("silent", 80.0 + 10 * number, 86.0 + 10 * number))
    world = World(
        make_settings(limits=told_limits(), providers={n: {"timeout_s": 5.0} for n in NAMES}), providers
    )
    world.spread([make_task(n, KINDS[n % 5]) for n in range(1_000)], per_s=8.0)
    world.run()
    assert set(world.statuses) == ALL_SUCCEEDED
    assert len({r.task.id for r in world.results}) == 1_000
    assert world.longest_idle_s <= 6.0


# ------------------------------------------------------------------ many


def test_a_run_is_the_same_each_time() -> None:
    def calls() -> list[Call]:
        world = limited_world(False, PER_MINUTE)
        world.offer(0.0, *many(300))
        return world.run().calls

    assert calls() == calls()


def few_agents() -> Settings:
    agents = [AgentConfig(name=f"a{n}", home=NAMES[n], calls_in_flight=8) for n in range(3)]
    return make_settings(limits=told_limits(), agents=agents)


def test_slots_are_never_idle_while_tasks_wait() -> None:
    world = World(few_agents(), {name: Provider(lambda: 1.0) for name in NAMES})
    world.offer(0.0, *[make_task(n) for n in range(240)])
    world.run()
    assert world.makespan_s == pytest.approx(10 * 1.02, abs=0.1)


def test_typed_tasks_are_not_held_back_by_a_busy_favourite() -> None:
    """All prefer one provider: what it has no share for spills, and no slot stays empty for long."""
    world = World(few_agents(), {name: Provider(lambda: 1.0) for name in NAMES})
    world.offer(0.0, *[make_task(n, "research") for n in range(240)])
    world.run()
    assert world.makespan_s <= 10 * 1.02 + 2.0
    assert Counter(c.provider for c in world.calls)["gemini"] >= 100


def test_an_error_that_is_everywhere_ends_a_task_with_all_its_reasons() -> None:
    providers = {name: Provider(faults=[Fault("down", 0.0, 1e9)]) for name in NAMES}
    world = World(make_settings(limits=told_limits()), providers)
    world.offer(0.0, make_task(1))
    world.run(until_s=3_600.0)
    (result,) = world.results
    assert result.status is TaskStatus.FAILED
    assert ServerError.__name__ in result.error
    assert len(result.attempts) <= 50
