"""A provider is silent, unavailable or unreachable: what others carry meanwhile, and how it comes back."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from src.errors import (
    BadRequest,
    TimedOut,
)
from src.records import RefusalKind
from src.routing.balancer import ProviderLoadBalancer
from src.routing.connectivity import HealthCheckResult
from src.routing.health.circuit_breaker import BreakerState

from .build import (
    DOWN,
    NAMES,
    REFUSED,
    START,
    Desk,
    fail,
    fill,
    make_balancer,
    make_settings,
    make_task,
    ok,
    open_breaker,
    pause,
    place,
    refused,
    told_limits,
    why,
)

# ------------------------------------------------------------------ shares and silence


def test_no_provider_holds_more_than_its_share_of_all_slots() -> None:
    balancer = make_balancer()
    assert balancer.slots == 7 * 16
    out = fill(balancer, "openai")
    assert len(out) == int(0.6 * balancer.slots)
    reasons = refused(balancer, task=make_task(providers=("openai",))).reasons
    assert why(reasons, "openai") == RefusalKind.CONCURRENCY_SHARE
    ok(balancer, out[0], START + 1.0)
    assert place(balancer, START + 1.0, make_task(providers=("openai",)))


def test_a_provider_that_is_alone_may_take_all_slots() -> None:
    balancer = make_balancer(configured=["openai"])
    assert len(fill(balancer, "openai")) == balancer.slots
    assert refused(balancer).until is None


def test_a_provider_is_suspect_when_its_calls_in_flight_get_no_reply() -> None:
    balancer = make_balancer()
    silent = place(balancer, task=make_task(providers=("gemini",)))
    assert place(balancer, START + 5.0, make_task(providers=("gemini",)))
    wait = refused(balancer, START + 5.1, make_task(providers=("gemini",)))
    assert wait.until is None
    assert why(wait.reasons, "gemini") == RefusalKind.SUSPECT
    assert place(balancer, START + 5.1).provider != "gemini"
    fail(balancer, silent, TimedOut("no answer"), START + 60.0)  # we gave it up: that is no return
    assert (
        why(refused(balancer, START + 60.0, make_task(providers=("gemini",))).reasons, "gemini")
        == RefusalKind.SUSPECT
    )


def test_a_suspect_provider_whose_health_call_answers_gets_one_call_to_prove_itself() -> None:
    balancer = make_balancer()
    only = make_task(providers=("gemini",))
    hung = place(balancer, task=only)
    assert not balancer.record_health_check(
        "gemini", HealthCheckResult.ANSWERS, START + 3.0, START + 4.0
    )  # not suspect: no news
    assert why(refused(balancer, START + 6.0, only).reasons, "gemini") == RefusalKind.SUSPECT
    assert balancer.record_health_check("gemini", HealthCheckResult.ANSWERS, START + 5.9, START + 6.0)
    trial = place(balancer, START + 6.0, only)
    assert trial.choice == "probe"
    refused(balancer, START + 6.0, only)
    assert not balancer.record_health_check(
        "gemini", HealthCheckResult.ANSWERS, START + 6.9, START + 7.0
    )  # not another so soon
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
    balancer.record_health_check("gemini", HealthCheckResult.ANSWERS, START + 20.0, START + 20.1)
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
        assert why(placement.reasons, "openai") == RefusalKind.BREAKER_OPEN


PATIENT = make_settings(limits=told_limits(), routing={"stall_timeout_s": 1_000.0})


def test_a_probe_goes_alone_and_its_success_lets_calls_in_slowly() -> None:
    balancer = make_balancer(PATIENT)
    open_breaker(balancer, "openai")
    only = make_task(providers=("openai",))
    now = balancer.by_name["openai"].breaker.open_until
    probe = place(balancer, now, only)
    assert probe.choice == "probe"
    assert why(refused(balancer, now, only).reasons, "openai") == RefusalKind.BREAKER_HALF_OPEN
    ok(balancer, probe, now + 1.0)
    most = int(0.6 * balancer.slots)
    admitted = [len(fill(balancer, "openai", now + 1.0 + second)) for second in (0.0, 5.0, 10.0)]
    assert admitted[0] == math.ceil(0.1 * most)
    assert sum(admitted[:2]) == math.ceil(0.55 * most)
    assert sum(admitted) == most


def test_a_recovering_provider_has_a_moment_for_its_next_call() -> None:
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
        assert refused(balancer, now).until == breaker.open_until > now + 7
    elif again == "neutral":
        fail(balancer, probe, BadRequest("no", status=400), now)
        assert place(balancer, now).choice == "probe"
    else:
        ok(balancer, probe, now)
        assert place(balancer, now).choice == "weighted"


def test_a_preferred_provider_in_slow_start_is_one_among_others() -> None:
    balancer = make_balancer()
    open_breaker(balancer, "gemini")
    now = balancer.by_name["gemini"].breaker.open_until
    ok(balancer, place(balancer, now, make_task(providers=("gemini",))), now)
    found = Counter(place(balancer, now, make_task(kind="research")).provider for _ in range(20))
    assert found["gemini"] <= 3


# ------------------------------------------------------------------ offline


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
    assert [c.kind for c in wait.reasons] == [RefusalKind.OFFLINE] * 3
    assert balancer.registry.network.was_offline(START, START)
    assert "offline" in [event.kind for event in balancer.take_events()]


def test_tasks_of_an_offline_pool_wait_for_the_network() -> None:
    desk = Desk()
    go_offline(desk.balancer)
    desk.now = START + 1.0
    desk.offer(make_task())
    assert desk.go() == []
    assert [(each.reason.kind, each.tasks) for each in desk.dispatch.waiting_for()] == [
        (RefusalKind.OFFLINE, 1)
    ]


def test_back_online_all_are_forgiven_and_serve_at_once() -> None:
    balancer = make_balancer()
    hanging = [place(balancer, task=make_task(providers=("openai",))) for _ in range(5)]
    go_offline(balancer)
    balancer.record_health_check("gemini", HealthCheckResult.ANSWERS, START + 30.0, START + 30.0)
    assert balancer.offline_since is None
    for placement in hanging:  # they left before anybody knew: not the provider's failures
        fail(balancer, placement, REFUSED, START + 31.0)
    found = Counter(place(balancer, START + 31.0).provider for _ in range(30))
    assert set(found) == set(NAMES)
    assert balancer.registry.network.was_offline(START + 15.0, START + 15.0)
    assert not balancer.registry.network.was_offline(START + 31.0, START + 31.0)


def test_an_answer_of_any_kind_ends_being_offline() -> None:
    balancer = make_balancer()
    slow = place(balancer, task=make_task(providers=("anthropic",)))
    go_offline(balancer)
    fail(balancer, slow, BadRequest("no", status=400), START + 5.0)
    assert balancer.offline_since is None


def test_an_answer_to_a_call_from_before_does_not_end_being_offline() -> None:
    """Calls in flight when the network goes may still return; no new one gets through."""
    balancer = make_balancer()
    before = place(balancer, task=make_task(providers=("anthropic",)))
    go_offline(balancer, START + 1.0)
    ok(balancer, before, START + 2.0)
    assert balancer.offline_since == START + 1.0
    assert balancer.by_name["anthropic"].statistics.succeeded == 1
    balancer.record_health_check("anthropic", HealthCheckResult.ANSWERS, START + 6.0, START + 6.0)
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
    balancer.by_name["anthropic"].key.rejection = "the key was refused"
    fail(balancer, place(balancer), REFUSED, START)
    assert balancer.offline_since == START


def test_after_a_clock_jump_calls_in_flight_are_ignored_for_health() -> None:
    balancer = make_balancer()
    out = [place(balancer, task=make_task(providers=("openai",))) for _ in range(4)]
    balancer.jumped(3600.0, START + 3600.0)
    for placement in out:
        fail(balancer, placement, TimedOut("no answer"), START + 3601.0)
    openai = balancer.by_name["openai"]
    assert openai.breaker.state is BreakerState.CLOSED
    assert openai.history.failures == 0
    assert balancer.registry.network.was_offline(START + 1800.0, START + 1800.0)
