"""The waiting tasks: which goes next, what a failure does to a task, and when a new decision is worth it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from src.errors import (
    Overloaded,
    RateLimited,
    ServerError,
)
from src.records import Placement, RefusalKind, Task, TaskStatus
from src.routing.allocation.planner import FREE, Advice
from src.routing.balancer import ProviderLoadBalancer
from src.routing.candidates import PlacementResult
from src.routing.retry_state import RetryState
from src.routing.routes import Route
from src.routing.scheduler import Scheduler
from src.settings import AgentConfig, Settings

from .build import (
    MODELS,
    NAMES,
    ONE_SLOT,
    START,
    TOKENS,
    WIDE,
    Desk,
    make_settings,
    make_task,
    one_by_one,
    prove,
    told_limits,
)


def served(desk: Desk) -> list[str]:
    return [placement.task.id for placement in one_by_one(desk)]


# ------------------------------------------------------------------ order


def test_of_equal_tasks_the_older_goes_first() -> None:
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
    desk.fail(first, ServerError("it broke", status=500))
    assert desk.one().task.id == "0"


def test_a_task_that_draws_429s_lets_ever_more_others_go_first() -> None:
    desk = Desk(ONE_SLOT)
    desk.offer(*[make_task(n) for n in range(30)])
    desk.fail(desk.one(), RateLimited("slow", status=429))
    going = one_by_one(desk)
    found = [next(going) for _ in range(5)]
    assert [placement.task.id for placement in found] == ["1", "2", "3", "0", "4"]


def test_the_same_task_is_not_offered_twice() -> None:
    desk = Desk()
    desk.offer(make_task(1))
    with pytest.raises(ValueError, match="offered before"):
        desk.offer(make_task(1))
    desk.offer(make_task(1, batch="another"))
    assert len(desk.dispatch) == 2


# ------------------------------------------------------------------ ends without a call


@pytest.mark.parametrize(
    "task",
    [
        pytest.param(make_task(1, models=("llama-3",)), id="an-unknown-model"),
        pytest.param(make_task(1, providers=("nobody",)), id="a-provider-nobody-knows"),
        pytest.param(make_task(1, chars=8_000_000), id="a-prompt-no-window-holds"),
        pytest.param(make_task(1, max_tokens=70_000, providers=("openai",)), id="more-than-a-minutes-limit"),
    ],
)
def test_a_task_that_can_never_fit_fails_at_once(task: Task) -> None:
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
        ({"providers": ("gemini",)}, "anthropic: excluded by the task's provider list"),
        ({"models": (MODELS["gemini"],)}, "anthropic: serves none of the task's models"),
    ],
    ids=["provider", "model"],
)
def test_a_task_pinned_to_a_provider_without_a_key_fails_with_that_reason_first(
    pin: dict[str, Any], why: str
) -> None:
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
    (gemini,) = [c for c in placement.reasons if c.provider == "gemini"]
    assert gemini.kind == RefusalKind.NOT_CONFIGURED and gemini.detail.startswith("no key in")


@pytest.mark.parametrize(
    "task",
    [
        pytest.param(make_task("long", chars=8_000_000), id="a-prompt-no-window-holds"),
        pytest.param(make_task("odd", models=("llama-3",)), id="an-unknown-model"),
    ],
)
def test_a_task_that_can_never_fit_fails_at_once_while_all_others_wait_for_capacity(task: Task) -> None:
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


# ------------------------------------------------------------------ what it costs


class Counting(ProviderLoadBalancer):
    """The balancer, which counts how often it evaluates a task."""

    evaluated = 0

    def try_place(
        self, task: Task, route: Route, retry: RetryState, now: float, advice: Advice = FREE
    ) -> PlacementResult:
        self.evaluated += 1
        return super().try_place(task, route, retry, now, advice)


def evaluated_per_task(waiting: int, settings: Settings, pump: Callable[[Desk], None]) -> float:
    desk = Desk(settings)
    balancer = Counting(settings, now=START)
    desk.dispatch, desk.balancer = Scheduler(balancer, settings), balancer
    kinds = ("general", "research", "analysis", "code_generation")
    desk.offer(*[make_task(n, kinds[n % 4], chars=10 ** (n % 4 + 1)) for n in range(waiting)])
    pump(desk)
    return balancer.evaluated / 100


@pytest.mark.parametrize("limited", [False, True], ids=["slots-bind", "limits-bind"])
def test_the_cost_of_a_decision_does_not_grow_with_the_number_waiting(limited: bool) -> None:
    agents = [AgentConfig(name="only", home="openai", calls_in_flight=8)]
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

    few, many = (evaluated_per_task(number, settings, pump) for number in (200, 20_000))
    assert many <= 1.2 * few
    assert many <= 20.0


def evaluated_at_wakes(settings: Settings, tasks: list[Task], wakes: int) -> tuple[int, int]:
    """How many tasks the balancer evaluated, and how many it placed, at so many moments with capacity."""
    balancer = Counting(settings, now=START)
    prove(balancer)
    desk = Desk(settings)
    desk.dispatch, desk.balancer = Scheduler(balancer, settings), balancer
    desk.offer(*tasks)
    desk.go()
    before, placed = balancer.evaluated, 0
    for _ in range(wakes):
        assert desk.wake is not None
        desk.now = desk.wake
        placed += len(desk.go())
    return balancer.evaluated - before, placed


PATIENT = {"preferences": False, "stall_timeout_s": 1_000.0}


def test_one_free_slot_does_not_wake_all_classes() -> None:
    settings = make_settings(limits=told_limits(requests_per_minute=60), routing=PATIENT)
    evaluated, placed = evaluated_at_wakes(settings, [make_task(n) for n in range(1_000)], 30)
    assert placed >= 30
    assert evaluated <= placed + 3  # that nothing more fits is known from the last that did


def test_classes_that_differ_in_size_only_are_not_evaluated_one_by_one() -> None:
    settings = make_settings(limits=told_limits(requests_per_minute=60), routing=PATIENT)
    sizes = [(chars, limit) for chars in (50, 400, 3_000, 20_000) for limit in (100, 300, 900)]
    tasks = [
        make_task(n, chars=sizes[n % 12][0], max_tokens=sizes[n % 12][1], tier="standard")
        for n in range(1_000)
    ]
    evaluated, placed = evaluated_at_wakes(settings, tasks, 30)
    assert placed >= 30
    assert evaluated <= placed + 3
