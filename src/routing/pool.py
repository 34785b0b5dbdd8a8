"""What the parts of the balancer share: providers, agents, permits, prices, and what happened lately.

Choosing reads it, granting and settling change it, pages look at it. Scores are kept here, since a
provider without history is measured against the others.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Collection, Mapping, Sequence

from ..records import Event, Usage
from ..settings import AgentConfig, Settings
from .breaker import CLOSED
from .budgets import BudgetRefusal, Budgets
from .concurrency import Concurrency
from .estimates import Outputs
from .prefixes import Prefixes
from .pricing import CompiledPrice, PriceBook, catalogue_of
from .scoring import RoundRobin, final_score, neutral_response_s, performance_multiplier, time_multiplier
from .snapshots import provider_condition
from .state import AgentState, ModelState, Permit, ProviderState, agent_rows

WINDOWS_KEPT = 1_000  # times without network: a pool may run for months
RESCORE_EVERY_S = 1.0  # old minutes leave the window even while nothing is settled


class Pool:
    """Plain shared state with the few computations that belong to all of it."""

    def __init__(
        self,
        settings: Settings,
        *,
        now: float,
        configured: Collection[str] | None,
        agents: Sequence[AgentConfig] | None,
        jitter: random.Random | None,
        prices: PriceBook | None,
        catalogues: Mapping[str, str | None] | None,
        budgets: Budgets | None,
    ) -> None:
        self.settings = settings
        self.dice = jitter = jitter or random.Random(0)
        names = [n for n, config in settings.providers.items() if config.enabled]
        if configured is not None:
            names = [n for n in names if n in configured]
        outputs: dict[str, Outputs] = {}
        self.providers = [
            ProviderState(i, n, settings.providers[n], settings, jitter, outputs) for i, n in enumerate(names)
        ]
        self.by_name = {p.name: p for p in self.providers}
        rows = settings.agents if agents is None else agents
        self.agents = {name: AgentState(name, config) for name, config in agent_rows(rows)}
        # What an agent may put before a prompt costs money too; which agent it will be is not known yet.
        own = [len(a.system_prompt.encode()) for a in self.agents.values()] if settings.agent_prompts else []
        self.agent_prompt_bytes = max(own, default=0)
        self.slots = sum(a.slots for a in self.agents.values())
        self.free_slots = self.slots
        cap = settings.routing.max_concurrency_share if len(self.providers) > 1 else 1.0
        self.most_in_flight = max(1, int(cap * self.slots))
        for provider in self.providers:
            told = provider.config.limits.requests_per_minute
            per_s = told / 60.0 if told is not None else None
            provider.concurrency = Concurrency(self.most_in_flight, per_s)
        self.budgets = budgets
        self.prefixes = Prefixes(settings.caching)
        self._prices = prices or PriceBook(lambda m: settings.lookup_model(m).price)
        self._catalogues = catalogues or {p.name: catalogue_of(p.name, p.config) for p in self.providers}
        self._baseline_price_list = settings.lookup_model(settings.baseline_model).price_list
        self.round_robin = RoundRobin(len(self.providers), settings.routing.credit_clamp)
        self.permits: dict[int, Permit] = {}
        self.canaries = False  # somebody makes them when they are due
        self.forced_permit = 0  # the one forced call that is out
        self.next_forced_at = 0.0
        self.routes_version = 0  # routes built before it changed are to be built again
        self.offline_since: float | None = None
        self.offline_windows: deque[tuple[float, float]] = deque(maxlen=WINDOWS_KEPT)
        self.jumped_at = float("-inf")
        self._events: list[Event] = []
        self._parked_told: set[object] = set()
        self._scored_at = now
        self.rescore(now)

    # ------------------------------------------------------------------ money

    def price_of(self, provider: ProviderState, model: ModelState, now: float) -> CompiledPrice | None:
        """The model's price at this provider, None where it is unknown."""
        price = model.price
        if price is None or not price.valid_from <= now < price.valid_until:
            price = model.price = self._prices.price(self._catalogues.get(provider.name), model.name, now)
            if price is None and not model.price_is_unknown:
                self._note_unknown_price(provider, model, now)
        return price

    def _note_unknown_price(self, provider: ProviderState, model: ModelState, now: float) -> None:
        """Tell once what would else be seen in sums that are too small, or in tasks that fail."""
        model.price_is_unknown = True
        what = (
            "they are refused while a budget is set"
            if self.budgets is not None
            else "they count as no dollars"
        )
        text = f"{provider.name}: what calls to {model.name} cost is unknown, {what}"
        hint = f'[models."{model.name}".price] tells it'
        self.event(now, "unknown_price", f"{text}; {hint}", provider, "alert")

    def baseline_nanos(self, usage: Usage, now: float) -> int | None:
        """What the same tokens would have cost on the stated baseline model."""
        price = self._prices.price(self._baseline_price_list, self.settings.baseline_model, now)
        return None if price is None else price.cost_nanos(usage)

    # ------------------------------------------------------------------ scores

    def rescore_if_due(self, now: float) -> None:
        if now - self._scored_at >= RESCORE_EVERY_S:
            self.rescore(now)

    def rescore(self, now: float) -> None:
        """Recompute every live score from the window that ends now."""
        self._scored_at = now
        for provider in self.providers:
            provider.history.expire(now)
            self._let_models_in(provider, now)
        neutral = neutral_response_s([p.history.avg_response_s for p in self.providers])
        for provider in self.providers:
            self._score(provider, neutral)

    def _let_models_in(self, provider: ProviderState, now: float) -> None:
        """A model that is out is tried again when its time is up."""
        for model in provider.models.values():
            if model.let_in(now):
                self.routes_version += 1

    def rescore_one(self, provider: ProviderState, now: float) -> None:
        """After a settle: its own score, and all when others are measured against it."""
        for each in self.providers:
            if not each.history.ok:
                self.rescore(now)
                return
        self._score(provider, 0.0)

    @staticmethod
    def _score(provider: ProviderState, neutral_s: float) -> None:
        history = provider.history
        average = history.avg_response_s
        average = neutral_s if average is None else average
        provider.performance_multiplier = performance_multiplier(history.error_rate)
        provider.time_multiplier = time_multiplier(average)
        provider.score = final_score(provider.weight, history.error_rate, average)

    # ------------------------------------------------------------------ events

    def note_states(self, now: float) -> None:
        """Emit one event for each provider whose condition has changed."""
        for provider in self.providers:
            self.note_state(provider, now)

    def note_state(self, provider: ProviderState, now: float, *, told: bool = False) -> None:
        """`told`: another event has just said so; only that it is over is news then."""
        state, reason, until = provider_condition(provider, self.offline_since, now, self.settings)
        if state == provider.shown_state:
            return
        was, provider.shown_state = provider.shown_state, state
        if told:
            return
        if was in _OUT_STATES and state in _QUIET_STATES:
            text = f"{provider.name} is back: {state}" + (f", {reason}" if reason else "")
        else:
            text = f"{provider.name} {_SAID.get(state, f'is {state}')}" + (
                f": {reason}" if reason else f" (was {was})"
            )
            text = reason if state == "misconfigured" else text  # which names the provider
        if state not in _QUIET_STATES or was not in _QUIET_STATES:
            times = {"until": until} if until is not None and state in _ALERT_STATES else {}
            level = _level(was, state)
            if level == "warning" and not provider.history.ok:
                level = "info"  # it has not answered yet at all: nobody knows how long it takes
            self.event(now, f"provider_{state}", text, provider, level, **times)

    def note_parked(self, refusal: BudgetRefusal, now: float) -> None:
        """Tell once a period that tasks wait for a budget."""
        told = (refusal.rule.key, refusal.until)
        if told not in self._parked_told:
            self._parked_told.add(told)
            when = "until it resets" if refusal.until is not None else "until it is raised"
            self.event(now, "parked", f"{refusal}; its tasks wait {when}", None, "alert")

    def event(
        self, now: float, kind: str, text: str, provider: ProviderState | None, level: str, **times: float
    ) -> None:
        """`times`: since when, until when; epoch seconds, since nobody here knows the reader's clock."""
        self._events.append(Event(now, kind, text, provider.name if provider else "", "", level, times))

    def take_events(self) -> list[Event]:
        """The events since last asked."""
        taken, self._events = self._events, []
        return taken

    @property
    def all_misconfigured(self) -> bool:
        """Whether no provider is left whose key works: nothing can be served until somebody steps in."""
        return all(p.key.rejection for p in self.providers)

    def others_serve(self, provider: ProviderState, now: float) -> bool:
        """Whether another provider takes tasks now, by its health."""
        return any(
            p.breaker.state is CLOSED and p.weight > 0 and now >= max(p.quota.until, p.backoff.until)
            for p in self.providers
            if p is not provider and not p.paused and not p.key.rejection
        )

    def heard_since(self, at: float) -> bool:
        """Whether anything has come over the network since then."""
        return any(p.connection.reached_at > at for p in self.providers)

    def was_offline(self, begun_at: float, ended_at: float) -> bool:
        """Whether a call that was out between these fell into a time without network: it costs no attempt."""
        if self.offline_since is not None and ended_at >= self.offline_since:
            return True
        return any(start <= ended_at and begun_at <= end for start, end in self.offline_windows)


def _level(was: str, state: str) -> str:
    """An outage is told when it begins and when it is over, not each time that it is tried."""
    if {was, state} == {"open", "half_open"}:
        return "info"
    if state in _ALERT_STATES or was in _OUT_STATES:
        return "alert"
    return "warning" if "suspect" in (was, state) else "info"


_SAID = {
    "open": "gets no tasks",
    "half_open": "is tried with one call",
}  # "openai is open" reads as good news
_ALERT_STATES = frozenset({"open", "exhausted", "misconfigured"})
_OUT_STATES = _ALERT_STATES | {"half_open"}
_QUIET_STATES = frozenset({"healthy", "degraded", "limited"})  # going to and fro between these is no news
