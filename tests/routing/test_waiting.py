"""Tasks that wait for capacity: the oldest holds the head of the line, and each wakes at the right moment."""

from __future__ import annotations

import dataclasses
from typing import Literal

import pytest

from src.errors import (
    QuotaExhausted,
    RateLimited,
)
from src.messages import Message
from src.records import RefusalKind, TaskStatus, Usage, WaitReason
from src.routing.cost.budgets import BudgetRule, Budgets
from src.routing.health.circuit_breaker import BreakerState
from src.routing.limits.token_bucket import COLD_S
from src.settings import AgentConfig

from .build import (
    DOWN,
    MODELS,
    NAMES,
    ONE_SLOT,
    START,
    TOKENS,
    Desk,
    make_settings,
    make_task,
    pause,
    told_limits,
)

# ------------------------------------------------------------------ first claim


def test_a_large_task_is_not_starved_by_small_ones() -> None:
    desk = Desk(TOKENS, configured=["openai"])
    desk.offer(make_task("first", max_tokens=50_000))
    desk.ok(desk.one())
    desk.offer(make_task("large", max_tokens=40_000))
    assert desk.go() == []
    room_at = desk.wake
    desk.offer(*[make_task(n, max_tokens=500) for n in range(100)])  # each would fit right now
    assert desk.go() == []
    assert room_at is not None
    placements = desk.go(room_at - desk.now)
    assert placements[0].task.id == "large"


def test_small_tasks_use_the_other_groups_meanwhile() -> None:
    limits = {
        "openai": {"requests_per_minute": 60_000, "tokens_per_minute": 60_000},
        "gemini": {"requests_per_minute": 60_000, "tokens_per_minute": 6_000},
    }
    settings = make_settings(limits=limits, routing={"preferences": False})
    desk = Desk(settings, configured=["openai", "gemini"])
    desk.offer(make_task("first", max_tokens=50_000, providers=("openai",)))
    desk.ok(desk.one())
    desk.offer(make_task("large", max_tokens=40_000, chars=20_000, providers=("openai",)))
    desk.offer(*[make_task(n, max_tokens=500) for n in range(10)])
    placements = desk.go()
    assert {p.task.id for p in placements} == {str(n) for n in range(10)}
    assert {p.provider for p in placements} == {"gemini"}


@pytest.mark.parametrize("end", ["withdrawn", "expired", "placed elsewhere"])
def test_capacity_that_a_large_task_gives_up_is_used_at_once(end: str) -> None:
    limits = {
        "openai": {"requests_per_minute": 60_000, "tokens_per_minute": 60_000},
        "gemini": {"requests_per_minute": 60_000, "tokens_per_minute": 60_000},
    }
    settings = make_settings(limits=limits, routing={"preferences": False})
    desk = Desk(settings, configured=["openai", "gemini"])
    desk.offer(make_task("first", max_tokens=56_000, providers=("openai",)))
    desk.ok(desk.one())
    deadline = desk.now + 5.0 if end == "expired" else None
    pause(desk.balancer, "gemini")
    desk.offer(make_task("large", max_tokens=50_000, deadline_at=deadline))
    desk.go()
    desk.offer(*[make_task(n, max_tokens=100) for n in range(5)])
    assert desk.go() == []  # there is room for each, and it is claimed
    if end == "withdrawn":
        assert desk.dispatch.withdraw("queue", "large") is not None
        placements = desk.go()
    elif end == "expired":
        placements = desk.go(5.0)
        assert desk.results[-1].status is TaskStatus.EXPIRED
    else:
        desk.balancer.resume("gemini", desk.now)
        desk.dispatch.wake_all()
        placements = desk.go()
        assert placements[0].task.id == "large"
        placements = placements[1:]
    assert {p.task.id for p in placements} == {str(n) for n in range(5)}


def test_capacity_that_was_held_and_is_not_needed_any_more_is_used_at_once() -> None:
    """The large task waits for one group and is placed in another."""
    limits = {name: {"requests_per_minute": 60_000, "tokens_per_minute": 60_000} for name in NAMES}
    settings = make_settings(limits=limits, routing={"preferences": False})
    desk = Desk(settings, configured=["openai", "gemini"])
    desk.offer(make_task("first", max_tokens=56_000, providers=("openai",)))
    desk.ok(desk.one())
    gemini = desk.provider("gemini").model(MODELS["gemini"], settings, desk.now).group
    gemini.hold(desk.now + 3.0, "429", desk.now)
    desk.offer(make_task("large", max_tokens=50_000))
    assert desk.go() == []
    desk.offer(*[make_task(n, max_tokens=100, providers=("openai",)) for n in range(5)])
    assert desk.go(1.0) == []  # room for each, but claimed
    large, *small = desk.go(2.5)
    assert (large.task.id, large.provider) == ("large", "gemini")
    assert {p.task.id for p in small} == {str(n) for n in range(5)}


def test_one_of_higher_priority_that_fits_does_not_wait_behind_a_larger_one() -> None:
    desk = Desk(TOKENS, configured=["openai"])
    desk.offer(make_task("first", max_tokens=52_000))
    desk.ok(desk.one())
    desk.offer(make_task("large", chars=31_000))
    assert desk.go() == []
    desk.offer(make_task("small", chars=17_000, priority=1))
    assert desk.one().task.id == "small"


# ------------------------------------------------------------------ room and when to ask again


def test_what_does_not_fit_goes_at_the_very_moment_it_fits() -> None:
    settings = make_settings(
        limits=told_limits(requests_per_minute=120), routing={"stall_timeout_s": 1_000.0}
    )
    desk = Desk(settings, configured=["openai"])
    desk.offer(*[make_task(n) for n in range(30)])
    sent = [desk.now] * len(desk.go())
    while len(sent) < 30:
        wake = desk.wake
        assert wake is not None
        assert desk.go((wake - desk.now) * 0.9) == []  # nothing before
        assert desk.wake == wake
        desk.now = wake
        placements = desk.go()
        assert len(placements) == 1  # one each, not all at once
        sent.append(desk.now)
    assert sent[-1] - START == pytest.approx((30 - 1.9) / 2 + COLD_S - 0.05, abs=0.01)


def test_a_second_dispatch_at_the_same_moment_places_nothing_new() -> None:
    desk = Desk(make_settings(limits=told_limits(requests_per_minute=60)))
    desk.offer(*[make_task(n, "research") for n in range(30)])
    desk.go()
    for _ in range(3):
        assert desk.go() == []
        assert desk.wake is not None
        assert desk.wake > desk.now


def test_with_all_slots_taken_there_is_nothing_to_wake_up_for() -> None:
    """What a waiting task waited for may long have come: without a slot, time brings nothing."""
    settings = make_settings(
        limits=told_limits(requests_per_minute=60),
        agents=[AgentConfig(name="only", home="openai", calls_in_flight=2)],
        providers={name: {"weight": 1.0} for name in NAMES},
    )
    desk = Desk(settings, configured=["openai"])
    desk.offer(*[make_task(n) for n in range(3)])
    first = desk.one()
    assert desk.wake is not None
    desk.one(2.0)
    desk.go(10.0)
    assert desk.wake is None or desk.wake > desk.now
    desk.ok(first)
    assert len(desk.go()) == 1


def test_a_deadline_is_a_reason_to_wake_up_even_with_all_slots_taken() -> None:
    desk = Desk(ONE_SLOT)
    desk.offer(make_task(1), make_task(2, deadline_at=START + 7.0))
    desk.go()
    assert desk.wake == START + 7.0
    desk.go(7.0)
    assert desk.results[0].status is TaskStatus.EXPIRED


def test_half_open_all_wait_for_the_probe_and_go_when_it_succeeds() -> None:
    desk = Desk(configured=["openai"])
    desk.offer(*[make_task(number) for number in range(3)])
    for placement in desk.go():
        desk.fail(placement, DOWN)
    breaker = desk.provider("openai").breaker
    assert breaker.state is BreakerState.OPEN
    desk.offer(*[make_task(f"more{n}") for n in range(5)])
    desk.go()
    assert desk.wake == pytest.approx(breaker.open_until)
    desk.now = desk.wake or 0.0
    probe = desk.one()
    assert probe.choice == "probe"
    assert desk.go(1.0) == []
    desk.ok(probe)
    assert len(desk.go()) >= 4  # at once, and not when the probe's time would have been over


def test_while_a_provider_recovers_each_call_that_ends_lets_the_next_one_go() -> None:
    desk = Desk(configured=["openai"])
    desk.offer(*[make_task(n) for n in range(3)])
    for placement in desk.go():
        desk.fail(placement, DOWN)
    desk.go()
    desk.now = desk.wake or 0.0
    desk.ok(desk.one())
    desk.offer(*[make_task(f"more{n}") for n in range(100)])
    out = desk.go()
    assert 0 < len(out) < 20
    desk.ok(out[0], seconds=0.001)
    assert len(desk.go()) == 1


def test_a_neutral_probe_lets_the_next_one_go_at_once() -> None:
    desk = Desk(configured=["openai"])
    desk.offer(*[make_task(n) for n in range(3)])
    for placement in desk.go():
        desk.fail(placement, DOWN)
    desk.go()
    desk.now = desk.wake or 0.0
    probe = desk.one()
    desk.fail(probe, RateLimited("slow", status=429, retry_after_s=0.5))
    assert desk.go() == []
    assert desk.wake is not None
    desk.now = desk.wake
    assert desk.one().choice == "probe"


def test_a_spent_quota_that_is_back_serves_all_at_once() -> None:
    desk = Desk(configured=["openai"])
    spent = QuotaExhausted("insufficient_quota", status=429)
    desk.offer(*[make_task(n) for n in range(10)])
    for placement in desk.go():
        desk.fail(placement, spent)
    assert desk.go() == []
    assert desk.wake == START + 900.0
    probe = desk.one(900.0)
    desk.ok(probe, seconds=1.0)
    assert len(desk.go()) == 9


def test_a_budget_in_use_by_calls_elsewhere_is_checked_again_when_they_end() -> None:
    """The call in flight is another provider's, but the budget is for all of them."""
    here, there = make_task(1, providers=("openai",)), make_task(2, providers=("gemini",))
    free = Desk()
    free.offer(here, there)
    bounds = [placement.reserved_nanos for placement in free.go()]
    desk = Desk(budgets=Budgets([BudgetRule("all", "", "total", sum(bounds) - 1)]))
    desk.offer(here, there)
    first = desk.one()
    assert first.task is here
    assert desk.wake is None
    desk.ok(first, input_tokens=1, output_tokens=1)
    assert desk.one().task is there


def test_a_spent_budget_does_not_hold_up_other_batches() -> None:
    desk = Desk(budgets=Budgets([BudgetRule("batch", "poor", "total", 1)]))
    desk.offer(make_task(1, batch="poor"))
    desk.offer(make_task(1, batch="rich"))
    assert [p.task.batch for p in desk.go()] == ["rich"]


@pytest.mark.parametrize(("back_in_s", "ends"), [(60.0, False), (36_000.0, True)], ids=["soon", "far"])
def test_a_spent_budget_ends_a_run_unless_another_provider_is_back_soon(back_in_s: float, ends: bool) -> None:
    """A provider that is back in hours is nothing to wait for, with no money left for the others."""
    desk = Desk(
        budgets=Budgets([BudgetRule("provider", "openai", "total", 1)]), configured=["openai", "gemini"]
    )
    task = make_task(1, providers=("openai", "gemini"))
    desk.offer(task)
    away = RateLimited("not before", status=429, retry_after_s=back_in_s)
    desk.fail(desk.one(), away)
    assert desk.go() == []
    assert bool(desk.dispatch.spent_budget()) is ends


def test_tasks_wait_for_the_limits_to_be_known_while_the_first_call_is_in_flight() -> None:
    desk = Desk(make_settings(), configured=["openai"])
    for n in range(3):
        desk.offer(make_task(n))
    desk.one()
    (waits,) = desk.dispatch.waiting_for()
    assert (waits.reason, waits.tasks) == (WaitReason(RefusalKind.LIMITS_UNKNOWN, "openai"), 2)


@pytest.mark.parametrize("scope", ["all", "batch"])
def test_a_spent_budget_is_not_reported_as_a_providers(scope: Literal["all", "batch"]) -> None:
    task = make_task(1)
    rule = BudgetRule(scope, task.batch if scope == "batch" else "", "total", 40_000_000)
    desk = Desk(budgets=(budgets := Budgets([rule])), configured=["openai"])
    budgets.load(desk.now, rule, 40_000_000)
    desk.offer(task)
    desk.go()
    spent = WaitReason(RefusalKind.BUDGET_SPENT, "openai", str(rule), scope)
    assert [each.reason for each in desk.dispatch.waiting_for()] == [spent]


def test_of_two_reasons_at_one_provider_the_one_that_ends_last_is_named() -> None:
    """The breaker admits a probe in seconds, but the day's money is spent until midnight."""
    day = BudgetRule("all", "", "day", 40_000_000)
    budgets = Budgets([day])
    desk = Desk(budgets=budgets, configured=["openai"])
    desk.provider("openai").breaker.trip(desk.now, "silent")
    desk.offer(make_task(1))
    assert desk.go() == []
    (waits,) = desk.dispatch.waiting_for()
    assert waits.reason == WaitReason(RefusalKind.BREAKER_OPEN, "openai")
    budgets.load(desk.now, day, 40_000_000)
    desk.dispatch.wake_all()
    assert desk.go() == []
    (waits,) = desk.dispatch.waiting_for()
    assert waits.reason.kind == RefusalKind.BUDGET_SPENT and waits.until is not None
    assert waits.until - desk.now > 600


def test_a_spent_budget_does_not_hold_up_other_submitters() -> None:
    desk = Desk(budgets=Budgets([BudgetRule("submitter", "ann", "total", 1)]))
    desk.offer(make_task(1, submitter="ann"), make_task(2, submitter="bob"))
    assert [p.task.submitter for p in desk.go()] == ["bob"]


def test_a_defaulted_max_tokens_is_clamped_to_what_the_budget_affords() -> None:
    desk = Desk(budgets=Budgets([BudgetRule("all", "", "total", 12_000_000)]))
    desk.offer(make_task(1, max_tokens=None, providers=("openai",), tier="standard"))
    placement = desk.one()
    assert 256 <= placement.max_tokens < 4_096
    assert placement.reserved_nanos <= 12_000_000


def test_a_task_without_a_tier_of_its_own_takes_a_cheaper_one_before_it_is_parked() -> None:
    desk = Desk(budgets=Budgets([BudgetRule("all", "", "total", 600_000)]))
    desk.offer(make_task(1, max_tokens=400, chars=400, providers=("openai",)))
    assert desk.one().tier == "economy"


# ------------------------------------------------------------------ who else is kept


CROWDED = make_settings(
    limits=told_limits(),
    agents=[AgentConfig(name=f"a{n}", home=NAMES[n], calls_in_flight=4) for n in range(3)],
)


def crowded() -> Desk:
    """The preferred provider of code holds its share of the slots; others are free."""
    desk = Desk(CROWDED)
    desk.offer(*[make_task(f"held {n}", "code_generation") for n in range(7)])
    assert {p.provider for p in desk.go()} == {"openai"}
    return desk


@pytest.mark.parametrize("later_s", [1.0, 1.9])
def test_a_later_task_of_another_size_does_not_put_off_the_spill_of_an_earlier_one(later_s: float) -> None:
    desk = crowded()
    desk.offer(make_task("early", "code_generation"))
    assert desk.go() == []
    desk.now = START + later_s
    desk.offer(make_task("late", "code_generation", chars=4_000))
    assert desk.go() == []
    assert desk.wake == pytest.approx(START + 2.0)
    assert [p.task.id for p in desk.go(2.0 - later_s)] == ["early"]


def test_a_task_that_waits_for_a_cache_goes_when_it_is_written_whatever_else_waits() -> None:
    desk = crowded()
    long = Message("system", "s" * 20_000)
    desk.offer(
        *[
            dataclasses.replace(
                make_task(f"shared {n}", "code_generation"), messages=(long, Message("user", f"q {n}"))
            )
            for n in range(4)
        ]
    )
    desk.go()
    (writer,) = desk.go(2.0)
    desk.now = START + 2.4
    desk.offer(make_task("other", "code_generation"))
    assert desk.go() == []
    desk.ok(writer, usage=Usage(10, 0, 5_000, 50))
    assert sorted(p.task.id for p in desk.go()) == ["shared 1", "shared 2", "shared 3"]


def test_a_task_that_can_never_fit_fails_although_it_came_last_and_no_provider_has_capacity() -> None:
    desk = Desk(make_settings(limits={name: {"requests_per_minute": 60} for name in NAMES}))
    desk.offer(*[make_task(n) for n in range(60)], make_task("long", chars=8_000_000))
    desk.go()
    assert [r.task.id for r in desk.results] == ["long"]


def test_a_group_keeps_no_more_than_it_has_tasks_however_many_come_and_go() -> None:
    desk = Desk(ONE_SLOT)
    desk.offer(make_task("running"))
    out = desk.one()
    desk.offer(make_task("patient", priority=0))
    for number in range(1_000):
        desk.offer(make_task(f"urgent {number}", priority=1), make_task(f"gone {number}", "research"))
        desk.go(0.1)
        assert desk.dispatch.withdraw("queue", f"gone {number}") is not None
        desk.ok(out, 0.1)
        out = desk.one()
    queues = desk.dispatch._queues
    for group in queues._groups.values():
        assert len(group.ready) + len(group.resting) < 200
    assert len(queues._new) + len(queues._parked) < 10


def test_a_prompt_with_more_tokens_than_letters_is_counted_as_what_it_was_learned_to_need() -> None:
    limits = {"gemini": {"requests_per_minute": 60_000, "burst_s": 60.0, "input_tokens_per_minute": 6_000}}
    desk = Desk(make_settings(limits=limits), configured=("gemini",))
    for number in range(80):
        desk.offer(make_task(f"seen {number}", chars=40, max_tokens=10))
        for placement in desk.go(10.0):
            desk.ok(placement, usage=Usage(700, 0, 0, 10))
    desk.offer(*[make_task(number, chars=40, max_tokens=10) for number in range(20)])
    desk.go(60.0)
    (group,) = desk.provider("gemini").groups.values()
    assert group.buckets["input_tokens"].level >= 0.0


def test_the_oldest_waiting_task_is_as_old_as_its_submission() -> None:
    desk = Desk(make_settings(limits={"openai": {"requests_per_minute": 60}}), configured=["openai"])
    desk.offer(*[make_task(number, created_at=START - 3_600.0 + number) for number in range(70)])
    placed = len(desk.go())
    assert 0 < placed < 70
    assert desk.dispatch.oldest_waiting_at() == START - 3_600.0 + placed
