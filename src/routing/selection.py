"""Which option serves a task now, in ordered steps.

`evaluate_candidates` asks the gates of `eligibility.py` about every option of the task's route. Then each
step selects an option, makes the task wait, or leaves the decision to the next step:

    retry here           the provider that gets one more try at once
    await cache writer   a call in flight writes the task's prefix to a cache that the task can use
    in order             the first model of the task's own order, or a wait for it, else the next one
    preferred            the preferred provider of the task's type, or a wait for it
    probe                a provider on trial: the sooner its state is known, the better
    cached               the best of the providers that have the task's prefix in their cache
    weighted             smooth weighted round-robin over the scores
    emergency            through an open breaker, when no other provider is expected in time

Nothing is reserved here.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from ..records import RefusalKind, Task
from .allocation.planner import FREE, Advice
from .call_size import CallSizes
from .candidates import PATIENCE, CandidateReport, preferred_wait_ends_at
from .cost.prompt_cache import Prefix
from .eligibility import Eligibility, last_to_end
from .health.circuit_breaker import CLOSED
from .refusals import NEVER, TASK, Refusal
from .registry import Registry
from .retry_state import RetryState
from .routes import Option, Route
from .state import ProviderState

REPAIR_WAIT_S = 15.0  # a wrong answer waits this long for its own model, then another provider starts anew
DEADLINE_NEAR_S = 10.0  # a task due within this time does not wait for its preferred provider


class Selection(NamedTuple):
    """The option that serves the task, and the step that selected it, as it is stored with the attempt."""

    option: Option
    word: str
    forced: bool = False


class _Wait(Enum):
    WAIT = "wait"


WAIT = _Wait.WAIT  # the task waits, whatever later steps would select


class _Candidates(NamedTuple):
    """What the steps decide from."""

    task: Task
    route: Route
    retry: RetryState
    report: CandidateReport
    options: list[Option]  # the eligible ones, without those that failed the task if others are left
    preferred: int  # the number of the provider that is worth waiting for; -1: none
    shared: Prefix | None  # the longest prefix that other tasks share


_new = tuple.__new__  # at every decision: a third of the time of a call of the class
_Step = Callable[[_Candidates, float], Selection | _Wait | None]


class ProviderSelector:
    """Evaluates the options of a task and selects one. All times are UTC epoch seconds."""

    def __init__(self, registry: Registry, sizes: CallSizes) -> None:
        self._registry, self._sizes = registry, sizes
        self._routing = registry.settings.routing
        self.eligibility = Eligibility(registry, sizes)
        self._steps: tuple[_Step, ...] = (
            self._retry_here, self._await_cache_writer, self._take_in_order, self._take_preferred,
            self._probe, self._take_cached, self._take_turn_by_weight, self._force,
        )  # fmt: skip

    # ------------------------------------------------------------------ evaluation

    def evaluate_candidates(
        self, task: Task, route: Route, retry: RetryState, now: float, advice: Advice = FREE,
        *, for_canary: bool = False,
    ) -> CandidateReport:  # fmt: skip
        """Every option of the route through its gates; those that `advice` reserves are refused."""
        report, gates = CandidateReport(route), self.eligibility
        budgets = self._registry.budgets
        avoid = self._heeded(task, route, retry, now, advice) if advice.avoid else 0
        for place, option in enumerate(route.options):
            provider = option.provider
            if avoid >> place & 1:
                report.refuse(option, Refusal(RefusalKind.RESERVED, advice.until, TASK))
                continue
            refusal = gates.of_provider(provider, now, for_canary=for_canary)
            if refusal is None:
                refusal = gates.of_task(option, task, route, retry, now)
            elif budgets is not None and refusal.until is not None:
                refusal = last_to_end(refusal, gates.of_budgets(option, task, route, retry, now))
            if refusal is not None:
                report.refuse(option, refusal)
                continue
            breaker = provider.breaker
            on_trial = provider.connection.probe_allowed or breaker.state is not CLOSED
            score = provider.score
            if breaker.slow_start_from is not None:
                score *= breaker.slow_start_share(now)
            report.admit(option, score, on_trial)
        return report

    def _heeded(self, task: Task, route: Route, retry: RetryState, now: float, advice: Advice) -> int:
        """Bits of the options that the task leaves to others: see `planner.py`."""
        if now >= advice.until or retry.tried or _is_near(task, now):
            return 0
        avoid = advice.avoid
        if self._prefers(route):
            for place, option in enumerate(route.options):
                if option.provider.index == route.prefer or option.provider.index in route.family:
                    avoid &= ~(1 << place)
        return avoid

    # ------------------------------------------------------------------ selection

    def select_probe(
        self, provider: ProviderState, report: CandidateReport, word: str = "probe"
    ) -> Selection | None:
        """The option of that provider, for a task that was drawn as its probe; None: it is not eligible."""
        wanted = _at(report.eligible, provider.index)
        best = report.route.best_rank
        if wanted is None or (best is not None and wanted.rank != best):
            return None  # a probe is no reason to leave the task's order of models
        return Selection(wanted, word)

    def select(
        self, task: Task, route: Route, retry: RetryState, now: float, report: CandidateReport
    ) -> Selection | None:
        """The first step that decides; None: the task waits, and `report` holds for what."""
        options = report.eligible
        if retry.tried:
            options = [o for o in options if not retry.tried & o.provider.bit] or options
        preferred = route.prefer if self._prefers(route) else -1
        shared = self._registry.prompt_cache.shared(retry.prefixes, now) if retry.prefixes else None
        candidates = _new(_Candidates, (task, route, retry, report, options, preferred, shared))
        for step in self._steps:
            found = step(candidates, now)
            if found is not None:
                return None if found is WAIT else found
        return None

    def _retry_here(self, c: _Candidates, now: float) -> Selection | _Wait | None:
        retry = c.retry
        if retry.again < 0:
            return None
        same = _at(c.options, retry.again) or _at(c.report.eligible, retry.again)
        if same is not None:
            return Selection(same, "retry") if same.provider.breaker.state is CLOSED else None
        return WAIT if retry.turns and self._may_repair_here(c, now) else None

    def _may_repair_here(self, c: _Candidates, now: float) -> bool:
        """Whether the model that gave a wrong answer is expected to be free for its correction soon."""
        provider = self._registry.providers[c.retry.again]
        until = c.report.until_of(provider)
        if provider.breaker.state is not CLOSED or until == NEVER:
            return False
        if until is None:
            return provider.in_flight > 0  # its next settled call decides
        latest = now + REPAIR_WAIT_S
        if c.task.deadline_at is not None:
            latest = min(latest, c.task.deadline_at - DEADLINE_NEAR_S)
        if until > latest:
            return False
        c.report.wake_by(until)
        return True

    def _await_cache_writer(self, c: _Candidates, now: float) -> _Wait | None:
        if c.shared is None:
            return None
        providers = {option.provider.index for option in c.route.options}
        until, writers = self._registry.prompt_cache.written_by(c.shared, providers, now)
        deadline_at = c.task.deadline_at
        if not writers or (deadline_at is not None and deadline_at - until < DEADLINE_NEAR_S):
            return None
        c.report.wake_by(until)
        for index in writers:
            c.report.writers |= self._registry.providers[index].bit
        return WAIT

    def _take_in_order(self, c: _Candidates, now: float) -> Selection | _Wait | None:
        """The first model of the task's order, or a wait for it; then the next one that can serve."""
        best = c.route.best_rank
        if best is None:
            return None
        rank = min((option.rank for option in c.options), default=None)
        may_wait = rank != best and c.preferred >= 0 and not c.retry.tried & (1 << c.preferred)
        if may_wait and self._worth_waiting(c, now):
            return WAIT
        if rank is None:
            return None
        same = c._replace(options=[option for option in c.options if option.rank == rank])
        option = self._take_turn(same, None)
        if option.provider.on_trial:
            return Selection(option, "probe")
        return Selection(option, "preferred" if rank == best else _word(c))

    def _take_preferred(self, c: _Candidates, now: float) -> Selection | _Wait | None:
        preferred = c.preferred
        if c.route.family:
            return self._take_of_family(c, now)
        if preferred < 0 or c.retry.tried & (1 << preferred):
            return None
        wanted = _at(c.options, preferred)
        if wanted is None:
            return WAIT if self._worth_waiting(c, now) else None
        provider = wanted.provider
        if provider.breaker.slow_start_share(now) < 1.0:
            return None
        self._take_turn(c, wanted)
        return Selection(wanted, "probe" if provider.on_trial else "preferred")

    def _take_of_family(self, c: _Candidates, now: float) -> Selection | _Wait | None:
        """As `_take_preferred`, where several keys or endpoints are preferred alike: by weight among them."""
        rows = self._preferred_rows(c)
        options = [option for option in c.options if option.provider.index in rows]
        if options:
            return self._take_one_of_family(c, options, now)
        worth = [self._worth_waiting(c._replace(preferred=index), now) for index in rows]
        return WAIT if any(worth) else None

    def _take_one_of_family(self, c: _Candidates, options: list[Option], now: float) -> Selection | None:
        on_trial = next((option for option in options if option.provider.on_trial), None)
        steady = [o for o in options if o.provider.breaker.slow_start_share(now) >= 1.0]
        if on_trial is None and not steady:
            return None
        chosen = self._take_turn(c._replace(options=steady or options), on_trial)
        return Selection(chosen, "probe" if chosen.provider.on_trial else "preferred")

    def _preferred_rows(self, c: _Candidates) -> list[int]:
        """The providers of the preferred family that have not failed the task."""
        rows = [self._registry.providers[index] for index in c.route.family]
        return [row.index for row in rows if row.weight > 0 and not c.retry.tried & row.bit]

    def _probe(self, c: _Candidates, now: float) -> Selection | None:
        if not c.report.on_trial:
            return None
        trial = next((option for option in c.options if option.provider.on_trial), None)
        if trial is None:
            return None
        self._take_turn(c, trial)
        return Selection(trial, "probe")

    def _take_cached(self, c: _Candidates, now: float) -> Selection | None:
        """Not charged to the round-robin: tasks that share nothing keep their weights."""
        if c.shared is None or not c.options:
            return None
        warm = self._registry.prompt_cache.warm(c.shared, now)
        having = [option for option in c.options if option.provider.index in warm]
        if not having:
            return None
        return Selection(max(having, key=lambda option: option.provider.score), _word(c))

    def _take_turn_by_weight(self, c: _Candidates, now: float) -> Selection | None:
        return Selection(self._take_turn(c, None), _word(c)) if c.options else None

    def _force(self, c: _Candidates, now: float) -> Selection | None:
        """Through an open breaker, where no option is expected before `emergency_after_s` or the deadline."""
        registry, report = self._registry, c.report
        if registry.emergency.permit or registry.network.offline_since is not None:
            return None
        latest = now + self._routing.emergency_after_s
        if c.task.deadline_at is not None:
            latest = min(latest, c.task.deadline_at)
        if report.expected_before(latest):
            return None
        for option in self._by_emergency_rank(report, now):
            refusal = self.eligibility.of_task(option, c.task, c.route, c.retry, now)
            if refusal is not None:
                report.note(option, refusal)
                if refusal.until is not None:
                    report.wake_by(refusal.until)
                continue
            if now < registry.emergency.next_at:
                report.wake_by(registry.emergency.next_at)
                return None
            return Selection(option, "forced", forced=True)
        return None

    def _by_emergency_rank(self, report: CandidateReport, now: float) -> list[Option]:
        """The options behind an open breaker with a free slot, the emergency provider's first."""
        wanted = self._routing.emergency_provider
        found = [o for o, refusal in report.refused if refusal.kind is RefusalKind.BREAKER_OPEN]
        found.sort(key=lambda o: (o.provider.name != wanted, -o.provider.weight))
        return [
            option
            for option in found
            if (p := option.provider).in_flight < p.concurrency.limit and now >= p.backoff.until
        ]

    # ------------------------------------------------------------------ the preferred provider

    def _prefers(self, route: Route) -> bool:
        rows = route.family or (route.prefer,)
        return route.prefer >= 0 and any(self._registry.providers[index].weight > 0 for index in rows)

    def _worth_waiting(self, c: _Candidates, now: float) -> bool:
        """Whether the preferred provider may come free before the task spills to another.

        Where its slots are taken: for `preferred_wait_s`. Where its limits keep it, or the first reply that
        reports them: until `preferred_wait_ends_at`, unless the queue there takes longer anyway; then the
        excess goes elsewhere at once. So a pile keeps its preferences, and no provider idles for long.
        """
        if _is_near(c.task, now):
            return False
        provider, after_s = self._registry.providers[c.preferred], self._routing.preferred_wait_s
        until = c.report.until_of(provider)
        option = _at(c.route.options, c.preferred)
        if option is not None and _is_limited(option, until):
            # Half as long where the calls in flight keep it: their number may still grow.
            most_s = after_s * (PATIENCE if until is not None else PATIENCE / 2.0)
            if self._queue_s(option, c, now) > most_s:
                return False
            c.report.progress_at = provider.granted_at
        preferred_until = preferred_wait_ends_at(c.retry.offered_at, c.report.progress_at, after_s)
        if now >= preferred_until or (until is not None and until > preferred_until):
            return False
        c.report.preferred_until = preferred_until
        return True

    def _queue_s(self, option: Option, c: _Candidates, now: float) -> float:
        """How long the tasks that prefer the option's provider take there, by its limits and concurrency."""
        provider = option.provider
        need = self._sizes.need(option, c.task, c.retry)
        by_limits = by_slots = provider.preferring
        if c.route.family:  # its rows have one queue: each takes a part, and limits that they share only one
            rows = [o for o in c.route.options if o.provider.index in c.route.family]
            queued = self._registry.providers[c.route.prefer].preferring
            by_limits = queued // len({id(o.model.group) for o in rows})
            by_slots = queued // len(rows)
        queue_s = option.model.group.drain_s(by_limits, need, now)
        average_s = provider.history.avg_response_s
        if average_s is None:
            return queue_s
        return max(queue_s, provider.concurrency.drain_s(by_slots, average_s))

    # ------------------------------------------------------------------ turns

    def _take_turn(self, c: _Candidates, wanted: Option | None) -> Option:
        """One step of the round-robin among the options; `wanted` is charged for it where it is set."""
        options, report = c.options, c.report
        indices = [o.provider.index for o in options]
        if report.route.pinned and len(set(indices)) < len(indices):  # of one provider the first model counts
            options = list({o.provider.index: o for o in reversed(options)}.values())[::-1]
            indices = [o.provider.index for o in options]
        scores = [report.scores[index] for index in indices]
        if self._routing.cost_weight:
            scores = self._weigh_price(options, scores)
        forced = wanted.provider.index if wanted is not None else None
        index = self._registry.round_robin.turn(indices, scores, forced)
        return wanted or options[indices.index(index)]

    def _weigh_price(self, options: list[Option], scores: list[float]) -> list[float]:
        """Scores divided by how much an answer of max_tokens costs beside the cheapest one."""
        costs = []
        for option in options:
            price = option.model.price
            costs.append(price.upper_bound_nanos(0, 1, option.max_tokens) if price else None)
        cheapest = min((c for c in costs if c), default=0)
        if not cheapest:
            return scores
        weight = self._routing.cost_weight
        return [
            score / (1.0 + weight * (cost / cheapest - 1.0)) if cost else score
            for score, cost in zip(scores, costs, strict=True)
        ]


def _at(options: list[Option] | tuple[Option, ...], index: int) -> Option | None:
    """The first option of that provider."""
    for option in options:
        if option.provider.index == index:
            return option
    return None


def _word(c: _Candidates) -> str:
    """Why an option that is not preferred serves the task."""
    if c.retry.tried:
        return "failover"
    return "spilled" if c.preferred >= 0 else "weighted"


def _is_limited(option: Option, until: float | None) -> bool:
    """Whether a limit keeps the option, or the calls in flight to a provider that may take more soon."""
    return until is not None or option.provider.concurrency.may_grow or option.model.group.is_probing_limits


def _is_near(task: Task, now: float) -> bool:
    return task.deadline_at is not None and task.deadline_at - now < DEADLINE_NEAR_S
