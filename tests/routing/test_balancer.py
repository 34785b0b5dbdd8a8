"""The single step: who is asked, who is chosen and why, and what a settle means for the calls to come."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from src.errors import (
    AuthFailed,
    BadRequest,
    InvalidResponse,
    ModelUnavailable,
    Overloaded,
    PermitError,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    ServerError,
    TimedOut,
    Unreachable,
)
from src.records import Candidate, Message, Outcome, Placement, Task, Usage, Wait
from src.routing.balancer import ProviderLoadBalancer
from src.routing.breaker import BreakerState
from src.routing.buckets import COLD_S
from src.routing.budgets import BudgetRule, Budgets
from src.routing.reach import Found
from src.settings import AgentRow, TaskTypeRow

from .build import (
    MODELS,
    NAMES,
    START,
    WIDE,
    Desk,
    make_balancer,
    make_settings,
    make_task,
    pause,
    told_limits,
)

PREFERRED = [
    ("code_generation", "openai"),
    ("creative_writing", "anthropic"),
    ("research", "gemini"),
    ("analysis", "anthropic"),
]
USAGE = Usage(100, 0, 0, 50)
DOWN = ServerError("it broke", status=500)
NO_KEY = AuthFailed("no", status=401)


def place(balancer: ProviderLoadBalancer, now: float = START, task: Task | None = None) -> Placement:
    placed = balancer.place(task or make_task(), now)
    assert isinstance(placed, Placement), placed
    return placed


def refused(balancer: ProviderLoadBalancer, now: float = START, task: Task | None = None) -> Wait:
    placed = balancer.place(task or make_task(), now)
    assert isinstance(placed, Wait), placed
    return placed


def why(reasons: tuple[Candidate, ...], name: str) -> str:
    return next(c.why for c in reasons if c.provider == name)


def ok(balancer: ProviderLoadBalancer, placement: Placement, now: float, **fields: Any) -> None:
    fields.setdefault("usage", USAGE)
    fields.setdefault("latency_s", 1.0)
    balancer.settle(placement.permit, Outcome.OK, now, **fields)


def fail(balancer: ProviderLoadBalancer, placement: Placement, error: ProviderError, now: float) -> None:
    outcome = Outcome.FAILED if error.counts_against_health else Outcome.NEUTRAL
    balancer.settle(placement.permit, outcome, now, error=error)


def open_breaker(balancer: ProviderLoadBalancer, name: str, now: float = START) -> None:
    for _ in range(3):
        fail(balancer, place(balancer, now, make_task(providers=(name,))), DOWN, now)
    assert balancer.by_name[name].breaker.state is BreakerState.OPEN


def fill(balancer: ProviderLoadBalancer, name: str, now: float = START) -> list[Placement]:
    """Calls to `name` until no more go there."""
    out = []
    while isinstance(placed := balancer.place(make_task(providers=(name,)), now), Placement):
        out.append(placed)
    return out


# ------------------------------------------------------------------ level one: the preferred provider


@pytest.mark.parametrize(("kind", "name"), PREFERRED)
def test_a_task_type_goes_to_its_preferred_provider(kind: str, name: str) -> None:
    balancer = make_balancer()
    for _ in range(20):
        placement = place(balancer, task=make_task(kind=kind))
        assert (placement.provider, placement.choice) == (name, "preferred")


def test_preferences_can_be_switched_off() -> None:
    balancer = make_balancer(make_settings(limits=told_limits(), routing={"preferences": False}))
    found = Counter(place(balancer, task=make_task(kind="research")).provider for _ in range(20))
    assert set(found) == set(NAMES)


def test_a_preferred_provider_without_weight_is_not_preferred() -> None:
    balancer = make_balancer()
    balancer.set_weights({"gemini": 0.0}, START)
    for _ in range(10):
        placement = place(balancer, task=make_task(kind="research"))
        assert placement.provider != "gemini"
        assert placement.choice == "weighted"


def test_a_task_waits_for_its_preferred_provider_and_spills_after_two_seconds() -> None:
    desk = Desk()
    fill(desk.balancer, "gemini")
    desk.offer(make_task(1, "research"))
    assert desk.go() == []
    assert desk.wake == pytest.approx(START + 2.0)
    assert desk.go(1.9) == []
    placement = desk.one(0.1)
    assert placement.choice == "spilled"
    assert placement.provider in ("anthropic", "openai")
    assert "share" in why(placement.reasons, "gemini")


def test_it_goes_to_its_preferred_provider_when_that_comes_free_before() -> None:
    desk = Desk()
    out = fill(desk.balancer, "gemini")
    desk.offer(make_task(1, "research"))
    assert desk.go() == []
    desk.ok(out[0], seconds=1.0)
    assert desk.one().choice == "preferred"


def paused(balancer: ProviderLoadBalancer) -> None:
    pause(balancer, "gemini")


def opened(balancer: ProviderLoadBalancer) -> None:
    open_breaker(balancer, "gemini")


def misconfigured(balancer: ProviderLoadBalancer) -> None:
    balancer.by_name["gemini"].misconfigured = "the key was refused"


def without_models(balancer: ProviderLoadBalancer) -> None:
    for model in WIDE.providers["gemini"].models.model_dump().values():
        balancer.by_name["gemini"].model(model, balancer.settings, START).out = "gone"


def without_room(balancer: ProviderLoadBalancer) -> None:
    model = balancer.by_name["gemini"].model(MODELS["gemini"], balancer.settings, START)
    model.group.hold(START + 10.0, "429", START)


@pytest.mark.parametrize("trouble", [paused, opened, misconfigured, without_models, without_room])
def test_nobody_waits_for_a_preferred_provider_that_will_not_come_in_time(
    trouble: Callable[[ProviderLoadBalancer], None],
) -> None:
    balancer = make_balancer()
    trouble(balancer)
    placement = place(balancer, task=make_task(kind="research"))
    assert placement.provider != "gemini"
    assert placement.choice == "spilled"


def test_nobody_waits_whose_deadline_is_near() -> None:
    balancer = make_balancer()
    fill(balancer, "gemini")
    refused(balancer, task=make_task(kind="research", deadline_at=START + 30.0))
    assert place(balancer, task=make_task(kind="research", deadline_at=START + 9.0)).choice == "spilled"


def test_a_preferred_provider_that_takes_not_all_parameters_is_not_waited_for() -> None:
    """With strict parameters it is no option at all: nothing will ever change that."""
    settings = make_settings(limits=told_limits(), strict_params=True)
    balancer = make_balancer(settings)
    placement = place(balancer, task=make_task(kind="analysis", temperature=0.5))
    assert placement.provider == "gemini"
    assert "takes no temperature" in why(placement.reasons, "anthropic")


# ------------------------------------------------------------------ level two: by score


def test_untyped_tasks_take_turns_by_score() -> None:
    balancer = make_balancer()
    found = Counter(place(balancer).provider for _ in range(100))
    assert found == {"anthropic": 30, "openai": 40, "gemini": 30}


def test_a_provider_with_weight_0_serves_only_who_asks_for_it() -> None:
    balancer = make_balancer()
    balancer.set_weights({"openai": 0.0}, START)
    found = Counter(place(balancer).provider for _ in range(50))
    assert set(found) == {"anthropic", "gemini"}
    assert why(place(balancer).reasons, "openai") == "weight is 0"
    assert place(balancer, task=make_task(providers=("openai",))).provider == "openai"
    assert place(balancer, task=make_task(models=(MODELS["openai"],))).provider == "openai"


def test_pins_are_kept() -> None:
    balancer = make_balancer()
    for name in NAMES:
        for _ in range(5):
            pinned = place(balancer, task=make_task(kind="research", providers=(name,)))
            assert pinned.provider == name
            by_model = place(balancer, task=make_task(kind="research", models=(MODELS[name],)))
            assert (by_model.provider, by_model.model) == (name, MODELS[name])
    both = Counter(
        place(balancer, task=make_task(providers=("openai", "gemini"))).provider for _ in range(30)
    )
    assert set(both) == {"openai", "gemini"}


def test_of_several_pinned_models_of_one_provider_the_first_that_is_in_serves() -> None:
    balancer = make_balancer()
    task = make_task(models=("gpt-6.1-sol", "gpt-6-luna"))
    assert place(balancer, task=task).model == "gpt-6.1-sol"
    balancer.by_name["openai"].models["gpt-6.1-sol"].out = "gone"
    assert place(balancer, task=task).model == "gpt-6-luna"


def test_a_pin_that_nobody_serves_is_told_so() -> None:
    balancer = make_balancer()
    for task in (make_task(models=("llama-3",)), make_task(providers=("nobody",))):
        wait = refused(balancer, task=task)
        assert wait.until == math.inf
        assert all(candidate.why for candidate in wait.reasons)
        assert {c.provider for c in wait.reasons} == set(NAMES)


@pytest.mark.parametrize(
    ("retired", "successor"),
    [
        ("gpt-4o-mini", "gpt-6-luna"),
        ("gpt-4", "gpt-6.1-terra"),
        ("claude-3-5-sonnet", "claude-sonnet-5-5"),
        ("claude-3-5-haiku-latest", "claude-haiku-5-5"),
        ("gemini-1.5-flash", "gemini-3.5-flash-lite"),
    ],
)
def test_a_retired_model_is_served_by_its_successor_with_a_warning(retired: str, successor: str) -> None:
    placement = place(make_balancer(), task=make_task(models=(retired,)))
    assert placement.model == successor
    assert len(placement.warnings) == 1
    assert retired in placement.warnings[0]
    assert successor in placement.warnings[0]


def test_an_unknown_type_is_served_as_general() -> None:
    balancer = make_balancer()
    found = Counter(place(balancer, task=make_task(kind="poetry slam")).provider for _ in range(100))
    assert found == {"anthropic": 30, "openai": 40, "gemini": 30}


def test_a_type_of_ones_own_is_a_row() -> None:
    row = TaskTypeRow(prefer="openai", tier="premium")
    balancer = make_balancer(make_settings(limits=told_limits(), task_types={"review": row}))
    placement = place(balancer, task=make_task(kind="review"))
    assert (placement.provider, placement.tier, placement.choice) == ("openai", "premium", "preferred")


def test_parameters_that_a_model_does_not_take_are_named() -> None:
    placement = place(make_balancer(), task=make_task(temperature=0.2, providers=("anthropic",)))
    assert placement.warnings == (f"{placement.model} takes no temperature: it was not sent",)


def test_a_prompt_goes_only_where_it_fits() -> None:
    settings = make_settings(
        limits=told_limits(),
        models={"gpt-6": {"context_window": 1_000}, "claude-sonnet-5": {"context_window": 1_000}},
    )
    balancer = make_balancer(settings)
    long = make_task(chars=20_000)
    for _ in range(5):
        assert place(balancer, task=long).provider == "gemini"
    wait = refused(balancer, task=make_task(chars=20_000, providers=("openai",)))
    assert wait.until == math.inf


@pytest.mark.parametrize("weight", [0.5, 4.0])
def test_a_cost_weight_turns_tasks_to_the_cheaper_and_keeps_the_counts_exact(weight: float) -> None:
    settings = make_settings(limits=told_limits(), routing={"cost_weight": weight})
    balancer = make_balancer(settings)
    found = Counter(place(balancer).provider for _ in range(100))
    price = {
        name: balancer.by_name[name].models[MODELS[name]].price.upper_bound_nanos(0, 1, 100)  # type: ignore[union-attr]
        for name in NAMES
    }
    cheapest = min(price, key=lambda name: price[name])
    dearest = max(price, key=lambda name: price[name])
    plain = {"anthropic": 30, "openai": 40, "gemini": 30}
    assert found[cheapest] > plain[cheapest]
    assert found[dearest] < plain[dearest]


# ------------------------------------------------------------------ reasons


def test_every_candidate_has_its_line_in_the_reasons() -> None:
    balancer = make_balancer()
    pause(balancer, "gemini")
    placement = place(balancer)
    assert {c.provider for c in placement.reasons} == set(NAMES)
    for candidate in placement.reasons:
        assert candidate.score > 0
        assert (candidate.why == "paused") == (candidate.provider == "gemini")
        assert candidate.model == MODELS[candidate.provider]
    pinned = place(balancer, task=make_task(providers=("openai",)))
    assert why(pinned.reasons, "anthropic") == "the task is pinned elsewhere"


def test_a_wait_tells_until_when_and_why_for_each() -> None:
    limits = told_limits(requests_per_minute=60)
    balancer = make_balancer(make_settings(limits=limits))
    pause(balancer, "openai")
    place(balancer)
    place(balancer)
    wait = refused(balancer)
    assert wait.until is not None
    assert START + 1.0 <= wait.until <= START + 1.1 + COLD_S
    assert why(wait.reasons, "openai") == "paused"
    assert why(wait.reasons, "anthropic") == "anthropic requests"
    assert isinstance(balancer.place(make_task(), wait.until), Placement)


# ------------------------------------------------------------------ level three: the emergency


def all_open(balancer: ProviderLoadBalancer, now: float = START) -> None:
    for name in NAMES:
        open_breaker(balancer, name, now)
        balancer.by_name[name].breaker.open_until = now + 70.0  # a timer that has doubled


def test_when_nobody_is_expected_one_call_is_forced_on_the_emergency_provider() -> None:
    balancer = make_balancer()
    all_open(balancer)
    placement = place(balancer)
    assert (placement.provider, placement.choice, placement.forced) == ("openai", "forced", True)
    assert all("breaker open" in c.why for c in placement.reasons)


def test_forced_calls_go_one_at_a_time_and_spaced() -> None:
    balancer = make_balancer()
    all_open(balancer)
    first = place(balancer)
    refused(balancer)
    fail(balancer, first, DOWN, START + 1.0)
    spaced_s = WIDE.breaker.recovery_timeout_s
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


def test_a_deadline_before_anybody_comes_back_forces_a_call() -> None:
    balancer = make_balancer()
    for name in NAMES:
        open_breaker(balancer, name)
    refused(balancer)
    assert place(balancer, task=make_task(deadline_at=START + 15.0)).forced


def shut(balancer: ProviderLoadBalancer) -> ProviderLoadBalancer:
    """Every breaker open for longer than anybody waits, whatever the limits."""
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
        provider.backoff_until = START + 500.0
    refused(balancer)


def test_a_forced_call_goes_only_where_the_task_fits_and_may_go() -> None:
    small = make_settings(limits=told_limits(), models={"gpt-6": {"context_window": 1_000}})
    assert place(shut(make_balancer(small)), task=make_task(chars=50_000)).provider == "anthropic"
    assert place(shut(make_balancer()), task=make_task(providers=("gemini",))).provider == "gemini"


def test_a_failed_task_is_not_forced_on_who_has_just_failed_it() -> None:
    desk = Desk()
    shut(desk.balancer)
    desk.offer(make_task(1))
    first = desk.one()
    assert first.provider == "openai"
    desk.fail(first, DOWN, seconds=1.0)
    for provider in desk.balancer.providers:
        provider.breaker.open_until = START + 500.0
    second = desk.one(seconds=WIDE.breaker.recovery_timeout_s)
    assert second.forced
    assert second.attempt == 2


# ------------------------------------------------------------------ shares and silence


def test_no_provider_holds_more_than_its_share_of_all_slots() -> None:
    balancer = make_balancer()
    assert balancer.slots == 7 * 16
    out = fill(balancer, "openai")
    assert len(out) == int(0.6 * balancer.slots)
    assert "share" in why(refused(balancer, task=make_task(providers=("openai",))).reasons, "openai")
    ok(balancer, out[0], START + 1.0)
    assert place(balancer, START + 1.0, make_task(providers=("openai",)))


def test_a_provider_that_is_alone_may_take_all_slots() -> None:
    balancer = make_balancer(configured=["openai"])
    assert len(fill(balancer, "openai")) == balancer.slots
    assert refused(balancer).until is None


def test_a_provider_is_suspect_when_calls_are_out_and_nothing_comes_back() -> None:
    balancer = make_balancer()
    silent = place(balancer, task=make_task(providers=("gemini",)))
    assert place(balancer, START + 5.0, make_task(providers=("gemini",)))
    wait = refused(balancer, START + 5.1, make_task(providers=("gemini",)))
    assert wait.until is None
    assert "suspect" in why(wait.reasons, "gemini")
    assert place(balancer, START + 5.1).provider != "gemini"
    fail(balancer, silent, TimedOut("no answer"), START + 60.0)  # one returned, if only as a failure
    assert place(balancer, START + 60.0, make_task(providers=("gemini",)))


def test_a_suspect_provider_whose_health_call_answers_gets_one_call_to_prove_itself() -> None:
    balancer = make_balancer()
    only = make_task(providers=("gemini",))
    hung = place(balancer, task=only)
    assert not balancer.free_call("gemini", Found.ANSWERS, START + 3.0, START + 4.0)  # not suspect: no news
    assert "suspect" in why(refused(balancer, START + 6.0, only).reasons, "gemini")
    assert balancer.free_call("gemini", Found.ANSWERS, START + 5.9, START + 6.0)
    trial = place(balancer, START + 6.0, only)
    assert trial.choice == "probe"
    refused(balancer, START + 6.0, only)
    assert not balancer.free_call("gemini", Found.ANSWERS, START + 6.9, START + 7.0)  # not another so soon
    ok(balancer, trial, START + 8.0)
    assert place(balancer, START + 8.0, only).choice != "probe"
    assert balancer.in_flight == 2
    fail(balancer, hung, TimedOut("no answer"), START + 120.0)
    assert balancer.by_name["gemini"].breaker.consecutive == 0  # late news of a silence that is over


def test_time_outs_of_a_silence_that_is_over_open_no_breaker_in_whatever_order_they_come() -> None:
    balancer = make_balancer()
    only = make_task(providers=("gemini",))
    hung = [place(balancer, START + number / 10, only) for number in range(6)]
    for placement in hung[:2]:
        fail(balancer, placement, TimedOut("no answer"), START + 20.0)
    ok(balancer, place(balancer, START + 20.1, only), START + 20.5)  # the first answer
    for placement in hung[2:]:
        fail(balancer, placement, TimedOut("no answer"), START + 20.6)
    assert balancer.by_name["gemini"].breaker.state is BreakerState.CLOSED
    for placement in [place(balancer, START + 21.0, only) for _ in range(3)]:
        fail(balancer, placement, TimedOut("no answer"), START + 41.0)
    assert balancer.by_name["gemini"].breaker.state is BreakerState.OPEN


def test_an_idle_provider_is_not_suspect() -> None:
    balancer = make_balancer()
    ok(balancer, place(balancer, task=make_task(providers=("gemini",))), START + 1.0)
    assert place(balancer, START + 600.0, make_task(providers=("gemini",)))
    assert place(balancer, START + 604.0, make_task(providers=("gemini",)))


def test_a_slow_provider_is_given_three_times_its_usual_time() -> None:
    balancer = make_balancer()
    only = make_task(providers=("gemini",))
    for _ in range(20):
        ok(balancer, place(balancer, task=only), START + 4.0, latency_s=4.0)
    place(balancer, START + 10.0, only)
    assert place(balancer, START + 21.0, only)
    refused(balancer, START + 22.1, only)


# ------------------------------------------------------------------ outages


def test_no_choice_of_an_open_breaker() -> None:
    balancer = make_balancer()
    open_breaker(balancer, "openai")
    for _ in range(20):
        placement = place(balancer)
        assert placement.provider != "openai"
        assert why(placement.reasons, "openai") == "breaker open"


PATIENT = make_settings(limits=told_limits(), routing={"suspect_after_s": 1_000.0})


def test_a_probe_goes_alone_and_its_success_lets_calls_in_slowly() -> None:
    balancer = make_balancer(PATIENT)
    open_breaker(balancer, "openai")
    only = make_task(providers=("openai",))
    now = balancer.by_name["openai"].breaker.open_until
    probe = place(balancer, now, only)
    assert probe.choice == "probe"
    assert why(refused(balancer, now, only).reasons, "openai") == "breaker half_open"
    ok(balancer, probe, now + 1.0)
    most = int(0.6 * balancer.slots)
    admitted = [len(fill(balancer, "openai", now + 1.0 + second)) for second in (0.0, 5.0, 10.0)]
    assert admitted[0] == math.ceil(0.1 * most)
    assert sum(admitted[:2]) == math.ceil(0.55 * most)
    assert sum(admitted) == most


def test_a_recovering_provider_tells_when_the_next_call_may_go() -> None:
    balancer = make_balancer()
    open_breaker(balancer, "openai")
    only = make_task(providers=("openai",))
    now = balancer.by_name["openai"].breaker.open_until
    ok(balancer, place(balancer, now, only), now + 1.0)
    fill(balancer, "openai", now + 1.0)
    until = refused(balancer, now + 1.0, only).until
    assert until is not None
    assert now + 1.0 < until < now + 2.0
    assert place(balancer, until, only)


def test_a_recovering_provider_takes_a_share_that_grows() -> None:
    balancer = make_balancer(PATIENT)
    open_breaker(balancer, "gemini")
    now = balancer.by_name["gemini"].breaker.open_until
    ok(balancer, place(balancer, now, make_task(providers=("gemini",))), now)
    early = Counter(place(balancer, now).provider for _ in range(40))
    late = Counter(place(balancer, now + 10.0).provider for _ in range(20))
    assert early["gemini"] <= 3
    assert late["gemini"] >= 3


@pytest.mark.parametrize("again", ["failed", "neutral", "succeeded"])
def test_what_the_probe_decides_is_decided_for_all(again: str) -> None:
    settings = make_settings(limits=told_limits(), routing={"emergency_after_s": 100.0})
    balancer = make_balancer(settings, configured=["openai"])
    open_breaker(balancer, "openai")
    breaker = balancer.by_name["openai"].breaker
    now = breaker.open_until
    probe = place(balancer, now)
    if again == "failed":
        fail(balancer, probe, DOWN, now)
        assert refused(balancer, now).until == breaker.open_until > now + 40
    elif again == "neutral":
        fail(balancer, probe, BadRequest("no", status=400), now)
        assert place(balancer, now).choice == "probe"
    else:
        ok(balancer, probe, now)
        assert place(balancer, now).choice == "weighted"


def test_a_preferred_provider_on_its_ramp_is_one_among_others() -> None:
    balancer = make_balancer()
    open_breaker(balancer, "gemini")
    now = balancer.by_name["gemini"].breaker.open_until
    ok(balancer, place(balancer, now, make_task(providers=("gemini",))), now)
    found = Counter(place(balancer, now, make_task(kind="research")).provider for _ in range(20))
    assert found["gemini"] <= 3


# ------------------------------------------------------------------ offline

REFUSED = Unreachable("connection refused", sent=False)


def go_offline(balancer: ProviderLoadBalancer, now: float = START) -> None:
    out = [place(balancer, now, make_task(providers=(name,))) for name in NAMES]
    for placement in out:
        fail(balancer, placement, REFUSED, now + 0.1)
    assert balancer.offline_since == now


def test_all_unreachable_together_is_offline_and_spends_nothing() -> None:
    balancer = make_balancer()
    for _ in range(2):
        fail(balancer, place(balancer, task=make_task(providers=("openai",))), REFUSED, START)
    go_offline(balancer)
    for name in NAMES:
        assert balancer.by_name[name].breaker.state is BreakerState.CLOSED
        assert balancer.by_name[name].breaker.consecutive == 0
    wait = refused(balancer, START + 1.0)
    assert wait.until is None
    assert [c.why for c in wait.reasons] == ["offline"] * 3
    assert balancer.pool.was_offline(START, START)
    assert "offline" in [event.kind for event in balancer.take_events()]


def test_back_online_all_are_forgiven_and_serve_at_once() -> None:
    balancer = make_balancer()
    hanging = [place(balancer, task=make_task(providers=("openai",))) for _ in range(5)]
    go_offline(balancer)
    balancer.free_call("gemini", Found.ANSWERS, START + 30.0, START + 30.0)
    assert balancer.offline_since is None
    for placement in hanging:  # they left before anybody knew: not the provider's failures
        fail(balancer, placement, REFUSED, START + 31.0)
    found = Counter(place(balancer, START + 31.0).provider for _ in range(30))
    assert set(found) == set(NAMES)
    assert balancer.pool.was_offline(START + 15.0, START + 15.0)
    assert not balancer.pool.was_offline(START + 31.0, START + 31.0)


def test_an_answer_of_any_kind_ends_being_offline() -> None:
    balancer = make_balancer()
    slow = place(balancer, task=make_task(providers=("anthropic",)))
    go_offline(balancer)
    fail(balancer, slow, BadRequest("no", status=400), START + 5.0)
    assert balancer.offline_since is None


def test_an_answer_to_a_call_from_before_does_not_end_being_offline() -> None:
    """The calls that were out when the network went may still come back; no new one gets through."""
    balancer = make_balancer()
    before = place(balancer, task=make_task(providers=("anthropic",)))
    go_offline(balancer, START + 1.0)
    ok(balancer, before, START + 2.0)
    assert balancer.offline_since == START + 1.0
    assert balancer.by_name["anthropic"].succeeded == 1
    balancer.free_call("anthropic", Found.ANSWERS, START + 6.0, START + 6.0)
    assert balancer.offline_since is None


def test_two_of_three_unreachable_is_an_outage_of_two() -> None:
    balancer = make_balancer()
    ok(balancer, place(balancer, task=make_task(providers=("gemini",))), START)
    for name in ("anthropic", "openai"):
        for _ in range(3):
            fail(balancer, place(balancer, task=make_task(providers=(name,))), REFUSED, START)
        assert balancer.by_name[name].breaker.state is BreakerState.OPEN
    assert balancer.offline_since is None
    assert place(balancer, START).provider == "gemini"


def test_a_paused_or_misconfigured_provider_has_no_say_in_being_offline() -> None:
    balancer = make_balancer()
    pause(balancer, "gemini")
    balancer.by_name["anthropic"].misconfigured = "the key was refused"
    fail(balancer, place(balancer), REFUSED, START)
    assert balancer.offline_since == START


def test_after_a_clock_jump_calls_that_were_out_say_nothing_about_anybody() -> None:
    balancer = make_balancer()
    out = [place(balancer, task=make_task(providers=("openai",))) for _ in range(4)]
    balancer.jumped(3600.0, START + 3600.0)
    for placement in out:
        fail(balancer, placement, TimedOut("no answer"), START + 3601.0)
    openai = balancer.by_name["openai"]
    assert openai.breaker.state is BreakerState.CLOSED
    assert openai.history.failures == 0
    assert balancer.pool.was_offline(START + 1800.0, START + 1800.0)


# ------------------------------------------------------------------ keys, quotas, overload, models


def test_a_key_that_never_worked_is_misconfigured_and_out_until_somebody_steps_in() -> None:
    balancer = make_balancer()
    fail(balancer, place(balancer, task=make_task(providers=("openai",))), NO_KEY, START)
    wait = refused(balancer, START + 9_999.0, make_task(providers=("openai",)))
    assert wait.until == math.inf
    assert "key was refused" in why(wait.reasons, "openai")
    assert balancer.by_name["openai"].breaker.state is BreakerState.CLOSED
    balancer.resume("openai", START + 9_999.0)
    assert place(balancer, START + 9_999.0, make_task(providers=("openai",)))


def test_a_key_that_worked_fails_like_anything_else() -> None:
    balancer = make_balancer()
    only = make_task(providers=("openai",))
    ok(balancer, place(balancer, task=only), START)
    for _ in range(3):
        fail(balancer, place(balancer, task=only), NO_KEY, START)
    assert balancer.by_name["openai"].breaker.state is BreakerState.OPEN
    assert not balancer.by_name["openai"].misconfigured


def test_with_all_keys_refused_tasks_wait_for_somebody() -> None:
    balancer = make_balancer()
    for name in NAMES:
        fail(balancer, place(balancer, task=make_task(providers=(name,))), NO_KEY, START)
    assert balancer.pool.all_misconfigured
    assert refused(balancer).until is None


def test_a_spent_quota_with_a_known_reset_holds_its_models_until_then() -> None:
    balancer = make_balancer()
    only = make_task(providers=("gemini",))
    spent = QuotaExhausted("daily quota", status=429, resets_at=START + 3_000.0)
    fail(balancer, place(balancer, task=only), spent, START)
    wait = refused(balancer, START + 1.0, only)
    assert wait.until is not None
    assert wait.until == pytest.approx(START + 3_000.0, abs=0.1)
    assert place(balancer, wait.until, only)
    assert balancer.by_name["gemini"].breaker.state is BreakerState.CLOSED


def test_a_spent_quota_without_a_reset_is_tried_by_one_task_every_quarter_of_an_hour() -> None:
    balancer = make_balancer()
    only = make_task(providers=("openai",))
    spent = QuotaExhausted("insufficient_quota", status=429, code="insufficient_quota")
    fail(balancer, place(balancer, task=only), spent, START)
    assert refused(balancer, START + 1.0, only).until == START + 900.0
    probe = place(balancer, START + 900.0, only)
    refused(balancer, START + 900.0, only)
    fail(balancer, probe, spent, START + 901.0)
    refused(balancer, START + 1_700.0, only)
    probe = place(balancer, START + 1_802.0, only)
    ok(balancer, probe, START + 1_803.0)
    assert len([place(balancer, START + 1_803.0, only) for _ in range(5)]) == 5


def test_a_spent_quota_is_told_once_with_its_time_and_counts_as_spent_until_a_call_succeeds() -> None:
    balancer = make_balancer()
    only = make_task(providers=("openai",))
    spent = QuotaExhausted("insufficient_quota", status=429, code="insufficient_quota")
    before = place(balancer, task=only)
    fail(balancer, place(balancer, task=only), spent, START)
    ok(balancer, before, START + 0.5)  # it was let in before
    balancer.note_states(START + 901.0)  # nobody has tried yet
    probe = place(balancer, START + 902.0, only)
    fail(balancer, probe, spent, START + 903.0)
    (told,) = balancer.take_events()
    assert (told.kind, told.level, told.fields) == ("provider_exhausted", "alert", {"until": START + 900.0})
    ok(balancer, place(balancer, START + 1_903.0, only), START + 1_904.0)
    assert [event.kind for event in balancer.take_events()] == ["provider_healthy"]


def test_a_try_of_a_spent_quota_that_ends_otherwise_is_not_repeated_at_once() -> None:
    balancer = make_balancer()
    only = make_task(providers=("openai",))
    spent = QuotaExhausted("insufficient_quota", status=429, code="insufficient_quota")
    fail(balancer, place(balancer, task=only), spent, START)
    fail(balancer, place(balancer, START + 900.0, only), DOWN, START + 901.0)
    assert refused(balancer, START + 902.0, only).until == START + 1_800.0


def test_resume_lifts_a_spent_quota() -> None:
    balancer = make_balancer(make_settings(limits={**told_limits(), "gemini": {"requests_per_minute": 600}}))
    only = make_task(providers=("gemini",))
    spent = QuotaExhausted("daily quota", status=429, resets_at=START + 30_000.0)
    fail(balancer, place(balancer, task=only), spent, START)
    balancer.resume("gemini", START + 10.0)
    assert place(balancer, START + 10.2, only)


def test_an_overloaded_provider_is_left_alone_for_a_while() -> None:
    balancer = make_balancer()
    only = make_task(providers=("anthropic",))
    pauses = []
    now = START
    for _ in range(2):
        fail(balancer, place(balancer, now, only), Overloaded("busy", status=529), now)
        until = refused(balancer, now, only).until
        assert until is not None
        pauses.append(until - now)
        now = until
    assert 0.8 <= pauses[0] <= 1.2
    assert 1.6 <= pauses[1] <= 2.4
    ok(balancer, place(balancer, now, only), now)
    fail(balancer, place(balancer, now, only), Overloaded("busy", status=529, retry_after_s=30.0), now)
    until = refused(balancer, now, only).until
    assert until is not None
    assert 24.0 <= until - now <= 36.0


def test_an_overloaded_provider_whose_breaker_opens_waits_for_both() -> None:
    balancer = make_balancer()
    only = make_task(providers=("anthropic",))
    out = [place(balancer, task=only) for _ in range(3)]
    for placement in out:
        fail(balancer, placement, Overloaded("busy", status=529, retry_after_s=200.0), START)
    anthropic = balancer.by_name["anthropic"]
    assert anthropic.breaker.state is BreakerState.OPEN
    assert anthropic.breaker.open_until < anthropic.backoff_until
    assert refused(balancer, task=only).until == anthropic.backoff_until


def test_a_model_that_is_not_there_is_replaced_by_another_of_the_provider() -> None:
    balancer = make_balancer()
    only = make_task(providers=("openai",))
    gone = ModelUnavailable("no such model", status=404)
    for model in ("gpt-6.1-terra", "gpt-6-luna", "gpt-6.1-sol"):
        placement = place(balancer, task=only)
        assert placement.model == model
        fail(balancer, placement, gone, START)
    assert refused(balancer, task=only).until == math.inf
    assert place(balancer).provider != "openai"
    assert [e.kind for e in balancer.take_events()].count("model_unavailable") == 3


def test_a_configured_model_that_has_retired_is_replaced_too() -> None:
    """The configuration names a retired model: what is out is its successor."""
    old = WIDE.providers["openai"].models.model_copy(update={"standard": "gpt-4"})
    balancer = make_balancer(make_settings(limits=told_limits(), providers={"openai": {"models": old}}))
    only = make_task(providers=("openai",))
    first = place(balancer, task=only)
    assert first.model == "gpt-6.1-terra"
    fail(balancer, first, ModelUnavailable("no such model", status=404), START)
    assert place(balancer, task=only).model == "gpt-6-luna"


def test_a_deadline_too_short_for_an_answer_is_not_held_against_the_provider() -> None:
    balancer = make_balancer()
    only = make_task(providers=("anthropic",))
    for _ in range(20):
        ok(balancer, place(balancer, task=only), START + 4.0, latency_s=4.0)
    for _ in range(10):
        hasty = place(balancer, START + 5.0, make_task(providers=("anthropic",), deadline_at=START + 6.0))
        assert hasty.timeout_s == pytest.approx(1.0)
        balancer.settle(
            hasty.permit, Outcome.UNCERTAIN, START + 6.0, latency_s=1.0, error=TimedOut("no answer")
        )
    anthropic = balancer.by_name["anthropic"]
    assert anthropic.breaker.state is BreakerState.CLOSED
    assert anthropic.history.failures == 0
    for _ in range(3):  # longer than any usual answer: that is silence
        slow = place(balancer, START + 6.0, make_task(providers=("anthropic",), deadline_at=START + 15.0))
        balancer.settle(
            slow.permit, Outcome.UNCERTAIN, START + 15.0, latency_s=9.0, error=TimedOut("no answer")
        )
    assert anthropic.breaker.state is BreakerState.OPEN


# ------------------------------------------------------------------ agents


@pytest.mark.parametrize(
    ("kind", "name", "agents"),
    [
        pytest.param("analysis", "anthropic", {"claude-analyst"}, id="home-and-speciality"),
        pytest.param("code_generation", "openai", {"gpt-engineer", "gpt-reviewer"}, id="two-of-them"),
        pytest.param("creative_writing", "gemini", {"claude-writer"}, id="speciality-away-from-home"),
        pytest.param("general", "anthropic", {"gpt-generalist", "gemini-scout"}, id="general"),
        pytest.param("research", "gemini", {"gemini-researcher", "gemini-scout"}, id="research"),
    ],
)
def test_the_agent_is_one_of_the_speciality_at_home_where_there_is_one(
    kind: str, name: str, agents: set[str]
) -> None:
    balancer = make_balancer()
    found = {place(balancer, task=make_task(kind=kind, providers=(name,))).agent for _ in range(16)}
    assert found == agents


def test_when_the_speciality_is_busy_any_agent_serves() -> None:
    balancer = make_balancer()
    found = Counter(
        place(balancer, task=make_task(kind="creative_writing", providers=("anthropic",))).agent
        for _ in range(40)
    )
    assert found["claude-writer"] == 16
    assert sum(found.values()) == 40
    assert max(found.values()) == 16


def test_seven_agents_two_of_claude_three_of_gpt_two_of_gemini() -> None:
    homes = Counter(agent.home for agent in make_balancer().agents.values())
    assert homes == {"anthropic": 2, "openai": 3, "gemini": 2}


def test_without_a_free_slot_a_task_waits_for_a_settle() -> None:
    agents = [AgentRow(name="only", home="openai", calls_in_flight=2)]
    balancer = make_balancer(make_settings(limits=told_limits(), agents=agents))
    first, _ = place(balancer), place(balancer)
    assert refused(balancer).until is None
    ok(balancer, first, START)
    assert place(balancer)


# ------------------------------------------------------------------ permits


def test_a_permit_is_settled_exactly_once() -> None:
    balancer = make_balancer()
    placement = place(balancer)
    ok(balancer, placement, START + 1.0)
    before = seen(balancer)
    for number in (placement.permit, 0, 99):
        with pytest.raises(PermitError):
            balancer.settle(number, Outcome.FAILED, START + 2.0, error=DOWN)
        assert seen(balancer) == before


def seen(balancer: ProviderLoadBalancer) -> tuple[object, ...]:
    """All that a settle changes."""
    return (
        balancer.in_flight,
        balancer.pool.free_slots,
        balancer.offline_since,
        [(a.in_flight, a.done) for a in balancer.agents.values()],
        [
            (
                p.in_flight, p.heard_at, p.calls, p.succeeded, p.failed, p.neutral, p.score, p.misconfigured,
                p.history.calls, p.breaker.state, p.breaker.consecutive, p.cost_nanos, p.backoff_until,
                p.exhausted_until, p.unreachable_since, tuple(p.last_errors),
                [(b.level, b.at, b.spent) for g in p.groups.values() for b in g.buckets.values()],
            )
            for p in balancer.providers
        ],
    )  # fmt: skip


def test_a_refusal_changes_nothing() -> None:
    limits = told_limits(requests_per_minute=60)
    balancer = make_balancer(make_settings(limits=limits))
    for _ in range(3):
        place(balancer)
    balancer.by_name["openai"].breaker.tick(START)
    before = seen(balancer)
    for _ in range(3):
        refused(balancer)
    assert seen(balancer) == before


class AnyOrder(RuleBasedStateMachine):
    """Calls are placed and end in any order and way, while providers are paused, fail and come back."""

    @initialize(seed=st.integers(0, 1000), limited=st.booleans())
    def begin(self, seed: int, limited: bool) -> None:
        limits = {
            "anthropic": {"requests_per_minute": 300, "output_tokens_per_minute": 20_000},
            "openai": {"requests_per_minute": 300, "tokens_per_minute": 30_000},
            "gemini": {"requests_per_minute": 300, "requests_per_day": 50},
        }
        agents = [AgentRow(name=f"a{n}", home=NAMES[n], calls_in_flight=3) for n in range(3)]
        settings = make_settings(limits=limits if limited else None, agents=agents)
        self.balancer = make_balancer(settings, seed=seed)
        self.rng = random.Random(seed)
        self.now = START
        self.out: list[Placement] = []
        self.settled: list[int] = []

    @rule(seconds=st.one_of(st.floats(0.0, 3.0), st.floats(0.0, 100.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        kind=st.sampled_from(["general", "research", "analysis"]),
        pinned=st.sampled_from([(), (), ("openai",), ("gemini",)]),
        max_tokens=st.sampled_from([10, 1_000, 8_000]),
        deadline_s=st.sampled_from([None, None, 5.0, 100.0]),
    )
    def a_task_asks(
        self, kind: str, pinned: tuple[str, ...], max_tokens: int, deadline_s: float | None
    ) -> None:
        deadline_at = None if deadline_s is None else self.now + deadline_s
        task = make_task(kind=kind, providers=pinned, max_tokens=max_tokens, deadline_at=deadline_at)
        placed = self.balancer.place(task, self.now)
        assert {c.provider for c in placed.reasons} == set(NAMES) or not self.balancer.pool.free_slots
        if isinstance(placed, Wait):
            assert placed.until is None or placed.until > self.now
            return
        chosen = self.balancer.by_name[placed.provider]
        assert not chosen.paused
        assert not chosen.misconfigured
        assert self.balancer.offline_since is None
        assert (chosen.breaker.state is not BreakerState.OPEN) or placed.forced
        assert not pinned or placed.provider in pinned
        if not placed.forced:
            assert why(placed.reasons, placed.provider) == ""
        self.out.append(placed)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), outcome=st.sampled_from([*Outcome, Outcome.FAILED, Outcome.OK]))
    def a_call_ends(self, data: st.DataObject, outcome: Outcome) -> None:
        placement = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        error: ProviderError | None = None
        if outcome is Outcome.FAILED:
            error = self.rng.choice([DOWN, REFUSED, Overloaded("busy", status=529), TimedOut("silent")])
        elif outcome is Outcome.NEUTRAL:
            error = self.rng.choice(
                [RateLimited("slow", status=429), BadRequest("no", status=400), AuthFailed("no", status=401)]
            )
        elif outcome is Outcome.UNCERTAIN:
            error = self.rng.choice([None, InvalidResponse("cut off", status=200)])
        usage = USAGE if outcome is Outcome.OK else None
        self.balancer.settle(placement.permit, outcome, self.now, latency_s=0.5, usage=usage, error=error)
        self.settled.append(placement.permit)

    @precondition(lambda self: self.settled)
    @rule()
    def a_call_ends_twice(self) -> None:
        before = seen(self.balancer)
        with pytest.raises(PermitError):
            self.balancer.settle(self.settled[-1], Outcome.OK, self.now)
        assert seen(self.balancer) == before

    @rule(name=st.sampled_from(NAMES), paused=st.booleans())
    def somebody_steers(self, name: str, paused: bool) -> None:
        if paused:
            pause(self.balancer, name)
        else:
            self.balancer.resume(name, self.now)

    @rule(name=st.sampled_from(NAMES), found=st.sampled_from(Found), took_s=st.floats(0.0, 3.0))
    def a_free_call_ends(self, name: str, found: Found, took_s: float) -> None:
        self.balancer.free_call(name, found, self.now - took_s, self.now)
        assert self.balancer.ask_at(name, self.now - took_s, self.now) >= self.now - took_s

    @rule()
    def lost_calls_are_given_up(self) -> None:
        lost = self.balancer.take_lost(self.now)
        assert set(lost) <= {p.permit for p in self.out}
        assert len(set(lost)) == len(lost)
        assert not set(lost) & set(self.balancer.take_lost(self.now))
        for permit in lost:
            self.balancer.settle(permit, Outcome.UNCERTAIN, self.now, error=TimedOut("given up"))
        self.out = [p for p in self.out if p.permit not in lost]

    @invariant()
    def the_books_balance(self) -> None:
        balancer = self.balancer
        assert balancer.in_flight == len(self.out)
        assert balancer.pool.free_slots == balancer.slots - len(self.out) >= 0
        assert sum(p.in_flight for p in balancer.providers) == len(self.out)
        assert sum(a.in_flight for a in balancer.agents.values()) == len(self.out)
        for provider in balancer.providers:
            assert 0 <= provider.in_flight <= balancer.pool.most_in_flight
            assert provider.calls == provider.succeeded + provider.failed + provider.neutral
            for group in provider.groups.values():
                assert group.scouting in (0, 1)
                for bucket in group.buckets.values():
                    assert bucket.level <= bucket.capacity + 1e-6
        for agent in balancer.agents.values():
            assert 0 <= agent.in_flight <= agent.slots
        assert sum(p.forced for p in self.out) <= 1

    def teardown(self) -> None:
        """When all is settled and enough time has passed, a task is served again."""
        if not hasattr(self, "balancer"):
            return
        for placement in self.out:
            self.balancer.settle(placement.permit, Outcome.UNCERTAIN, self.now)
        for name in NAMES:
            self.balancer.free_call(name, Found.ANSWERS, self.now, self.now)
            self.balancer.resume(name, self.now)
        assert isinstance(self.balancer.place(make_task(), self.now + 1_000.0), Placement)


TestAnyOrderOfCalls = AnyOrder.TestCase


# ------------------------------------------------------------------ the snapshot


def test_a_snapshot_tells_each_providers_state_and_share() -> None:
    balancer = make_balancer(configured=["openai", "gemini"])
    pause(balancer, "gemini")
    out = place(balancer)
    shown = {p.name: p for p in balancer.snapshot(START).providers}
    assert (shown["openai"].state, shown["openai"].in_flight, shown["openai"].share) == ("healthy", 1, 1.0)
    assert (shown["gemini"].state, shown["gemini"].share) == ("paused", 0.0)
    assert shown["anthropic"].state == "not_configured"
    ok(balancer, out, START + 1.0)
    openai = next(p for p in balancer.snapshot(START + 1.0).providers if p.name == "openai")
    assert (openai.calls, openai.succeeded, openai.prompt_tokens, openai.output_tokens) == (1, 1, 100, 50)


def test_the_first_message_of_a_task_may_be_long_and_not_ascii() -> None:
    task = Task("1", "queue", (Message("user", "ä" * 100),))
    assert (task.prompt_chars, task.prompt_bytes) == (100, 200)
    assert place(make_balancer(), task=task)
