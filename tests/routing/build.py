"""Builders for the tests of routing: settings, tasks, answers, a desk, and steps of a balancer."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from src.config import load_settings
from src.errors import (
    AuthFailed,
    BadRequest,
    ContentRefused,
    ContextTooLong,
    FlexUnavailable,
    InternalError,
    InvalidResponse,
    ModelUnavailable,
    Overloaded,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    SchemaMismatch,
    ServerError,
    TimedOut,
    Truncated,
    Unreachable,
    UnusableAnswer,
    WorkerLost,
)
from src.messages import Message
from src.records import Candidate, Completion, FinishReason, Outcome, Placement, Result, Task, Usage, Wait
from src.routing.balancer import ProviderLoadBalancer
from src.routing.connectivity import HealthCheckResult
from src.routing.cost.budgets import Budgets
from src.routing.health.circuit_breaker import BreakerState
from src.routing.outcomes import CallEnd
from src.routing.scheduler import Dispatched, Scheduler, Settled
from src.settings import AgentConfig, LimitSettings, ProviderConfig, Settings, TaskTypeConfig

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
    agents: Sequence[AgentConfig] | None = None,
    task_types: Mapping[str, TaskTypeConfig] | None = None,
    **top: Any,
) -> Settings:
    """The defaults with these changes; `providers` and `limits` by provider, `models` by prefix."""
    given = _DEFAULTS
    rows: dict[str, ProviderConfig] = dict(given.providers)
    for name, change in (providers or {}).items():
        rows[name] = rows[name].model_copy(update=dict(change))
    for name, limit_values in (limits or {}).items():
        rows[name] = rows[name].model_copy(update={"limits": LimitSettings(**limit_values)})
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
    proven: bool = True,
) -> ProviderLoadBalancer:
    """`proven`: every provider is known to carry as many calls as it may hold. False: as after a start."""
    balancer = ProviderLoadBalancer(
        settings, now=now, configured=configured, budgets=budgets, jitter=random.Random(seed)
    )
    return prove(balancer) if proven else balancer


def prove(balancer: ProviderLoadBalancer) -> ProviderLoadBalancer:
    """Every provider carries as many calls as it may hold."""
    for provider in balancer.providers:
        provider.concurrency.limit = provider.concurrency.most
    return balancer


def pause(balancer: ProviderLoadBalancer, name: str) -> None:
    """As the command handler does it: no new call to the provider; those in flight end."""
    balancer.by_name[name].set_paused(True)


def make_dispatch(settings: Settings = WIDE, **options: Any) -> Scheduler:
    return Scheduler(make_balancer(settings, **options), settings)


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
    read = placement.task.text_chars // 4 if input_tokens is None else input_tokens
    used = usage or Usage(read, 0, 0, output_tokens)
    return Completion("done", FinishReason.STOP, used, placement.model, **fields)


class Desk:
    """A Scheduler with the time of day: one line for what a test does to it."""

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


def health_check(
    balancer: ProviderLoadBalancer,
    name: str,
    found: HealthCheckResult,
    now: float = START,
    models: Sequence[str] = (),
) -> bool:
    """The provider's health check has ended now, with these models."""
    return balancer.record_health_check(name, found, now, now, models)


USAGE = Usage(100, 0, 0, 50)
DOWN = ServerError("it broke", status=500)
REFUSED = Unreachable("connection refused", sent=False)
ONE_SLOT = make_settings(
    limits=told_limits(), agents=[AgentConfig(name="only", home="openai", calls_in_flight=1)]
)
TOKENS = make_settings(
    limits={
        "anthropic": {"requests_per_minute": 6_000, "input_tokens_per_minute": 600, "token_burst_s": 60.0},
        "openai": {"requests_per_minute": 60_000, "tokens_per_minute": 60_000},
        "gemini": {"requests_per_minute": 6_000, "tokens_per_minute": 600},
    },
    routing={"preferences": False},
)


def place(balancer: ProviderLoadBalancer, now: float = START, task: Task | None = None) -> Placement:
    placed = balancer.place(task or make_task(), now)
    assert isinstance(placed, Placement), placed
    return placed


def refused(balancer: ProviderLoadBalancer, now: float = START, task: Task | None = None) -> Wait:
    placed = balancer.place(task or make_task(), now)
    assert isinstance(placed, Wait), placed
    return placed


def why(reasons: tuple[Candidate, ...], name: str) -> str:
    """The kind of the provider's refusal; empty where it was eligible."""
    return next(c.kind for c in reasons if c.provider == name)


def ok(balancer: ProviderLoadBalancer, placement: Placement, now: float, **fields: Any) -> None:
    fields.setdefault("usage", USAGE)
    fields.setdefault("latency_s", 1.0)
    balancer.settle(placement.permit, CallEnd(Outcome.OK, **fields), now)


def fail(balancer: ProviderLoadBalancer, placement: Placement, error: ProviderError, now: float) -> None:
    outcome = Outcome.FAILED if error.counts_against_health else Outcome.NEUTRAL
    balancer.settle(placement.permit, CallEnd(outcome, error=error), now)


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


def seen(balancer: ProviderLoadBalancer) -> tuple[object, ...]:
    """All that a settle changes."""
    return (
        balancer.in_flight,
        balancer.registry.free_slots,
        balancer.offline_since,
        [(a.in_flight, a.done) for a in balancer.agents.values()],
        [
            (
                p.in_flight, p.connection.heard_at, p.score, p.key.rejection,
                [getattr(p.statistics, name) for name in p.statistics.__slots__ if name != "errors"],
                p.history.calls, p.breaker.state, p.breaker.consecutive, p.backoff.until,
                p.quota.until, p.connection.unreachable_since, tuple(p.statistics.errors.values()),
                [(b.level, b.at, b.spent) for g in p.groups.values() for b in g.buckets.values()],
            )
            for p in balancer.providers
        ],
    )  # fmt: skip


def one_by_one(desk: Desk, most: int = 1_000) -> Iterator[Placement]:
    """Each task as it is placed where only one call is in flight at a time."""
    for _ in range(most):
        placements = desk.go()
        if not placements:
            return
        assert len(placements) == 1
        yield placements[0]
        desk.ok(placements[0])


def mismatch() -> SchemaMismatch:
    usage = Usage(100, 0, 0, 20)
    return SchemaMismatch("wrong", answer='{"a": 1}', problems="- $.a: too small", status=200, usage=usage)


def error_of(kind: str) -> ProviderError:
    """One of each class, as an adapter would raise it."""
    found: dict[str, ProviderError] = {
        "RateLimited": RateLimited("slow", status=429, retry_after_s=7.0),
        "QuotaExhausted": QuotaExhausted("quota", status=429, resets_at=START + 5_000.0),
        "Overloaded": Overloaded("busy", status=529),
        "FlexUnavailable": FlexUnavailable("no room for flex", status=429),
        "ServerError": ServerError("it broke", status=500),
        "TimedOut": TimedOut("no answer in time"),
        "Unreachable": Unreachable("refused", sent=False),
        "InvalidResponse": InvalidResponse("empty", status=200),
        "UnusableAnswer": UnusableAnswer("tool calls", status=200, usage=USAGE),
        "SchemaMismatch": mismatch(),
        "AuthFailed": AuthFailed("bad key", status=401),
        "ModelUnavailable": ModelUnavailable("no such model", status=404),
        "ContextTooLong": ContextTooLong("too long", status=400),
        "RequestTooLarge": RequestTooLarge("too large", status=413),
        "ContentRefused": ContentRefused("not this", status=400),
        "Truncated": Truncated("no text", status=200, usage=Usage(100, 0, 0, 100)),
        "BadRequest": BadRequest("no", status=400),
        "InternalError": InternalError("a bug of ours"),
        "WorkerLost": WorkerLost("its worker was lost"),
    }
    return found[kind]
