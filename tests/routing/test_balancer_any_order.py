"""Whatever is placed, settled and steered in any order: permits and slots add up."""

from __future__ import annotations

import random

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from src.errors import (
    AuthFailed,
    BadRequest,
    InvalidResponse,
    Overloaded,
    PermitError,
    ProviderError,
    RateLimited,
    TimedOut,
)
from src.records import Outcome, Placement, Wait
from src.routing.connectivity import HealthCheckResult
from src.routing.health.circuit_breaker import BreakerState
from src.routing.outcomes import CallEnd
from src.settings import AgentConfig

from .build import (
    DOWN,
    NAMES,
    REFUSED,
    START,
    USAGE,
    make_balancer,
    make_settings,
    make_task,
    pause,
    seen,
    why,
)


class AnyOrder(RuleBasedStateMachine):
    """Calls are placed and end in any order and way, while providers are paused, fail and come back."""

    @initialize(seed=st.integers(0, 1000), limited=st.booleans())
    def begin(self, seed: int, limited: bool) -> None:
        limits = {
            "anthropic": {"requests_per_minute": 300, "output_tokens_per_minute": 20_000},
            "openai": {"requests_per_minute": 300, "tokens_per_minute": 30_000},
            "gemini": {"requests_per_minute": 300, "requests_per_day": 50},
        }
        agents = [AgentConfig(name=f"a{n}", home=NAMES[n], calls_in_flight=3) for n in range(3)]
        settings = make_settings(limits=limits if limited else None, agents=agents)
        self.balancer = make_balancer(settings, seed=seed)
        self.rng = random.Random(seed)
        self.now = START
        self.out: list[Placement] = []
        self.settled: list[int] = []

    @rule(seconds=st.one_of(st.floats(0.0, 3.0), st.floats(0.0, 100.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        kind=st.sampled_from(["general", "research", "analysis"]),
        pinned=st.sampled_from([(), (), ("openai",), ("gemini",)]),
        max_tokens=st.sampled_from([10, 1_000, 8_000]),
        deadline_s=st.sampled_from([None, None, 5.0, 100.0]),
    )
    def a_task_is_offered(
        self, kind: str, pinned: tuple[str, ...], max_tokens: int, deadline_s: float | None
    ) -> None:
        deadline_at = None if deadline_s is None else self.now + deadline_s
        task = make_task(kind=kind, providers=pinned, max_tokens=max_tokens, deadline_at=deadline_at)
        placed = self.balancer.place(task, self.now)
        assert {c.provider for c in placed.reasons} == set(NAMES) or not self.balancer.registry.free_slots
        if isinstance(placed, Wait):
            assert placed.until is None or placed.until > self.now
            return
        chosen = self.balancer.by_name[placed.provider]
        assert not chosen.paused
        assert not chosen.key.rejection
        assert self.balancer.offline_since is None
        assert (chosen.breaker.state is not BreakerState.OPEN) or placed.forced
        assert not pinned or placed.provider in pinned
        if not placed.forced:
            assert why(placed.reasons, placed.provider) == ""
        self.out.append(placed)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), outcome=st.sampled_from([*Outcome, Outcome.FAILED, Outcome.OK]))
    def a_call_ends(self, data: st.DataObject, outcome: Outcome) -> None:
        placement = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        error: ProviderError | None = None
        if outcome is Outcome.FAILED:
            error = self.rng.choice([DOWN, REFUSED, Overloaded("busy", status=529), TimedOut("silent")])
        elif outcome is Outcome.NEUTRAL:
            error = self.rng.choice(
                [RateLimited("slow", status=429), BadRequest("no", status=400), AuthFailed("no", status=401)]
            )
        elif outcome is Outcome.UNCERTAIN:
            error = self.rng.choice([None, InvalidResponse("cut off", status=200)])
        usage = USAGE if outcome is Outcome.OK else None
        self.balancer.settle(placement.permit, CallEnd(outcome, 0.5, usage, error), self.now)
        self.settled.append(placement.permit)

    @precondition(lambda self: self.settled)
    @rule()
    def a_call_ends_twice(self) -> None:
        before = seen(self.balancer)
        with pytest.raises(PermitError):
            self.balancer.settle(self.settled[-1], CallEnd(Outcome.OK), self.now)
        assert seen(self.balancer) == before

    @rule(name=st.sampled_from(NAMES), paused=st.booleans())
    def somebody_steers(self, name: str, paused: bool) -> None:
        if paused:
            pause(self.balancer, name)
        else:
            self.balancer.resume(name, self.now)

    @rule(name=st.sampled_from(NAMES), found=st.sampled_from(HealthCheckResult), took_s=st.floats(0.0, 3.0))
    def a_free_call_ends(self, name: str, found: HealthCheckResult, took_s: float) -> None:
        self.balancer.record_health_check(name, found, self.now - took_s, self.now)
        assert self.balancer.next_health_check_at(name, self.now - took_s, self.now) >= self.now - took_s

    @rule()
    def lost_calls_are_given_up(self) -> None:
        lost = self.balancer.take_abandoned(self.now)
        assert set(lost) <= {p.permit for p in self.out}
        assert len(set(lost)) == len(lost)
        assert not set(lost) & set(self.balancer.take_abandoned(self.now))
        for permit in lost:
            self.balancer.settle(permit, CallEnd(Outcome.UNCERTAIN, error=TimedOut("given up")), self.now)
        self.out = [p for p in self.out if p.permit not in lost]

    @invariant()
    def the_books_balance(self) -> None:
        balancer = self.balancer
        assert balancer.in_flight == len(self.out)
        assert balancer.registry.free_slots == balancer.slots - len(self.out) >= 0
        assert sum(p.in_flight for p in balancer.providers) == len(self.out)
        assert sum(a.in_flight for a in balancer.agents.values()) == len(self.out)
        for provider in balancer.providers:
            assert 0 <= provider.in_flight <= balancer.registry.most_in_flight
            counts = provider.statistics
            assert counts.calls == counts.succeeded + counts.failed + counts.neutral
            for group in provider.groups.values():
                assert group.limit_probes in (0, 1)
                for bucket in group.buckets.values():
                    assert bucket.level <= bucket.capacity + 1e-6
        for agent in balancer.agents.values():
            assert 0 <= agent.in_flight <= agent.slots
        assert sum(p.forced for p in self.out) <= 1

    def teardown(self) -> None:
        """When all is settled and enough time has passed, a task is served again."""
        if not hasattr(self, "balancer"):
            return
        for placement in self.out:
            self.balancer.settle(placement.permit, CallEnd(Outcome.UNCERTAIN), self.now)
        for name in NAMES:
            self.balancer.record_health_check(name, HealthCheckResult.ANSWERS, self.now, self.now)
            self.balancer.resume(name, self.now)
        assert isinstance(self.balancer.place(make_task(), self.now + 1_000.0), Placement)


TestAnyOrderOfCalls = AnyOrder.TestCase
