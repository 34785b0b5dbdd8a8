"""Which class of waiting tasks goes where while token limits bind.

Providers charge the same task differently: OpenAI max(max_tokens, prompt), Anthropic prompt and answer apart,
Gemini the prompt alone. Round-robin by weight ignores this, so a provider may get the tasks that it charges
most for. While limits bind, or are about to, the planner reassigns the waiting tasks every EVERY_S. The
linear program of `makespan_lp.py` over their classes finds the assignment with the earliest end. A class then
leaves the other providers' capacity to tasks that they charge less.

The result is advice for the weighted step. Preferred providers, pinned tasks, tasks that have failed and
tasks near their deadline are exempt. Below WORTH_S of work every task may go everywhere, since at the end of
a file whole tasks matter, not shares.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from ..health.circuit_breaker import BreakerState
from ..limits.group import RateLimitGroup
from ..limits.token_bucket import REQUESTS, Bucket
from ..registry import Registry
from ..routes import Option, Route
from ..state import ProviderState
from .makespan_lp import Capacity, Charge, Demand, minimise_makespan

EVERY_S = 0.25
WORTH_S = 2.0
LEAST_WAITING = 20
NO_SHARE = 0.005  # of a class: a smaller share counts as none
MOST_STEPS = 200
FREE_BUCKETS = 16  # with more buckets the program takes longer, so it is solved less often


class Advice(NamedTuple):
    """`avoid`: bits of the options to leave to others, by their place in the route; good until `until`."""

    avoid: int
    until: float


FREE = Advice(0, 0.0)


class WaitingClass(Protocol):
    """What the planner reads of a class of waiting tasks, and writes."""

    route: Route
    count: int
    chars: int  # of all its prompts
    messages: int  # of one
    task_type: str
    advice: Advice


class AllocationPlanner:
    """Solves the program from time to time and gives every class its advice."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._due = 0.0
        self._given = False

    def advise(self, classes: Iterable[WaitingClass], waiting: int, behind: int, now: float) -> bool:
        """Give every class its advice, if it is time. Whether any of it has changed.

        `behind`: queued tasks that were not offered yet; they are taken to be like those that wait.
        """
        if now < self._due or (waiting < LEAST_WAITING and not self._given):
            return False
        self._due = now + EVERY_S
        if waiting < LEAST_WAITING or not self._tokens_may_bind(classes):
            return self._clear(classes)
        program = _Program(self._registry, 1.0 + behind / waiting, now)
        asked = [each for each in classes if each.count and program.add(each)]
        if not asked:
            return self._clear(classes)
        self._due = now + EVERY_S * max(1.0, len(program.capacities) / FREE_BUCKETS) ** 2
        seconds, shares = program.solve()
        if seconds < max(WORTH_S, self._by_slots_s(waiting + behind)):
            return self._clear(classes)
        self._given = True
        changed = [self._advise(each, own, program) for each, own in zip(asked, shares, strict=True)]
        return any(changed)

    def _tokens_may_bind(self, classes: Iterable[WaitingClass]) -> bool:
        """Whether the tokens of the largest tasks could run out before calls do, at any provider.

        If not, a task is charged one call everywhere, and round-robin is as good.
        """
        largest: dict[str, tuple[float, int, int]] = {}  # by task type: characters, messages, max_tokens
        for each in classes:
            if each.count:
                chars, messages, tokens = largest.get(each.task_type, (0.0, 0, 0))
                largest[each.task_type] = (
                    max(chars, each.chars / each.count),
                    max(messages, each.messages),
                    max(tokens, each.route.most_max_tokens),
                )
        return any(
            need[bucket.place] * pace > bucket.rate
            for provider in self._registry.providers
            for group in provider.groups.values()
            if group.counts_tokens and (pace := self._calls_per_s(provider, group))
            for task_type, size in largest.items()
            if (need := provider.estimators.of(task_type).need(*size))
            for bucket in group.token_buckets
        )

    def _calls_per_s(self, provider: ProviderState, group: RateLimitGroup) -> float:
        """Calls per second that the group can get at most, by its limit and by the slots of all agents."""
        requests = group.buckets.get(REQUESTS)
        by_limit = requests.rate if requests is not None else math.inf
        average = provider.history.avg_response_s
        return min(by_limit, self._registry.slots / average) if average else by_limit

    def _by_slots_s(self, waiting: int) -> float:
        """Seconds that the slots need for what waits: where that is longer, limits do not bind."""
        known = [a for p in self._registry.providers if (a := p.history.avg_response_s) is not None]
        return waiting * sum(known) / len(known) / self._registry.slots if known else 0.0

    def _clear(self, classes: Iterable[WaitingClass]) -> bool:
        if not self._given:
            return False
        self._given = False
        for each in classes:
            each.advice = FREE
        return True

    def _advise(self, each: WaitingClass, shares: Sequence[float], program: _Program) -> bool:
        avoid = 0
        for share, place in zip(shares, program.places_of(each), strict=True):
            if share < NO_SHARE:
                avoid |= 1 << place
        changed = avoid != each.advice.avoid
        each.advice = Advice(avoid, self._due)
        return changed


class _Program:
    """The classes and buckets of this moment, as demands and capacities of the linear program."""

    def __init__(self, registry: Registry, each_stands_for: float, now: float) -> None:
        self._registry, self._each_stands_for, self._now = registry, each_stands_for, now
        self._numbers: dict[int, int] = {}  # by id(bucket)
        self._places: dict[int, list[int]] = {}  # by id(class): the options that take part
        self.capacities: list[Capacity] = []
        self.demands: list[Demand] = []

    def add(self, each: WaitingClass) -> bool:
        """Add a class. Whether it has a choice at all."""
        route = each.route
        places = [i for i, option in enumerate(route.options) if self._takes_part(option)]
        if len(places) < 2 or route.pinned:
            return False
        charges = [self._charges(each, route.options[i]) for i in places]
        if not any(all(self.capacities[b].refill for b, _ in each) for each in charges):
            return False
        self._places[id(each)] = places
        self.demands.append(Demand(each.count * self._each_stands_for, charges))
        return True

    def places_of(self, each: WaitingClass) -> list[int]:
        return self._places[id(each)]

    def solve(self) -> tuple[float, list[list[float]]]:
        found = minimise_makespan(self.demands, self.capacities, MOST_STEPS)
        return found.seconds, found.shares

    def _takes_part(self, option: Option) -> bool:
        """Whether calls are expected to go to the option in the next seconds."""
        provider: ProviderState = option.provider
        return not (
            option.model.is_out
            or provider.paused
            or provider.key.rejection
            or provider.weight <= 0
            or self._now < provider.quota.until
            or provider.breaker.state is not BreakerState.CLOSED
            or provider.silent_since(self._now, self._registry.settings.routing.stall_timeout_s) is not None
        )

    def _charges(self, each: WaitingClass, option: Option) -> list[Charge]:
        chars = each.chars / each.count
        estimator = option.provider.estimators.of(each.task_type)
        needs = (  # in the order of `Need`, but on average
            estimator.mean_input(chars, each.messages),
            estimator.mean_output(option.max_tokens),
            max(option.max_tokens, estimator.counted_tokens(chars)),
            1.0,
        )
        buckets = option.model.group.buckets.values()
        return [(self._number(b), needs[b.place] / (b.rate or 1.0)) for b in buckets]

    def _number(self, bucket: Bucket) -> int:
        number = self._numbers.get(id(bucket))
        if number is None:
            number = self._numbers[id(bucket)] = len(self.capacities)
            self.capacities.append(Capacity(bucket.room_s(self._now), 1.0 if bucket.rate else 0.0))
        return number
