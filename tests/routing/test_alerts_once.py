"""What a person should know is reported once, however many calls were in flight when it happened."""

from __future__ import annotations

from collections.abc import Sequence

from src.errors import ModelUnavailable, QuotaExhausted, RateLimited
from src.records import Event, Placement
from src.routing.connectivity import HealthCheckResult
from src.routing.cost.budgets import BudgetRule, Budgets
from src.settings import TierModels

from .build import START, Desk, health_check, make_settings, make_task, told_limits

DAY_S = 86_400.0
ONLY = {"providers": ("openai",)}


def calls_out(desk: Desk, count: int, **fields: object) -> list[Placement]:
    desk.offer(*(make_task(n, **{**ONLY, **fields}) for n in range(count)))
    placements = desk.go()
    assert len(placements) == count
    return placements


def spent(resets_at: float) -> QuotaExhausted:
    return QuotaExhausted("daily quota", status=429, code="quota", resets_at=resets_at)


def alerts(events: Sequence[Event]) -> list[str]:
    return [event.kind for event in events if event.level == "alert"]


def test_an_open_breaker_is_reported_by_what_it_does() -> None:
    desk = Desk()
    desk.provider("openai").breaker.trip(desk.now, "silent")
    desk.balancer.note_states(desk.now)
    (reported,) = desk.balancer.take_events()
    assert reported.kind == "provider_open" and reported.message.startswith("openai gets no tasks: "), (
        reported
    )


def test_a_spent_daily_quota_is_reported_once_however_many_calls_are_in_flight() -> None:
    desk = Desk()
    for number, placement in enumerate(calls_out(desk, 20)):
        desk.fail(placement, spent(START + DAY_S + 0.3 * number), seconds=0.1)
    (reported,) = desk.balancer.take_events()
    assert (reported.kind, reported.level, reported.provider) == ("quota_exhausted", "alert", "openai")
    assert reported.fields == {"until": START + DAY_S}
    states = {p.name: p.state for p in desk.balancer.snapshot(desk.now).providers}
    assert states["openai"] == "exhausted"


def test_a_reset_that_moves_far_away_is_reported_again_and_so_is_the_next_day() -> None:
    desk = Desk()
    first, second, third = calls_out(desk, 3)
    desk.fail(first, spent(START + 30.0))
    desk.fail(second, spent(START + DAY_S))
    desk.fail(third, spent(START + 60.0))  # sooner than what is known: no news
    assert [event.fields["until"] for event in desk.balancer.take_events()] == [START + 30.0, START + DAY_S]
    (next_day,) = desk.go(DAY_S + 1.0)[:1]
    desk.balancer.take_events()
    desk.fail(next_day, spent(START + 2 * DAY_S))
    assert alerts(desk.balancer.take_events()) == ["quota_exhausted"]


def test_a_spent_quota_is_over_at_its_reset_and_neither_an_hour_before_nor_for_another_models_429() -> None:
    limits = {**told_limits(), "openai": {}}  # limits are learned: a group for each model
    desk = Desk(make_settings(limits=limits))
    (call,) = calls_out(desk, 1)
    desk.fail(call, spent(START + DAY_S))
    other = make_task("other", tier="premium", **ONLY)
    desk.offer(other)
    (busy,) = (p for p in desk.go() if p.task.id == "other")
    desk.fail(busy, RateLimited("slower", status=429, retry_after_s=20.0), seconds=1.0)
    desk.balancer.note_states(desk.now)
    desk.balancer.note_states(START + DAY_S - 600.0)
    assert alerts(desk.balancer.take_events()) == ["quota_exhausted"]
    desk.balancer.note_states(START + DAY_S + 1.0)
    (back,) = desk.balancer.take_events()
    assert back.message.startswith("openai recovered")


def test_an_unavailable_model_is_reported_once_however_many_calls_to_it_are_in_flight() -> None:
    desk = Desk()
    gone = ModelUnavailable("no such model", status=404)
    for placement in calls_out(desk, 10):
        desk.fail(placement, gone)
    health_check(desk.balancer, "openai", HealthCheckResult.ANSWERS, desk.now, ["another-model"])
    assert alerts(desk.balancer.take_events()) == ["model_unavailable"]
    desk.balancer.resume("openai", desk.now)  # somebody says that it is there again, and it is not
    desk.offer(make_task("new", **ONLY))
    again = next(p for p in desk.go() if p.task.id == "new")
    assert again.model == placement.model
    desk.fail(again, gone)
    health_check(desk.balancer, "openai", HealthCheckResult.ANSWERS, desk.now, ["another-model"])
    assert alerts(desk.balancer.take_events()) == ["model_unavailable"]


NAMELESS = make_settings(
    limits=told_limits(),
    providers={
        "openai": {
            "models": TierModels(economy="gpt-6-luna", standard="gpt-nobody-knows", premium="gpt-6.1-sol")
        }
    },
)


def test_an_unknown_price_is_reported_once_for_each_model_that_is_used() -> None:
    desk = Desk(NAMELESS)
    for number in range(5):
        for tier in ("standard", "premium"):
            desk.offer(make_task(f"{tier}{number}", tier=tier, **ONLY))
    for placement in desk.go():
        desk.ok(placement)
    (reported,) = desk.balancer.take_events()
    assert (reported.kind, reported.level, reported.provider) == ("unknown_price", "alert", "openai")
    assert "gpt-nobody-knows" in reported.message and "cost totals exclude its calls" in reported.message


def test_under_a_budget_an_unknown_price_is_reported_although_no_call_is_made() -> None:
    desk = Desk(NAMELESS, budgets=Budgets([BudgetRule("all", "", "total", 10**9)]))
    desk.offer(*(make_task(n, tier="standard", **ONLY) for n in range(3)))
    assert not desk.go()
    assert ["its price is unknown" in result.error for result in desk.results] == [True] * 3
    (reported,) = desk.balancer.take_events()
    assert reported.kind == "unknown_price" and "blocked while a budget is set" in reported.message
