"""The emergency provider, called through an open breaker when no other provider is expected in time."""

from __future__ import annotations

import pytest

from src.records import RefusalKind
from src.routing.balancer import ProviderLoadBalancer
from src.routing.cost.budgets import BudgetRule, Budgets
from src.routing.grants import FORCED_EVERY_S
from src.routing.health.circuit_breaker import BreakerState

from .build import (
    DOWN,
    NAMES,
    START,
    Desk,
    fail,
    fill,
    make_balancer,
    make_settings,
    make_task,
    ok,
    open_breaker,
    place,
    refused,
    told_limits,
)


def all_open(balancer: ProviderLoadBalancer, now: float = START) -> None:
    for name in NAMES:
        open_breaker(balancer, name, now)
        balancer.by_name[name].breaker.open_until = now + 70.0  # a timer that has doubled


def test_when_no_provider_is_expected_one_call_is_forced_on_the_emergency_provider() -> None:
    balancer = make_balancer()
    all_open(balancer)
    placement = place(balancer)
    assert (placement.provider, placement.choice, placement.forced) == ("openai", "forced", True)
    assert all(c.kind == RefusalKind.BREAKER_OPEN for c in placement.reasons)


def test_forced_calls_go_one_at_a_time_and_spaced() -> None:
    balancer = make_balancer()
    all_open(balancer)
    first = place(balancer)
    refused(balancer)
    fail(balancer, first, DOWN, START + 1.0)
    spaced_s = FORCED_EVERY_S
    for name in NAMES:
        balancer.by_name[name].breaker.open_until = START + 200.0
    wait = refused(balancer, START + 2.0)
    assert wait.until == pytest.approx(START + spaced_s)
    assert place(balancer, START + spaced_s).forced


def test_a_forced_call_that_succeeds_brings_its_provider_back() -> None:
    balancer = make_balancer()
    all_open(balancer)
    ok(balancer, place(balancer), START + 1.0)
    assert balancer.by_name["openai"].breaker.state is BreakerState.CLOSED
    assert place(balancer, START + 1.0).choice == "weighted"


@pytest.mark.parametrize(
    "expected", ["its timer ends in time", "another is busy", "another has no room for a while"]
)
def test_nothing_is_forced_while_another_is_expected(expected: str) -> None:
    balancer = make_balancer()
    if expected == "its timer ends in time":
        all_open(balancer)
        balancer.by_name["gemini"].breaker.open_until = START + 40.0
    else:
        if expected == "another is busy":
            fill(balancer, "gemini")
        else:
            balancer = make_balancer(
                make_settings(limits={**told_limits(), "gemini": {"requests_per_minute": 2}})
            )
            place(balancer, task=make_task(providers=("gemini",)))
        for name in ("anthropic", "openai"):
            open_breaker(balancer, name)
            balancer.by_name[name].breaker.open_until = START + 70.0
    refused(balancer)


def test_a_deadline_before_any_provider_is_back_forces_a_call() -> None:
    balancer = make_balancer()
    for name in NAMES:
        open_breaker(balancer, name)
        balancer.by_name[name].breaker.open_until = START + 20.0
    refused(balancer)
    assert place(balancer, task=make_task(deadline_at=START + 15.0)).forced


def shut(balancer: ProviderLoadBalancer) -> ProviderLoadBalancer:
    """Every breaker is open for longer than any task waits, whatever the limits."""
    for provider in balancer.providers:
        for _ in range(3):
            provider.breaker.settle(False, provider.breaker.acquire(START), START)
        provider.breaker.open_until = START + 70.0
    return balancer


def test_a_forced_call_keeps_its_budget() -> None:
    refused(shut(make_balancer(budgets=Budgets([BudgetRule("all", "", "total", 1)]))))


def test_a_forced_call_keeps_its_limits() -> None:
    tokens = {"tokens_per_minute": 500, "input_tokens_per_minute": 500}
    limits = told_limits(**tokens)
    balancer = shut(make_balancer(make_settings(limits=limits)))
    refused(balancer, task=make_task(chars=8_000, max_tokens=2_000))


def test_a_forced_call_waits_for_an_overloaded_provider() -> None:
    balancer = shut(make_balancer())
    for provider in balancer.providers:
        provider.backoff.until = START + 500.0
    refused(balancer)


def test_a_forced_call_goes_only_where_the_task_fits_and_may_go() -> None:
    small = make_settings(limits=told_limits(), models={"gpt-6": {"context_window": 1_000}})
    assert place(shut(make_balancer(small)), task=make_task(chars=50_000)).provider == "anthropic"
    assert place(shut(make_balancer()), task=make_task(providers=("gemini",))).provider == "gemini"


def test_a_failed_task_is_not_forced_on_the_provider_that_has_just_failed_it() -> None:
    desk = Desk()
    shut(desk.balancer)
    desk.offer(make_task(1))
    first = desk.one()
    assert first.provider == "openai"
    desk.fail(first, DOWN, seconds=1.0)
    for provider in desk.balancer.providers:
        provider.breaker.open_until = START + 500.0
    second = desk.one(seconds=FORCED_EVERY_S)
    assert second.forced
    assert second.attempt == 2


def test_a_forced_call_that_succeeds_wakes_those_that_wait_for_the_breaker() -> None:
    desk = Desk(make_settings(limits=told_limits(), routing={"preferences": False}), configured=("openai",))
    desk.offer(*[make_task(f"failed {n}") for n in range(3)])
    for placement in desk.go():
        desk.fail(placement, DOWN)
    desk.offer(make_task("patient"))
    assert desk.go() == []
    desk.provider("openai").breaker.open_until = desk.now + 20.0
    desk.offer(make_task("hurried", deadline_at=desk.now + 12.0))
    (forced,) = desk.go(0.1)
    assert forced.forced
    desk.ok(forced, 1.0)
    assert desk.provider("openai").breaker.state is BreakerState.CLOSED
    assert "patient" in [p.task.id for p in desk.go(2.0)]
