"""A task type's preferred provider serves most of its type, and no task waits for it in vain."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from src.records import TaskStatus
from src.routing.candidates import PATIENCE, preferred_wait_ends_at

from .build import NAMES, START, Desk, make_settings, make_task
from .servers import Server
from .virtual import Provider, World

PREFERRED = [("research", "gemini"), ("code_generation", "openai"), ("analysis", "anthropic")]
PREFERRED_WAIT_S = make_settings().routing.preferred_wait_s


def pile(
    kind: str, count: int, per_s: float, latency_s: float = 0.5, seed: int = 1, **changes: object
) -> World:
    """So many tasks at once, every provider with the same request limit, which is not configured."""
    rng = random.Random(seed)
    providers = {
        name: Provider(
            latency_s=lambda: latency_s * rng.uniform(0.7, 1.5),
            server=Server(name, START, requests=per_s * 60.0),
        )
        for name in NAMES
    }
    world = World(make_settings(**changes), providers, seed=seed)  # type: ignore[arg-type]
    world.offer(0.0, *[make_task(n, kind) for n in range(count)])
    return world.run()


def served(world: World) -> Counter[str]:
    return Counter(call.provider for call in world.calls if call.outcome == "ok")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("latency_s", [0.5, 1.0])
@pytest.mark.parametrize("per_s", [1e4, 15.0, 10.0])
@pytest.mark.parametrize(("kind", "name"), PREFERRED)
def test_a_pile_of_one_type_is_served_by_its_preferred_provider(
    kind: str, name: str, per_s: float, latency_s: float, seed: int
) -> None:
    """Of 50 tasks of type research 45 went to openai, with nothing configured."""
    world = pile(kind, 50, per_s, latency_s, seed)
    assert served(world)[name] >= (40 if latency_s < 1.0 else 30)
    assert world.statuses == {TaskStatus.SUCCEEDED: 50}
    assert max(p.server.denied for p in world.providers.values() if p.server) <= 3


@pytest.mark.parametrize("per_s", [3.0, 10.0, 15.0])
@pytest.mark.parametrize(("kind", "name"), PREFERRED)
def test_a_long_pile_uses_every_provider_and_is_done_in_time(kind: str, name: str, per_s: float) -> None:
    world = pile(kind, 600, per_s)
    bound_s = (600 - 3 * per_s) / (3 * per_s) + 0.5
    assert world.makespan_s <= 1.1 * bound_s + PATIENCE * PREFERRED_WAIT_S
    assert served(world)[name] >= 180  # about its third of what all can serve


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("per_s", [10.0, 15.0])
def test_untyped_tasks_with_nothing_configured_stay_near_the_bound(per_s: float, seed: int) -> None:
    world = pile("general", round(120 * per_s), per_s, seed=seed)
    bound_s = (120 * per_s - 3 * per_s) / (3 * per_s) + 0.5
    assert world.makespan_s <= 1.1 * bound_s
    assert max(p.server.denied for p in world.providers.values() if p.server) <= 4


def limited(per_minute: float) -> Desk:
    return Desk(
        make_settings(
            limits={
                "gemini": {"requests_per_minute": per_minute},
                "openai": {"requests_per_minute": 60_000},
                "anthropic": {"requests_per_minute": 60_000},
            }
        )
    )


@pytest.mark.parametrize(
    ("per_minute", "count", "at_once"),
    [
        pytest.param(600.0, 60, 0, id="the queue is short: all wait"),
        pytest.param(600.0, 600, 490, id="the queue is long: the excess goes at once"),
        pytest.param(6.0, 3, 2, id="the next one comes too late"),
    ],
)
def test_the_length_of_the_queue_decides_which_tasks_wait(
    per_minute: float, count: int, at_once: int
) -> None:
    desk = limited(per_minute)
    desk.offer(*[make_task(n, "research") for n in range(count)])
    spilled = sum(p.choice == "spilled" for p in desk.go())
    assert spilled >= at_once * 0.1  # slots bound what can go in one step
    assert (spilled == 0) == (at_once == 0)


@pytest.mark.parametrize(
    ("offered_s", "progress_s", "until_s"),
    [
        pytest.param(0.0, -1e9, 2.0, id="no call ever went there"),
        pytest.param(0.0, 0.0, 2.0, id="one went when it came"),
        pytest.param(0.0, 1.5, 3.5, id="the queue moves"),
        pytest.param(0.0, 7.0, 8.0, id="but not for ever"),
        pytest.param(5.0, 1.0, 7.0, id="one went before it came"),
    ],
)
def test_how_long_a_task_waits(offered_s: float, progress_s: float, until_s: float) -> None:
    assert preferred_wait_ends_at(START + offered_s, START + progress_s, 2.0) == pytest.approx(
        START + until_s
    )


def test_a_queue_that_stands_is_left_after_two_seconds() -> None:
    desk = limited(60.0)
    desk.offer(*[make_task(n, "research") for n in range(4)])
    assert [p.choice for p in desk.go()] == ["preferred"]
    group = next(iter(desk.provider("gemini").groups.values()))
    group.hold(START + 1.9, "429", START)  # its bucket starts empty then: the next one fits a second later
    desk.dispatch.wake_all()
    assert [p.choice for p in desk.go(0.1)] == ["spilled"] * 3


def test_the_count_of_those_that_prefer_a_provider_is_kept() -> None:
    desk = limited(60.0)
    desk.offer(
        *[make_task(n, "research") for n in range(5)], make_task("pinned", "research", providers=("openai",))
    )
    assert desk.provider("gemini").preferring == 5
    assert desk.dispatch.withdraw("queue", "4") is not None
    assert desk.provider("gemini").preferring == 4
    desk.balancer.registry.routes_version += 1
    while placements := desk.go(1.1):
        for placement in placements:
            desk.ok(placement)
    assert [p.preferring for p in desk.balancer.providers] == [0, 0, 0]


# ------------------------------------------------------------------ an order of models

ORDERS = [
    ("claude-sonnet-5-5", "gpt-6.1-terra", "gemini-3.8-flash"),
    ("gemini-4-argon", "gpt-6-luna"),
    ("gpt-6.1-sol", "gpt-6-luna"),
    ("gpt-6.1-sol", "claude-opus-5-5", "gpt-6-luna"),
]


@pytest.mark.parametrize("order", ORDERS, ids=",".join)
@pytest.mark.parametrize("kind", ["general", "research", "code_generation"])
def test_the_first_model_of_an_order_serves_while_it_can(order: tuple[str, ...], kind: str) -> None:
    """Whatever its weight, and whatever the task's type prefers."""
    desk = Desk(make_settings(limits={key: {"requests_per_minute": 60000} for key in NAMES}))
    desk.offer(*[make_task(n, kind, models=order) for n in range(20)])
    placed = desk.go()
    assert [p.model for p in placed] == [order[0]] * 20
    assert {p.choice for p in placed} == {"preferred"}


@pytest.mark.parametrize("order", ORDERS, ids=",".join)
def test_the_next_model_serves_where_the_first_is_unavailable(order: tuple[str, ...]) -> None:
    settings = make_settings(limits={key: {"requests_per_minute": 60000} for key in NAMES})
    for place in range(1, len(order)):
        desk = Desk(settings)
        desk.offer(make_task("known", models=order))
        desk.go()
        for earlier in order[:place]:
            for name in NAMES:
                if settings.serves(name, earlier):
                    desk.provider(name).model(earlier, settings, START).is_out = True
        desk.balancer.registry.routes_version += 1
        desk.offer(make_task("late", models=order))
        assert [p.model for p in desk.go(0.1)] == [order[place]]


def test_a_task_waits_for_the_first_model_of_its_order_as_for_a_preferred_provider() -> None:
    desk = limited(600.0)  # gemini: a task every 0.1 s
    desk.offer(*[make_task(n, models=("gemini-4-argon", "gpt-6-luna")) for n in range(40)])
    first = desk.go()
    assert {p.model for p in first} == {"gemini-4-argon"} and len(first) < 40
    assert {p.model for p in desk.go(0.1)} <= {"gemini-4-argon"}, "the rest waits for its turn"


def test_what_would_wait_too_long_goes_to_the_next_model() -> None:
    desk = limited(6.0)  # gemini: a task every 10 s
    desk.offer(*[make_task(n, models=("gemini-4-argon", "gpt-6-luna")) for n in range(4)])
    placed = desk.go()
    assert [p.model for p in placed] == ["gemini-4-argon", "gpt-6-luna", "gpt-6-luna", "gpt-6-luna"]
    assert [p.choice for p in placed] == ["preferred", "spilled", "spilled", "spilled"]


def test_one_model_is_never_replaced() -> None:
    desk = limited(6.0)
    desk.offer(*[make_task(n, models=("gemini-4-argon",)) for n in range(4)])
    assert [p.model for p in desk.go()] == ["gemini-4-argon"]
    assert desk.go(5.0) == []
