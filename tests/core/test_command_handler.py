"""The command handler: what each setting and command changes, and its outcome."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from src.core.command_handler import CommandHandler
from src.core.store import Command
from src.records import Placement, Result, TaskStatus
from src.routing.scheduler import Scheduler

from ..routing.build import NAMES, START, make_dispatch, make_task


class Pool:
    """A dispatch with tasks, the handler in front of it, and the results of tasks that it ended."""

    def __init__(self, tasks: int = 0) -> None:
        self.dispatch: Scheduler = make_dispatch()
        self.ended: list[Result] = []
        self.handler = CommandHandler(self.dispatch.balancer, self.dispatch, self.ended.append)
        for number in range(tasks):
            self.dispatch.offer(make_task(number), START)

    def command(self, kind: str, **args: Any) -> str:
        return self.handler.carry_out(Command(1, kind, args, "a test", START), START)

    def place(self, now: float = START) -> list[Placement]:
        return list(self.dispatch.dispatch(now).placements)

    @property
    def weights(self) -> dict[str, float]:
        return {p.name: p.weight for p in self.dispatch.balancer.providers}

    @property
    def paused(self) -> set[str]:
        return {p.name for p in self.dispatch.balancer.providers if p.paused}


# ------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        pytest.param(
            {}, {"anthropic": 0.3, "openai": 0.4, "gemini": 0.3}, id="nothing stored: as configured"
        ),
        pytest.param(
            {"weights": {"openai": 1.0}},
            {"anthropic": 0.3, "openai": 1.0, "gemini": 0.3},
            id="one stored: the others as configured",
        ),
        pytest.param(
            {"weights": {"anthropic": 0.1, "openai": 0.2, "gemini": 0.7}},
            {"anthropic": 0.1, "openai": 0.2, "gemini": 0.7},
            id="all stored",
        ),
    ],
)
def test_stored_weights_replace_configured_ones(
    stored: Mapping[str, Any], expected: dict[str, float]
) -> None:
    pool = Pool()
    pool.handler.apply({"weights": dict.fromkeys(NAMES, 0.9)}, START)
    pool.handler.apply(stored, START)
    total = sum(expected.values())
    found = pool.weights
    assert {n: w / sum(found.values()) for n, w in found.items()} == pytest.approx(
        {n: w / total for n, w in expected.items()}
    )


def test_a_paused_provider_gets_no_task_and_one_that_is_resumed_gets_those_that_waited() -> None:
    pool = Pool(tasks=6)
    pool.handler.apply({"paused": list(NAMES)}, START)
    assert pool.paused == set(NAMES) and pool.place() == []
    pool.handler.apply({"paused": ["anthropic", "gemini"]}, START)
    assert {placement.provider for placement in pool.place()} == {"openai"}


def test_an_unknown_provider_in_a_setting_is_ignored() -> None:
    pool = Pool(tasks=1)
    pool.handler.apply({"paused": ["mistral"], "weights": {"mistral": 1.0}}, START)
    assert pool.paused == set() and set(pool.weights) == set(NAMES) and len(pool.place()) == 1


# ------------------------------------------------------------------ commands


@pytest.mark.parametrize(
    ("kind", "args", "outcome"),
    [
        pytest.param("resume", {"provider": "openai"}, "resumed", id="resume"),
        pytest.param(
            "resume", {"provider": "mistral"}, "'mistral' is not configured here", id="resume unknown"
        ),
        pytest.param("resume", {}, "'' is not configured here", id="resume without a name"),
        pytest.param("reset", {"provider": "openai"}, "breaker closed", id="reset"),
        pytest.param(
            "reset", {"provider": "mistral"}, "'mistral' is not configured here", id="reset unknown"
        ),
        pytest.param("cancel", {"batch": "queue", "ids": ["0", "7"]}, "1 cancelled", id="cancel"),
        pytest.param("cancel", {"batch": "another", "ids": ["0"]}, "0 cancelled", id="cancel elsewhere"),
        pytest.param("cancel", {}, "0 cancelled", id="cancel nothing"),
        pytest.param("dance", {"provider": "openai"}, "unknown command 'dance'", id="unknown"),
    ],
)
def test_every_command_is_answered_with_its_outcome(kind: str, args: dict[str, Any], outcome: str) -> None:
    assert Pool(tasks=3).command(kind, **args) == outcome


def test_reset_closes_a_breaker_and_the_waiting_tasks_go() -> None:
    pool = Pool(tasks=2)
    pool.handler.apply({"paused": ["anthropic", "gemini"]}, START)
    pool.dispatch.balancer.by_name["openai"].breaker.trip(START, "a test")
    assert pool.place() == []
    pool.command("reset", provider="openai")
    assert len(pool.place()) == 2


def test_cancel_ends_waiting_tasks_once_and_leaves_calls_in_flight_alone() -> None:
    pool = Pool(tasks=2)
    (first, *_) = pool.place()
    pool.dispatch.offer(make_task("late"), START)
    ids = [first.task.id, "late"]
    assert pool.command("cancel", batch="queue", ids=ids) == "1 cancelled"
    assert pool.command("cancel", batch="queue", ids=ids) == "0 cancelled"
    (result,) = pool.ended
    assert (result.task.id, result.status, result.error) == (
        "late",
        TaskStatus.CANCELLED,
        "cancelled by a command",
    )
    assert pool.dispatch.knows("queue", first.task.id)
