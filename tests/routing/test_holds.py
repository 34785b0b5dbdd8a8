"""What makes a provider or model unavailable: rejected keys, spent quotas, overload, missing models."""

from __future__ import annotations

import math

import pytest

from src.errors import (
    AuthFailed,
    ModelUnavailable,
    Overloaded,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    TimedOut,
)
from src.records import Outcome, RefusalKind
from src.routing.balancer import ProviderLoadBalancer
from src.routing.connectivity import HealthCheckResult
from src.routing.health.circuit_breaker import BreakerState
from src.routing.outcomes import CallEnd

from .build import (
    DOWN,
    NAMES,
    START,
    WIDE,
    fail,
    health_check,
    make_balancer,
    make_settings,
    make_task,
    ok,
    place,
    refused,
    told_limits,
    why,
)

NO_KEY = AuthFailed("no", status=401)


def test_a_key_that_never_worked_is_misconfigured_until_a_person_resumes_it() -> None:
    balancer = make_balancer()
    fail(balancer, place(balancer, task=make_task(providers=("openai",))), NO_KEY, START)
    assert health_check(balancer, "openai", HealthCheckResult.KEY_REFUSED)
    wait = refused(balancer, START + 9_999.0, make_task(providers=("openai",)))
    assert wait.until == math.inf
    assert why(wait.reasons, "openai") == RefusalKind.KEY_REJECTED
    assert wait.reasons[0].detail == "openai rejected OPENAI_API_KEY (401): no"
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
    assert not balancer.by_name["openai"].key.rejection


def test_with_all_keys_rejected_tasks_wait_for_a_person() -> None:
    balancer = make_balancer()
    for name in NAMES:
        fail(balancer, place(balancer, task=make_task(providers=(name,))), NO_KEY, START)
        health_check(balancer, name, HealthCheckResult.KEY_REFUSED)
    assert balancer.registry.all_misconfigured
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


def test_a_spent_quota_is_reported_once_with_its_end_and_counts_as_spent_until_a_call_succeeds() -> None:
    balancer = make_balancer()
    only = make_task(providers=("openai",))
    spent = QuotaExhausted("insufficient_quota", status=429, code="insufficient_quota")
    before = place(balancer, task=only)
    fail(balancer, place(balancer, task=only), spent, START)
    ok(balancer, before, START + 0.5)  # it was let in before
    balancer.note_states(START + 901.0)  # no call has tried it yet
    probe = place(balancer, START + 902.0, only)
    fail(balancer, probe, spent, START + 903.0)
    (reported,) = balancer.take_events()
    assert (reported.kind, reported.level, reported.fields) == (
        "provider_exhausted",
        "alert",
        {"until": START + 900.0},
    )
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


SPENT_FOR_12_S = QuotaExhausted(
    "daily quota", status=429, code="PerDay", resets_at=START + 84_000.0, retry_after_s=12.0
)


def test_a_daily_quota_that_names_a_time_before_its_reset_is_tried_by_one_call_then() -> None:
    balancer = make_balancer(make_settings(limits={**told_limits(), "gemini": {"requests_per_minute": 600}}))
    only = make_task(providers=("gemini",))
    first, second = place(balancer, task=only), place(balancer, task=only)
    fail(balancer, first, SPENT_FOR_12_S, START)
    fail(balancer, second, SPENT_FOR_12_S, START)
    (reported,) = balancer.take_events()
    assert (reported.kind, reported.fields) == ("quota_exhausted", {"until": START + 84_000.0})
    assert refused(balancer, START + 1.0, only).until == START + 12.0
    probe = place(balancer, START + 12.0, only)
    assert refused(balancer, START + 12.0, only).until is None, "one call at a time"
    ok(balancer, probe, START + 13.0)
    assert len([place(balancer, START + 15.0, only) for _ in range(5)]) == 5
    assert "recovered" in balancer.take_events()[-1].message


def test_a_quota_that_is_really_spent_is_tried_seldom_and_reported_once() -> None:
    balancer = make_balancer()
    only = make_task(providers=("gemini",))
    fail(balancer, place(balancer, task=only), SPENT_FOR_12_S, START)
    fail(balancer, place(balancer, START + 12.0, only), SPENT_FOR_12_S, START + 13.0)
    assert refused(balancer, START + 14.0, only).until == START + 13.0 + 900.0
    fail(balancer, place(balancer, START + 913.0, only), DOWN, START + 914.0)
    assert refused(balancer, START + 915.0, only).until == START + 914.0 + 60.0
    assert [event.kind for event in balancer.take_events()] == ["quota_exhausted"]


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
    assert 0.64 <= pauses[0] <= 0.96
    assert 1.28 <= pauses[1] <= 1.92
    ok(balancer, place(balancer, now, only), now)
    fail(balancer, place(balancer, now, only), Overloaded("busy", status=529, retry_after_s=30.0), now)
    until = refused(balancer, now, only).until
    assert until is not None
    assert 24.0 <= until - now <= 36.0


def hold_s(balancer: ProviderLoadBalancer, now: float = START) -> float:
    return max(0.0, balancer.by_name["anthropic"].backoff.until - now)


ONLY = make_task(providers=("anthropic",))
BUSY = Overloaded("busy", status=529)


def test_a_burst_of_overloads_is_one_and_after_it_one_call_goes_first() -> None:
    balancer = make_balancer(make_settings(limits=told_limits(), breaker={"consecutive_failures": 99}))
    burst = [place(balancer, task=ONLY) for _ in range(8)]
    for number, placement in enumerate(burst):
        fail(balancer, placement, BUSY, START + 0.01 * number)
    assert balancer.by_name["anthropic"].backoff.count == 1
    assert hold_s(balancer) <= 1.2
    now = START + 1.3
    first = place(balancer, now, ONLY)
    assert why(refused(balancer, now, ONLY).reasons, "anthropic") == RefusalKind.OVERLOAD_TRIAL
    fail(balancer, first, BUSY, now)
    assert 1.28 <= hold_s(balancer, now) <= 1.92
    now += 2.5
    ok(balancer, place(balancer, now, ONLY), now)
    assert len([place(balancer, now, ONLY) for _ in range(5)]) == 5


def test_an_answer_to_a_call_sent_after_an_overload_ends_the_back_off_and_one_from_before_does_not() -> None:
    balancer = make_balancer()
    before, busy, after = [place(balancer, task=ONLY) for _ in range(3)]
    fail(balancer, busy, BUSY, START + 0.05)
    ok(balancer, before, START + 0.3)
    assert hold_s(balancer, START + 0.3) > 0.4
    ok(balancer, after, START + 0.3)
    assert place(balancer, START + 0.3, ONLY)


def test_a_wait_that_an_overloaded_provider_names_is_kept_but_not_for_longer_than_a_minute() -> None:
    balancer = make_balancer()
    early, late, after = [place(balancer, task=ONLY) for _ in range(3)]
    fail(balancer, early, Overloaded("busy", status=503, retry_after_s=5.0), START)
    fail(balancer, late, Overloaded("busy", status=503, retry_after_s=1e14), START + 0.5)
    assert hold_s(balancer) == pytest.approx(60.0)
    ok(balancer, after, START + 1.0)
    assert hold_s(balancer) == pytest.approx(60.0)


def test_a_probe_passes_the_back_off_that_it_tests() -> None:
    balancer = make_balancer()
    for placement in [place(balancer, task=ONLY) for _ in range(3)]:
        fail(balancer, placement, BUSY, START)
    anthropic = balancer.by_name["anthropic"]
    assert anthropic.breaker.state is BreakerState.OPEN
    anthropic.backoff.until = START + 50.0
    assert place(balancer, anthropic.breaker.open_until, ONLY).choice == "probe"


def test_after_a_call_that_was_not_answered_one_goes_first() -> None:
    balancer = make_balancer()
    hung = place(balancer, task=ONLY)
    fail(balancer, hung, TimedOut("no answer"), START + 60.0)
    first = place(balancer, START + 60.0, ONLY)
    refused(balancer, START + 60.0, ONLY)
    ok(balancer, first, START + 60.5)
    assert len([place(balancer, START + 60.5, ONLY) for _ in range(5)]) == 5


def test_an_overloaded_provider_whose_breaker_opens_waits_for_both() -> None:
    balancer = make_balancer()
    only = make_task(providers=("anthropic",))
    out = [place(balancer, task=only) for _ in range(3)]
    for placement in out:
        fail(balancer, placement, Overloaded("busy", status=529, retry_after_s=200.0), START)
    anthropic = balancer.by_name["anthropic"]
    assert anthropic.breaker.state is BreakerState.OPEN
    assert anthropic.breaker.open_until < anthropic.backoff.until
    assert refused(balancer, task=only).until == anthropic.backoff.until


def test_a_model_that_is_not_there_is_replaced_by_another_of_the_provider() -> None:
    balancer = make_balancer()
    only = make_task(providers=("openai",))
    gone = ModelUnavailable("no such model", status=404)
    for model in ("gpt-6.1-terra", "gpt-6-luna", "gpt-6.1-sol"):
        placement = place(balancer, task=only)
        assert placement.model == model
        fail(balancer, placement, gone, START)
        health_check(balancer, "openai", HealthCheckResult.ANSWERS, START, ["another-model"])
    assert refused(balancer, task=only).until == math.inf
    assert place(balancer).provider != "openai"
    assert [e.kind for e in balancer.take_events()].count("model_unavailable") == 3


def test_a_configured_model_that_has_retired_is_replaced_too() -> None:
    """The configuration names a retired model: its successor is the one that is unavailable."""
    old = WIDE.providers["openai"].models.model_copy(update={"standard": "gpt-4"})
    balancer = make_balancer(make_settings(limits=told_limits(), providers={"openai": {"models": old}}))
    only = make_task(providers=("openai",))
    first = place(balancer, task=only)
    assert first.model == "gpt-6.1-terra"
    fail(balancer, first, ModelUnavailable("no such model", status=404), START)
    health_check(balancer, "openai", HealthCheckResult.ANSWERS, START, ["another-model"])
    assert place(balancer, task=only).model == "gpt-6-luna"


def test_a_deadline_too_short_for_an_answer_is_not_held_against_the_provider() -> None:
    balancer = make_balancer()
    only = make_task(providers=("anthropic",))
    for _ in range(20):
        ok(balancer, place(balancer, task=only), START + 4.0, latency_s=4.0)
    for _ in range(10):
        hasty = place(balancer, START + 5.0, make_task(providers=("anthropic",), deadline_at=START + 6.0))
        assert hasty.timeout_s == pytest.approx(1.0)
        timed_out = CallEnd(Outcome.UNCERTAIN, 1.0, error=TimedOut("no answer"))
        balancer.settle(hasty.permit, timed_out, START + 6.0)
    anthropic = balancer.by_name["anthropic"]
    assert anthropic.breaker.state is BreakerState.CLOSED
    assert anthropic.history.failures == 0
    for _ in range(3):  # longer than any usual answer: that is silence
        slow = place(balancer, START + 6.0, make_task(providers=("anthropic",), deadline_at=START + 15.0))
        timed_out = CallEnd(Outcome.UNCERTAIN, 9.0, error=TimedOut("no answer"))
        balancer.settle(slow.permit, timed_out, START + 15.0)
    assert anthropic.breaker.state is BreakerState.OPEN


HOLDS: list[tuple[ProviderError, float]] = [
    (RateLimited("slow", status=429, retry_after_s=1e14), 3_600.0),
    (RateLimited("slow", status=429, retry_after_s=7.0), 7.0),
    (QuotaExhausted("quota", status=429, resets_at=START + 1e14, reset_guessed=True), 3_600.0),
    (QuotaExhausted("quota", status=429, resets_at=START + 600.0, reset_guessed=True), 600.0),
    (QuotaExhausted("quota", status=429, resets_at=START + 1e14), 36 * 3_600.0),
    (QuotaExhausted("quota", status=429, resets_at=START + 86_400.0), 86_400.0),
    (Overloaded("busy", status=503, retry_after_s=1e14), 3_600.0),
]


@pytest.mark.parametrize(("error", "most_s"), HOLDS, ids=[f"{e.kind}-{s:g}" for e, s in HOLDS])
def test_no_hold_is_longer_than_max_hold_s_but_for_the_reset_of_a_quota(
    error: ProviderError, most_s: float
) -> None:
    balancer = make_balancer()
    only = make_task(providers=("openai",))
    fail(balancer, place(balancer, task=only), error, START)
    until = refused(balancer, START + 0.001, only).until
    assert until is not None
    assert until <= START + most_s + 1.0
    assert place(balancer, START + most_s + 1.0, only)
    shown = next(p for p in balancer.snapshot(START + 1.0).providers if p.name == "openai")
    assert (shown.until or 0.0) <= START + most_s + 1.0


SLOW = RateLimited("slow", status=429, retry_after_s=600.0)
LONG = QuotaExhausted("slow", status=429, resets_at=START + 600.0, reset_guessed=True)


@pytest.mark.parametrize("error", [SLOW, LONG])
def test_max_hold_s_is_a_setting(error: ProviderError) -> None:
    settings = make_settings()
    routing = settings.routing.model_copy(update={"max_hold_s": 60.0})
    balancer = make_balancer(settings.model_copy(update={"routing": routing}))
    only = make_task(providers=("openai",))
    fail(balancer, place(balancer, task=only), error, START)
    refused(balancer, START + 59.0, only)
    assert place(balancer, START + 61.0, only)
