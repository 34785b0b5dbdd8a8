"""What the tests of routing are built from: settings with a few changes, tasks, answers, a desk."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from src.config import load_settings
from src.errors import ProviderError
from src.records import Completion, FinishReason, Message, Placement, Result, Task, Usage
from src.routing.balancer import ProviderLoadBalancer
from src.routing.budgets import Budgets
from src.routing.dispatch import Dispatch, Dispatched, Settled
from src.settings import AgentRow, LimitSettings, ProviderRow, Settings, TaskTypeRow

START = 1_795_000_000.0  # an ordinary moment in 2026: floats are 2.4e-7 s apart there
NAMES = ("anthropic", "openai", "gemini")

_DEFAULTS = load_settings(environ={})
MODELS = {name: _DEFAULTS.providers[name].models.standard for name in NAMES}

Rows = Mapping[str, Mapping[str, Any]]


def make_settings(
    *,
    providers: Rows | None = None,
    limits: Rows | None = None,
    routing: Mapping[str, Any] | None = None,
    breaker: Mapping[str, Any] | None = None,
    pool: Mapping[str, Any] | None = None,
    tiers: Mapping[str, Any] | None = None,
    models: Rows | None = None,
    agents: Sequence[AgentRow] | None = None,
    task_types: Mapping[str, TaskTypeRow] | None = None,
    **top: Any,
) -> Settings:
    """The defaults with these changes; `providers` and `limits` by provider, `models` by prefix."""
    given = _DEFAULTS
    rows: dict[str, ProviderRow] = dict(given.providers)
    for name, change in (providers or {}).items():
        rows[name] = rows[name].model_copy(update=dict(change))
    for name, told in (limits or {}).items():
        rows[name] = rows[name].model_copy(update={"limits": LimitSettings(**told)})
    known = dict(given.models)
    for name, change in (models or {}).items():
        known[name] = known[name].model_copy(update=dict(change))
    return given.model_copy(
        update={
            "providers": rows,
            "models": known,
            "routing": given.routing.model_copy(update=dict(routing or {})),
            "breaker": given.breaker.model_copy(update=dict(breaker or {})),
            "pool": given.pool.model_copy(update=dict(pool or {})),
            "tiers": given.tiers.model_copy(update=dict(tiers or {})),
            "agents": tuple(given.agents if agents is None else agents),
            "task_types": {**given.task_types, **(task_types or {})},
            **top,
        }
    )


def told_limits(**changes: Any) -> dict[str, dict[str, Any]]:
    """Limits so wide that none binds, for all three: no scout, no slow start."""
    wide = {"requests_per_minute": 60_000_000, **changes}
    return {name: dict(wide) for name in NAMES}


WIDE = make_settings(limits=told_limits())


def make_balancer(
    settings: Settings = WIDE,
    now: float = START,
    configured: Sequence[str] | None = None,
    budgets: Budgets | None = None,
    seed: int = 1,
) -> ProviderLoadBalancer:
    return ProviderLoadBalancer(
        settings, now=now, configured=configured, budgets=budgets, jitter=random.Random(seed)
    )


def pause(balancer: ProviderLoadBalancer, name: str) -> None:
    """As the steering does it: no new call to the provider; those in flight end."""
    balancer.by_name[name].paused = True


def make_dispatch(settings: Settings = WIDE, **options: Any) -> Dispatch:
    return Dispatch(make_balancer(settings, **options), settings)


def make_task(number: int | str = 0, kind: str = "general", *, chars: int = 400, **fields: Any) -> Task:
    """An ordinary task with a prompt of `chars` characters and a max_tokens of 100."""
    fields.setdefault("max_tokens", 100)
    fields.setdefault("batch", "queue")
    return Task(id=str(number), messages=(Message("user", "x" * chars),), task_type=kind, **fields)


def answer(
    placement: Placement,
    *,
    input_tokens: int | None = None,
    output_tokens: int = 50,
    usage: Usage | None = None,
    **fields: Any,
) -> Completion:
    read = placement.task.prompt_chars // 4 if input_tokens is None else input_tokens
    used = usage or Usage(read, 0, 0, output_tokens)
    return Completion("done", FinishReason.STOP, used, placement.model, **fields)


class Desk:
    """A Dispatch with the time of day: one line for what a test does to it."""

    def __init__(self, settings: Settings = WIDE, **options: Any) -> None:
        self.settings = settings
        self.now = START
        self.dispatch = make_dispatch(settings, **options)
        self.balancer = self.dispatch.balancer
        self.results: list[Result] = []
        self.wake: float | None = None

    def provider(self, name: str) -> Any:
        return self.balancer.by_name[name]

    def offer(self, *tasks: Task) -> None:
        for task in tasks:
            self.dispatch.offer(task, self.now)

    def go(self, seconds: float = 0.0) -> list[Placement]:
        """What is placed after so many seconds."""
        self.now += seconds
        done: Dispatched = self.dispatch.dispatch(self.now)
        self.results += done.ended
        self.wake = done.next_wake
        return done.placements

    def one(self, seconds: float = 0.0) -> Placement:
        placements = self.go(seconds)
        assert len(placements) == 1, placements
        return placements[0]

    def ok(self, placement: Placement, seconds: float = 0.0, **fields: Any) -> Settled:
        self.now += seconds
        return self._note(self.dispatch.settle(placement, self.now, completion=answer(placement, **fields)))

    def fail(self, placement: Placement, error: ProviderError, seconds: float = 0.0) -> Settled:
        self.now += seconds
        return self._note(self.dispatch.settle(placement, self.now, error=error))

    def cancel(self, placement: Placement, seconds: float = 0.0) -> Settled:
        self.now += seconds
        return self._note(self.dispatch.settle(placement, self.now))

    def _note(self, settled: Settled) -> Settled:
        if settled.result is not None:
            self.results.append(settled.result)
        return settled
