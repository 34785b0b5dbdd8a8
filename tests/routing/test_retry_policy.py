"""What a failure does to its task: row by row of the table, then backoff and attempts."""

from __future__ import annotations

import math

import pytest

from src.errors import (
    PROVIDER_ERRORS,
    BadRequest,
    InvalidResponse,
    Overloaded,
    PermitError,
    ProviderError,
    RateLimited,
    RequestTooLarge,
    Unreachable,
)
from src.records import FinishReason, Outcome, Placement, TaskStatus
from src.routing.connectivity import HealthCheckResult
from src.routing.limits.token_bucket import COLD_S, MARGIN_S
from src.routing.outcomes import outcome_of
from src.routing.retry_policy import RULES, Failure, RetryPolicy, backoff_s
from src.routing.retry_state import RetryState
from src.settings import LimitSettings

from .build import (
    DOWN,
    MODELS,
    NAMES,
    ONE_SLOT,
    START,
    WIDE,
    Desk,
    answer,
    error_of,
    health_check,
    make_settings,
    make_task,
    mismatch,
    one_by_one,
    pause,
    told_limits,
)

# ------------------------------------------------------------------ failures, row by row


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
    "BadRequest", "SchemaMismatch", "UnusableAnswer",
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
        ("FlexUnavailable", Outcome.NEUTRAL),
        ("ServerError", Outcome.FAILED),
        ("TimedOut", Outcome.UNCERTAIN),
        ("Unreachable", Outcome.FAILED),
        ("InvalidResponse", Outcome.UNCERTAIN),
        ("UnusableAnswer", Outcome.NEUTRAL),
        ("SchemaMismatch", Outcome.NEUTRAL),
        ("AuthFailed", Outcome.NEUTRAL),
        ("ModelUnavailable", Outcome.NEUTRAL),
        ("ContextTooLong", Outcome.NEUTRAL),
        ("RequestTooLarge", Outcome.NEUTRAL),
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
     "UnusableAnswer", "AuthFailed", "ContextTooLong", "RequestTooLarge", "BadRequest"],
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
    answer, correction = again.task.messages[-2:]
    assert (answer.role, answer.content) == ("assistant", '{"a": 1}')
    assert correction.role == "user"
    assert "- $.a: too small" in correction.content
    assert again.reserved_nanos > first.reserved_nanos
    desk.ok(again)
    result = desk.results[-1]
    assert result.status is TaskStatus.SUCCEEDED
    assert result.task.messages == first.task.messages


def test_after_a_second_wrong_answer_another_provider_starts_anew_and_the_fourth_ends_it() -> None:
    desk, first = fail_first("SchemaMismatch")
    placed = []
    while not desk.results[1:]:
        placement = desk.one()
        placed.append((placement.provider, len(placement.task.messages)))
        desk.fail(placement, mismatch())
    other = placed[1][0]
    assert other != "openai"
    assert placed == [("openai", 3), (other, 1), (other, 3)]
    result = desk.results[-1]
    assert result.status is TaskStatus.FAILED
    assert len(result.attempts) == 4
    assert first.task.messages == result.task.messages


def test_a_provider_that_fails_otherwise_during_a_repair_is_left_for_a_fresh_start() -> None:
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


def test_a_provider_that_fails_in_a_row_gets_no_second_call_at_once_from_one_task() -> None:
    desk = Desk()
    for number in range(2):
        desk.offer(make_task(number, providers=("openai",)))
    first, second = desk.go()
    desk.fail(first, Overloaded("busy", status=529))
    desk.provider("openai").backoff.until = 0.0
    desk.dispatch.withdraw("queue", "0")
    desk.fail(second, DOWN)
    assert desk.provider("openai").breaker.consecutive == 2
    assert desk.go() == []  # not again at once, although it has room
    assert desk.wake == pytest.approx(START + 1.0)


def test_a_429_holds_the_group_and_the_task_goes_elsewhere_at_no_cost() -> None:
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
    health_check(desk.balancer, "openai", HealthCheckResult.ANSWERS, desk.now, ["another-model"])
    second = desk.one()
    assert (second.provider, second.attempt) == ("openai", 2)
    assert second.model != first.model


def test_a_model_that_is_not_there_is_replaced_for_the_tasks_that_wait_as_well() -> None:
    desk = Desk(ONE_SLOT, configured=["openai"])
    desk.offer(*[make_task(n, tier="standard") for n in range(5)])
    first = desk.one()
    desk.fail(first, error_of("ModelUnavailable"))
    health_check(desk.balancer, "openai", HealthCheckResult.ANSWERS, desk.now, ["another-model"])
    models = [placement.model for placement in one_by_one(desk)]
    assert len(models) == 5
    assert first.model not in models
    assert {r.status for r in desk.results} == {TaskStatus.SUCCEEDED}


def test_a_model_that_takes_over_has_its_own_max_tokens() -> None:
    """Tasks that wait for the limits of an unavailable model are evaluated again: the other has its own."""
    settings = make_settings(providers={"openai": {"model_limits": MINUTE_BY_MINUTE}})
    desk = Desk(settings, configured=["openai"])
    desk.offer(*[make_task(n, tier="standard") for n in range(3)])
    first = desk.one()
    assert desk.wake == pytest.approx(START + 60.0 + MARGIN_S + COLD_S)
    desk.fail(first, error_of("ModelUnavailable"))
    health_check(desk.balancer, "openai", HealthCheckResult.ANSWERS, desk.now, ["another-model"])
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


def test_a_request_too_large_fails_by_itself_with_both_numbers_and_holds_no_other_task() -> None:
    desk = Desk(configured=["openai"])
    desk.offer(*[make_task(number, tier="standard") for number in range(3)])
    large, *others = desk.go()
    text = "the request is too large for its limit (9,000 tokens, limit 6,000): answered 413"
    desk.fail(large, RequestTooLarge(text, status=413))
    assert desk.provider("openai").models[large.model].group.held_until == 0.0
    assert desk.provider("openai").breaker.consecutive == 0
    assert desk.go() == []
    result = desk.results[-1]
    assert (result.status, len(result.attempts)) == (TaskStatus.FAILED, 1)
    assert "9,000 tokens, limit 6,000" in result.error
    for placement in others:
        desk.ok(placement)
    assert [r.status for r in desk.results[1:]] == [TaskStatus.SUCCEEDED] * 2


def test_the_same_model_of_another_provider_may_have_a_larger_limit() -> None:
    settings = make_settings(
        limits=told_limits(),
        providers={"gemini": {"api_format": "openai", "models": WIDE.providers["openai"].models}},
    )
    desk = Desk(settings, configured=["openai", "gemini"])
    desk.offer(make_task(1, "code_generation", models=(MODELS["openai"],)))
    first = desk.one()
    desk.fail(first, error_of("RequestTooLarge"))
    second = desk.one()
    assert (second.model, second.provider) == (first.model, "gemini")


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


def test_an_answer_without_text_gets_a_larger_max_tokens_once_and_then_fails() -> None:
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


def test_a_second_settle_of_a_call_is_an_error_and_adds_no_result() -> None:
    desk = Desk()
    desk.offer(make_task(1))
    placement = desk.one()
    desk.ok(placement)
    before = len(desk.results)
    with pytest.raises(PermitError, match="not in use"):
        desk.ok(placement)
    assert len(desk.results) == before


# ------------------------------------------------------------------ backoff and attempts


def test_backoff_doubles_to_a_minute() -> None:
    waits = [backoff_s(failures, WIDE.pool) for failures in range(1, 10)]
    assert waits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff_s(10_000, WIDE.pool) == 60


def test_when_all_providers_have_failed_a_task_exclusion_sorts_last_and_never_forbids() -> None:
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
    assert [at for at, _ in tried[3:]] == [2.0, 6.0, 14.0]  # then 2, 4, 8 s of waiting
    assert desk.results[-1].status is TaskStatus.FAILED
    assert desk.results[-1].error.startswith("6 attempts failed: ")


def test_a_provider_that_has_failed_a_task_comes_last_even_after_the_backoff() -> None:
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
    return {c.provider for c in placement.reasons if not c.kind}


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
    correction = desk.results[-1].error
    places = [correction.index(f"empty {number}") for number in range(6)]
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


def test_the_final_error_counts_the_attempts_that_the_settings_allow() -> None:
    """More may have failed by then: those that may have been the provider's own count later, all at once."""
    desk = Desk(make_settings(pool={"max_attempts": 3}))
    desk.offer(make_task(1))
    attempt = desk.fail(desk.one(), DOWN).attempt
    policy, provider = RetryPolicy(desk.settings), desk.provider("openai")
    for costed, counted in (
        (3, "3 attempts failed: "),
        (4, "3 attempts failed, and 1 more that counted only later: "),
    ):
        failure = Failure(DOWN, provider, [attempt] * costed, costed)
        end = policy.decide(failure, RetryState(START), START)
        assert end is not None and end[0] is TaskStatus.FAILED and end[1].startswith(counted), end
