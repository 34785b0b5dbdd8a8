"""Which option serves a task now: every candidate is asked, then one of three levels decides.

A gate answers `(why not, until when)`: an empty "why not" admits; `until` None means "when something
settles", NEVER means not at all. Gates of the provider come before those of the task, the cheap before
the dear. Nothing is reserved here: `survey` may be called for a task that then waits.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from ..records import Task
from .allotment import FREE, Advice
from .breaker import CLOSED
from .budgets import affordable_max_tokens
from .canaries import is_due
from .estimates import SAFETY, TOKENS_PER_MESSAGE
from .limits import FIRST_ANSWER, ONE_CALL, Need
from .pool import Pool
from .prefixes import Prefix
from .pricing import CompiledPrice
from .routes import Option, Route
from .state import ModelState, ProviderState
from .surveys import CLAIMED, NEVER, PATIENCE, SHUNNED, Memory, Survey, spills_at

REPAIR_WAIT_S = 15.0  # a wrong answer waits this long for its own model, then another provider starts anew
DOUBT_S = 1.0  # how long failures in a row keep new calls out where nothing comes back at all
DEADLINE_NEAR_S = 10.0  # a task due within this time does not wait for its preferred provider

Gate = tuple[str, float | None]


class Choice(NamedTuple):
    """The option that serves the task, and the word for how it was chosen."""

    option: Option
    word: str
    forced: bool


class Chooser:
    """See the top of the file."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._routing = pool.settings.routing

    def survey(
        self, task: Task, route: Route, memory: Memory, now: float, advice: Advice = FREE,
        for_canary: bool = False,
    ) -> Survey:  # fmt: skip
        """Ask every option of the route; those that `advice` says to shun are left to others."""
        found = Survey(route)
        shun = self._heeded(task, route, memory, now, advice)
        for place, option in enumerate(route.options):
            provider = option.provider
            if shun and shun >> place & 1:
                found.own = True
                found.refused.append((option, SHUNNED, advice.until))
                continue
            why, until = self.gate(provider, now, for_canary)
            if why and until is not None and self._pool.budgets is not None:
                longer, ends = self._gate_by_budget(option, task, route, memory, now, found)
                if longer and ends is not None and ends > until:  # the last reason to end is the one
                    why, until, found.own = longer, ends, True
            if not why:
                why, until = self._gate_for_task(option, task, route, memory, now, found)
            if why:
                found.refused.append((option, why, until))
                continue
            found.eligible.append(option)
            found.scores[provider.index] = provider.score * provider.breaker.ramp(now)
            if provider.suspect_probe or provider.breaker.state is not CLOSED:
                found.on_trial = True
        return found

    def survey_after(self, granted: Survey, now: float) -> Survey | None:
        """What its like would find now that the only open option was granted; None where that must be asked.

        Whatever has kept all others was nobody's own affair and still does.
        """
        if granted.own or len(granted.eligible) != 1:
            return None
        option = granted.eligible[0]
        why, until = self.gate(option.provider, now)
        if not why:
            why, until = option.model.group.closed(now)
            if not why:
                return None
            why = _limit_words(option.provider.name, why)
        found = Survey(granted.route)
        place = granted.route.options.index(option)
        found.refused = [*granted.refused[:place], (option, why, until), *granted.refused[place:]]
        return found

    def _heeded(self, task: Task, route: Route, memory: Memory, now: float, advice: Advice) -> int:
        """Which options the task really shuns: see `allotment.py`."""
        if now >= advice.until or memory.tried or _is_near(task, now):
            return 0
        shun = advice.shun
        if self._prefers(route):
            for place, option in enumerate(route.options):
                if option.provider.index == route.prefer:
                    shun &= ~(1 << place)
        return shun

    # ------------------------------------------------------------------ gates

    def gate(self, provider: ProviderState, now: float, for_canary: bool = False) -> tuple[str, float | None]:
        """Why no task at all may go to the provider now, and until when; ("", now) when one may."""
        if self._pool.offline_since is not None:
            return "offline", None
        if provider.paused:
            return "paused", None
        if provider.misconfigured or now < provider.key_doubt.until:
            return self._gate_by_key(provider)
        if now < provider.exhausted_until:
            return provider.exhausted_reason, provider.exhausted_until
        breaker = provider.breaker
        if breaker.state is not CLOSED or provider.backoff_count or breaker.consecutive:
            why, until = self._gate_of_failures(provider, now, for_canary)
            if why:
                return why, until
        in_flight = provider.in_flight
        if in_flight:
            floor_s = self._routing.stall_timeout_s
            if (
                now - provider.heard_at > floor_s
                and breaker.state is CLOSED  # else its one probe decides
                and not provider.suspect_probe
                and provider.silent_since(now, floor_s) is not None
            ):
                return "suspect: calls out, nothing back", None
            closed = breaker.state is CLOSED  # a probe passes calls that hang
            if in_flight >= (provider.concurrency.limit if closed else self._pool.most_in_flight):
                return self._at_its_limit(provider), None
            if breaker.ramping and in_flight >= max(1.0, breaker.ramp(now) * provider.concurrency.limit):
                share = in_flight / provider.concurrency.limit
                return "recovering: calls are let in slowly", breaker.ramp_reaches(share, now)
            if provider.exhausted_until:
                return provider.exhausted_reason, None  # one probing task at a time
        return "", now

    def _gate_of_failures(self, provider: ProviderState, now: float, for_canary: bool) -> Gate:
        """A probe passes all that it is to test; after a back-off one call goes first; in doubt none."""
        breaker = provider.breaker
        if breaker.state is not CLOSED:
            told_until = provider.backoff_until if provider.backoff_told else now
            if not breaker.admits(now):
                return f"breaker {breaker.state}", max(breaker.next_chance(now), told_until)
            if is_due(self._pool, provider) and not for_canary:
                return f"breaker {breaker.state}", now + DOUBT_S
            return ("overloaded", told_until) if now < told_until else ("", now)
        if now < provider.backoff_until:
            return "overloaded", provider.backoff_until
        if provider.backoff_trial and now < provider.backoff_trial_until:
            return "overloaded: one call goes first", provider.backoff_trial_until
        if breaker.doubtful(now):
            return "failing: the calls in flight decide", now + DOUBT_S
        return "", now

    def _gate_by_key(self, provider: ProviderState) -> tuple[str, float | None]:
        if provider.misconfigured:
            return provider.misconfigured, None if self._pool.all_misconfigured else NEVER
        return "its key was refused once: asking again", provider.key_doubt.until

    def _at_its_limit(self, provider: ProviderState) -> str:
        if provider.concurrency.limit < self._pool.most_in_flight:
            return "at its concurrency limit"
        return "holds its share of all slots"

    def _gate_for_task(
        self, option: Option, task: Task, route: Route, memory: Memory, now: float, survey: Survey
    ) -> tuple[str, float | None]:
        """Why this task may not go there, although another might; for want of room, nobody might."""
        model = option.model
        if (model.out or model.was_out or now < model.doubt.until) and (
            missing := _gate_by_model(model, now)
        ):
            survey.own = True
            return missing
        provider = option.provider
        if task.prompt_chars > option.most_chars or (memory.avoid and _avoids(memory, option)):
            survey.own = True
            return f"the task does not fit {model.name}", NEVER
        if provider.weight <= 0 and not route.pinned:
            survey.own = True
            return "weight is 0", None
        if memory.refused & provider.bit:
            survey.own = True
            return "has refused this task", NEVER
        if memory.tried & provider.bit and now < memory.tried_until and memory.again != provider.index:
            survey.own = True
            return "has just failed this task", memory.tried_until
        group = model.group
        claim = group.claim
        if claim is not None and memory.order and claim[0] < memory.order and now < claim[1]:
            survey.own = survey.claimed = True
            return CLAIMED, claim[1]
        why, until = self._gate_by_pace(option, memory, now, survey)
        if why:
            return why, until
        if group.counts_tokens:
            most = task.prompt_chars * provider.most_tokens_per_char * SAFETY  # by any estimate
            most += TOKENS_PER_MESSAGE * len(task.messages) + (memory.max_tokens or option.max_tokens)
            if not group.has_ample(most + 1.0):
                why, until = self._gate_by_size(option, task, memory, now, survey)
        if not why and self._pool.budgets is not None:
            why, until = self._gate_by_budget(option, task, route, memory, now, survey)
        if why:
            survey.own = True
        return why, until

    def _gate_by_pace(self, option: Option, memory: Memory, now: float, survey: Survey) -> Gate:
        """Whether one more request may go, and this row's: see `blame.py` for rows that have drawn 429s."""
        group = option.model.group
        why, until = group.closed(now)
        if why:
            return _limit_words(option.provider.name, why), until
        if now < group.evidence.first_until:
            survey.own = True
            return "429: one call goes first", group.evidence.first_until
        if memory.draws_429 and self._pool.canaries and group.evidence.wants_neighbour(memory, now):
            survey.own = True
            return "429 twice: another call goes first", now + DOUBT_S
        return "", now

    def _gate_by_size(self, option: Option, task: Task, memory: Memory, now: float, survey: Survey) -> Gate:
        """Whether there are tokens for a call of this size."""
        need = survey.needs[id(option)] = self.need(option, task, memory)
        dimension, wait_s = option.model.group.wait(need, now)
        if not wait_s:
            return "", now
        survey.offer_claim(option, now + wait_s)
        return _limit_words(option.provider.name, dimension), now + wait_s

    def need(self, option: Option, task: Task, memory: Memory) -> Need:
        """What the call would draw there, by what is known of such calls."""
        if not option.model.group.counts_tokens:
            return ONE_CALL
        estimator = option.provider.estimator(task.task_type)
        return estimator.need(task.prompt_chars, len(task.messages), self.max_tokens(option, task, memory))

    def max_tokens(self, option: Option, task: Task, memory: Memory) -> int:
        """The longest answer to ask for: a defaulted one gives way to the prompt in the model's window."""
        wanted = memory.max_tokens or option.max_tokens
        if task.max_tokens is not None:
            return wanted
        most = (
            task.prompt_bytes + self._pool.agent_prompt_bytes + TOKENS_PER_MESSAGE * (len(task.messages) + 1)
        )
        if wanted + most <= option.window:  # no prompt has more tokens than bytes
            return wanted
        size, messages = self._sent(task)
        chars = task.prompt_chars + size - task.prompt_bytes  # with what an agent adds
        estimator = option.provider.estimator(task.task_type)
        prompt = chars * estimator.tokens_per_char * SAFETY + TOKENS_PER_MESSAGE * messages
        floor = self._pool.settings.budgets.min_max_tokens
        return min(wanted, max(floor, int(option.window - prompt)))

    def _gate_by_budget(
        self, option: Option, task: Task, route: Route, memory: Memory, now: float, survey: Survey
    ) -> Gate:
        budgets = self._pool.budgets
        if budgets is None:
            return "", now
        price = self._pool.price_of(option.provider, option.model, now)
        max_tokens = self.max_tokens(option, task, memory)
        bound = self.upper_bound(price, task, max_tokens)
        least = self._pool.settings.budgets.min_max_tokens if route.defaulted_max_tokens else max_tokens
        minimum = self.upper_bound(price, task, min(least, max_tokens)) or 1
        names = (option.provider.name, task.batch, task.submitter)
        refusal = budgets.check(now, *names, bound, minimum)
        if refusal is None:
            return "", now
        if refusal.in_flight:
            survey.any_settle = True
            if refusal.until is not None:
                survey.wake_by(refusal.until)
            return str(refusal), None
        if refusal.reason == "unknown_price":
            return "its price is unknown, and a budget is set", NEVER
        if route.defaulted_max_tokens and self.clamped(option, task, price, refusal.headroom_nanos):
            return "", now
        survey.over_budget.append(refusal)
        return str(refusal), refusal.until

    def clamped(
        self, option: Option, task: Task, price: CompiledPrice | None, headroom_nanos: int
    ) -> int | None:
        """The max_tokens that the budget still affords, where the task asked for none; None: too few."""
        if price is None:
            return None
        floor = self._pool.settings.budgets.min_max_tokens
        return affordable_max_tokens(price, *self._sent(task), headroom_nanos, floor)

    def upper_bound(self, price: CompiledPrice | None, task: Task, max_tokens: int) -> int | None:
        if price is None:
            return None
        return price.upper_bound_nanos(*self._sent(task), max_tokens)

    def _sent(self, task: Task) -> tuple[int, int]:
        """How many bytes and messages a call sends at most: an agent adds its prompt where there is none."""
        own = self._pool.agent_prompt_bytes
        if not own or any(m.role == "system" for m in task.messages):
            return task.prompt_bytes, len(task.messages)
        return task.prompt_bytes + own, len(task.messages) + 1

    # ------------------------------------------------------------------ levels

    @staticmethod
    def choose_probe(index: int, survey: Survey, word: str = "probe") -> Choice | None:
        """The task was drawn as that provider's probe: there or not at all."""
        wanted = next((o for o in survey.eligible if o.provider.index == index), None)
        return Choice(wanted, word, forced=False) if wanted is not None else None

    def choose(self, task: Task, route: Route, memory: Memory, now: float, survey: Survey) -> Choice | None:
        """Levels one to three; None: wait."""
        options = survey.eligible
        if memory.tried:
            fresh = [o for o in options if not memory.tried & o.provider.bit]
            options = fresh or options
        if memory.again >= 0:
            same = [o for o in options if o.provider.index == memory.again] or [
                o for o in survey.eligible if o.provider.index == memory.again
            ]
            if same and same[0].provider.breaker.state is CLOSED:
                return Choice(same[0], "retry", forced=False)
            if memory.turns and not same and self._may_answer_again(memory, task, now, survey):
                return None
        shared = self._pool.prefixes.shared(memory.prefixes, now) if memory.prefixes else None
        if shared is not None and self._awaits_writer(shared, task, route, now, survey):
            return None
        preferred = route.prefer if self._prefers(route) else -1
        if preferred >= 0 and not memory.tried & (1 << preferred):
            wanted = next((o for o in options if o.provider.index == preferred), None)
            if wanted is not None and wanted.provider.breaker.ramp(now) >= 1.0:
                self._take_turn(options, survey, wanted)
                return Choice(wanted, "probe" if wanted.provider.on_trial else "preferred", forced=False)
            if wanted is None and self._worth_waiting(preferred, task, memory, now, survey):
                return None
        if options:
            # One on trial goes first: the sooner it is known whether it is back, the better.
            trial = next((o for o in options if o.provider.on_trial), None) if survey.on_trial else None
            if trial is None and shared is not None and (having := self._having(shared, options, now)):
                return Choice(having, self._word(having, preferred, memory), forced=False)
            chosen = self._take_turn(options, survey, trial)
            return Choice(chosen, self._word(chosen, preferred, memory), forced=False)
        return self._emergency(task, route, memory, now, survey)

    def _awaits_writer(self, shared: Prefix, task: Task, route: Route, now: float, survey: Survey) -> bool:
        """Whether a task may wait for the call that brings its beginning into a cache that it can use."""
        until, writers = self._pool.prefixes.written_by(
            shared, {o.provider.index for o in route.options}, now
        )
        if not writers or (task.deadline_at is not None and task.deadline_at - until < DEADLINE_NEAR_S):
            return False
        survey.wake_by(until)
        for index in writers:
            survey.writers |= self._pool.providers[index].bit
        return True

    def _having(self, shared: Prefix, options: list[Option], now: float) -> Option | None:
        """The best of those that have the task's beginning in their cache.

        It is not charged to the round-robin: tasks that share nothing keep their weights.
        """
        warm = self._pool.prefixes.warm(shared, now)
        having = [o for o in options if o.provider.index in warm]
        return max(having, key=lambda o: o.provider.score, default=None)

    def _may_answer_again(self, memory: Memory, task: Task, now: float, survey: Survey) -> bool:
        """Whether who gave a wrong answer will soon have room to be shown what is wrong with it."""
        provider = self._pool.providers[memory.again]
        until = survey.until_of(provider)
        if provider.breaker.state is not CLOSED or until == NEVER:
            return False
        if until is None:
            return provider.in_flight > 0  # its next settle decides
        latest = now + REPAIR_WAIT_S if task.deadline_at is None else task.deadline_at - DEADLINE_NEAR_S
        if until > min(latest, now + REPAIR_WAIT_S):
            return False
        survey.wake_by(until)
        return True

    def _prefers(self, route: Route) -> bool:
        return route.prefer >= 0 and not route.pinned and self._pool.providers[route.prefer].weight > 0

    def _worth_waiting(self, preferred: int, task: Task, memory: Memory, now: float, survey: Survey) -> bool:
        """Whether the preferred provider may come free before the task spills to another.

        Where its slots are taken: for `preferred_wait_s`. Where its limits keep it, or the first answer that
        tells them: for as long as `spills_at` says, unless the queue there takes longer anyway (half as long
        where the calls in flight keep it, which may still grow); then the excess goes elsewhere at once. So a
        pile keeps its preferences, and no provider idles for long.
        """
        if _is_near(task, now):
            return False
        provider, after_s = self._pool.providers[preferred], self._routing.preferred_wait_s
        until = survey.until_of(provider)
        option = next((o for o in survey.route.options if o.provider is provider), None)
        group = option.model.group if option is not None else None
        limited = (
            until is not None or provider.concurrency.may_grow or (group is not None and group.is_scouting)
        )
        if option is not None and group is not None and limited:
            queue_s = group.drain_s(provider.preferring, self.need(option, task, memory), now)
            average_s = provider.history.avg_response_s
            if average_s is not None:
                queue_s = max(queue_s, provider.concurrency.drain_s(provider.preferring, average_s))
            if queue_s > (PATIENCE if until is not None else PATIENCE / 2.0) * after_s:
                return False
            survey.progress_at = provider.granted_at
        spill_at = spills_at(memory.offered_at, survey.progress_at, after_s)
        if now >= spill_at or (until is not None and until > spill_at):
            return False
        survey.spill_at = spill_at
        return True

    def _take_turn(self, options: list[Option], survey: Survey, wanted: Option | None) -> Option:
        """One step of the round-robin among `options`; a preference is charged to it as well."""
        indices = [o.provider.index for o in options]
        if survey.route.pinned and len(set(indices)) < len(
            indices
        ):  # several models of one: the first counts
            options = list({o.provider.index: o for o in reversed(options)}.values())[::-1]
            indices = [o.provider.index for o in options]
        scores = [survey.scores[index] for index in indices]
        if self._routing.cost_weight:
            scores = self._weigh_price(options, scores)
        forced = wanted.provider.index if wanted is not None else None
        index = self._pool.round_robin.turn(indices, scores, forced)
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
        weight = self._routing.cost_weight
        return [
            score / (1.0 + weight * (cost / cheapest - 1.0)) if cost else score
            for score, cost in zip(scores, costs, strict=True)
        ]

    @staticmethod
    def _word(chosen: Option, preferred: int, memory: Memory) -> str:
        if chosen.provider.on_trial:
            return "probe"
        if memory.tried:
            return "failover"
        return "spilled" if preferred >= 0 else "weighted"

    def _emergency(
        self, task: Task, route: Route, memory: Memory, now: float, survey: Survey
    ) -> Choice | None:
        """Level three: through an open breaker, when nobody is expected in time."""
        if self._pool.forced_permit or self._pool.offline_since is not None:
            return None
        latest = now + self._routing.emergency_after_s
        if task.deadline_at is not None:
            latest = min(latest, task.deadline_at)
        if survey.expected_before(latest):
            return None
        wanted = self._routing.emergency_provider
        refused = [o for o, why, _ in survey.refused if why.startswith("breaker open")]
        refused.sort(key=lambda o: (o.provider.name != wanted, -o.provider.weight))
        for option in refused:
            provider = option.provider
            if provider.in_flight >= provider.concurrency.limit or now < provider.backoff_until:
                continue
            why, until = self._gate_for_task(option, task, route, memory, now, survey)
            if why:
                if until is not None:
                    survey.wake_by(until)
                continue
            if now < self._pool.next_forced_at:
                survey.wake_by(self._pool.next_forced_at)
                return None
            return Choice(option, "forced", forced=True)
        return None


def _gate_by_model(model: ModelState, now: float) -> tuple[str, float] | None:
    """Why no call goes to a model that was not found; None where one may."""
    if model.out:
        return model.out, NEVER
    until = max(model.doubt.until, model.trial_until if model.trial else 0.0)
    return (f"{model.name} was not found: asking again", until) if now < until else None


def _avoids(memory: Memory, option: Option) -> bool:
    """Whether the model can't serve the task, wherever it is or at this provider."""
    name = option.model.name
    return name in memory.avoid or f"{option.provider.name}/{name}" in memory.avoid


def _is_near(task: Task, now: float) -> bool:
    return task.deadline_at is not None and task.deadline_at - now < DEADLINE_NEAR_S


@lru_cache(maxsize=256)
def _limit_words(provider: str, dimension: str) -> str:
    return (
        f"{provider}: {dimension}"
        if dimension == FIRST_ANSWER
        else f"{provider} {dimension.replace('_', ' ')}"
    )
