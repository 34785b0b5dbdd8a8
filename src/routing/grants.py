"""What a selected option reserves: money, limits, an agent's slot and a permit, and what that means for
others."""

from __future__ import annotations

import math
from dataclasses import replace

from ..records import FLEX, Placement, Task
from .call_size import CallSizes
from .candidates import CandidateReport, WaitCondition
from .eligibility import Eligibility
from .health.doubts import SECOND_LOOK_S
from .refusals import GROUP, Refusal
from .registry import Registry
from .retry_state import RetryState
from .routes import Option, Route
from .selection import Selection
from .state import AgentState, Permit, ProviderState

FORCED_EVERY_S = 30.0
FLEX_TIMEOUT_S = 900.0  # what OpenAI recommends for service tier flex
FLEX_LEAST_S = 2 * FLEX_TIMEOUT_S  # before a deadline: one call that ends in vain, and as much for others


def service_tier_of(option: Option, task: Task, retry: RetryState, now: float) -> str:
    """FLEX where the task asks for it, its model takes it, and its deadline leaves the time; else empty."""
    if task.service_tier != FLEX or retry.is_standard:
        return ""
    if not option.provider.config.flex or option.model.config.flex is None:
        return ""
    is_near = task.deadline_at is not None and task.deadline_at - now < FLEX_LEAST_S
    return "" if is_near else FLEX


class Grants:
    """Makes placements of selections. Permits are numbered from 1 up, in the order of placing."""

    def __init__(self, registry: Registry, sizes: CallSizes, eligibility: Eligibility) -> None:
        self._registry, self._sizes, self._eligibility = registry, sizes, eligibility
        self._emergency_after_s = registry.settings.routing.emergency_after_s
        self._next_permit = 1
        self._stall_timeout_s = registry.settings.routing.stall_timeout_s
        self._quota_probe_s = registry.settings.routing.quota_probe_s

    def grant(
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
        agent = self._pick_agent(provider, task, retry.agent)
        probe = 0 if selection.forced else provider.breaker.acquire(now)
        number = self._next_permit
        self._next_permit += 1
        option.model.group.evidence.granted(number, now)
        timeout_s = provider.config.timeout_s
        service_tier = (
            service_tier_of(option, task, retry, now) if probe <= 0 and not selection.forced else ""
        )
        if service_tier:
            timeout_s = max(timeout_s, FLEX_TIMEOUT_S)
        if task.deadline_at is not None:
            timeout_s = max(0.001, min(timeout_s, task.deadline_at - now))
        lease = self._registry.prompt_cache.grant(
            retry.prefixes, provider.index, option.model.name, option.model.config.prompt_cache, now
        )
        permit = Permit(
            number, provider, option.model, agent, reservation, probe, selection.forced, now, task.task_type,
            task.text_chars, len(task.messages),
            bool(service_tier) or timeout_s < provider.config.timeout_s, budget, bound or 0, lease,
            retry, in_flight=provider.in_flight + 1,
            has_media=bool(task.media), embeds=task.embeds, is_flex=bool(service_tier),
            may_move=route.options[0].provider is not route.options[-1].provider,
        )  # fmt: skip
        self._hold(permit, now)
        return Placement(
            number, task, provider.name, option.model.name, option.model.group.name, route.tier,
            agent.name, max_tokens, selection.word, report.reasons(), now, timeout_s, retry.attempt,
            option.warnings, bound or 0, selection.forced, lease.prefix.key if lease else "",
            lease.prefix.turns if lease and lease.marked else 0, service_tier,
        )  # fmt: skip

    def adopt(self, placed: Placement, route: Route, retry: RetryState, now: float) -> Placement | None:
        """Reserve everything for a call that an earlier leader has `placed` and that is still in flight.

        Whether it fits or not, since it counts at its provider anyway. None, with nothing changed, where its
        provider or model is not configured any more.
        """
        task = placed.task
        option = next(
            (o for o in route.options if (o.provider.name, o.model.name) == (placed.provider, placed.model)),
            None,
        )
        if option is None:
            return None
        budgets, number = self._registry.budgets, self._next_permit
        self._next_permit += 1
        names = (placed.provider, task.batch, task.submitter)
        permit = Permit(
            number, option.provider, option.model, self._pick_agent(option.provider, task, placed.agent),
            option.model.group.reserve(self._sizes.need(option, task, retry), now), 0, placed.forced,
            placed.at, task.task_type, task.text_chars, len(task.messages),
            placed.timeout_s < option.provider.config.timeout_s,
            None if budgets is None else budgets.adopt(now, *names, placed.reserved_nanos),
            placed.reserved_nanos, None, retry, in_flight=option.provider.in_flight + 1,
            has_media=bool(task.media), embeds=task.embeds, is_flex=bool(placed.service_tier),
        )  # fmt: skip
        self._hold(permit, now)
        return replace(placed, permit=number, agent=permit.agent.name)

    def _hold(self, permit: Permit, now: float) -> None:
        """The call of this permit is in flight from now on."""
        provider, number = permit.provider, permit.number
        self._registry.permits[number] = permit
        provider.call_placed(number, now, self._stall_timeout_s)
        if permit.is_flex:
            permit.seen_from = math.inf
            provider.unseen += 1
        provider.quota.call_placed(now + self._quota_probe_s)
        permit.model.call_placed(number, now + SECOND_LOOK_S)
        permit.agent.in_flight += 1
        self._registry.free_slots -= 1
        if permit.forced:
            self._registry.emergency.call_placed(number, now + FORCED_EVERY_S)

    def foresee(self, selection: Selection, report: CandidateReport, now: float) -> WaitCondition | None:
        """What keeps all similar tasks from now on, where the granted call was the last that could go."""
        if selection.forced or self._registry.free_slots <= 0:
            return None
        after = self._report_after(report, now)
        if after is None:
            return None
        condition = after.wait_condition(now, now + self._emergency_after_s)
        return condition if condition.common else None

    def _report_after(self, granted: CandidateReport, now: float) -> CandidateReport | None:
        """The report of a similar task now that the only eligible option was granted.

        None where a similar task has to be evaluated itself. What refused the other options was not about
        the granted task alone and still holds.
        """
        if granted.own or len(granted.eligible) != 1:
            return None
        option = granted.eligible[0]
        refusal = self._eligibility.of_provider(option.provider, now)
        if refusal is None:
            closed = option.model.group.closed(now)
            if closed is None:
                return None
            refusal = Refusal(closed.kind, closed.until, GROUP, closed.detail)
        report = CandidateReport(granted.route)
        place = granted.route.options.index(option)
        report.refused = [*granted.refused[:place], (option, refusal), *granted.refused[place:]]
        return report

    def _reserve_money(
        self, option: Option, task: Task, route: Route, max_tokens: int, now: float
    ) -> tuple[int | None, int | None, int]:
        """(reservation, upper bound in nano-dollars, max_tokens after clamping)."""
        price = self._registry.price_of(option.provider, option.model, now)
        bound = self._sizes.upper_bound(price, task, option.provider, max_tokens)
        if self._registry.budgets is None:
            return None, bound, max_tokens
        names = (option.provider.name, task.batch, task.submitter)
        refusal = self._registry.budgets.check(now, *names, bound)
        if refusal is not None and route.defaulted_max_tokens:
            headroom = refusal.headroom_nanos
            max_tokens = self._sizes.affordable(price, task, option.provider, headroom) or max_tokens
            bound = self._sizes.upper_bound(price, task, option.provider, max_tokens)
        return self._registry.budgets.reserve(now, *names, bound), bound, max_tokens

    def _pick_agent(self, provider: ProviderState, task: Task, last_name: str) -> AgentState:
        """The one that the task names or has already, else home and speciality, then speciality, then any."""
        agents = self._registry.agents
        if task.agent and (named := self._named_agent(task.agent)):
            return named
        last = agents.get(last_name)
        if last is not None and last.in_flight < last.slots:
            return last
        best, best_fit, most_free = next(iter(agents.values())), -1, 0
        for agent in agents.values():
            free = agent.slots - agent.in_flight
            if free <= 0:
                continue
            fit = 2 * (task.task_type in agent.task_types) + (agent.home == provider.name)
            if fit > best_fit or (fit == best_fit and free > most_free):
                best, best_fit, most_free = agent, fit, free
        return best

    def _named_agent(self, name: str) -> AgentState | None:
        """The agent of this name, or the numbered copy with most free slots; None: none has slots.

        It takes the task although its own slots are in use: the pool has a free one.
        """
        agents = self._registry.agents
        if name in agents:  # beside it, `NAME-2` is another agent and no copy
            return agents[name]
        copies = (agent for agent in agents.values() if agent.kind == name)
        return max(copies, key=lambda agent: agent.slots - agent.in_flight, default=None)
