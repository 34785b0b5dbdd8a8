"""Base weights: those in force, the shares that follow from them, and the history of their changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...core.store import SettingChange
from ...core.weight_changes import WEIGHTS
from ...formatting import percent
from ...records import GENERAL, ProviderCondition
from ...routing.health.scoring import shares
from ..context import SUMS_FRESH_S, AppContext
from .pool import UNAVAILABLE_STATES, pool_view, scores_of, weight_changes
from .pool_views import PoolView
from .presets import presets
from .usage import last_day_by

LEAST_SHARE = 1e-9  # so that a family whose scores are all 0 is shared alike
SHOWN_SETTINGS = {WEIGHTS: "weights", "paused": "pauses"}  # by key, what the history calls them


@dataclass(frozen=True, slots=True)
class ShareRow:
    """One provider under some weights. `share` is that of untyped tasks, `expected_share` of all tasks."""

    provider: str
    state: ProviderCondition
    weight: float
    score: float
    share: float
    expected_share: float


@dataclass(frozen=True, slots=True)
class ChangeView:
    """One change of weights or pauses in the history."""

    version: int
    at: float
    who: str
    what: str
    before: dict[str, float] | None
    after: dict[str, float] | None
    text: str


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


def rebalance_view(context: AppContext, wanted: Mapping[str, float] | None = None) -> RebalanceView:
    """The weights in force beside those `wanted` (None: the same)."""
    pool = pool_view(context)
    mix = context.cache.get("mix", lambda: _mix(context), SUMS_FRESH_S)
    current = {p.name: p.weight for p in pool.providers}
    steps = weight_changes(context).steps()
    return RebalanceView(
        now=pool.now,
        simulated=context.simulated,
        current=share_rows(context, pool, current, mix),
        preview=share_rows(context, pool, wanted or current, mix),
        presets=presets(context),
        history=history(context),
        mix=mix,
        version=context.store.controls.settings_version(),
        can_undo=bool(steps.done),
        can_redo=bool(steps.undone),
    )


def share_rows(
    context: AppContext, pool: PoolView, weights: Mapping[str, float], mix: Mapping[str, float]
) -> tuple[ShareRow, ...]:
    """The shares of the next tasks under `weights`, by the current scores."""
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
    """Shares of all tasks, for the mix of task types of the last day.

    A preferred provider gets all tasks of its types. The round-robin charges it for them, so tasks without a
    preference go to the providers that are behind their share.
    """
    preferred = dict.fromkeys(share, 0.0)
    free = 0.0
    for task_type, part in mix.items():
        rows = [name for name in _preferred_rows(context, task_type) if name in share]
        free += 0.0 if rows else part
        for name, own in shares({name: share[name] or LEAST_SHARE for name in rows}).items():
            preferred[name] += part * own
    behind = {name: max(0.0, share[name] - preferred[name]) for name in share}
    rest = shares(behind if sum(behind.values()) > 0 else dict(share))
    return {name: preferred[name] + free * rest[name] for name in share}


def _preferred_rows(context: AppContext, task_type: str) -> list[str]:
    """The provider that the task type prefers, and its family."""
    row = context.settings.task_types.get(task_type)
    if row is None or not row.prefer or not context.settings.routing.preferences:
        return []
    return context.settings.with_families([row.prefer])


def _mix(context: AppContext) -> dict[str, float]:
    """The task types of the answered calls of the last day, summing to 1; untyped if there were none."""
    found = last_day_by(context, context.now(), "task_type")
    counted = {name: float(sums.ok) for (name,), sums in found.items() if sums.ok}
    return shares(counted) if counted else {GENERAL: 1.0}


# ------------------------------------------------------------------ history


def history(context: AppContext, limit: int = 50) -> tuple[ChangeView, ...]:
    """The changes of weights and pauses, newest first."""
    changes = context.store.controls.settings_history(limit, keys=SHOWN_SETTINGS)
    return tuple(_change(context, change) for change in changes)


def _change(context: AppContext, change: SettingChange) -> ChangeView:
    before, after = _weights_or_none(context, change, "previous"), _weights_or_none(context, change, "value")
    what = SHOWN_SETTINGS[change.key]
    return ChangeView(
        change.version, change.at, change.who, what, before, after, _change_text(change, before, after)
    )


def _weights_or_none(context: AppContext, change: SettingChange, side: str) -> dict[str, float] | None:
    if change.key != WEIGHTS:
        return None
    value: Any = getattr(change, side)
    return weight_changes(context).with_stored(value)


def _change_text(
    change: SettingChange, before: dict[str, float] | None, after: dict[str, float] | None
) -> str:
    if before is not None and after is not None:
        return _weights_text(before, after)
    return _pauses_text(set(change.previous or ()), set(change.value or ()))


def _weights_text(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    moved = [name for name in after if abs(after[name] - before.get(name, 0.0)) >= 0.0005]
    parts = [f"{name} {percent(before.get(name, 0.0), 1)} to {percent(after[name], 1)}" for name in moved]
    return ", ".join(parts) or "no difference"


def _pauses_text(before: set[str], after: set[str]) -> str:
    paused = [f"paused {name}" for name in sorted(after - before)]
    resumed = [f"resumed {name}" for name in sorted(before - after)]
    return ", ".join(paused + resumed) or "no difference"
