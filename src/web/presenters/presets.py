"""Sets of weights to choose from: presets, and a suggestion that is tried on recent traffic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ...core.suggestions import Candidate, prices_of_traffic, suggest_weights, weights_by_price
from ...core.virtual_pool import VirtualPool
from ...core.weight_changes import normalised
from ...routing.cost.pricing import catalogue_of
from ..context import AppContext
from ..problems import Problem
from .plans import learned_limits
from .pool import pool_view, weight_changes
from .pool_views import ProviderView
from .usage import DAY_S, HOUR_S

PRESETS = {
    "default": "Defaults",
    "equal": "Equal",
    "performance": "By performance",
    "price": "By price",
    "suggested": "Suggested",
}
PRESET_NOTES = {
    "default": "the weights in orchestrator.toml",
    "equal": "the same for every provider",
    "performance": "higher for few errors and quick answers",
    "price": "each provider keeps its smallest share of the other sets, the cheapest gets the rest",
    "suggested": "recent traffic replayed under several weights; the cheapest of the fast ones",
}
REPLAYED_AT_MOST = 1_500  # the newest answers: a few seconds for all trials
SUGGESTED_FRESH_S = 60.0
ANSWER_TOKENS_PER_PROMPT_TOKEN = 0.5  # of the call whose price the preset compares


@dataclass(frozen=True, slots=True)
class TrialView:
    """One set of weights, with cost and time of the recent traffic under it."""

    name: str
    weights: dict[str, float]
    cost_nanos: int
    mean_s: float
    answered: int
    tasks: int
    is_proposed: bool


def presets(context: AppContext) -> dict[str, dict[str, float]]:
    """The weights of each quick preset, each summing to 1."""
    pool, default = pool_view(context), weight_changes(context).configured
    usable = [p for p in pool.providers if p.name in context.configured] or list(pool.providers)
    found = {
        "default": normalised(default),
        "equal": _summing_to_1({p.name: 1.0 for p in usable}, default),
        "performance": _summing_to_1({p.name: _performance(p) for p in usable}, default),
    }
    in_force = _summing_to_1({p.name: p.weight for p in usable}, default)
    return found | {"price": _by_price(context, usable, [in_force, *found.values()], default)}


def preset(context: AppContext, name: str) -> dict[str, float]:
    """The weights of one preset. Raises Problem 409 for a suggestion without traffic."""
    if name == "suggested":
        proposed = next(trial for trial in suggestion(context) if trial.is_proposed)
        return normalised(proposed.weights)
    return presets(context)[name]


def _summing_to_1(weights: Mapping[str, float], default: Mapping[str, float]) -> dict[str, float]:
    """Weights of all providers; the default ones if none of `weights` is above 0."""
    if not sum(weights.values()):
        return normalised(default)
    return normalised({name: weights.get(name, 0.0) for name in default})


def _performance(provider: ProviderView) -> float:
    return provider.performance_multiplier * provider.time_multiplier


def _by_price(
    context: AppContext,
    usable: list[ProviderView],
    others: list[dict[str, float]],
    default: Mapping[str, float],
) -> dict[str, float]:
    """The cheapest weights in the range of the others, as `suggest-weights` has them."""
    prices = context.cache.get("prices", lambda: _prices(context, usable), SUGGESTED_FRESH_S)
    if not any(map(math.isfinite, prices.values())):
        return others[1]  # the configured ones: no price is known
    return _summing_to_1(weights_by_price(others, prices), default)


def _prices(context: AppContext, usable: list[ProviderView]) -> dict[str, float]:
    """What recent traffic costs at each provider, or without any, a typical call."""
    pool = VirtualPool(context.settings, context.configured, learned_limits(context))
    now = context.now()
    span_s = _span_s(context, now)
    recorded = prices_of_traffic(context.store, pool, now=now + 60, span_s=span_s + 60)
    return recorded or {p.name: _price(context, p.name) for p in usable}


def _price(context: AppContext, provider: str) -> float:
    """Nano-dollars of a typical call of the standard tier; infinite if the price is unknown."""
    row = context.settings.providers[provider]
    model = context.settings.resolve_model(row.models.standard)[0]
    catalogue = catalogue_of(provider, row)
    price = context.prices.price(catalogue, model, context.now())
    if price is None:
        return math.inf
    return price.upper_bound_nanos(1000, 0, int(1000 * ANSWER_TOKENS_PER_PROMPT_TOKEN))


def suggestion(context: AppContext) -> tuple[TrialView, ...]:
    """Weights tried on the recent traffic, those in force first. Raises Problem 409 without traffic."""
    return context.cache.get("suggestion", lambda: _suggestion(context), SUGGESTED_FRESH_S)


def _suggestion(context: AppContext) -> tuple[TrialView, ...]:
    now = context.now()
    span_s = _span_s(context, now)
    found = suggest_weights(
        context.store,
        VirtualPool(context.settings, context.configured, learned_limits(context)),
        now=now + 60,
        span_s=span_s + 60,
    )
    if found is None:
        raise Problem(409, "nothing_known", "No traffic in the last 24 hours to suggest weights from.")
    every = dict.fromkeys(context.settings.providers, 0.0)

    def view(c: Candidate) -> TrialView:
        proposed = c is found.proposed
        weights = every | dict(c.weights)
        return TrialView(c.name, weights, c.cost_nanos, c.mean_s, c.answered, c.tasks, proposed)

    return tuple(map(view, found.compared))


def _span_s(context: AppContext, now: float) -> float:
    """Seconds back, to the beginning of an hour, in which enough answers lie; at most a day."""
    answers = 0
    first = (now // HOUR_S - 23) * HOUR_S
    hours = context.past_usage.since(first, now, ("hour",))
    for (hour,), sums in sorted(hours.items(), reverse=True):
        answers += sums.ok
        if answers >= REPLAYED_AT_MOST:
            return max(60.0, now - float(hour))
    return DAY_S
