"""While token limits bind, each class goes where it is charged least; otherwise all go everywhere."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from src.records import Placement, RefusalKind, Task, TaskStatus
from src.routing.allocation.makespan_lp import Capacity, Demand, minimise_makespan
from src.settings import Settings

from .build import NAMES, START, Desk, make_settings, make_task, pause
from .servers import Server
from .virtual import Provider, World

MANY_REQUESTS = {"requests_per_minute": 60_000_000}
PROMPTS: Mapping[str, Mapping[str, Any]] = {  # a minute's tokens; only the prompt is scarce at gemini
    "anthropic": {"input_tokens_per_minute": 60_000, "output_tokens_per_minute": 600_000, **MANY_REQUESTS},
    "openai": {"tokens_per_minute": 60_000, **MANY_REQUESTS},
    "gemini": {"tokens_per_minute": 60_000, **MANY_REQUESTS},
}


def scarce(**changes: Any) -> Settings:
    return make_settings(limits=PROMPTS, **changes)


def long_and_short(count: int, **fields: Any) -> list[Task]:
    """Long prompts with small max_tokens, and short ones with large, which openai charges for these."""
    shapes = [{"chars": 4_000, "max_tokens": 100}, {"chars": 400, "max_tokens": 1_000}]
    return [make_task(n, **{"tier": "standard", **shapes[n % 2], **fields}) for n in range(count)]


def places(placements: list[Placement]) -> Counter[tuple[str, int]]:
    return Counter((p.provider, p.max_tokens) for p in placements)


def test_what_is_charged_for_its_max_tokens_goes_where_only_the_prompt_counts() -> None:
    desk = Desk(scarce())
    desk.offer(*long_and_short(600))
    found = places(desk.go())
    assert found["openai", 1_000] == 0
    assert found["openai", 100] > 10
    assert found["gemini", 1_000] > 10


def test_the_reasons_say_so() -> None:
    desk = Desk(scarce())
    desk.offer(*long_and_short(600))
    short = next(p for p in desk.go() if p.max_tokens == 1_000)
    assert {c.provider: c.kind for c in short.reasons}["openai"] == RefusalKind.RESERVED


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"providers": ("openai", "gemini")}, id="pinned"),
        pytest.param({"task_type": "code_generation"}, id="preferred"),
        pytest.param({"deadline_at": START + 9.0}, id="near-its-deadline"),
    ],
)
def test_those_that_have_a_say_of_their_own_are_not_advised(fields: dict[str, Any]) -> None:
    kind = fields.pop("task_type", "general")
    desk = Desk(scarce())
    desk.offer(
        *[make_task(n, kind, chars=400, max_tokens=1_000, tier="standard", **fields) for n in range(600)]
    )
    assert places(desk.go())["openai", 1_000] > 5


def test_little_work_goes_everywhere() -> None:
    desk = Desk(scarce())
    desk.offer(*long_and_short(40))
    assert places(desk.go())["openai", 1_000] > 2


def test_where_only_requests_are_limited_no_class_gets_advice() -> None:
    desk = Desk(make_settings(limits={name: {"requests_per_minute": 60, "burst_s": 10.0} for name in NAMES}))
    desk.offer(*long_and_short(600))
    assert RefusalKind.RESERVED not in {c.kind for p in desk.go() for c in p.reasons}


def test_where_calls_run_out_long_before_tokens_no_class_gets_advice() -> None:
    ample = {
        "anthropic": {"input_tokens_per_minute": 6e6, "output_tokens_per_minute": 6e6},
        "openai": {"tokens_per_minute": 6e6},
        "gemini": {"input_tokens_per_minute": 6e6},
    }
    desk = Desk(
        make_settings(
            limits={name: {"requests_per_minute": 60, "burst_s": 10.0, **ample[name]} for name in NAMES}
        )
    )
    desk.offer(*long_and_short(600))
    assert RefusalKind.RESERVED not in {c.kind for p in desk.go() for c in p.reasons}


def test_a_provider_that_is_unavailable_takes_no_part_and_is_back_at_once() -> None:
    desk = Desk(scarce())
    pause(desk.balancer, "gemini")
    pause(desk.balancer, "anthropic")
    desk.offer(*long_and_short(600))
    assert places(desk.go())["openai", 1_000] > 5  # they have no other provider
    desk.balancer.resume("gemini", desk.now)
    assert places(desk.go(0.3))["gemini", 1_000] > 5


class Author:
    """What each provider reads and writes for a task: its own count."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def task(self, number: int) -> Task:
        chars = int(min(max(self._rng.lognormvariate(7.0, 0.8), 60), 24_000))
        limit = self._rng.choice((256, 512, 1024))
        return make_task(number, chars=chars, max_tokens=limit, tier="standard")

    def output(self) -> int:
        return min(256, int(self._rng.expovariate(1 / 150)) + 1)


@pytest.mark.parametrize("seed", [1, 2])
def test_where_token_limits_bind_a_file_is_done_about_as_soon_as_can_be(seed: int) -> None:
    """Turns by weight alone need 1.4 times as long.

    The bound knows how long answers are; here that is unknown before the first ones, and a third of the file
    has gone by then.
    """
    limits = {
        "anthropic": {"input_tokens_per_minute": 55_000, "output_tokens_per_minute": 18_000},
        "openai": {"tokens_per_minute": 85_000},
        "gemini": {"tokens_per_minute": 42_500},
    }
    servers = {
        "anthropic": Server("anthropic", START, input_tokens=55e3, output_tokens=18e3),
        "openai": Server("openai", START, tokens=85e3),
        "gemini": Server("gemini", START, tokens=42.5e3),
    }
    author = Author(seed)
    tasks = [author.task(n) for n in range(750)]
    providers = {name: Provider(lambda: 0.3, servers[name], output_tokens=author.output) for name in NAMES}
    world = World(make_settings(limits=limits), providers, seed=seed)
    world.offer(0.0, *tasks)
    world.run()
    assert set(world.statuses) == {TaskStatus.SUCCEEDED}
    assert world.outcomes() == {"ok": 750}
    assert world.makespan_s <= 1.12 * (least_s(tasks, author) + 0.3)


def least_s(tasks: list[Task], author: Author) -> float:
    """The shortest time for these tasks, each a demand of its own, with the mean output known."""
    output = sum(author.output() for _ in range(2_000)) / 2_000
    rates = [55e3 / 60, 18e3 / 60, 85e3 / 60, 42.5e3 / 60]
    demands = []
    for task in tasks:
        prompt = task.text_chars // 4
        reserved = max(task.max_tokens or 0, prompt)
        options = [
            [(0, prompt / rates[0]), (1, output / rates[1])],
            [(2, reserved / rates[2])],
            [(3, prompt / rates[3])],
        ]
        demands.append(Demand(1, options))
    return minimise_makespan(demands, [Capacity(60.0)] * 4).at_least_s
