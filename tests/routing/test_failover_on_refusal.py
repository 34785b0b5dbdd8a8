"""Going elsewhere with what one provider has refused: only if so wished, and only once."""

from __future__ import annotations

from src.errors import ContentRefused, Overloaded, ProviderError, QuotaExhausted, RateLimited, TimedOut
from src.records import Placement, TaskStatus

from .build import MODELS, START, Desk, make_settings, make_task, told_limits

SETTINGS = make_settings(limits=told_limits(), routing={"failover_on_refusal": True})
DAY_S = 86_400.0


def refusal(by: Placement) -> ContentRefused:
    return ContentRefused(f"{by.provider} will not", status=400)


def desk_with(*, configured: list[str] | None = None, **task: object) -> tuple[Desk, Placement]:
    desk = Desk(SETTINGS, configured=configured)
    desk.offer(make_task("called", **task))
    return desk, desk.one()


def put_out(desk: Desk, name: str, error: ProviderError) -> None:
    desk.offer(make_task(name, providers=(name,)))
    (call,) = desk.go()
    desk.fail(call, error)
    desk.dispatch.withdraw("queue", name)


def test_one_other_provider_may_answer_what_the_first_refused() -> None:
    desk, first = desk_with()
    desk.fail(first, refusal(first))
    second = desk.one()
    assert second.provider != first.provider
    desk.ok(second)
    assert desk.results[-1].status is TaskStatus.SUCCEEDED
    assert [a.error_kind for a in desk.results[-1].attempts] == ["ContentRefused", ""]


def test_where_the_second_refuses_too_it_ends_with_both_reasons_and_no_third_call() -> None:
    desk, first = desk_with()
    desk.fail(first, refusal(first))
    second = desk.one()
    desk.fail(second, refusal(second))
    (result,) = desk.results
    assert result.status is TaskStatus.REFUSED
    assert f"{first.provider} will not" in result.error and f"{second.provider} will not" in result.error
    assert desk.go(100.0) == [] and len(desk.dispatch) == 0


def test_a_provider_that_has_refused_gets_no_second_call_whatever_else_fails_meanwhile() -> None:
    desk, first = desk_with()
    desk.fail(first, refusal(first))
    called = []
    while not desk.results:
        for placement in desk.go(5.0):
            called.append(placement.provider)
            desk.fail(placement, Overloaded("busy", status=529))
    assert first.provider not in called and len(called) >= 2


def test_where_no_other_provider_may_serve_it_it_ends_at_once_as_refused() -> None:
    for desk, first in (
        desk_with(configured=["openai"]),
        desk_with(providers=("gemini",)),
        desk_with(models=(MODELS["openai"], "gpt-6-luna")),
    ):
        desk.fail(first, refusal(first))
        assert desk.go() == []
        (result,) = desk.results
        assert result.status is TaskStatus.REFUSED and f"{first.provider} will not" in result.error


def test_another_provider_is_waited_for_while_it_will_soon_be_back_and_no_longer() -> None:
    for error, is_called in (
        (RateLimited("slower", status=429, retry_after_s=30.0), True),
        (QuotaExhausted("spent", status=429, resets_at=START + DAY_S), False),
    ):
        desk = Desk(SETTINGS, configured=["openai", "gemini"])
        put_out(desk, "gemini", error)
        desk.offer(make_task("called"))
        first = desk.one()
        desk.fail(first, refusal(first))
        assert desk.go() == []
        assert [result.status for result in desk.results] == ([] if is_called else [TaskStatus.REFUSED])
        if is_called:
            assert desk.one(32.0).provider == "gemini"
    desk = Desk(SETTINGS, configured=["openai", "gemini"])
    desk.balancer.set_weights({"gemini": 0.0}, desk.now)
    desk.offer(make_task("called"))
    first = desk.one()
    desk.fail(first, refusal(first))
    assert desk.go() == [] and desk.results[-1].status is TaskStatus.REFUSED


def test_what_was_refused_and_waits_for_another_does_not_keep_what_only_failed() -> None:
    desk = Desk(SETTINGS, configured=("openai", "anthropic"))
    desk.balancer.by_name["anthropic"].set_paused(True)
    desk.offer(make_task("refused"), make_task("failed"))
    calls = {p.task.id: p for p in desk.go()}
    desk.fail(calls["refused"], refusal(calls["refused"]))
    desk.fail(calls["failed"], TimedOut("slow", sent=True))
    other = desk.provider("anthropic")
    other.set_paused(False)
    for group in other.groups.values():
        group.hold(desk.now + 300.0, "429", desk.now)
    desk.dispatch.wake_all()
    began, again = desk.now, desk.go()
    while not again and desk.wake is not None and desk.now < began + 60.0:
        again = desk.go(max(desk.wake - desk.now, 0.0))
    assert [p.task.id for p in again] == ["failed"]
