"""`ProviderLoadBalancer`: which provider, model and agent serve a task, decided in one synchronous step.

    place(task, now)    -> Placement | Wait     reserves everything that the call needs, or nothing at all
    settle(permit, ...) -> cost                 gives back what was not used; exactly once per permit
    snapshot(now)       -> PoolSnapshot         the state as values for pages

Levels. (1) The preferred provider of the task's type, with a wait for it. (2) The others by smooth weighted
round-robin over their scores. (3) The emergency provider through an open breaker, when no other is expected
in time: one forced call at a time for the whole pool. The steps are those of `selection.py`.

A provider is eligible when it is configured, not paused, its key works, its breaker admits, it is not
suspect, has a free slot, its limits have capacity, the budgets afford the call, and the task has not just
failed there: the gates of `eligibility.py`. Each refusal has a kind and, where one is known, an end; the
refusals are stored with the attempt.

Everything is decided from `now` (UTC epoch seconds) and the calls settled before. Nothing here waits, sleeps
or reads a clock.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Mapping, Sequence

from ..errors import PermitError, TimedOut, WorkerLost
from ..records import (
    Event,
    Outcome,
    Placement,
    PoolSnapshot,
    Task,
    Wait,
)
from ..settings import AgentConfig, Settings
from .allocation.planner import FREE, Advice
from .call_size import CallSizes
from .canaries import CANARY, canary_for, is_due
from .candidates import PlacementResult, WaitCondition
from .connectivity import ConnectivityMonitor, HealthCheckResult
from .cost.budgets import Budgets
from .cost.price_table import PriceTable
from .cost.pricing import PriceBook
from .grants import Grants
from .health.circuit_breaker import CLOSED
from .limits.attribution import NO_CANARY_S
from .limits.group import RateLimitGroup
from .outcomes import CallEnd, OutcomeRecorder
from .refusals import NEVER, Refusal
from .registry import Registry, make_agents, make_providers
from .retry_state import RetryState
from .routes import Route, build_route
from .selection import ProviderSelector
from .snapshots import pool_snapshot
from .state import AgentState, ProviderState
from .verification import Verifier

_NO_SLOT = PlacementResult(None, WaitCondition(None, -1))

_OK = Outcome.OK  # a module name is found faster than a member of a class, at every decision


class ProviderLoadBalancer:
    """The pool of providers and agents, and every decision about it.

    `configured` names the providers that may be called; None: all enabled ones. `jitter` spreads the timers
    of breakers and draws probes. `catalogues`: the price list of each provider. `budgets` None: no budget is
    kept. `canaries`: the caller makes them, with `place_canary`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        now: float,
        configured: Collection[str] | None = None,
        agents: Sequence[AgentConfig] | None = None,
        jitter: random.Random | None = None,
        prices: PriceBook | None = None,
        catalogues: Mapping[str, str | None] | None = None,
        budgets: Budgets | None = None,
        canaries: bool = False,
    ) -> None:  # nine: the class is the library's entry point, and all but two have a default
        self.dice = dice = jitter or random.Random(0)
        self.registry = Registry(
            settings,
            make_providers(settings, configured, dice),
            make_agents(settings, agents),
            PriceTable(settings, prices, catalogues),
            budgets,
            now,
        )
        self.registry.canaries = canaries and settings.breaker.probe_spend
        self._sizes = CallSizes(self.registry)
        self._selector = ProviderSelector(self.registry, self._sizes)
        verifier = Verifier(self.registry)
        self._connectivity = ConnectivityMonitor(self.registry, verifier)
        self._outcomes = OutcomeRecorder(self.registry, self._connectivity, verifier)
        self._grants = Grants(self.registry, self._sizes, self._selector.eligibility)
        self._stall_timeout_s = settings.routing.stall_timeout_s
        self._emergency_after_s = settings.routing.emergency_after_s

    def __repr__(self) -> str:
        states = ", ".join(f"{p.name}={p.breaker.state}" for p in self.providers)
        return f"<ProviderLoadBalancer {states}, {self.in_flight} in flight of {self.slots}>"

    # ------------------------------------------------------------------ place

    def place(self, task: Task, now: float) -> Placement | Wait:
        """Place a single task. `Wait.until` infinity: no provider can ever serve it."""
        placement, blocked = self.try_place(task, self.route(task, now), RetryState(offered_at=now), now)
        if placement is not None:
            return placement
        return Wait(blocked.until, blocked.reasons) if blocked is not None else Wait(NEVER, ())

    def route(self, task: Task, now: float, tier: str = "") -> Route:
        """Every provider and model that may serve the task. `tier`: instead of the task's own."""
        return build_route(task, self.providers, self.settings, now, tier)

    def try_place(
        self, task: Task, route: Route, retry: RetryState, now: float, advice: Advice = FREE
    ) -> PlacementResult:
        """`place` for the scheduler: with the route and advice of the task's class, and its earlier
        attempts."""
        if self.registry.free_slots <= 0:
            return _NO_SLOT
        self.registry.rescore_if_due(now)
        report = self._selector.evaluate_candidates(task, route, retry, now, advice)
        selection = self._selector.select(task, route, retry, now, report)
        if selection is None:
            if advice.avoid and report.over_budget:  # an option to avoid may be the one that budgets afford
                return self.try_place(task, route, retry, now)
            return PlacementResult(None, report.wait_condition(now, now + self._emergency_after_s))
        return PlacementResult(
            self._grants.grant(selection, task, route, retry, now, report),
            self._grants.foresee(selection, report, now),
        )

    def awaiting_probe(self, now: float) -> list[ProviderState]:
        """Providers that may get one call now which goes first: a half-open breaker's probe, or after a
        hold."""
        found = []
        for provider in self.registry.providers:  # at every decision, so without a call of its own
            if provider.breaker.state is CLOSED:
                for group in provider.groups.values():
                    if group.evidence.holds:
                        break
                else:
                    continue
            if self._lets_one_go_first(provider, now):
                found.append(provider)
        return found

    def _lets_one_go_first(self, provider: ProviderState, now: float) -> bool:
        breaker = provider.breaker
        if not (breaker.state is not CLOSED and breaker.admits(now)) and not _sends_one_first(provider, now):
            return False
        return self._selector.eligibility.of_provider(provider, now) is None

    def try_probe(
        self, task: Task, route: Route, retry: RetryState, provider: ProviderState, now: float
    ) -> Placement | None:
        """Place a task as the provider's probe; None: it may not go there now."""
        report = self._selector.evaluate_candidates(task, route, retry, now)
        selection = self._selector.select_probe(provider, report)
        return None if selection is None else self._grants.grant(selection, task, route, retry, now, report)

    def place_canary(self, name: str, now: float) -> Placement | None:
        """A request of one token as the provider's probe, where one is due: see `canaries.py`.

        It is settled like any placement, but belongs to no task.
        """
        provider = self.by_name[name]
        due = is_due(self.registry, provider)
        limited = self._group_in_need_of_a_canary(provider, now)
        if not (due or limited is not None) or self.registry.free_slots <= 0:
            return None
        if self._selector.eligibility.of_provider(provider, now, for_canary=True) is not None:
            return None
        task = canary_for(self.registry, provider, now, None if due else limited)
        route, retry = self.route(task, now), RetryState(offered_at=now)
        report = self._selector.evaluate_candidates(task, route, retry, now, for_canary=True)
        selection = self._selector.select_probe(provider, report, CANARY)
        if selection is not None:
            placement = self._grants.grant(selection, task, route, retry, now, report)
            self.registry.permits[placement.permit].canary = True
            return placement
        if all(option.model.group.closed(now) is None for option in route.options):
            provider.no_canary = provider.breaker.stage  # a budget refuses it, or its model is gone
            if limited is not None:
                limited.evidence.no_canary_until = now + NO_CANARY_S
        return None

    def _group_in_need_of_a_canary(self, provider: ProviderState, now: float) -> RateLimitGroup | None:
        """The group in which a task waits for a neighbour: see `attribution.py`."""
        if not self.registry.canaries:
            return None
        return next((g for g in provider.groups.values() if g.evidence.is_canary_due(now)), None)

    def adopt(self, placed: Placement, retry: RetryState, now: float) -> Placement | None:
        """A call that an earlier leader has `placed` goes on; `placed.at` is when, by this clock.

        None, with nothing changed, where its provider or model is not configured any more.
        """
        return self._grants.adopt(placed, self.route(placed.task, now, placed.tier), retry, now)

    # ------------------------------------------------------------------ settle

    def settle(self, permit: int, end: CallEnd, now: float) -> int | None:
        """One call has ended. Its cost in nano-dollars; None: the price is unknown.

        Raises PermitError, and changes nothing, for a permit that is not in use.
        """
        registry = self.registry
        held = registry.permits.pop(permit, None)
        if held is None:
            raise PermitError(f"permit {permit} is not in use: it was settled before, or never issued")
        if held.lease is not None:
            registry.prompt_cache.settle(held.lease, end.usage)
        provider = held.provider
        provider.unseen -= held.seen_from == math.inf
        provider.call_ended(
            permit,
            now,
            self._stall_timeout_s,
            ok=end.outcome is _OK,
            heard=end.outcome is not Outcome.CANCELLED and not isinstance(end.error, TimedOut | WorkerLost),
        )
        held.agent.in_flight -= 1
        held.agent.served[provider.name] += end.outcome is _OK
        registry.free_slots += 1
        registry.emergency.call_ended(permit)
        return self._outcomes.record(held, end, now)

    def stream_heard(self, permit: int, now: float) -> None:
        """Events of a streamed call have come, so its provider is not silent."""
        if (held := self.registry.permits.get(permit)) is not None:
            held.provider.connection.heard(now)

    def keep_call(self, permit: int) -> None:
        """Part of the answer was delivered: no other provider can take the call over any more."""
        held = self.registry.permits.get(permit)
        if held is None or held.has_begun:
            return
        held.may_move, held.has_begun = False, True
        kind = (held.model.name, held.task_type)
        held.provider.concurrency.answered(placed_at=held.placed_at, kind=kind)
        self.registry.opened |= held.provider.bit

    # ------------------------------------------------------------------ commands

    def assume_full_concurrency(self) -> None:
        """Let every provider carry as many calls as it may have: a replay is no cold start."""
        for provider in self.providers:
            provider.concurrency.assume_full()

    def set_weights(self, weights: Mapping[str, float], now: float) -> None:
        """Set base weights; names that are not configured here are ignored."""
        for name, weight in weights.items():
            if name in self.by_name:
                self.by_name[name].weight = weight
        self.registry.rescore(now)

    def resume(self, name: str, now: float) -> None:
        """Resume a provider on request: lift a pause, a quota hold and a rejected key."""
        self.by_name[name].resume(now)
        self.registry.routes_version += 1

    def retry_keys(self, now: float) -> list[str]:
        """Try every rejected key again, since it may be another one now; returns their providers."""
        rejected = [provider for provider in self.providers if provider.key.rejection]
        for provider in rejected:
            provider.key.accept()
            self.registry.status.report(provider, now)
        return [provider.name for provider in rejected]

    def next_health_check_at(self, name: str, asked_at: float, now: float) -> float:
        """When the provider's health check is due. `asked_at`: when the last one began."""
        return self._connectivity.next_health_check_at(self.by_name[name], asked_at, now)

    def record_health_check(
        self, name: str, found: HealthCheckResult, asked_at: float, now: float, models: Collection[str] = ()
    ) -> bool:
        """A health check has ended. Whether calls may go now that could not before.

        `asked_at`: when it began. `models`: the names on the list, where it returned one.
        """
        return self._connectivity.record_health_check(self.by_name[name], found, asked_at, now, models)

    def set_unseen(self, permits: Collection[int], now: float) -> None:
        """These calls, and no others, are at workers that do not answer."""
        self._connectivity.set_unseen(permits, now)

    def take_abandoned(self, now: float) -> list[int]:
        """The permits of calls to abandon now; each is returned once."""
        return self._connectivity.take_abandoned(now)

    def close_breaker(self, name: str) -> None:
        """Close the provider's breaker, without a slow start."""
        self.by_name[name].breaker.forgive()

    def jumped(self, seconds: float, now: float) -> None:
        """The clock jumped (a laptop slept): calls in flight then show nothing about their providers."""
        self._connectivity.jumped(seconds, now)

    def note_states(self, now: float) -> None:
        """Add an event for each provider whose condition has changed."""
        for provider in self.providers:
            self.registry.status.report(provider, now)

    # ------------------------------------------------------------------ looking

    def gate(self, provider: ProviderState, now: float) -> Refusal | None:
        """Why no task at all may go to the provider now; None when one may."""
        return self._selector.eligibility.of_provider(provider, now)

    def take_events(self) -> list[Event]:
        """The events since the last call, oldest first."""
        return self.registry.events.take()

    def snapshot(self, now: float) -> PoolSnapshot:
        """The state for pages, without waiting tasks: the scheduler adds those."""
        self.registry.rescore(now)
        return pool_snapshot(self.registry, self._selector.eligibility, now)

    @property
    def settings(self) -> Settings:
        """The settings it was made with."""
        return self.registry.settings

    @property
    def providers(self) -> list[ProviderState]:
        """All configured providers, in the order of the configuration."""
        return self.registry.providers

    @property
    def by_name(self) -> Mapping[str, ProviderState]:
        """The same by name."""
        return self.registry.by_name

    @property
    def agents(self) -> Mapping[str, AgentState]:
        """All agents, by name."""
        return self.registry.agents

    @property
    def slots(self) -> int:
        """Calls in flight at most, of all agents."""
        return self.registry.slots

    @property
    def offline_since(self) -> float | None:
        """Since when no provider can be reached; None while one can."""
        return self.registry.network.offline_since

    @property
    def in_flight(self) -> int:
        """Calls in flight."""
        return len(self.registry.permits)


def _sends_one_first(provider: ProviderState, now: float) -> bool:
    """Whether one of its model groups is open again after a hold, and the first call has not gone."""
    for group in provider.groups.values():  # at every decision
        evidence = group.evidence
        if evidence.holds and now >= evidence.first_until and group.closed(now) is None:
            return True
    return False
