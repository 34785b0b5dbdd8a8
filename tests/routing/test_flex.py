"""Service tier flex: half the price, slower answers, and errors that say nothing of the provider."""

from __future__ import annotations

import pytest

from src.errors import FlexUnavailable, RateLimited, TimedOut
from src.records import FLEX, STANDARD, Placement, TaskStatus, Usage
from src.routing.grants import FLEX_LEAST_S, FLEX_TIMEOUT_S

from .build import MODELS, START, USAGE, Desk, make_settings, make_task, told_limits

SETTINGS = make_settings(limits=told_limits())
HOUR_S = 3_600.0


def placed(desk: Desk | None = None, **task: object) -> tuple[Desk, Placement]:
    desk = desk or Desk(SETTINGS)
    fields = {"service_tier": FLEX, "providers": ("openai",), **task}
    desk.offer(make_task("called", **fields))
    return desk, desk.one()


@pytest.mark.parametrize(
    ("task", "tier"),
    [
        ({}, FLEX),
        ({"service_tier": ""}, ""),
        ({"service_tier": STANDARD}, ""),
        ({"providers": ("anthropic",)}, ""),
        ({"models": ("gpt-4.1",)}, ""),
        ({"deadline_at": START + FLEX_LEAST_S + 1}, FLEX),
        ({"deadline_at": START + FLEX_LEAST_S - 1}, ""),
    ],
    ids=["asked for", "not asked for", "declined", "another provider", "another model", "time", "no time"],
)
def test_a_call_is_flex_where_its_task_model_and_deadline_allow_it(
    task: dict[str, object], tier: str
) -> None:
    _, placement = placed(**task)
    usual_s = SETTINGS.providers[placement.provider].timeout_s
    assert placement.service_tier == tier
    assert placement.timeout_s == (FLEX_TIMEOUT_S if tier else usual_s)


def test_a_server_that_does_not_have_it_gets_a_plain_call() -> None:
    without = make_settings(limits=told_limits(), providers={"openai": {"flex": False}})
    assert placed(Desk(without))[1].service_tier == ""


@pytest.mark.parametrize("served", [FLEX, ""], ids=["as asked", "at the usual tier"])
def test_the_price_is_that_of_the_tier_that_has_served_it(served: str) -> None:
    desk, placement = placed()
    settled = desk.ok(placement, service_tier=served)
    price = desk.balancer.registry.prices.price("openai", MODELS["openai"], START)
    assert price is not None
    live = price.cost_nanos(USAGE)
    found = (settled.attempt.cost_nanos, settled.attempt.discount_nanos)
    assert found == ((live // 2, live // 2) if served else (live, 0))
    assert placement.reserved_nanos >= live, "enough for either"


@pytest.mark.parametrize(
    "error",
    [
        FlexUnavailable("no room", status=429),
        RateLimited("too fast", status=429, retry_after_s=0.5),
        TimedOut("no answer in time"),
    ],
    ids=lambda error: error.kind,
)
def test_a_task_whose_flex_call_failed_goes_on_without(error: Exception) -> None:
    desk, placement = placed()
    desk.fail(placement, error)
    (again,) = desk.go() or desk.go(60.0)
    assert (again.provider, again.service_tier) == ("openai", "")
    desk.ok(again)
    assert desk.results[-1].status is TaskStatus.SUCCEEDED


def test_no_room_for_flex_says_nothing_of_limits_and_health_and_costs_nothing() -> None:
    desk, placement = placed()
    provider = desk.provider("openai")
    before = provider.concurrency.limit
    settled = desk.fail(placement, FlexUnavailable("no room", status=429), 1.0)
    assert (settled.attempt.cost_nanos, provider.breaker.consecutive) == (0, 0)
    assert provider.held_until(placement.model) <= desk.now and provider.concurrency.limit == before
    other = make_task("other", providers=("openai",))
    desk.offer(other)
    assert {each.task.id for each in desk.go()} == {"called", "other"}, "at once"


def test_a_long_silence_of_flex_calls_makes_nobody_suspect_and_gives_none_up() -> None:
    desk, placement = placed(providers=())
    for n in range(40):  # openai usually answers in a second
        desk.offer(make_task(f"quick {n}", providers=("openai",)))
        desk.ok(desk.one(), 1.0)
    desk.go(600.0)
    assert desk.balancer.take_abandoned(desk.now) == []
    desk.offer(make_task("later", providers=("openai",)))
    later = desk.one()
    assert later.provider == "openai", "it is not suspect"
    desk.ok(later, 1.0)
    p95_s = desk.provider("openai").history.quantiles()[1]
    desk.ok(placement, 100.0, service_tier=FLEX)
    assert desk.provider("openai").history.quantiles()[1] == p95_s, "its time is no latency"
    assert desk.provider("openai").unseen == 0


def test_a_cache_and_flex_save_both() -> None:
    desk, placement = placed()
    usage = Usage(1_000, 4_000, 0, 100)
    settled = desk.ok(placement, service_tier=FLEX, usage=usage)
    price = desk.balancer.registry.prices.price("openai", MODELS["openai"], START)
    assert price is not None
    attempt = settled.attempt
    parts = (attempt.cost_nanos or 0, attempt.cache_saved_nanos, attempt.discount_nanos)
    assert sum(parts) == price.cost_nanos(usage.uncached) and min(parts) > 0
