"""`ProviderLoadBalancer`: which provider, model and agent serve a task, decided in one synchronous step.

    place(task, now)    -> Placement | Wait     reserves everything the call needs, or nothing at all
    settle(permit, ...) -> None                 gives back what was not used; exactly once a permit
    snapshot(now)       -> PoolSnapshot         what a page shows

Three levels. (1) The preferred provider of the task's type, waited for as `selection.py` says. (2) The
others by smooth weighted round-robin over their scores. (3) The emergency provider, through an open
breaker, when no other is expected in time: one forced call at a time for the whole pool.

A provider is a candidate when it is configured, not paused, its key works, its breaker admits, it is
not suspect, holds less than its share of all slots, its limits have room, the budget allows the call
and the task has not just failed there. Each "no" carries a reason and, where one is known, the moment
it ends; the reasons travel with the placement and are stored with the attempt.

Everything is decided from `now` and what was settled before. Nothing here waits, sleeps or looks at a clock.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence

from ..errors import PermitError, ProviderError, TimedOut
from ..records import (
    Event,
    LimitReport,
    Outcome,
    Placement,
    PoolSnapshot,
    Task,
    Usage,
    Wait,
)
from ..settings import AgentConfig, Settings
from .allocation.planner import FREE, Advice
from .call_size import CallSizes
from .canaries import CANARY, canary_for, is_due
from .candidates import CandidateReport, PlacementResult, WaitCondition
from .connectivity import ConnectivityMonitor, HealthCheckResult
from .cost.budgets import Budgets
from .cost.price_table import PriceTable
from .cost.pricing import PriceBook
from .health.circuit_breaker import CLOSED
from .health.doubts import SECOND_LOOK_S
from .limits.attribution import NO_CANARY_S
from .limits.group import RateLimitGroup
from .outcomes import CallEnd, OutcomeRecorder
from .refusals import NEVER, Refusal
from .registry import Registry, make_agents, make_providers
from .retry_state import RetryState
from .routes import Option, Route, build_route
from .selection import ProviderSelector, Selection
from .snapshots import pool_snapshot
from .state import AgentState, Permit, ProviderState
from .verification import Verifier

FORCED_EVERY_S = 30.0
_NO_SLOT = PlacementResult(None, WaitCondition(None, -1))

_OK = Outcome.OK  # a name of its own is found sooner, at every decision


class ProviderLoadBalancer:
    """See the top of the file.

    `configured` names the providers that may be called (all enabled ones when None). `jitter` serves
    the breakers' timers and draws the probes. `budgets` None: no budget is kept. `canaries`: the caller makes
    them too, with `place_canary`.
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
    ) -> None:
        dice = jitter or random.Random(0)
        self.registry = Registry(
            settings,
            make_providers(settings, configured, dice),
            make_agents(settings, agents),
            PriceTable(settings, prices, catalogues),
            budgets,
            dice,
            now,
        )
        self.registry.canaries = canaries and settings.breaker.probe_spend
        self._sizes = CallSizes(self.registry)
        self._selector = ProviderSelector(self.registry, self._sizes)
        verifier = Verifier(self.registry)
        self._connectivity = ConnectivityMonitor(self.registry, verifier)
        self._outcomes = OutcomeRecorder(self.registry, self._connectivity, verifier)
        self._next_permit = 1
        self._stall_timeout_s = settings.routing.stall_timeout_s
        self._emergency_after_s = settings.routing.emergency_after_s
        self._quota_probe_s = settings.routing.quota_probe_s

    def __repr__(self) -> str:
        states = ", ".join(f"{p.name}={p.breaker.state}" for p in self.providers)
        return f"<ProviderLoadBalancer {states}, {self.in_flight} in flight of {self.slots}>"

    # ------------------------------------------------------------------ place

    def place(self, task: Task, now: float) -> Placement | Wait:
        """The single step for a task on its own. `Wait.until` infinity: no provider will ever serve it."""
        placement, blocked = self.try_place(task, self.route(task, now), RetryState(offered_at=now), now)
        if placement is not None:
            return placement
        return Wait(blocked.until, blocked.reasons) if blocked is not None else Wait(NEVER, ())

    def route(self, task: Task, now: float, tier: str = "") -> Route:
        """Every provider and model that may serve the task."""
        return build_route(task, self.providers, self.settings, now, tier)

    def try_place(
        self, task: Task, route: Route, retry: RetryState, now: float, advice: Advice = FREE
    ) -> PlacementResult:
        """`place` for dispatch: with the task's class, its advice, and what it remembers."""
        if not self.registry.free_slots:
            return _NO_SLOT
        self.registry.rescore_if_due(now)
        report = self._selector.evaluate_candidates(task, route, retry, now, advice)
        selection = self._selector.select(task, route, retry, now, report)
        if selection is None:
            if advice.avoid and report.over_budget:  # the option to avoid may be the one that can be paid
                return self.try_place(task, route, retry, now)
            return PlacementResult(None, report.wait_condition(now, now + self._emergency_after_s))
        return PlacementResult(
            self._grant(selection, task, route, retry, now, report), self._foreseen(selection, report, now)
        )

    def awaiting_probe(self, now: float) -> list[ProviderState]:
        """Providers whose breaker is half-open, or that 429s have held, and that may try one call now."""
        return [
            p
            for p in self.registry.providers
            if ((p.breaker.state is not CLOSED and p.breaker.admits(now)) or _sends_one_first(p, now))
            and self._selector.eligibility.of_provider(p, now) is None
        ]

    def try_probe(
        self, task: Task, route: Route, retry: RetryState, provider: ProviderState, now: float
    ) -> Placement | None:
        """Place a task as the provider's probe, if it may go there now."""
        report = self._selector.evaluate_candidates(task, route, retry, now)
        selection = self._selector.select_probe(provider, report)
        return None if selection is None else self._grant(selection, task, route, retry, now, report)

    def place_canary(self, name: str, now: float) -> Placement | None:
        """A request of one token as the provider's probe, where one is due: see `canaries.py`.

        It is settled like any placement, and is no task's.
        """
        provider = self.by_name[name]
        due = is_due(self.registry, provider)
        limited = self._group_in_need_of_a_canary(provider, now)
        if not (due or limited is not None) or not self.registry.free_slots:
            return None
        if self._selector.eligibility.of_provider(provider, now, for_canary=True) is not None:
            return None
        task = canary_for(self.registry, provider, now, None if due else limited)
        route, retry = self.route(task, now), RetryState(offered_at=now)
        report = self._selector.evaluate_candidates(task, route, retry, now, for_canary=True)
        selection = self._selector.select_probe(provider, report, CANARY)
        if selection is not None:
            placement = self._grant(selection, task, route, retry, now, report)
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

    def _foreseen(self, selection: Selection, report: CandidateReport, now: float) -> WaitCondition | None:
        """What keeps all similar tasks from now on, where the granted call was the last that could go."""
        if selection.forced or not self.registry.free_slots:
            return None
        after = self._selector.report_after(report, now)
        if after is None:
            return None
        condition = after.wait_condition(now, now + self._emergency_after_s)
        return condition if condition.common else None

    def _grant(
        self,
        selection: Selection,
        task: Task,
        route: Route,
        retry: RetryState,
        now: float,
        report: CandidateReport,
    ) -> Placement:
        """Reserve everything for the chosen option; from here on nothing may fail."""
        option, provider = selection.option, selection.option.provider
        max_tokens = self._sizes.max_tokens(option, task, retry)
        budget, bound, max_tokens = self._reserve_money(option, task, route, max_tokens, now)
        reservation = option.model.group.reserve(self._sizes.need(option, task, retry), now)
        agent = self._pick_agent(provider, task.task_type, retry.agent)
        probe = 0 if selection.forced else provider.breaker.acquire(now)
        number = self._next_permit
        self._next_permit += 1
        option.model.group.evidence.granted(number, now)
        timeout_s = provider.config.timeout_s
        if task.deadline_at is not None:
            timeout_s = max(0.001, min(timeout_s, task.deadline_at - now))
        lease = self.registry.prompt_cache.grant(
            retry.prefixes, provider.index, option.model.name, option.model.config.prompt_cache, now
        )
        permit = Permit(
            number, provider, option.model, agent, reservation, probe, selection.forced, now, task.task_type,
            task.prompt_chars, len(task.messages), timeout_s < provider.config.timeout_s, budget, bound or 0,
            lease, retry, in_flight=provider.in_flight + 1,
            may_move=route.options[0].provider is not route.options[-1].provider,
        )  # fmt: skip
        self.registry.permits[number] = permit
        provider.call_placed(number, now, self._stall_timeout_s)
        provider.quota.call_placed(now + self._quota_probe_s)
        option.model.call_placed(number, now + SECOND_LOOK_S)
        agent.in_flight += 1
        self.registry.free_slots -= 1
        if selection.forced:
            self.registry.emergency.call_placed(number, now + FORCED_EVERY_S)
        return Placement(
            number, task, provider.name, option.model.name, option.model.group.name, route.tier,
            agent.name, max_tokens, selection.word, report.reasons(), now, timeout_s, retry.attempt,
            option.warnings, bound or 0, selection.forced, lease.prefix.key if lease else "",
            lease.prefix.turns if lease and lease.marked else 0,
        )  # fmt: skip

    def _reserve_money(
        self, option: Option, task: Task, route: Route, max_tokens: int, now: float
    ) -> tuple[int | None, int | None, int]:
        """(reservation, upper bound in nano-dollars, max_tokens after clamping)."""
        price = self.registry.price_of(option.provider, option.model, now)
        bound = self._sizes.upper_bound(price, task, max_tokens)
        if self.registry.budgets is None:
            return None, bound, max_tokens
        names = (option.provider.name, task.batch, task.submitter)
        refusal = self.registry.budgets.check(now, *names, bound)
        if refusal is not None and route.defaulted_max_tokens:
            max_tokens = self._sizes.affordable(price, task, refusal.headroom_nanos) or max_tokens
            bound = self._sizes.upper_bound(price, task, max_tokens)
        return self.registry.budgets.reserve(now, *names, bound), bound, max_tokens

    def _pick_agent(self, provider: ProviderState, task_type: str, last_name: str) -> AgentState:
        """The agent that has the task already, else home and speciality, then speciality, then any."""
        last = self.agents.get(last_name)
        if last is not None and last.in_flight < last.slots:
            return last
        best, best_rank = next(iter(self.agents.values())), (-1, -1)
        for agent in self.agents.values():
            free = agent.slots - agent.in_flight
            if free <= 0:
                continue
            special = task_type in agent.task_types
            rank = (2 * special + (agent.home == provider.name), free)
            if rank > best_rank:
                best, best_rank = agent, rank
        return best

    # ------------------------------------------------------------------ settle

    def settle(
        self,
        permit: int,
        outcome: Outcome,
        now: float,
        *,
        latency_s: float = 0.0,
        usage: Usage | None = None,
        error: ProviderError | None = None,
        limits: Sequence[LimitReport] = (),
    ) -> int | None:
        """One attempt ended. Returns its cost in nano-dollars, None where the price is unknown.

        Raises PermitError, and changes nothing, for a permit that is not out.
        """
        registry = self.registry
        held = registry.permits.pop(permit, None)
        if held is None:
            raise PermitError(f"permit {permit} is not out: settled before, or never issued")
        if held.lease is not None:
            registry.prompt_cache.settle(held.lease, usage)
        provider = held.provider
        provider.call_ended(
            permit, now, self._stall_timeout_s, ok=outcome is _OK, timed_out=isinstance(error, TimedOut)
        )
        held.agent.in_flight -= 1
        held.agent.done += outcome is _OK
        registry.free_slots += 1
        registry.emergency.call_ended(permit)
        return self._outcomes.record(held, CallEnd(outcome, latency_s, usage, error, limits), now)

    # ------------------------------------------------------------------ commands

    def assume_full_concurrency(self) -> None:
        """Every provider is known to carry as many calls as it may hold: a replay is no cold start."""
        for provider in self.providers:
            provider.concurrency.assume_full()

    def set_weights(self, weights: Mapping[str, float], now: float) -> None:
        """Take over base weights; names that are not configured here are ignored."""
        for name, weight in weights.items():
            if name in self.by_name:
                self.by_name[name].weight = weight
        self.registry.rescore(now)

    def resume(self, name: str, now: float) -> None:
        """Lift a pause, a quota hold and a refused key: somebody says that it works again."""
        self.by_name[name].resume(now)
        self.registry.routes_version += 1

    def next_health_check_at(self, name: str, asked_at: float, now: float) -> float:
        """When the provider's free call is due; `asked_at` is when the last one began."""
        return self._connectivity.next_health_check_at(self.by_name[name], asked_at, now)

    def record_health_check(
        self, name: str, found: HealthCheckResult, asked_at: float, now: float, models: Collection[str] = ()
    ) -> bool:
        """A free call has ended, with these models. Whether something may go now that could not before."""
        return self._connectivity.record_health_check(self.by_name[name], found, asked_at, now, models)

    def take_abandoned(self, now: float) -> list[int]:
        """The permits of calls that will not be answered any more; each is named once."""
        return self._connectivity.take_abandoned(now)

    def close_breaker(self, name: str) -> None:
        self.by_name[name].breaker.forgive()

    def jumped(self, seconds: float, now: float) -> None:
        """The clock leapt (a laptop slept): calls that were out then say nothing about anybody."""
        self._connectivity.jumped(seconds, now)

    def note_states(self, now: float) -> None:
        """Emit one event for each provider whose condition has changed."""
        for provider in self.providers:
            self.registry.status.report(provider, now)

    # ------------------------------------------------------------------ looking

    def gate(self, provider: ProviderState, now: float) -> Refusal | None:
        """Why no task at all may go to the provider now; None when one may."""
        return self._selector.eligibility.of_provider(provider, now)

    def take_events(self) -> list[Event]:
        """The events since last asked."""
        return self.registry.events.take()

    def snapshot(self, now: float) -> PoolSnapshot:
        """Everything a page shows, waiting tasks left out: dispatch adds those."""
        self.registry.rescore(now)
        return pool_snapshot(self.registry, self._selector.eligibility, now)

    @property
    def settings(self) -> Settings:
        return self.registry.settings

    @property
    def providers(self) -> list[ProviderState]:
        return self.registry.providers

    @property
    def by_name(self) -> Mapping[str, ProviderState]:
        return self.registry.by_name

    @property
    def agents(self) -> Mapping[str, AgentState]:
        return self.registry.agents

    @property
    def slots(self) -> int:
        """Calls in flight at most, over all agents."""
        return self.registry.slots

    @property
    def offline_since(self) -> float | None:
        """Since when no provider can be reached; None while one can."""
        return self.registry.network.offline_since

    @property
    def in_flight(self) -> int:
        return len(self.registry.permits)


def _sends_one_first(provider: ProviderState, now: float) -> bool:
    """Whether one of its model groups is open again after a hold, and the first call has not gone."""
    for group in provider.groups.values():  # at every decision
        evidence = group.evidence
        if evidence.holds and now >= evidence.first_until and group.closed(now) is None:
            return True
    return False
