"""Base weights: what is set, what could be set, and what either makes of the next tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ...core.budget_keeper import CAP
from ...core.store import SettingChange
from ...core.suggestions import suggest_weights
from ...core.virtual_pool import VirtualPool
from ...formatting import money, percent
from ...records import GENERAL, NANOS_PER_USD
from ...routing.cost.pricing import catalogue_of
from ...routing.health.scoring import shares
from ..context import SUMS_FRESH_S, AppContext
from ..problems import Problem
from .plans import learned_limits
from .pool import UNAVAILABLE_STATES, PoolView, ProviderView, pool_view, scores_of, stored_weights
from .usage import DAY_S

WEIGHT_STEPS = "weight_steps"  # a setting, which no history shows
STEPS_KEPT = 1_000
PRESETS = {
    "default": "Defaults",
    "equal": "Equal",
    "performance": "By performance",
    "price": "By price",
    "suggested": "Suggested",
}
PRESET_NOTES = {
    "default": "what orchestrator.toml says",
    "equal": "the same for everyone",
    "performance": "few errors and quick answers weigh more",
    "price": "half the price weighs twice as much",
    "suggested": "the last traffic is replayed under several; the cheapest of the quick ones",
}
QUICK_PRESETS = ("default", "equal", "performance", "price")  # the suggestion is a replay: only when asked
REPLAYED_AT_MOST = 1_500  # answers, the newest ones: a few seconds for all trials
SUGGESTED_FRESH_S = 60.0
ANSWER_TOKENS_PER_PROMPT_TOKEN = 0.5  # of the call whose price presets compare


@dataclass(frozen=True, slots=True)
class ShareRow:
    """One provider under some weights. `share` is of untyped tasks; `expected_share` of all tasks."""

    provider: str
    state: str
    weight: float
    score: float
    share: float
    expected_share: float


@dataclass(frozen=True, slots=True)
class ChangeView:
    """One change of weights or pauses, as the history tells it."""

    version: int
    at: float
    who: str
    what: str
    before: dict[str, float] | None
    after: dict[str, float] | None
    text: str


@dataclass(frozen=True, slots=True)
class TrialView:
    """One set of weights, and what the last traffic would have come to under it."""

    name: str
    weights: dict[str, float]
    cost_nanos: int
    mean_s: float
    answered: int
    tasks: int


@dataclass(frozen=True, slots=True)
class RebalanceView:
    now: float
    simulated: bool
    current: tuple[ShareRow, ...]
    preview: tuple[ShareRow, ...]
    presets: dict[str, dict[str, float]]
    history: tuple[ChangeView, ...]
    mix: dict[str, float]
    version: int
    can_undo: bool
    can_redo: bool


def current_weights(context: AppContext) -> dict[str, float]:
    return stored_weights(context, context.store.controls.current_settings())


def configured_weights(context: AppContext) -> dict[str, float]:
    return {name: row.weight for name, row in context.settings.providers.items()}


def normalised(weights: Mapping[str, float]) -> dict[str, float]:
    """The same proportions with a sum of 1. At least one weight is above 0."""
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def rebalance_view(context: AppContext, wanted: Mapping[str, float] | None = None) -> RebalanceView:
    """The weights in force beside those `wanted` (None: the same)."""
    pool = pool_view(context)
    mix = context.cache.get("mix", lambda: _mix(context), SUMS_FRESH_S)
    current = {p.name: p.weight for p in pool.providers}
    steps = weight_steps(context)
    return RebalanceView(
        now=pool.now,
        simulated=context.simulated,
        current=share_rows(context, pool, current, mix),
        preview=share_rows(context, pool, wanted or current, mix),
        presets={name: preset(context, name) for name in QUICK_PRESETS},
        history=history(context),
        mix=mix,
        version=context.store.controls.settings_version(),
        can_undo=bool(steps.done),
        can_redo=bool(steps.undone),
    )


def share_rows(
    context: AppContext, pool: PoolView, weights: Mapping[str, float], mix: Mapping[str, float]
) -> tuple[ShareRow, ...]:
    """What `weights` make of the next tasks, by the scores of this moment."""
    scores = scores_of(pool.providers, weights)
    able = {
        p.name: scores[p.name]
        for p in pool.providers
        if p.state not in UNAVAILABLE_STATES and weights[p.name] > 0
    }
    share = shares(able)
    expected = _with_preferences(context, share, mix)
    return tuple(
        ShareRow(
            p.name,
            p.state,
            weights[p.name],
            scores[p.name],
            share.get(p.name, 0.0),
            expected.get(p.name, 0.0),
        )
        for p in pool.providers
    )


def _with_preferences(
    context: AppContext, share: Mapping[str, float], mix: Mapping[str, float]
) -> dict[str, float]:
    """Shares of all tasks, if the next day brings the task types of the last one.

    A preferred provider gets all tasks of its types; the round-robin is charged for them, so that tasks
    without a preference go to those who are behind their share.
    """
    preferred = dict.fromkeys(share, 0.0)
    free = 0.0
    for task_type, part in mix.items():
        row = context.settings.task_types.get(task_type)
        if context.settings.routing.preferences and row is not None and row.prefer in preferred:
            preferred[row.prefer] += part
        else:
            free += part
    behind = {name: max(0.0, share[name] - preferred[name]) for name in share}
    rest = shares(behind if sum(behind.values()) > 0 else dict(share))
    return {name: preferred[name] + free * rest[name] for name in share}


def _mix(context: AppContext) -> dict[str, float]:
    """The task types of the last day's answered calls as parts of 1; untyped alone where there were none."""
    now = context.now()
    rows = context.store.reports.usage(now - DAY_S, now + 60, ("task_type",))
    counted = {str(row.key[0]): float(row.sums.ok) for row in rows if row.sums.ok}
    return shares(counted) if counted else {GENERAL: 1.0}


# ------------------------------------------------------------------ presets


def preset(context: AppContext, name: str) -> dict[str, float]:
    """The weights of a preset, summing to 1. Raises Problem 409 for a suggestion without traffic."""
    if name == "suggested":
        return normalised(suggestion(context)[0].weights)
    providers = pool_view(context).providers
    default = configured_weights(context)
    usable = [p for p in providers if p.name in context.configured] or list(providers)
    if name == "default":
        return normalised(default)
    made = {
        "equal": lambda: {p.name: 1.0 for p in usable},
        "performance": lambda: {p.name: _performance(p) for p in usable},
        "price": lambda: _cheapness(context, usable),
    }[name]()
    if not sum(made.values()):
        return normalised(default)
    return normalised({name: made.get(name, 0.0) for name in default})


def _performance(provider: ProviderView) -> float:
    return provider.performance_multiplier * provider.time_multiplier


def _cheapness(context: AppContext, providers: list[ProviderView]) -> dict[str, float]:
    """1 for the cheapest, 0.5 for twice its price. An unknown price counts as the dearest known one."""
    prices = {p.name: _price(context, p.name) for p in providers}
    known = [price for price in prices.values() if price]
    if not known:
        return dict.fromkeys(prices, 1.0)
    return {name: min(known) / (price or max(known)) for name, price in prices.items()}


def _price(context: AppContext, provider: str) -> float | None:
    """Nano-dollars of a usual call of the standard tier."""
    row = context.settings.providers[provider]
    model = context.settings.resolve_model(row.models.standard)[0]
    catalogue = catalogue_of(provider, row)
    price = context.prices.price(catalogue, model, context.now())
    if price is None:
        return None
    return price.upper_bound_nanos(1000, 0, int(1000 * ANSWER_TOKENS_PER_PROMPT_TOKEN))


def suggestion(context: AppContext) -> tuple[TrialView, ...]:
    """Sets of weights tried on the last traffic, the proposed one first. Raises Problem 409 without any."""
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
        raise Problem(409, "nothing_known", "There is no traffic of the last day to suggest weights from.")
    every = dict.fromkeys(context.settings.providers, 0.0)
    return tuple(
        TrialView(c.name, every | dict(c.weights), c.cost_nanos, c.mean_s, c.answered, c.tasks)
        for c in found.candidates
    )


def _span_s(context: AppContext, now: float) -> float:
    """Back to where the newest answers are enough to replay, a day at most."""
    answers = 0
    for row in reversed(context.store.reports.usage(now - DAY_S, now + 60, ("minute",))):
        answers += row.sums.ok
        if answers >= REPLAYED_AT_MOST:
            return max(60.0, now - float(row.key[0]))
    return DAY_S


# ------------------------------------------------------------------ history


@dataclass(frozen=True, slots=True)
class WeightSteps:
    """Versions of the changes of weights that stand, and of those that were undone; the newest last."""

    changes: Mapping[int, SettingChange]
    done: tuple[int, ...]
    undone: tuple[int, ...]


def weight_steps(context: AppContext) -> WeightSteps:
    """Where undo and redo go from here.

    Both write a change of weights of their own, and beside it, under `WEIGHT_STEPS`, what stands after it. A
    change that is newer than that was made by someone, and ends what can be redone.
    """
    found = context.store.controls.settings_history(STEPS_KEPT)
    changes = {change.version: change for change in found if change.key == "weights"}
    kept = context.store.controls.current_settings().get(WEIGHT_STEPS) or {"at": 0, "done": [], "undone": []}
    newer = sorted(version for version in changes if version > kept["at"])
    done = [version for version in kept["done"] if version in changes]
    undone = [] if newer else [version for version in kept["undone"] if version in changes]
    return WeightSteps(changes, (*done, *newer), tuple(undone))


def history(context: AppContext, limit: int = 50) -> tuple[ChangeView, ...]:
    """Who changed weights and pauses, newest first."""
    found = (
        change for change in context.store.controls.settings_history(2 * limit) if change.key != WEIGHT_STEPS
    )
    return tuple(_change(context, change) for change in islice(found, limit))


def _change(context: AppContext, change: SettingChange) -> ChangeView:
    before, after = _weights_or_none(context, change, "previous"), _weights_or_none(context, change, "value")
    what = {"weights": "weights", "paused": "pauses"}.get(change.key, change.key)
    if change.key.startswith(CAP):
        what = f"cap of {change.key.removeprefix(CAP)}"
    return ChangeView(
        change.version, change.at, change.who, what, before, after, _change_text(change, before, after)
    )


def _weights_or_none(context: AppContext, change: SettingChange, side: str) -> dict[str, float] | None:
    if change.key != "weights":
        return None
    value: Any = getattr(change, side)
    return stored_weights(context, {"weights": value} if value else {})


def _change_text(
    change: SettingChange, before: dict[str, float] | None, after: dict[str, float] | None
) -> str:
    if before is not None and after is not None:
        moved = [n for n in after if abs(after[n] - before.get(n, 0.0)) >= 0.0005]
        return (
            ", ".join(f"{n} {percent(before.get(n, 0.0), 1)} to {percent(after[n], 1)}" for n in moved)
            or "no difference"
        )
    if change.key == "paused":
        was, now = set(change.previous or ()), set(change.value or ())
        parts = [f"paused {n}" for n in sorted(now - was)] + [f"resumed {n}" for n in sorted(was - now)]
        return ", ".join(parts) or "no difference"
    if change.key.startswith(CAP):
        return f"{_usd(change.previous)} to {_usd(change.value)}"
    return f"{change.previous} to {change.value}"


def _usd(amount: float | None) -> str:
    return "none" if amount is None else money(round(amount * NANOS_PER_USD))
