"""The state shared by the balancer's parts: providers, agents, slots, permits, and the state of the pool."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Sequence

from ..settings import AgentConfig, Settings
from .cost.budgets import Budgets
from .cost.price_table import PriceTable
from .cost.pricing import CompiledPrice
from .cost.prompt_cache import PromptCacheTracker
from .event_log import EventLog
from .health.circuit_breaker import CLOSED
from .health.network import NetworkState
from .health.scoring import RoundRobin
from .limits.concurrency import Concurrency
from .limits.estimator import Outputs
from .limits.group import RateLimitGroup
from .scoreboard import Scoreboard
from .state import AgentState, ModelState, Permit, ProviderState, agent_rows
from .status import StatusReporter


class Emergency:
    """The one call at a time that is forced through an open breaker."""

    __slots__ = ("next_at", "permit")

    def __init__(self) -> None:
        self.permit = 0  # of the call in flight
        self.next_at = 0.0  # UTC epoch seconds

    def call_placed(self, permit: int, next_at: float) -> None:
        """A call was forced; the next one may go at `next_at`."""
        self.permit, self.next_at = permit, next_at

    def call_ended(self, permit: int) -> None:
        """Any call has ended."""
        if permit == self.permit:
            self.permit = 0


class Registry:
    """All providers and agents, and the permits of calls in flight.

    `budgets` None: no budget is kept.
    """

    def __init__(
        self,
        settings: Settings,
        providers: Sequence[ProviderState],
        agents: Sequence[AgentState],
        prices: PriceTable,
        budgets: Budgets | None,
        now: float,
    ) -> None:
        self.settings, self.prices, self.budgets = settings, prices, budgets
        self.providers = list(providers)
        self.by_name = {provider.name: provider for provider in providers}
        self.agents = {agent.name: agent for agent in agents}
        self.slots = self.free_slots = sum(agent.slots for agent in agents)
        share = settings.routing.max_concurrency_share if len(providers) > 1 else 1.0
        self.most_in_flight = max(1, int(share * self.slots))
        for provider in providers:
            per_minute = provider.config.limits.requests_per_minute
            per_s = per_minute / 60.0 if per_minute is not None else None
            provider.concurrency = Concurrency(self.most_in_flight, per_s)
        self.permits: dict[int, Permit] = {}
        self.prompt_cache = PromptCacheTracker(settings.caching)
        self.round_robin = RoundRobin(len(self.providers), settings.routing.credit_clamp)
        self.scores = Scoreboard(self.providers, now)
        self.network = NetworkState()
        self.emergency = Emergency()
        self.events = EventLog()
        self.status = StatusReporter(self.events, self.network, settings.routing.stall_timeout_s)
        self.canaries = False  # whether the orchestrator makes them
        self.routes_version = 0  # routes built before it changed are built again
        self.opened = 0  # bits of providers that take more calls since the scheduler has looked

    def price_of(self, provider: ProviderState, model: ModelState, now: float) -> CompiledPrice | None:
        """The model's price at this provider, None where it is unknown."""
        price = model.price
        if price is None or not price.valid_from <= now < price.valid_until:
            price = model.price = self.prices.price(provider.name, model.name, now)
            if price is None and not model.price_is_unknown:
                self._note_unknown_price(provider, model, now)
        return price

    def _note_unknown_price(self, provider: ProviderState, model: ModelState, now: float) -> None:
        """One event for a fault that otherwise shows only in too small totals, or in failed tasks."""
        model.price_is_unknown = True
        blocked = self.budgets is not None
        what = "calls are blocked while a budget is set" if blocked else "cost totals exclude its calls"
        text = f'{provider.name}: no price for {model.name}, so {what} (add [models."{model.name}".price])'
        self.events.add(now, "unknown_price", text, provider.name, "alert")

    def rescore(self, now: float) -> None:
        """Recompute every score, and let models in whose time to be tried again has come."""
        self.scores.rescore(now)
        self._let_models_in(now)

    def rescore_if_due(self, now: float) -> None:
        """The same, from time to time."""
        if self.scores.is_due(now):
            self.rescore(now)

    def rescore_one(self, provider: ProviderState, now: float) -> None:
        """The same after a call has ended: the provider's own score, where the others do not depend on it."""
        if not self.scores.rescore_one(provider):
            self.rescore(now)

    def _let_models_in(self, now: float) -> None:
        for provider in self.providers:
            for model in provider.models.values():
                if model.let_in(now):
                    self.routes_version += 1

    @property
    def all_misconfigured(self) -> bool:
        """Whether no provider's key works: nothing can be served until the user acts."""
        return all(p.key.rejection for p in self.providers)

    def others_serve(self, provider: ProviderState, now: float) -> bool:
        """Whether another provider takes tasks now, by its health."""
        return any(_serves(each, now) for each in self.providers if each is not provider)

    def heard_since(self, at: float) -> bool:
        """Whether anything came over the network since then."""
        return any(p.connection.reached_at > at for p in self.providers)


def make_providers(
    settings: Settings, configured: Collection[str] | None, jitter: random.Random
) -> list[ProviderState]:
    """The enabled providers that may be called, in the order of the configuration; None: all."""
    names = [name for name, config in settings.providers.items() if config.enabled]
    if configured is not None:
        names = [name for name in names if name in configured]
    outputs: dict[str, Outputs] = {}
    groups: defaultdict[str, dict[str, RateLimitGroup]] = defaultdict(dict)  # by the setting limit_group
    found = []
    for index, name in enumerate(names):
        config = settings.providers[name]
        found.append(ProviderState(index, name, config, settings, jitter, outputs))
        if config.limit_group:
            found[-1].share_groups(groups[config.limit_group])
    return found


def make_agents(settings: Settings, agents: Sequence[AgentConfig] | None) -> list[AgentState]:
    """The agents of the configuration, or those given."""
    rows = settings.agents if agents is None else agents
    return [AgentState(name, config) for name, config in agent_rows(rows)]


def _serves(provider: ProviderState, now: float) -> bool:
    if provider.paused or provider.key.rejection or provider.weight <= 0:
        return False
    return provider.breaker.state is CLOSED and now >= max(provider.quota.until, provider.backoff.until)
