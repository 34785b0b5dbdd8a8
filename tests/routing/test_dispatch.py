"""The waiting tasks: who goes next, what a failure does to a task, when it is worth asking again."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from src.errors import (
    PROVIDER_ERRORS,
    AuthFailed,
    BadRequest,
    ContentRefused,
    ContextTooLong,
    InvalidResponse,
    ModelUnavailable,
    Overloaded,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    SchemaMismatch,
    ServerError,
    TimedOut,
    Truncated,
    Unreachable,
)
from src.records import Attempt, FinishReason, Message, Outcome, Placement, Task, TaskStatus, Usage
from src.routing.allotment import FREE, Advice
from src.routing.balancer import ProviderLoadBalancer
from src.routing.breaker import BreakerState
from src.routing.buckets import COLD_S, MARGIN_S
from src.routing.budgets import BudgetRule, Budgets
from src.routing.dispatch import Dispatch, outcome_of
from src.routing.failover import RULES, backoff_s
from src.routing.reach import Found
from src.routing.routes import Route
from src.routing.surveys import Memory, Tried
from src.settings import AgentRow, LimitSettings, Settings

from .build import MODELS, NAMES, START, WIDE, Desk, answer, make_settings, make_task, pause, told_limits

ONE_SLOT = make_settings(
    limits=told_limits(), agents=[AgentRow(name="only", home="openai", calls_in_flight=1)]
)
DOWN = ServerError("it broke", status=500)


def one_by_one(desk: Desk, most: int = 1_000) -> Iterator[Placement]:
    """Each task as it is placed where only one call is out at a time."""
    for _ in range(most):
        placements = desk.go()
        if not placements:
            return
        assert len(placements) == 1
        yield placements[0]
        desk.ok(placements[0])


def served(desk: Desk) -> list[str]:
    return [placement.task.id for placement in one_by_one(desk)]


# ------------------------------------------------------------------ order


def test_of_tasks_alike_the_older_goes_first() -> None:
    desk = Desk(ONE_SLOT)
    desk.offer(*[make_task(number) for number in range(20)])
    assert served(desk) == [str(number) for number in range(20)]


def test_age_counts_across_kinds_and_sizes() -> None:
    desk = Desk(ONE_SLOT)
    kinds = ("general", "research", "analysis")
    desk.offer(*[make_task(n, kinds[n % 3], chars=10 ** (1 + n % 4)) for n in range(24)])
    assert served(desk) == [str(number) for number in range(24)]


def test_a_higher_priority_goes_before_all_age() -> None:
    desk = Desk(ONE_SLOT)
    desk.offer(*[make_task(n, priority=n % 3, batch=f"b{n % 2}") for n in range(12)])
    order = [int(name) % 3 for name in served(desk)]
    assert order == sorted(order, reverse=True)


def test_a_single_question_does_not_wait_for_the_end_of_a_large_file() -> None:
    desk = Desk(ONE_SLOT)
    desk.offer(*[make_task(n, batch="file") for n in range(20_000)])
    going = one_by_one(desk)
    for _ in range(50):
        assert next(going).task.batch == "file"
    desk.offer(make_task("question", batch="queue"))
    assert "question" in [next(going).task.id for _ in range(2)]


def test_batches_and_submitters_take_turns() -> None:
    desk = Desk(ONE_SLOT)
    desk.offer(*[make_task(n, batch="file") for n in range(300)])
    for name in ("ann", "bob"):
        desk.offer(*[make_task(f"{name}{n}", batch="queue", submitter=name) for n in range(100)])
    first = [placement.task for _, placement in zip(range(150), one_by_one(desk), strict=False)]
    assert Counter((task.batch, task.submitter) for task in first) == {
        ("file", "local"): 50,
        ("queue", "ann"): 50,
        ("queue", "bob"): 50,
    }


def test_a_batch_that_comes_late_does_not_catch_up_on_what_it_missed() -> None:
    desk = Desk(ONE_SLOT)
    desk.offer(*[make_task(n, batch="early") for n in range(300)])
    going = one_by_one(desk)
    for _ in range(100):
        next(going)
    desk.offer(*[make_task(n, batch="late") for n in range(300)])
    found = Counter(next(going).task.batch for _ in range(100))
    assert abs(found["early"] - found["late"]) <= 2


def test_a_task_that_comes_back_keeps_its_place() -> None:
    desk = Desk(ONE_SLOT)
    desk.offer(*[make_task(n) for n in range(5)])
    first = desk.one()
    desk.fail(first, RateLimited("slow", status=429))
    assert desk.one().task.id == "0"


def test_the_same_task_is_not_taken_twice() -> None:
    desk = Desk()
    desk.offer(make_task(1))
    with pytest.raises(ValueError, match="offered before"):
        desk.offer(make_task(1))
    desk.offer(make_task(1, batch="another"))
    assert len(desk.dispatch) == 2


# ------------------------------------------------------------------ first claim

TOKENS = make_settings(
    limits={
        "anthropic": {"requests_per_minute": 6_000, "input_tokens_per_minute": 600, "token_burst_s": 60.0},
        "openai": {"requests_per_minute": 60_000, "tokens_per_minute": 60_000},
        "gemini": {"requests_per_minute": 6_000, "tokens_per_minute": 600},
    },
    routing={"preferences": False},
)


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
def test_room_that_a_large_task_gives_up_is_used_at_once(end: str) -> None:
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


def test_room_that_was_claimed_and_is_not_needed_any_more_is_used_at_once() -> None:
    """The large task waits for one group and gets its room in another."""
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
        limits=told_limits(requests_per_minute=120), routing={"suspect_after_s": 1_000.0}
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


def test_asked_twice_at_the_same_moment_it_places_nothing_new() -> None:
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
        agents=[AgentRow(name="only", home="openai", calls_in_flight=2)],
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


def test_while_a_provider_recovers_each_call_that_ends_makes_room_for_the_next() -> None:
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


def test_a_neutral_probe_lets_the_next_one_out_at_once() -> None:
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


def test_a_budget_that_calls_elsewhere_hold_is_asked_again_when_they_end() -> None:
    """The call in flight is another provider's, the budget is everybody's."""
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


@pytest.mark.parametrize(
    ("agent_prompts", "has_own", "is_more"),
    [
        pytest.param(True, False, True, id="an agent adds its prompt"),
        pytest.param(True, True, False, id="the task has one"),
        pytest.param(False, False, False, id="switched off"),
    ],
)
def test_a_reservation_counts_the_prompt_that_an_agent_adds(
    agent_prompts: bool, has_own: bool, is_more: bool
) -> None:
    def reserved(system_prompt: str) -> int:
        agents = [row.model_copy(update={"system_prompt": system_prompt}) for row in WIDE.agents]
        settings = WIDE.model_copy(update={"agents": tuple(agents), "agent_prompts": agent_prompts})
        desk = Desk(settings)
        own = (Message("system", "Be brief."),) if has_own else ()
        task = make_task(1, providers=("openai",), tier="standard")
        desk.offer(dataclasses.replace(task, messages=(*own, *task.messages)))
        return desk.one().reserved_nanos

    assert (reserved("x" * 4_000) > reserved("")) is is_more


def test_a_task_without_a_wish_falls_to_a_cheaper_tier_before_it_is_parked() -> None:
    desk = Desk(budgets=Budgets([BudgetRule("all", "", "total", 600_000)]))
    desk.offer(make_task(1, max_tokens=400, chars=400, providers=("openai",)))
    assert desk.one().tier == "economy"


# ------------------------------------------------------------------ ends without a call


@pytest.mark.parametrize(
    "task",
    [
        pytest.param(make_task(1, models=("llama-3",)), id="a-model-nobody-has"),
        pytest.param(make_task(1, providers=("nobody",)), id="a-provider-nobody-knows"),
        pytest.param(make_task(1, chars=8_000_000), id="a-prompt-no-window-holds"),
        pytest.param(make_task(1, max_tokens=70_000, providers=("openai",)), id="more-than-a-minutes-limit"),
    ],
)
def test_a_task_that_can_never_fit_is_told_so_at_once(task: Task) -> None:
    desk = Desk(TOKENS)
    desk.offer(task)
    assert desk.go() == []
    (result,) = desk.results
    assert result.status is TaskStatus.FAILED
    assert result.error.startswith("no provider can serve it (")
    assert len(desk.dispatch) == 0


@pytest.mark.parametrize(
    ("pin", "why"),
    [
        ({"providers": ("gemini",)}, "anthropic: the task is pinned elsewhere"),
        ({"models": (MODELS["gemini"],)}, "anthropic: serves none of the models"),
    ],
    ids=["provider", "model"],
)
def test_a_task_pinned_to_who_has_no_key_is_told_that_before_all_else(pin: dict[str, Any], why: str) -> None:
    desk = Desk(configured=["anthropic", "openai"])
    desk.offer(make_task(**pin))
    assert desk.go() == []
    no_key = "gemini: no key in GOOGLE_API_KEY or GEMINI_API_KEY"
    assert desk.results[0].error.startswith(f"no provider can serve it ({no_key}; {why}")


def test_of_several_pins_one_with_a_key_is_enough() -> None:
    desk = Desk(configured=["anthropic", "openai"])
    desk.offer(make_task(providers=("gemini", "openai")))
    placement = desk.one()
    assert placement.provider == "openai"
    assert {c.provider: c.why for c in placement.reasons}["gemini"].startswith("no key in")


@pytest.mark.parametrize(
    "task",
    [
        pytest.param(make_task("long", chars=8_000_000), id="a-prompt-no-window-holds"),
        pytest.param(make_task("odd", models=("llama-3",)), id="a-model-nobody-has"),
    ],
)
def test_a_task_that_can_never_fit_is_told_so_while_all_others_wait_for_room(task: Task) -> None:
    desk = Desk(make_settings(limits={name: {"requests_per_minute": 60} for name in NAMES}))
    desk.offer(*[make_task(n) for n in range(20)])
    desk.go()
    assert desk.dispatch.waiting > 10
    desk.offer(task)
    assert desk.go() == []
    assert [r.task.id for r in desk.results] == [task.id]


def test_a_task_whose_deadline_has_passed_costs_nothing() -> None:
    desk = Desk()
    desk.offer(make_task(1, deadline_at=START - 1.0), make_task(2))
    assert [p.task.id for p in desk.go()] == ["2"]
    assert desk.results[0].status is TaskStatus.EXPIRED
    assert desk.results[0].attempts == ()


def test_a_deadline_that_cannot_be_met_any_more_ends_a_task_early() -> None:
    desk = Desk(ONE_SLOT)
    for number in range(20):
        desk.offer(make_task(number))
        desk.ok(desk.one(), seconds=4.0)
    desk.offer(make_task("long"), make_task("hopeless", deadline_at=desk.now + 10.0))
    out = desk.one()
    assert desk.go(7.9) == []
    assert desk.results[-1].task.id != "hopeless"
    assert desk.wake is not None
    desk.now = desk.wake
    desk.go()
    assert desk.results[-1].status is TaskStatus.EXPIRED
    assert desk.now == pytest.approx(out.at + 8.0)  # half the median before
    assert "can't be met" in desk.results[-1].error


@pytest.mark.parametrize("waits_s", [0.5, 3.0])
def test_a_task_that_failed_shortly_before_its_deadline_still_expires(waits_s: float) -> None:
    desk = Desk(make_settings(limits=told_limits(), pool={"backoff_base_s": 50.0}), configured=["openai"])
    for number in range(20):
        desk.offer(make_task(number))
        desk.ok(desk.one(), seconds=4.0)
    desk.offer(make_task("late", deadline_at=desk.now + 20.0))
    placement = desk.one()
    desk.go(20.0 - waits_s)  # its moment in the heap of deadlines may pass while its call is out
    desk.fail(placement, Overloaded("busy", status=529, retry_after_s=60.0))
    desk.go()
    if desk.dispatch.waiting:
        assert desk.wake is not None
        assert desk.wake <= START + 80.0 + 20.0
        desk.now = desk.wake
        desk.go()
    assert desk.results[-1].task.id == "late"
    assert desk.results[-1].status is TaskStatus.EXPIRED


def test_a_call_gets_no_more_time_than_its_task_has() -> None:
    desk = Desk()
    desk.offer(make_task(1, deadline_at=START + 30.0), make_task(2))
    first, second = desk.go()
    assert first.timeout_s == pytest.approx(30.0)
    assert second.timeout_s == WIDE.providers[second.provider].timeout_s


def test_withdrawn_a_waiting_task_is_gone_and_a_running_one_is_not() -> None:
    desk = Desk(ONE_SLOT)
    desk.offer(make_task(1), make_task(2), make_task(3))
    running = desk.one()
    assert desk.dispatch.withdraw("queue", "1") is None
    assert desk.dispatch.withdraw("queue", "99") is None
    withdrawn = desk.dispatch.withdraw("queue", "2")
    assert withdrawn is not None
    assert withdrawn.id == "2"
    assert not desk.dispatch.knows("queue", "2")
    desk.ok(running)
    assert served(desk) == ["3"]
    desk.offer(make_task(2))  # and may come again
    assert served(desk) == ["2"]


# ------------------------------------------------------------------ failures, row by row


def mismatch() -> SchemaMismatch:
    usage = Usage(100, 0, 0, 20)
    return SchemaMismatch("wrong", answer='{"a": 1}', problems="- $.a: too small", status=200, usage=usage)


def error_of(kind: str) -> ProviderError:
    """One of each class, as an adapter would raise it."""
    found: dict[str, ProviderError] = {
        "RateLimited": RateLimited("slow", status=429, retry_after_s=7.0),
        "QuotaExhausted": QuotaExhausted("quota", status=429, resets_at=START + 5_000.0),
        "Overloaded": Overloaded("busy", status=529),
        "ServerError": ServerError("it broke", status=500),
        "TimedOut": TimedOut("no answer in time"),
        "Unreachable": Unreachable("refused", sent=False),
        "InvalidResponse": InvalidResponse("empty", status=200),
        "SchemaMismatch": mismatch(),
        "AuthFailed": AuthFailed("bad key", status=401),
        "ModelUnavailable": ModelUnavailable("no such model", status=404),
        "ContextTooLong": ContextTooLong("too long", status=400),
        "ContentRefused": ContentRefused("not this", status=400),
        "Truncated": Truncated("no text", status=200, usage=Usage(100, 0, 0, 100)),
        "BadRequest": BadRequest("no", status=400),
    }
    return found[kind]


def fail_first(kind: str, configured: list[str] | None = None) -> tuple[Desk, Placement]:
    desk = Desk(configured=configured)
    desk.offer(make_task("other", providers=("openai",)))
    desk.ok(desk.one())  # the key works
    desk.offer(make_task(1, "code_generation"))
    placement = desk.one()
    assert placement.provider == "openai"
    desk.fail(placement, error_of(kind))
    return desk, placement


def test_every_error_class_has_its_row_and_its_case_here() -> None:
    assert set(RULES) == set(PROVIDER_ERRORS.values())
    for kind in PROVIDER_ERRORS:
        assert error_of(kind).kind == kind


HEALTH = {"Overloaded", "ServerError", "TimedOut", "Unreachable", "InvalidResponse", "AuthFailed"}


@pytest.mark.parametrize("kind", PROVIDER_ERRORS)
def test_the_breaker_counts_what_is_the_providers_fault(kind: str) -> None:
    desk, _ = fail_first(kind)
    assert desk.provider("openai").breaker.consecutive == (1 if kind in HEALTH else 0)


COSTS = {
    "Overloaded", "ServerError", "TimedOut", "Unreachable", "InvalidResponse", "AuthFailed", "Truncated",
    "BadRequest", "SchemaMismatch",
}  # fmt: skip


@pytest.mark.parametrize("kind", PROVIDER_ERRORS)
def test_which_failures_cost_an_attempt(kind: str) -> None:
    assert PROVIDER_ERRORS[kind].costs_attempt == (kind in COSTS)


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        ("RateLimited", Outcome.NEUTRAL),
        ("QuotaExhausted", Outcome.NEUTRAL),
        ("Overloaded", Outcome.FAILED),
        ("ServerError", Outcome.FAILED),
        ("TimedOut", Outcome.UNCERTAIN),
        ("Unreachable", Outcome.FAILED),
        ("InvalidResponse", Outcome.UNCERTAIN),
        ("SchemaMismatch", Outcome.NEUTRAL),
        ("AuthFailed", Outcome.NEUTRAL),
        ("ModelUnavailable", Outcome.NEUTRAL),
        ("ContextTooLong", Outcome.NEUTRAL),
        ("ContentRefused", Outcome.NEUTRAL),
        ("Truncated", Outcome.NEUTRAL),
        ("BadRequest", Outcome.NEUTRAL),
    ],
)
def test_a_failure_is_booked_as_what_it_may_have_cost(kind: str, outcome: Outcome) -> None:
    assert outcome_of(None, error_of(kind)) is outcome


def test_a_connection_that_broke_after_sending_may_have_been_billed() -> None:
    assert outcome_of(None, Unreachable("reset", sent=True)) is Outcome.UNCERTAIN
    assert outcome_of(None, None) is Outcome.UNCERTAIN


@pytest.mark.parametrize(
    "kind",
    ["RateLimited", "QuotaExhausted", "Overloaded", "TimedOut", "Unreachable", "InvalidResponse",
     "AuthFailed", "ContextTooLong", "BadRequest"],
)  # fmt: skip
def test_elsewhere_at_once_and_not_the_preferred_one_again(kind: str) -> None:
    desk, first = fail_first(kind)
    second = desk.one()
    assert second.task.id == "1"
    assert second.provider != "openai"
    assert second.attempt == 2
    assert second.agent == first.agent  # the agent goes on with its task
    desk.ok(second)
    result = desk.results[-1]
    assert result.status is TaskStatus.SUCCEEDED
    assert [a.outcome for a in result.attempts][-1] is Outcome.OK
    assert result.attempts[0].error_kind == kind


def test_a_wrong_answer_goes_back_to_its_model_with_what_is_wrong_and_is_reserved_for() -> None:
    desk, first = fail_first("SchemaMismatch")
    again = desk.one()
    assert (again.provider, again.model, again.choice) == ("openai", first.model, "retry")
    assert again.task.messages[:-2] == first.task.messages
    answer, told = again.task.messages[-2:]
    assert (answer.role, answer.content) == ("assistant", '{"a": 1}')
    assert told.role == "user"
    assert "- $.a: too small" in told.content
    assert again.reserved_nanos > first.reserved_nanos
    desk.ok(again)
    result = desk.results[-1]
    assert result.status is TaskStatus.SUCCEEDED
    assert result.task.messages == first.task.messages


def test_after_a_second_wrong_answer_another_provider_starts_anew_and_the_fourth_ends_it() -> None:
    desk, first = fail_first("SchemaMismatch")
    asked = []
    while not desk.results[1:]:
        placement = desk.one()
        asked.append((placement.provider, len(placement.task.messages)))
        desk.fail(placement, mismatch())
    other = asked[1][0]
    assert other != "openai"
    assert asked == [("openai", 3), (other, 1), (other, 3)]
    result = desk.results[-1]
    assert result.status is TaskStatus.FAILED
    assert len(result.attempts) == 4
    assert first.task.messages == result.task.messages


def test_who_fails_otherwise_while_it_repairs_is_left_for_a_fresh_start() -> None:
    desk, _ = fail_first("SchemaMismatch")
    desk.fail(desk.one(), Overloaded("busy", status=529))
    elsewhere = desk.one()
    assert elsewhere.provider != "openai"
    assert len(elsewhere.task.messages) == 1


def test_a_server_error_is_tried_once_more_here_then_elsewhere() -> None:
    desk, _ = fail_first("ServerError")
    again = desk.one()
    assert (again.provider, again.choice) == ("openai", "retry")
    desk.fail(again, DOWN)
    third = desk.one()
    assert third.provider != "openai"
    assert third.choice == "failover"


def test_a_provider_that_fails_in_a_row_is_not_asked_twice_by_one_task() -> None:
    desk = Desk()
    for number in range(2):
        desk.offer(make_task(number, providers=("openai",)))
    first, second = desk.go()
    desk.fail(first, Overloaded("busy", status=529))
    desk.provider("openai").backoff_until = 0.0
    desk.dispatch.withdraw("queue", "0")
    desk.fail(second, DOWN)
    assert desk.provider("openai").breaker.consecutive == 2
    assert desk.go() == []  # not again at once, although it has room
    assert desk.wake == pytest.approx(START + 1.0)


def test_a_429_holds_the_model_group_and_the_task_goes_elsewhere_at_no_cost() -> None:
    desk, first = fail_first("RateLimited")
    group = desk.provider("openai").models[first.model].group
    assert group.held_until == START + 7.0
    placement = desk.one()
    for name in NAMES:
        pause(desk.balancer, name)
    desk.fail(placement, error_of("RateLimited"))
    assert desk.results[-1].task.id == "other"
    assert desk.dispatch.waiting == 1


def test_a_model_that_is_not_there_is_replaced_by_another_of_the_provider() -> None:
    desk, first = fail_first("ModelUnavailable", ["openai"])
    second = desk.one()
    assert (second.provider, second.attempt) == ("openai", 2)
    assert second.model != first.model


def test_a_model_that_is_not_there_is_replaced_for_the_tasks_that_wait_as_well() -> None:
    desk = Desk(ONE_SLOT, configured=["openai"])
    desk.offer(*[make_task(n, tier="standard") for n in range(5)])
    first = desk.one()
    desk.fail(first, error_of("ModelUnavailable"))
    models = [placement.model for placement in one_by_one(desk)]
    assert len(models) == 5
    assert first.model not in models
    assert {r.status for r in desk.results} == {TaskStatus.SUCCEEDED}


def test_a_model_that_takes_over_brings_its_own_room() -> None:
    """Who waits for the room of the model that has gone is asked again: the other has limits of its own."""
    settings = make_settings(providers={"openai": {"model_limits": MINUTE_BY_MINUTE}})
    desk = Desk(settings, configured=["openai"])
    desk.offer(*[make_task(n, tier="standard") for n in range(3)])
    first = desk.one()
    assert desk.wake == pytest.approx(START + 60.0 + MARGIN_S + COLD_S)
    desk.fail(first, error_of("ModelUnavailable"))
    assert len(desk.go()) >= 1


MINUTE_BY_MINUTE = {
    model: LimitSettings(requests_per_minute=per_minute)
    for model, per_minute in (("gpt-6.1-terra", 1.0), ("gpt-6-luna", 600.0))
}


def test_a_task_that_is_too_long_never_meets_the_same_model_again() -> None:
    desk, _ = fail_first("ContextTooLong")
    for _ in range(2):
        placement = desk.one()
        assert placement.provider != "openai"
        desk.fail(placement, error_of("ContextTooLong"))
    assert desk.go() == []
    result = desk.results[-1]
    assert result.status is TaskStatus.FAILED
    assert "does not fit" in result.error
    assert [a.error_kind for a in result.attempts] == ["ContextTooLong"] * 3
    assert len({a.model for a in result.attempts}) == 3


def test_a_refusal_ends_the_task_with_the_providers_reason() -> None:
    desk, _ = fail_first("ContentRefused")
    result = desk.results[-1]
    assert result.status is TaskStatus.REFUSED
    assert "not this" in result.error
    assert len(desk.dispatch) == 0


def test_a_bad_request_is_believed_when_another_provider_agrees() -> None:
    desk, _ = fail_first("BadRequest")
    second = desk.one()
    desk.fail(second, BadRequest("neither here", status=422))
    result = desk.results[-1]
    assert result.status is TaskStatus.FAILED
    assert len(result.attempts) == 2
    assert "openai" in result.error
    assert second.provider in result.error
    assert "neither here" in result.error


def test_a_bad_request_with_one_provider_alone_fails_at_once() -> None:
    desk, _ = fail_first("BadRequest", ["openai"])
    assert desk.go() == []
    assert desk.results[-1].status is TaskStatus.FAILED
    assert len(desk.results[-1].attempts) == 1
    assert "openai" in desk.results[-1].error


def test_an_answer_without_text_gets_more_room_once_and_then_fails() -> None:
    desk, first = fail_first("Truncated")
    second = desk.one()
    assert (second.provider, second.choice) == ("openai", "retry")
    assert second.max_tokens >= 4 * first.max_tokens
    desk.fail(second, error_of("Truncated"))
    result = desk.results[-1]
    assert result.status is TaskStatus.FAILED
    assert result.error.startswith("Truncated")
    assert [a.max_tokens for a in result.attempts] == [first.max_tokens, second.max_tokens]


def test_an_answer_that_was_cut_at_its_length_is_a_success_that_says_so() -> None:
    desk = Desk()
    desk.offer(make_task(1))
    placement = desk.one()
    done = answer(placement)
    cut = type(done)("half a", FinishReason.LENGTH, done.usage, done.model)
    result = desk.dispatch.settle(placement, desk.now, completion=cut).result
    assert result is not None
    assert (result.status, result.truncated) == (TaskStatus.SUCCEEDED, True)


def test_warnings_of_the_placement_and_of_the_answer_are_in_the_result() -> None:
    desk = Desk()
    desk.offer(make_task(1, models=("gpt-4",), temperature=0.5))
    desk.ok(desk.one(), warnings=("the answer says something",))
    warnings = desk.results[-1].warnings
    assert len(warnings) == 3
    assert "retired" in warnings[0]
    assert "temperature" in warnings[1]


def test_a_cancelled_call_is_uncertain_and_its_task_waits_again() -> None:
    desk = Desk()
    desk.offer(make_task(1))
    settled = desk.cancel(desk.one())
    assert settled.attempt.outcome is Outcome.UNCERTAIN
    assert settled.result is None
    assert desk.one().attempt == 2


def test_of_an_answer_that_comes_after_its_end_nothing_is_lost_but_the_task() -> None:
    desk = Desk()
    desk.offer(make_task(1))
    placement = desk.one()
    desk.ok(placement)
    before = len(desk.results)
    with pytest.raises(Exception, match="not out"):
        desk.ok(placement)
    assert len(desk.results) == before


# ------------------------------------------------------------------ backoff and attempts


def test_backoff_doubles_to_a_minute() -> None:
    waits = [backoff_s(failures, WIDE.pool) for failures in range(1, 10)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert backoff_s(10_000, WIDE.pool) == 60


def test_when_all_have_failed_a_task_exclusion_sorts_last_and_never_forbids() -> None:
    desk = Desk()
    desk.offer(make_task(1))
    tried = []
    while desk.dispatch.waiting:
        placements = desk.go()
        if not placements:
            assert desk.wake is not None
            desk.now = desk.wake
            continue
        tried.append((round(desk.now - START, 3), placements[0].provider))
        desk.fail(placements[0], InvalidResponse("empty", status=200))
        for name in NAMES:  # health is not what this is about
            desk.provider(name).breaker.forgive()
    assert {name for _, name in tried[:3]} == set(NAMES)
    assert [at for at, _ in tried[:3]] == [0.0, 0.0, 0.0]  # elsewhere at once
    assert [at for at, _ in tried[3:]] == [4.0, 12.0, 28.0]  # then 4, 8, 16 s of waiting
    assert desk.results[-1].status is TaskStatus.FAILED
    assert desk.results[-1].error.startswith("6 attempts failed: ")


def test_who_has_failed_a_task_comes_last_even_after_the_backoff() -> None:
    desk = Desk()
    desk.offer(make_task(1))
    first = desk.one()
    others = [name for name in NAMES if name != first.provider]
    for name in others:
        pause(desk.balancer, name)
    desk.fail(first, InvalidResponse("empty", status=200))
    assert desk.go() == []
    desk.balancer.resume(others[0], desk.now)
    desk.balancer.set_weights({first.provider: 100.0}, desk.now)
    desk.dispatch.wake_all()
    second = desk.one(10.0)  # now both are eligible
    assert why_empty(second) == {first.provider, others[0]}
    assert second.provider == others[0]


def why_empty(placement: Placement) -> set[str]:
    return {c.provider for c in placement.reasons if not c.why}


def test_the_final_error_lists_every_attempt_the_first_one_first() -> None:
    desk = Desk()
    desk.offer(make_task(1))
    kinds = []
    for number in range(6):
        while not (placements := desk.go()):
            desk.now = desk.wake or math.inf
        error = InvalidResponse(f"empty {number}", status=200)
        kinds.append(placements[0].provider)
        desk.fail(placements[0], error)
        for name in NAMES:
            desk.provider(name).breaker.forgive()
    told = desk.results[-1].error
    places = [told.index(f"empty {number}") for number in range(6)]
    assert places == sorted(places)
    assert len(desk.results[-1].attempts) == 6


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        pytest.param(RateLimited("slow", status=429, retry_after_s=0.2), 50, id="neutral-costs-none"),
        pytest.param(InvalidResponse("empty", status=200), 6, id="failures-cost-one-each"),
    ],
)
def test_attempts_and_calls_are_limited(error: ProviderError, calls: int) -> None:
    desk = Desk(configured=["openai"])
    desk.offer(make_task(1))
    made = 0
    while desk.dispatch.waiting:
        placements = desk.go()
        if placements:
            made += 1
            desk.fail(placements[0], error)
            desk.provider("openai").breaker.forgive()
        else:
            assert desk.wake is not None
            desk.now = desk.wake
    assert made == calls
    assert desk.results[-1].status is TaskStatus.FAILED


# ------------------------------------------------------------------ in another life


def first_life(*errors: ProviderError, task: Task) -> list[Attempt]:
    """What had been stored of a task when the process was killed."""
    desk = Desk()
    desk.offer(task)
    attempts = []
    for error in errors:
        while not (placements := desk.go()):
            desk.now = desk.wake or math.inf
        attempts.append(desk.fail(placements[0], error).attempt)
        for name in NAMES:
            desk.provider(name).breaker.forgive()
    return attempts


def second_life(task: Task, attempts: list[Attempt], settings: Settings = WIDE) -> Desk:
    desk = Desk(settings)
    desk.now = START + 600.0
    desk.dispatch.offer(task, desk.now, attempts)
    return desk


def test_attempts_before_a_restart_keep_counting_and_the_final_error_lists_them() -> None:
    task = make_task(1)
    empty = [InvalidResponse(f"empty {number}", status=200) for number in range(6)]
    desk = second_life(task, first_life(*empty[:5], task=task))
    placement = desk.one()
    assert placement.attempt == 6
    result = desk.fail(placement, empty[5]).result
    assert result is not None and result.status is TaskStatus.FAILED
    assert result.error.startswith("6 attempts failed: ")
    places = [result.error.index(f"empty {number}") for number in range(6)]
    assert places == sorted(places)
    assert [a.number for a in result.attempts] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("kind", ["Overloaded", "InvalidResponse", "ContextTooLong", "BadRequest"])
def test_who_failed_a_task_before_a_restart_is_not_its_first_choice(kind: str) -> None:
    task = make_task(1, "code_generation")
    (failed,) = first_life(error_of(kind), task=task)
    assert failed.provider == "openai"
    assert second_life(task, [failed]).one().provider != "openai"


def test_who_refused_the_content_before_a_restart_is_not_asked_again_where_others_may_be() -> None:
    task = make_task(1, "code_generation")
    (failed,) = first_life(error_of("Overloaded"), task=task)
    refused = dataclasses.replace(failed, error_kind="ContentRefused", error="not this")
    elsewhere = make_settings(limits=told_limits(), routing={"refused_elsewhere": True})
    desk = second_life(task, [refused], elsewhere)
    placement = desk.one()
    assert placement.provider != "openai"
    result = desk.fail(placement, error_of("ContentRefused")).result
    assert result is not None and result.status is TaskStatus.REFUSED


def test_an_answer_without_text_gets_its_larger_room_after_a_restart() -> None:
    task = make_task(1)
    (cut,) = first_life(error_of("Truncated"), task=task)
    assert cut.max_tokens == 100
    assert second_life(task, [cut]).one().max_tokens == 1024


@pytest.mark.parametrize("kind", ["Unreachable", "TimedOut"])
def test_what_may_have_been_the_network_of_an_earlier_life_costs_no_attempt(kind: str) -> None:
    task = make_task(1)
    empty = InvalidResponse("empty", status=200)
    stored = [dataclasses.replace(each, error_kind=kind) for each in first_life(*[empty] * 5, task=task)]
    desk = second_life(task, stored)
    desk.fail(desk.one(), empty)
    assert desk.results == []
    assert desk.dispatch.waiting == 1


def test_forced_calls_and_probes_cost_no_attempt() -> None:
    desk = Desk(configured=["openai"])
    desk.offer(make_task(1))
    choices: Counter[str] = Counter()
    while desk.dispatch.waiting:
        placements = desk.go()
        if placements:
            choices[placements[0].choice] += 1
            desk.fail(placements[0], DOWN)
        else:
            assert desk.wake is not None
            desk.now = desk.wake
        assert sum(choices.values()) <= 50
    free = choices["probe"] + choices["forced"]
    assert free > 0
    assert sum(choices.values()) - free == 6 or sum(choices.values()) == 50


def test_a_probe_of_the_preferred_provider_is_a_probe() -> None:
    desk = Desk()
    desk.offer(*[make_task(n, providers=("openai",)) for n in range(3)])
    for placement in desk.go():
        desk.fail(placement, TimedOut("silent"))
    for number in range(3):
        desk.dispatch.withdraw("queue", str(number))
    desk.now = desk.provider("openai").breaker.open_until
    desk.offer(make_task("typed", "code_generation"))
    probe = desk.one()
    assert (probe.provider, probe.choice) == ("openai", "probe")


def test_attempts_from_before_a_restart_keep_counting() -> None:
    desk = Desk()
    failed = [
        Attempt(n + 1, "openai", MODELS["openai"], "gpt-engineer", Outcome.FAILED, START - 10, 1.0,
                "weighted", (), error_kind="InvalidResponse", error=f"empty {n}")
        for n in range(5)
    ]  # fmt: skip
    desk.dispatch.offer(make_task(1), desk.now, failed)
    placement = desk.one()
    assert placement.attempt == 6
    desk.fail(placement, InvalidResponse("the last", status=200))
    result = desk.results[-1]
    assert result.status is TaskStatus.FAILED
    assert [a.number for a in result.attempts] == [1, 2, 3, 4, 5, 6]
    assert "empty 0" in result.error


def test_any_answer_that_ends_being_offline_wakes_everybody() -> None:
    desk = Desk()
    desk.offer(make_task("slow", providers=("anthropic",)))
    slow = desk.one()
    desk.offer(*[make_task(name, providers=(name,)) for name in NAMES])
    for placement in desk.go():
        desk.fail(placement, Unreachable("no route", sent=False))
    assert desk.balancer.offline_since is not None
    assert desk.go() == []
    desk.ok(slow, seconds=1.0)
    assert {p.provider for p in desk.go(1.0)} == set(NAMES)


def test_an_outage_of_the_network_costs_no_attempt() -> None:
    desk = Desk()
    desk.offer(*[make_task(n, providers=(NAMES[n % 3],)) for n in range(9)])
    for placement in desk.go():
        desk.fail(placement, Unreachable("no route", sent=False), seconds=0.01)
    assert desk.balancer.offline_since == START
    assert desk.go(20.0) == []
    assert desk.dispatch.waiting == 9
    desk.balancer.free_call("openai", Found.ANSWERS, desk.now, desk.now)
    desk.dispatch.wake_all()
    placements = desk.go()
    assert len(placements) == 9
    for placement in placements:
        assert placement.attempt == 2
        desk.ok(placement)
    assert {r.status for r in desk.results} == {TaskStatus.SUCCEEDED}


# ------------------------------------------------------------------ who else is kept


CROWDED = make_settings(
    limits=told_limits(),
    agents=[AgentRow(name=f"a{n}", home=NAMES[n], calls_in_flight=4) for n in range(3)],
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


def test_a_task_that_waits_for_a_cache_goes_when_it_is_written_whoever_else_waits() -> None:
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


def test_what_can_never_fit_is_told_although_it_came_last_and_nobody_has_room() -> None:
    desk = Desk(make_settings(limits={name: {"requests_per_minute": 60} for name in NAMES}))
    desk.offer(*[make_task(n) for n in range(60)], make_task("long", chars=8_000_000))
    desk.go()
    assert [r.task.id for r in desk.results] == ["long"]


def test_a_family_keeps_no_more_than_it_has_tasks_however_many_come_and_go() -> None:
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
    for family in queues._families.values():
        assert len(family.ready) + len(family.resting) < 200
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


# ------------------------------------------------------------------ what it costs


class Counting(ProviderLoadBalancer):
    """The balancer, counting how often it is asked."""

    asked = 0

    def try_place(self, task: Task, route: Route, memory: Memory, now: float, advice: Advice = FREE) -> Tried:
        self.asked += 1
        return super().try_place(task, route, memory, now, advice)


def asked_per_task(waiting: int, settings: Settings, pump: Callable[[Desk], None]) -> float:
    desk = Desk(settings)
    balancer = Counting(settings, now=START)
    desk.dispatch, desk.balancer = Dispatch(balancer, settings), balancer
    kinds = ("general", "research", "analysis", "code_generation")
    desk.offer(*[make_task(n, kinds[n % 4], chars=10 ** (n % 4 + 1)) for n in range(waiting)])
    pump(desk)
    return balancer.asked / 100


@pytest.mark.parametrize("limited", [False, True], ids=["slots-bind", "limits-bind"])
def test_the_cost_of_a_decision_does_not_grow_with_the_number_waiting(limited: bool) -> None:
    agents = [AgentRow(name="only", home="openai", calls_in_flight=8)]
    limits = told_limits(requests_per_minute=600) if limited else told_limits()
    settings = make_settings(limits=limits, agents=agents)

    def pump(desk: Desk) -> None:
        out: list[Placement] = []
        placed = 0
        while placed < 100:
            out += desk.go(0.05)
            placed = placed + 1 if out else placed
            if out:
                desk.ok(out.pop(0))

    few, many = (asked_per_task(number, settings, pump) for number in (200, 20_000))
    assert many <= 1.2 * few
    assert many <= 20.0


def asked_at_wakes(settings: Settings, tasks: list[Task], wakes: int) -> tuple[int, int]:
    """How often the balancer was asked, and how many were placed, at so many moments of room."""
    balancer = Counting(settings, now=START)
    desk = Desk(settings)
    desk.dispatch, desk.balancer = Dispatch(balancer, settings), balancer
    desk.offer(*tasks)
    desk.go()
    before, placed = balancer.asked, 0
    for _ in range(wakes):
        assert desk.wake is not None
        desk.now = desk.wake
        placed += len(desk.go())
    return balancer.asked - before, placed


PATIENT = {"preferences": False, "suspect_after_s": 1_000.0}


def test_not_everybody_wakes_up_for_one_free_place() -> None:
    settings = make_settings(limits=told_limits(requests_per_minute=60), routing=PATIENT)
    asked, placed = asked_at_wakes(settings, [make_task(n) for n in range(1_000)], 30)
    assert placed >= 30
    assert asked <= placed + 3  # that nothing more fits is known from the last that did


def test_classes_that_differ_in_size_alone_are_not_asked_one_by_one() -> None:
    settings = make_settings(limits=told_limits(requests_per_minute=60), routing=PATIENT)
    sizes = [(chars, limit) for chars in (50, 400, 3_000, 20_000) for limit in (100, 300, 900)]
    tasks = [
        make_task(n, chars=sizes[n % 12][0], max_tokens=sizes[n % 12][1], tier="standard")
        for n in range(1_000)
    ]
    asked, placed = asked_at_wakes(settings, tasks, 30)
    assert placed >= 30
    assert asked <= placed + 3


# ------------------------------------------------------------------ any order of events


class AnyOrder(RuleBasedStateMachine):
    """Tasks of every kind come, calls end in every way, providers come and go."""

    @initialize(seed=st.integers(0, 1_000), limits=st.sampled_from(["none", "told", "unknown"]))
    def begin(self, seed: int, limits: str) -> None:
        told = {
            "anthropic": {"requests_per_minute": 120, "output_tokens_per_minute": 30_000},
            "openai": {"requests_per_minute": 120, "tokens_per_minute": 40_000},
            "gemini": {"requests_per_minute": 60},
        }
        agents = [AgentRow(name=f"a{n}", home=NAMES[n], calls_in_flight=4) for n in range(3)]
        chosen = {"none": told_limits(), "told": told, "unknown": None}[limits]
        self.desk = Desk(make_settings(limits=chosen, agents=agents), seed=seed)
        self.out: list[Placement] = []
        self.offered = 0
        self.withdrawn = 0

    def pump(self, seconds: float = 0.0) -> None:
        desk = self.desk
        self.out += desk.go(seconds)
        assert desk.go() == [], "asked twice at the same moment"
        assert desk.wake is None or desk.wake > desk.now

    @rule(
        kind=st.sampled_from(["general", "research", "code_generation"]),
        count=st.integers(1, 6),
        max_tokens=st.sampled_from([10, 500, 20_000]),
        batch=st.sampled_from(["queue", "file"]),
        priority=st.integers(0, 1),
        deadline_s=st.sampled_from([None, None, 3.0, 200.0]),
        pinned=st.sampled_from([(), (), ("openai",), ("gemini", "anthropic")]),
    )
    def tasks_come(
        self,
        kind: str,
        count: int,
        max_tokens: int,
        batch: str,
        priority: int,
        deadline_s: float | None,
        pinned: tuple[str, ...],
    ) -> None:
        deadline_at = None if deadline_s is None else self.desk.now + deadline_s
        for _ in range(count):
            self.offered += 1
            self.desk.offer(
                make_task(self.offered, kind, max_tokens=max_tokens, batch=batch, priority=priority,
                          deadline_at=deadline_at, providers=pinned)
            )  # fmt: skip
        self.pump()

    @rule(seconds=st.one_of(st.floats(0.0, 2.0), st.floats(0.0, 90.0)))
    def time_passes(self, seconds: float) -> None:
        self.pump(seconds)

    @precondition(lambda self: self.desk.wake is not None)
    @rule()
    def it_is_time_to_ask_again(self) -> None:
        assert self.desk.wake is not None
        self.pump(self.desk.wake - self.desk.now)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), kind=st.sampled_from(["ok", "ok", "ok", "cancelled", *PROVIDER_ERRORS]))
    def a_call_ends(self, data: st.DataObject, kind: str) -> None:
        placement = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        if kind == "ok":
            self.desk.ok(placement)
        elif kind == "cancelled":
            self.desk.cancel(placement)
        else:
            self.desk.fail(placement, error_of(kind))
        self.pump()

    @precondition(lambda self: self.desk.dispatch.waiting)
    @rule(data=st.data())
    def one_is_cancelled(self, data: st.DataObject) -> None:
        waiting = sorted(self.desk.dispatch.waiting_tasks(), key=lambda t: int(t.id))
        task = data.draw(st.sampled_from(waiting))
        assert self.desk.dispatch.withdraw(task.batch, task.id) is task
        self.withdrawn += 1
        self.pump()

    @rule(name=st.sampled_from(NAMES), paused=st.booleans())
    def somebody_steers(self, name: str, paused: bool) -> None:
        if paused:
            pause(self.desk.balancer, name)
        else:
            self.desk.balancer.resume(name, self.desk.now)
        self.desk.dispatch.wake_all()
        self.pump()

    @rule(name=st.sampled_from(NAMES))
    def the_network_is_there(self, name: str) -> None:
        if self.desk.balancer.offline_since is not None:
            self.desk.balancer.free_call(name, Found.ANSWERS, self.desk.now, self.desk.now)
            self.desk.dispatch.wake_all()
            self.pump()

    @invariant()
    def every_task_is_somewhere_and_only_once(self) -> None:
        dispatch = self.desk.dispatch
        assert dispatch.waiting == len(dispatch.waiting_tasks())
        assert len(dispatch) == dispatch.waiting + len(self.out)
        assert len(dispatch) + len(self.desk.results) + self.withdrawn == self.offered
        ended = [(r.task.batch, r.task.id) for r in self.desk.results]
        assert len(ended) == len(set(ended))
        assert self.desk.balancer.in_flight == len(self.out)

    @invariant()
    def somebody_will_ask_again(self) -> None:
        """Who waits, waits for a moment, for a call that is out, for a person or for the network."""
        desk = self.desk
        if not desk.dispatch.waiting or self.out or desk.balancer.offline_since is not None:
            return
        steered = any(p.paused for p in desk.balancer.providers) or desk.balancer.pool.all_misconfigured
        assert desk.wake is not None or steered, desk.dispatch.waiting_for()

    @invariant()
    def no_room_is_idle(self) -> None:
        """A task on its first attempt that could go this moment has gone."""
        desk = self.desk
        balancer = desk.balancer
        if not balancer.pool.free_slots:
            return
        for task in desk.dispatch.waiting_tasks():
            entry = desk.dispatch._entries[task.batch, task.id]
            if entry.attempts or entry.queue is None or entry.queue.head() is not entry:
                continue
            route = balancer.route(task, desk.now)
            survey = balancer._chooser.survey(task, route, entry.memory, desk.now)
            spilled = desk.now >= entry.memory.offered_at + desk.settings.routing.spill_after_s
            queue = entry.queue
            wakes_s = queue.holder.parked_until - desk.now
            soon = wakes_s < 0.1  # a rate that is felt for may have grown since it was asked
            parked = (queue.holder.waits_for, wakes_s, queue.holder.settles, queue.claimed)
            assert not survey.eligible or not spilled or soon, (task, survey.reasons(), parked)

    def teardown(self) -> None:
        """With all well again, every task ends, and none of them late for no reason."""
        if not hasattr(self, "desk"):
            return
        desk = self.desk
        for name in NAMES:
            desk.balancer.resume(name, desk.now)
            desk.balancer.free_call(name, Found.ANSWERS, desk.now, desk.now)
        desk.dispatch.wake_all()
        self.pump()
        for _ in range(2_000):
            if not len(desk.dispatch):
                break
            while self.out:
                desk.ok(self.out.pop())
            self.pump()
            if not self.out and desk.dispatch.waiting:
                assert desk.wake is not None, desk.dispatch.waiting_for()
                self.pump(desk.wake - desk.now)
        assert not len(desk.dispatch), desk.dispatch.waiting_for()
        self.every_task_is_somewhere_and_only_once()


TestAnyOrderOfEvents = AnyOrder.TestCase
