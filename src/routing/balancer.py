"""`ProviderLoadBalancer`: which provider, model and agent serve a task, decided in one synchronous step.

    place(task, now)    -> Placement | Wait     reserves everything the call needs, or nothing at all
    settle(permit, ...) -> None                 gives back what was not used; exactly once a permit
    snapshot(now)       -> PoolSnapshot         what a page shows

Three levels. (1) The preferred provider of the task's type, waited for up to `spill_after_s`. (2) The
others by smooth weighted round-robin over their scores. (3) The emergency provider, through an open
breaker, when no other is expected in time: one forced call at a time for the whole pool.

A provider is a candidate when it is configured, not paused, its key works, its breaker admits, it is
not suspect, holds less than its share of all slots, its limits have room, the budget allows the call
and the task has not just failed there. Each "no" carries a reason and, where one is known, the moment
it ends; the reasons travel with the placement and are stored with the attempt.

Everything is decided from `now` and what was settled before. Nothing here waits, sleeps or looks at a clock.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..config import AgentRow, Settings
from ..errors import (
    AuthFailed,
    ModelUnavailable,
    Overloaded,
    PermitError,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    Unreachable,
)
from ..records import Candidate, Event, LimitReport, Outcome, Placement, PoolSnapshot, Task, Usage, Wait
from .breaker import BreakerState
from .budgets import Budgets, affordable_max_tokens
from .limits import Need
from .pricing import CompiledPrice, PriceBook, catalogue_of
from .routes import Option, Route, build_route
from .scoring import RoundRobin, final_score, neutral_response_s, performance_multiplier, time_multiplier
from .snapshots import pool_snapshot, provider_condition
from .state import AgentState, Permit, ProviderState

EXHAUSTED_PROBE_S = 900.0  # a quota whose reset is unknown is tried again this often, one task at a time
NEVER = math.inf
BACKOFF_MAX_S = 60.0


@dataclass(slots=True)
class Memory:
    """What a task remembers of its earlier attempts, and how long it has waited."""

    offered_at: float
    order: tuple[float, ...] = ()  # its place in the queue: smaller goes first
    attempt: int = 1
    tried: int = 0  # bits of the providers that failed it
    tried_until: float = 0.0  # until then they are not asked again
    avoid: frozenset[str] = frozenset()  # models that can't serve it
    again: int = -1  # the provider that gets one more try at once
    max_tokens: int | None = None  # after an answer without text: more room
    agent: AgentState | None = None  # who served it last


class Blocked(NamedTuple):
    """Why a task could not be placed, in a form that dispatch can act on."""

    until: float | None  # None: something must settle; NEVER: no provider will ever serve it
    reasons: tuple[Candidate, ...]
    claim: tuple[Option, float] | None  # the model group it waits for with first claim, and until when
    settles: int  # bits of providers whose next settle may make room


_NO_SLOT = Blocked(None, (), None, -1)


class ProviderLoadBalancer:
    """See the top of the file.

    `configured` names the providers that may be called (all enabled ones when None). `jitter` serves
    the breakers' timers. `budgets` None: no budget is kept.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        now: float,
        configured: Collection[str] | None = None,
        agents: Sequence[AgentRow] | None = None,
        jitter: random.Random | None = None,
        prices: PriceBook | None = None,
        catalogues: Mapping[str, str | None] | None = None,
        budgets: Budgets | None = None,
    ) -> None:
        self.settings = settings
        jitter = jitter or random.Random(0)
        names = [n for n, row in settings.providers.items() if row.enabled]
        if configured is not None:
            names = [n for n in names if n in configured]
        self.providers = [
            ProviderState(i, n, settings.providers[n], settings, jitter) for i, n in enumerate(names)
        ]
        self.by_name = {p.name: p for p in self.providers}
        self.agents = _make_agents(settings.agents if agents is None else agents)
        self.slots = sum(a.slots for a in self.agents)
        self.free_slots = self.slots
        self.budgets = budgets
        self._prices = prices or PriceBook(lambda m: settings.model_row(m).price)
        self._catalogues = catalogues or {
            p.name: catalogue_of(p.name, p.row.wire, p.row.base_url) for p in self.providers
        }
        self._round_robin = RoundRobin(len(self.providers), settings.routing.credit_clamp)
        self._permits: dict[int, Permit] = {}
        self._next_permit = 1
        self._forced_permit = 0
        self._next_forced_at = 0.0
        self._score_checked_at = now
        self.routes_version = 0  # routes built before it changed are to be built again
        self.offline_since: float | None = None
        self.offline_windows: list[tuple[float, float]] = []
        self.events: list[Event] = []  # taken by `take_events`
        cap = settings.routing.max_share_of_slots if len(self.providers) > 1 else 1.0
        self._most_in_flight = max(1, int(cap * self.slots))
        self.rescore(now)

    def __repr__(self) -> str:
        states = ", ".join(f"{p.name}={p.breaker.state}" for p in self.providers)
        return f"<ProviderLoadBalancer {states}, {len(self._permits)} in flight of {self.slots}>"

    # ------------------------------------------------------------------ place

    def place(self, task: Task, now: float) -> Placement | Wait:
        """The single step for a task on its own. `Wait.until` infinity: no provider will ever serve it."""
        placed = self.try_place(task, self.route(task, now), Memory(offered_at=now), now)
        return placed if isinstance(placed, Placement) else Wait(placed.until, placed.reasons)

    def route(self, task: Task, now: float, tier: str = "") -> Route:
        """Every provider and model that may serve the task."""
        return build_route(task, self.providers, self.settings, now, tier)

    def try_place(self, task: Task, route: Route, memory: Memory, now: float) -> Placement | Blocked:
        """`place` for dispatch: with the task's class and what it remembers of earlier attempts."""
        if not self.free_slots:
            return _NO_SLOT
        self._expire_history(now)
        survey = _Survey()
        for option in route.options:
            self._survey(option, task, route, memory, now, survey)
        for name, why in route.excluded:
            survey.reasons.append(Candidate(name, "", 0.0, why))
        chosen = self._choose(task, route, memory, now, survey)
        if chosen is None:
            return survey.blocked()
        return self._grant(chosen, task, route, memory, now, survey)

    def _survey(
        self, option: Option, task: Task, route: Route, memory: Memory, now: float, survey: _Survey
    ) -> None:
        """Ask one option; note it as eligible, or why it is out and until when."""
        provider = option.provider
        why, until = self.gate(provider, now)
        if not why:
            why, until = self._gate_for_task(option, task, route, memory, now, survey)
        if why:
            survey.refuse(option, why, until)
            return
        score = provider.score * provider.breaker.ramp(now)
        survey.accept(option, score)

    def gate(self, provider: ProviderState, now: float) -> tuple[str, float | None]:
        """Why no task at all may go to the provider now, and until when; ("", now) when one may."""
        if self.offline_since is not None:
            return "offline", None
        if provider.paused:
            return "paused", None
        if provider.misconfigured:
            return provider.misconfigured, None if self.all_misconfigured else NEVER
        if now < provider.exhausted_until:
            return provider.exhausted_reason, provider.exhausted_until
        if now < provider.backoff_until:
            return "overloaded", provider.backoff_until
        breaker = provider.breaker
        if not breaker.admits(now):
            return f"breaker {breaker.state}", breaker.next_chance(now)
        in_flight = provider.in_flight
        if in_flight:
            if provider.silent_since(now, self.settings.routing.suspect_after_s) is not None:
                return "suspect: calls out, nothing back", None
            if in_flight >= self._most_in_flight:
                return "holds its share of all slots", None
            if in_flight >= max(1.0, breaker.ramp(now) * self._most_in_flight):
                return "recovering: calls are let in slowly", None
            if provider.exhausted_until and not provider.exhausted_wait_known:
                return provider.exhausted_reason, None  # one probing task at a time
        return "", now

    def _gate_for_task(
        self, option: Option, task: Task, route: Route, memory: Memory, now: float, survey: _Survey
    ) -> tuple[str, float | None]:
        """Why this task may not go there, although another might."""
        provider, model = option.provider, option.model
        if model.out:
            return model.out, NEVER
        if model.name in memory.avoid or task.prompt_chars > option.most_chars:
            return f"the task does not fit {model.name}", NEVER
        if provider.weight <= 0 and not route.pinned:
            return "weight is 0", None
        if memory.tried & provider.bit and now < memory.tried_until and memory.again != provider.index:
            return "has just failed this task", memory.tried_until
        group = model.group
        claim = group.claim
        if claim is not None and memory.order and claim[0] < memory.order and now < claim[1]:
            return "an older task waits for its room", claim[1]
        why, until = group.closed(now)
        if why:
            return _limit_words(provider.name, why), until
        need = self._need(option, task, memory)
        dimension, wait_s = group.wait(need, now)
        if wait_s:
            survey.offer_claim(option, now + wait_s)
            return _limit_words(provider.name, dimension), now + wait_s
        return self._gate_by_budget(option, task, route, memory, now)

    def _need(self, option: Option, task: Task, memory: Memory) -> Need:
        estimator = option.provider.estimator(task.task_type)
        max_tokens = memory.max_tokens or option.max_tokens
        return Need(
            estimator.input_tokens(task.prompt_chars, len(task.messages)),
            estimator.output_tokens(max_tokens),
            max_tokens,
        )

    def _gate_by_budget(
        self, option: Option, task: Task, route: Route, memory: Memory, now: float
    ) -> tuple[str, float | None]:
        if self.budgets is None:
            return "", now
        price = self._price(option, now)
        max_tokens = memory.max_tokens or option.max_tokens
        bound = self._upper_bound(price, task, max_tokens)
        refusal = self.budgets.check(now, option.provider.name, task.batch, task.submitter, bound)
        if refusal is None:
            return "", now
        if refusal.in_flight:
            return refusal.reason, None
        if route.defaulted_max_tokens and self._clamped(option, task, price, refusal.headroom_nanos):
            return "", now
        return refusal.reason, refusal.until

    def _clamped(
        self, option: Option, task: Task, price: CompiledPrice | None, headroom_nanos: int
    ) -> int | None:
        """The max_tokens that the budget still affords, where the task asked for none; None: too few."""
        if price is None:
            return None
        floor = self.settings.budgets.min_max_tokens
        return affordable_max_tokens(price, task.prompt_bytes, len(task.messages), headroom_nanos, floor)

    def _upper_bound(self, price: CompiledPrice | None, task: Task, max_tokens: int) -> int | None:
        if price is None:
            return None
        return price.upper_bound_nanos(task.prompt_bytes, len(task.messages), max_tokens)

    def _choose(
        self, task: Task, route: Route, memory: Memory, now: float, survey: _Survey
    ) -> _Choice | None:
        """Levels one to three; None: wait."""
        options = survey.eligible
        if memory.tried:
            fresh = [o for o in options if not memory.tried & o.provider.bit]
            options = fresh or options
        if memory.again >= 0:
            same = [o for o in options if o.provider.index == memory.again] or [
                o for o in survey.eligible if o.provider.index == memory.again
            ]
            if same and same[0].provider.breaker.state is BreakerState.CLOSED:
                return _Choice(same[0], "retry", forced=False)
        preferred = route.prefer if self._prefers(route) else -1
        if preferred >= 0 and not memory.tried & (1 << preferred):
            wanted = next((o for o in options if o.provider.index == preferred), None)
            if wanted is not None and wanted.provider.breaker.ramp(now) >= 1.0:
                self._take_turn(options, survey, wanted)
                return _Choice(wanted, "preferred", forced=False)
            if wanted is None and self._worth_waiting(preferred, task, memory, now, survey):
                return None
        if options:
            chosen = self._take_turn(options, survey, None)
            return _Choice(chosen, self._word(chosen, preferred, memory), forced=False)
        return self._emergency(task, now, survey)

    def _prefers(self, route: Route) -> bool:
        return route.prefer >= 0 and not route.pinned and self.providers[route.prefer].weight > 0

    def _worth_waiting(self, preferred: int, task: Task, memory: Memory, now: float, survey: _Survey) -> bool:
        """Whether the preferred provider may come free before the task spills to another."""
        spill_at = memory.offered_at + self.settings.routing.spill_after_s
        if now >= spill_at or (task.deadline_at is not None and task.deadline_at - now < 10.0):
            return False
        until = survey.until_of(self.providers[preferred])
        if until is not None and until > spill_at:
            return False
        survey.wake_by(spill_at)
        return True

    def _take_turn(self, options: list[Option], survey: _Survey, wanted: Option | None) -> Option:
        """One step of the round-robin among `options`; a preference is charged to it as well."""
        indices = [o.provider.index for o in options]
        if len(set(indices)) < len(indices):  # several pinned models of one provider: the first counts
            options = list({o.provider.index: o for o in reversed(options)}.values())[::-1]
            indices = [o.provider.index for o in options]
        scores = [survey.scores[o.provider.index] for o in options]
        if self.settings.routing.cost_weight:
            scores = self._weigh_price(options, scores)
        forced = wanted.provider.index if wanted is not None else None
        index = self._round_robin.turn(indices, scores, forced)
        return wanted or options[indices.index(index)]

    def _weigh_price(self, options: list[Option], scores: list[float]) -> list[float]:
        """Scores divided by how much dearer than the cheapest an answer of max_tokens would be."""
        costs = []
        for option in options:
            price = option.model.price
            costs.append(price.upper_bound_nanos(0, 1, option.max_tokens) if price else None)
        cheapest = min((c for c in costs if c), default=0)
        if not cheapest:
            return scores
        weight = self.settings.routing.cost_weight
        return [
            score / (1.0 + weight * (cost / cheapest - 1.0)) if cost else score
            for score, cost in zip(scores, costs, strict=True)
        ]

    @staticmethod
    def _word(chosen: Option, preferred: int, memory: Memory) -> str:
        if chosen.provider.half_open:
            return "probe"
        if memory.tried:
            return "failover"
        return "spilled" if preferred >= 0 else "weighted"

    def _emergency(self, task: Task, now: float, survey: _Survey) -> _Choice | None:
        """Level three: through an open breaker, when nobody is expected in time."""
        if self._forced_permit or self.offline_since is not None:
            return None
        latest = now + self.settings.routing.emergency_after_s
        if task.deadline_at is not None:
            latest = min(latest, task.deadline_at)
        if survey.expected_before(latest):
            return None
        refused = [o for o, why, _ in survey.refused if why.startswith("breaker open")]
        if not refused:
            return None
        wanted = self.settings.routing.emergency_provider
        refused.sort(key=lambda o: (o.provider.name != wanted, -o.provider.weight))
        option = refused[0]
        if option.model.group.closed(now)[0] or option.provider.in_flight >= self._most_in_flight:
            return None
        if now < self._next_forced_at:
            survey.wake_by(self._next_forced_at)
            return None
        return _Choice(option, "forced", forced=True)

    def _grant(
        self, choice: _Choice, task: Task, route: Route, memory: Memory, now: float, survey: _Survey
    ) -> Placement:
        """Reserve everything for the chosen option; from here on nothing may fail."""
        option, provider = choice.option, choice.option.provider
        max_tokens = memory.max_tokens or option.max_tokens
        budget, bound, max_tokens = self._reserve_money(option, task, route, max_tokens, now)
        reservation = option.model.group.reserve(self._need(option, task, memory), now)
        agent = self._pick_agent(provider, task.task_type, memory.agent)
        probe = 0 if choice.forced else provider.breaker.acquire(now)
        number = self._next_permit
        self._next_permit += 1
        permit = Permit(
            number, provider, option.model, agent, reservation, probe, choice.forced, now,
            task.task_type, task.prompt_chars, len(task.messages), budget, bound or 0,
        )  # fmt: skip
        self._permits[number] = permit
        if not provider.in_flight:
            provider.heard_at = now
        provider.in_flight += 1
        agent.in_flight += 1
        self.free_slots -= 1
        if choice.forced:
            self._forced_permit = number
            self._next_forced_at = now + self.settings.breaker.recovery_timeout_s
        if provider.exhausted_until and not provider.exhausted_wait_known:
            provider.exhausted_until = now + EXHAUSTED_PROBE_S
        timeout_s = provider.row.timeout_s
        if task.deadline_at is not None:
            timeout_s = max(0.001, min(timeout_s, task.deadline_at - now))
        return Placement(
            number, task, provider.name, option.model.name, option.model.group.name, route.tier,
            agent.name, max_tokens, choice.word, tuple(survey.reasons), now, timeout_s, memory.attempt,
            option.warnings, bound or 0, choice.forced, task.temperature if option.send_temperature else None,
        )  # fmt: skip

    def _reserve_money(
        self, option: Option, task: Task, route: Route, max_tokens: int, now: float
    ) -> tuple[int | None, int | None, int]:
        """(reservation, upper bound in nano-dollars, max_tokens after clamping)."""
        price = self._price(option, now)
        bound = self._upper_bound(price, task, max_tokens)
        if self.budgets is None:
            return None, bound, max_tokens
        names = (option.provider.name, task.batch, task.submitter)
        refusal = self.budgets.check(now, *names, bound)
        if refusal is not None and route.defaulted_max_tokens:
            max_tokens = self._clamped(option, task, price, refusal.headroom_nanos) or max_tokens
            bound = self._upper_bound(price, task, max_tokens)
        return self.budgets.reserve(now, *names, bound), bound, max_tokens

    def _price(self, option: Option, now: float) -> CompiledPrice | None:
        return self.price_of(option.provider, option.model.name, now)

    def price_of(self, provider: ProviderState, model: str, now: float) -> CompiledPrice | None:
        """The model's price at this provider, None where it is unknown."""
        state = provider.model(model, self.settings, now)
        price = state.price
        if price is None or not price.valid_from <= now < price.valid_until:
            price = state.price = self._prices.price(self._catalogues.get(provider.name), model, now)
        return price

    def baseline_nanos(self, usage: Usage, now: float) -> int | None:
        """What the same tokens would have cost on the stated baseline model."""
        model = self.settings.baseline_model
        wire = self.settings.model_row(model).wire
        price = self._prices.price(wire, model, now)
        return None if price is None else price.cost_nanos(usage)

    def _pick_agent(self, provider: ProviderState, task_type: str, last: AgentState | None) -> AgentState:
        """The agent that has the task already, else home and speciality, then speciality, then any."""
        if last is not None and last.in_flight < last.slots:
            return last
        best, best_rank = self.agents[0], (-1, -1)
        for agent in self.agents:
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
        held = self._permits.pop(permit, None)
        if held is None:
            raise PermitError(f"permit {permit} is not out: settled before, or never issued")
        provider = held.provider
        provider.in_flight -= 1
        provider.heard_at = now
        held.agent.in_flight -= 1
        held.agent.done += outcome is Outcome.OK
        self.free_slots += 1
        if permit == self._forced_permit:
            self._forced_permit = 0
        cost = self._settle_money(held, outcome, usage, error, now)
        self._settle_limits(held, outcome, usage, error, limits, now)
        self._count(provider, outcome, usage, cost, error)
        healthy = self._health_of(provider, outcome, error)
        if healthy is not None and (healthy or not isinstance(error, AuthFailed)):
            provider.history.record(healthy, latency_s, now)
        provider.breaker.settle(healthy, held.probe, now, forced=held.forced)
        self._note_reachability(provider, outcome, error, held.placed_at, now)
        if outcome is Outcome.OK:
            self._succeeded(held, usage)
        elif error is not None:
            self._apply_error(held, error, now)
        self.rescore(now)
        self.note_states(now)
        return cost

    def _settle_money(
        self, held: Permit, outcome: Outcome, usage: Usage | None, error: ProviderError | None, now: float
    ) -> int | None:
        uncertain = outcome is Outcome.UNCERTAIN and usage is None
        price = self.price_of(held.provider, held.model.name, held.placed_at)
        cost: int | None
        if usage is not None:
            cost = price.cost_nanos(usage) if price is not None else None
        elif uncertain:
            cost = held.upper_bound_nanos if price is not None else None
        else:
            cost = 0
        if self.budgets is not None and held.budget is not None:
            if cost == 0:
                self.budgets.cancel(held.budget)
            else:
                self.budgets.settle(held.budget, cost or 0, uncertain=uncertain)
        return cost

    def _settle_limits(
        self,
        held: Permit,
        outcome: Outcome,
        usage: Usage | None,
        error: ProviderError | None,
        limits: Sequence[LimitReport],
        now: float,
    ) -> None:
        group = held.model.group
        group.settle(held.reservation, usage, charged=outcome is Outcome.UNCERTAIN, now=now)
        if limits:
            group.learn(limits, held.reservation, now)
        answered = outcome is Outcome.OK or (error is not None and error.status is not None)
        if answered and group.unknown and not isinstance(error, RateLimited):
            group.answered_without_headers(now)
        if outcome is Outcome.OK:
            group.succeeded()

    @staticmethod
    def _count(
        provider: ProviderState, outcome: Outcome, usage: Usage | None, cost: int | None,
        error: ProviderError | None,
    ) -> None:  # fmt: skip
        provider.calls += 1
        if outcome is Outcome.OK:
            provider.succeeded += 1
        elif error is not None and error.counts_against_health:
            provider.failed += 1
        else:
            provider.neutral += 1
        if usage is not None:
            provider.prompt_tokens += usage.prompt_tokens
            provider.output_tokens += usage.output_tokens
        provider.cost_nanos += cost or 0
        if error is not None:
            provider.last_errors.appendleft(f"{error.kind}: {error.message[:200]}")

    @staticmethod
    def _health_of(provider: ProviderState, outcome: Outcome, error: ProviderError | None) -> bool | None:
        if outcome is Outcome.OK:
            return True
        if error is None:
            return None
        if isinstance(error, AuthFailed):
            return False if provider.key_worked else None
        return False if error.counts_against_health else None

    def _succeeded(self, held: Permit, usage: Usage | None) -> None:
        provider = held.provider
        provider.key_worked = True
        provider.misconfigured = ""
        provider.backoff_count = 0
        provider.exhausted_until = 0.0
        if usage is not None:
            provider.estimator(held.task_type).observe(held.chars, held.messages, usage)

    def _apply_error(self, held: Permit, error: ProviderError, now: float) -> None:
        """What the error means for calls to come: see the table of failures in the summary document."""
        provider, group = held.provider, held.model.group
        if isinstance(error, RateLimited):
            group.rate_limited(error.retry_after_s, held.reservation.sent_at, now)
        elif isinstance(error, QuotaExhausted):
            self._exhaust(held, error, now)
        elif isinstance(error, Overloaded):
            provider.backoff_count = min(provider.backoff_count + 1, 7)
            wait_s = error.retry_after_s or min(0.5 * 2.0**provider.backoff_count, BACKOFF_MAX_S)
            provider.backoff_until = max(provider.backoff_until, now + wait_s * _spread(held.number))
        elif isinstance(error, AuthFailed) and not provider.key_worked:
            provider.misconfigured = f"the key was refused: {error.message[:200]}"
        elif isinstance(error, ModelUnavailable):
            held.model.out = f"{held.model.name} is not available there"
            self._event(
                now, "model_unavailable", f"{provider.name}: {error.message[:200]}", provider, "alert"
            )

    def _exhaust(self, held: Permit, error: QuotaExhausted, now: float) -> None:
        reason = f"quota spent ({error.code or error.status})"
        if error.resets_at is not None:
            held.model.group.hold(error.resets_at, reason, now)
            self._event(now, "quota_exhausted", f"{held.provider.name}: {reason}", held.provider, "alert")
            return
        held.provider.exhausted_reason = reason
        held.provider.exhausted_wait_known = False
        held.provider.exhausted_until = max(held.provider.exhausted_until, now + EXHAUSTED_PROBE_S)

    # ------------------------------------------------------------------ offline

    def _note_reachability(
        self,
        provider: ProviderState,
        outcome: Outcome,
        error: ProviderError | None,
        placed_at: float,
        now: float,
    ) -> None:
        """All providers unreachable together is our network, not theirs."""
        if isinstance(error, Unreachable):
            if provider.unreachable_since is None:
                provider.unreachable_since = placed_at
        elif outcome is Outcome.OK or (error is not None and error.status is not None):
            self.reached(provider.name, now)
            return
        watched = [p for p in self.providers if not (p.paused or p.misconfigured)]
        since = [p.unreachable_since for p in watched]
        if self.offline_since is None and since and None not in since:
            self.offline_since = min(s for s in since if s is not None)
            for each in watched:
                each.breaker.forgive()
            self._event(now, "offline", "no provider can be reached: waiting for the network", None, "alert")

    def reached(self, name: str, now: float) -> None:
        """A connection to the provider was made: if the pool was offline, it is not any more."""
        self.by_name[name].unreachable_since = None
        if self.offline_since is not None:
            self.offline_windows.append((self.offline_since, now))
            self.offline_since = None
            for each in self.providers:
                each.breaker.forgive()
                each.unreachable_since = None
            self._event(now, "online", f"{name} can be reached again", None, "info")

    def was_offline(self, at: float) -> bool:
        """Whether a failure at `at` fell into a time without network: it costs no attempt."""
        if self.offline_since is not None and at >= self.offline_since:
            return True
        return any(start <= at <= end for start, end in self.offline_windows)

    # ------------------------------------------------------------------ steering

    def set_weights(self, weights: Mapping[str, float], now: float) -> None:
        """Take over base weights; names that are not configured here are ignored."""
        for name, weight in weights.items():
            if name in self.by_name:
                self.by_name[name].weight = weight
        self.rescore(now)

    def pause(self, name: str) -> None:
        """No new call to the provider; those in flight end."""
        self.by_name[name].paused = True

    def resume(self, name: str, now: float) -> None:
        """Lift a pause, a quota hold and a refused key: somebody says that it works again."""
        provider = self.by_name[name]
        provider.paused = False
        provider.misconfigured = ""
        provider.exhausted_until = 0.0
        for group in provider.groups.values():
            group.release(now)
        for model in provider.models.values():
            model.out = ""
        self.routes_version += 1

    def close_breaker(self, name: str) -> None:
        self.by_name[name].breaker.forgive()

    # ------------------------------------------------------------------ scores, events, snapshot

    def _expire_history(self, now: float) -> None:
        if now - self._score_checked_at >= 1.0:
            self.rescore(now)

    def rescore(self, now: float) -> None:
        """Recompute every live score from the window that ends now."""
        self._score_checked_at = now
        for provider in self.providers:
            provider.history.expire(now)
        neutral = neutral_response_s([p.history.avg_response_s for p in self.providers])
        for provider in self.providers:
            history = provider.history
            average = history.avg_response_s
            average = neutral if average is None else average
            provider.performance_multiplier = performance_multiplier(history.error_rate)
            provider.time_multiplier = time_multiplier(average)
            provider.score = final_score(provider.weight, history.error_rate, average)

    def note_states(self, now: float) -> None:
        """Emit one event for each provider whose condition has changed."""
        for provider in self.providers:
            state, reason, _ = provider_condition(provider, self.offline_since, now, self.settings)
            if state == provider.shown_state:
                continue
            level = "alert" if state in _ALERT_STATES or provider.shown_state in _ALERT_STATES else "info"
            was, provider.shown_state = provider.shown_state, state
            text = f"{provider.name} is {state}" + (f": {reason}" if reason else f" (was {was})")
            if state not in _QUIET_STATES or was not in _QUIET_STATES:
                self._event(now, f"provider_{state}", text, provider, level)

    def _event(self, now: float, kind: str, text: str, provider: ProviderState | None, level: str) -> None:
        self.events.append(Event(now, kind, text, provider.name if provider else "", "", level))

    def take_events(self) -> list[Event]:
        """The events since last asked."""
        taken, self.events = self.events, []
        return taken

    def snapshot(self, now: float) -> PoolSnapshot:
        """Everything a page shows, waiting tasks left out: dispatch adds those."""
        self.rescore(now)
        return pool_snapshot(self, now)

    @property
    def all_misconfigured(self) -> bool:
        """Whether no provider is left whose key works: nothing can be served until somebody steps in."""
        return all(p.misconfigured for p in self.providers)

    @property
    def in_flight(self) -> int:
        return len(self._permits)


_ALERT_STATES = frozenset({"open", "exhausted", "misconfigured"})
_QUIET_STATES = frozenset({"healthy", "degraded", "limited"})  # going to and fro between these is no news


class _Choice(NamedTuple):
    option: Option
    word: str
    forced: bool


class _Survey:
    """What asking every option of a task has brought."""

    __slots__ = ("claim", "eligible", "reasons", "refused", "scores", "wake_at")

    def __init__(self) -> None:
        self.eligible: list[Option] = []
        self.scores: dict[int, float] = {}
        self.reasons: list[Candidate] = []
        self.refused: list[tuple[Option, str, float | None]] = []
        self.claim: tuple[Option, float] | None = None
        self.wake_at = NEVER

    def accept(self, option: Option, score: float) -> None:
        self.eligible.append(option)
        self.scores[option.provider.index] = score
        self.reasons.append(Candidate(option.provider.name, option.model.name, score))

    def refuse(self, option: Option, why: str, until: float | None) -> None:
        self.refused.append((option, why, until))
        self.reasons.append(Candidate(option.provider.name, option.model.name, option.provider.score, why))

    def offer_claim(self, option: Option, until: float) -> None:
        if until < NEVER and (self.claim is None or until < self.claim[1]):
            self.claim = (option, until)

    def until_of(self, provider: ProviderState) -> float | None:
        """The earliest end of the provider's refusals; None: unknown."""
        ends = [until for option, _, until in self.refused if option.provider is provider]
        known = [until for until in ends if until is not None]
        return min(known) if known and len(known) == len(ends) else None

    def wake_by(self, at: float) -> None:
        self.wake_at = min(self.wake_at, at)

    def expected_before(self, latest: float) -> bool:
        """Whether any option is expected to come free by then; one that waits for a settle is."""
        return any(
            until <= latest if until is not None else not _indefinite(why) for _, why, until in self.refused
        )

    def blocked(self) -> Blocked:
        settles = 0
        until = self.wake_at
        for option, _, end in self.refused:
            if end is None or self.claim is not None:
                settles |= option.provider.bit
            if end is not None:
                until = min(until, end)
        for option in self.eligible:  # eligible, yet the task waits for its preferred provider
            settles |= option.provider.bit
        if until == NEVER and settles:
            return Blocked(None, tuple(self.reasons), self.claim, settles)
        return Blocked(until, tuple(self.reasons), self.claim, settles)


def _indefinite(why: str) -> bool:
    """Refusals that no settle will lift."""
    return why in ("paused", "weight is 0")


def _limit_words(provider: str, dimension: str) -> str:
    return f"{provider} {dimension.replace('_', ' ')}"


def _spread(number: int) -> float:
    """A factor of 0.8 to 1.2 from the permit's number: neighbours do not come back together."""
    return 0.8 + 0.4 * ((number * 0.618033988749895) % 1.0)


def _make_agents(rows: Sequence[AgentRow]) -> list[AgentState]:
    agents = []
    for row in rows:
        for copy in range(row.count):
            name = row.name if row.count == 1 else f"{row.name}-{copy + 1}"
            agents.append(AgentState(name, row))
    return agents
