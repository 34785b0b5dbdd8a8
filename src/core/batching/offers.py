"""What the choice between batches and live calls is given: costs and times of one task of each group.

These are expectations. What is reserved and what is booked follow the real request and its real usage.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ...records import Task, Usage
from ...routing.balancer import ProviderLoadBalancer
from ...routing.batch_choice import Offer, Waiting
from ...routing.call_size import CallSizes
from ...routing.limits.estimator import TOKENS_PER_MESSAGE
from ...routing.limits.token_bucket import REQUESTS
from ...routing.routes import Option, Route
from ...routing.state import ProviderState
from ..store import DeferredGroup, PlannedRow

PRICE_FACTOR = 0.5  # of a live call's price, at all three APIs
MOST_ROWS = 5_000  # of one batch: one that stands still holds up no more
USUAL_RESPONSE_S = 5.0  # of a provider that has not answered yet


@dataclass(frozen=True, slots=True)
class Offered:
    """A group as the choice sees it, and the route of its tasks."""

    waiting: Waiting
    route: Route

    def option(self, provider: str, model: str) -> Option:
        """The option of a target that the choice has taken."""
        for option in self.route.options:
            if (option.provider.name, option.model.name) == (provider, model):
                return option
        raise KeyError((provider, model))


class Tokens(NamedTuple):
    """Of a call of one task of a group, on average."""

    prompt: float
    output: float


Expected = Callable[[DeferredGroup, Task, Option], Tokens]


class _Costs(NamedTuple):
    """Of one task: as a live call and in a batch, each with what it reads from a cache there."""

    live: float
    in_batch: float


def _learned(group: DeferredGroup, like: Task, option: Option) -> Tokens:
    most = max(1, round(mean_max_tokens(group, option)))
    output = option.provider.estimators.of(group.task_type).mean_output(most, like.choice_bytes)
    return Tokens(_prompt_tokens(group, like, option), output)


def _prompt_tokens(group: DeferredGroup, like: Task, option: Option) -> float:
    per_char = option.provider.estimators.of(group.task_type).tokens_per_char
    return group.text_chars / group.rows * per_char + TOKENS_PER_MESSAGE * len(like.messages)


def mean_max_tokens(group: DeferredGroup, option: Option) -> float:
    """The limit of an answer, on average."""
    return (group.max_tokens + group.unstated * option.max_tokens) / group.rows


def _usage(tokens: Tokens, cached: float) -> Usage:
    prompt, read = round(tokens.prompt), round(tokens.prompt * cached)
    return Usage(input_tokens=prompt - read, cache_read_tokens=read, output_tokens=round(tokens.output))


def _live_nanos(route: Route, costs: Mapping[int, _Costs]) -> float:
    """A live call costs this on average: at the preferred provider, else as the weights say. 0: unknown."""
    weights = {place: max(route.options[place].provider.weight, 1e-9) for place in costs}
    preferred = [place for place in costs if route.options[place].provider.index == route.prefer]
    where = preferred or list(costs)
    total = sum(weights[place] for place in where)
    return sum(costs[place].live * weights[place] for place in where) / total if total else 0.0


def _is_open(provider: ProviderState) -> bool:
    return not (provider.paused or provider.key.rejection)


class Offers:
    """Sizes groups for the choice. Reads the balancer's state and changes nothing."""

    def __init__(self, balancer: ProviderLoadBalancer, expected: Expected | None = None) -> None:
        """`expected`: the tokens of a call; None: as the providers' estimators know them."""
        self.balancer = balancer
        self._sizes = CallSizes(balancer.registry)
        self._expected = expected or _learned

    def planned(self, task: Task, option: Option, tier: str) -> PlannedRow:
        """The row of a task, and what it may cost at most: half of what a live call may."""
        max_tokens = task.max_tokens or option.max_tokens
        bound = self._sizes.upper_bound(option.model.price, task, option.provider, max_tokens) or 0
        return PlannedRow(task, math.ceil(bound * PRICE_FACTOR), max_tokens, tier, task.agent)

    def of(self, group: DeferredGroup, like: Task, more_until: float, now: float) -> Offered:
        """`like` is any task of the group: all have the same route."""
        route = self.balancer.route(like, now)
        costs = dict(self._costs(group, like, route, now))
        offers = tuple(
            Offer(
                (option.provider.name, option.model.name),
                costs[place].in_batch,
                _prompt_tokens(group, like, option),
            )
            for place, option in enumerate(route.options)
            if place in costs and option.provider.config.batch_api and _is_open(option.provider)
        )
        waiting = Waiting(
            group.id,
            group.rows,
            group.deadline_at,
            _live_nanos(route, costs),
            self._live_s(group, like, route),
            offers,
            more_until,
        )
        return Offered(waiting, route)

    def _costs(
        self, group: DeferredGroup, like: Task, route: Route, now: float
    ) -> Iterator[tuple[int, _Costs]]:
        """What a task is expected to cost by the place of its option; none where the price is unknown."""
        first = min((each.rank for each in route.options if _is_open(each.provider)), default=0)
        for place, option in enumerate(route.options):
            if option.rank > first:
                continue  # of an order of models, the first one serves live in time if no batch of it does
            price = self.balancer.registry.price_of(option.provider, option.model, now)
            if price is not None:
                tokens = self._expected(group, like, option)
                estimator = option.provider.estimators.of(group.task_type)
                in_batch = price.cost_nanos(_usage(tokens, estimator.cached_in_batches)) * PRICE_FACTOR
                yield place, _Costs(price.cost_nanos(_usage(tokens, estimator.cached_live)), in_batch)

    def spread(self, group: DeferredGroup, option: Option, now: float) -> tuple[float, int] | None:
        """The standard deviation of what an answer costs in a batch, and how many answers it rests on."""
        price = self.balancer.registry.price_of(option.provider, option.model, now)
        estimator = option.provider.estimators.of(group.task_type)
        known = estimator.output_spread(max(1, round(mean_max_tokens(group, option))))
        if price is None or known is None:
            return None
        nanos_per_token = float(price.cost_nanos(Usage(output_tokens=1_000))) / 1_000 * PRICE_FACTOR
        return known[0] * nanos_per_token, known[1]

    def _live_s(self, group: DeferredGroup, like: Task, route: Route) -> float:
        """The time that one task takes of the whole pool: by slots, and by the limits that are known."""
        per_s: dict[str, float] = {}
        for option in route.options:
            provider = option.provider
            response_s = provider.history.avg_response_s or USUAL_RESPONSE_S
            rate = provider.concurrency.most / response_s
            used: Mapping[str, float] = {
                REQUESTS: 1.0,
                "input_tokens": _prompt_tokens(group, like, option),
                "output_tokens": mean_max_tokens(group, option),
                "tokens": max(_prompt_tokens(group, like, option), mean_max_tokens(group, option)),
            }
            for dimension, bucket in option.model.group.buckets.items():
                if units := used.get(dimension):
                    rate = min(rate, bucket.rate / units)
            per_s[provider.name] = max(per_s.get(provider.name, 0.0), rate)
        total = sum(per_s.values())
        return 1.0 / total if total > 0 else 0.0
