"""The base weights in force and the changes that led to them, which can be undone and redone.

The pages and the command line write changes to the store. A running orchestrator reads them within a second,
the next one when it starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..formatting import percent
from ..records import Event
from ..settings import Settings
from .store import SettingChange, Store

WEIGHTS = "weights"  # a setting: {provider: base weight}
WEIGHT_STEPS = "weight_steps"  # a setting: which changes undo and redo act on next
CHANGES_READ = 1_000  # older ones can neither be undone nor restored
Weights = Mapping[str, float]  # by provider


def normalised(weights: Weights) -> dict[str, float]:
    """The same proportions with a sum of 1. At least one weight is above 0."""
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def weights_text(weights: Weights) -> str:
    """Weights as shares of their sum: `anthropic 30.0 %, openai 70.0 %`; as they are if the sum is 0."""
    if not sum(weights.values()):
        return ", ".join(f"{name} 0" for name in weights)
    return ", ".join(f"{name} {percent(weight, 1)}" for name, weight in normalised(weights).items())


@dataclass(frozen=True, slots=True)
class WeightSteps:
    """Versions of the changes of weights in force, and of the undone ones; the newest last."""

    changes: Mapping[int, SettingChange]
    done: tuple[int, ...]
    undone: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WeightChanges:
    """Reads and changes the base weights in a store. Callers take care that changes do not overlap."""

    store: Store
    settings: Settings

    @property
    def configured(self) -> dict[str, float]:
        """The base weights of the configuration."""
        return {name: row.weight for name, row in self.settings.providers.items()}

    def in_force(self) -> dict[str, float]:
        """The base weights of the configuration, overridden by those that were set by hand."""
        return self.with_stored(self.store.controls.current_settings().get(WEIGHTS))

    def with_stored(self, stored: Mapping[str, Any] | None) -> dict[str, float]:
        """The weights in force with this value of the setting, without providers that are gone by now."""
        configured = self.configured
        return configured | {n: float(w) for n, w in dict(stored or {}).items() if n in configured}

    def apply(self, weights: Weights, *, who: str, now: float) -> int:
        """Set the weights. Returns the number of the change in the history."""
        rounded = {name: round(weight, 6) for name, weight in weights.items()}
        version = self.store.controls.put_setting(WEIGHTS, rounded, who=who, now=now)
        self._record(f"{who} set the weights: {weights_text(rounded)}", now)
        return version

    def of_version(self, version: int) -> dict[str, float] | None:
        """The weights that this change set; None: it is no change of weights, or too old."""
        change = self._changes().get(version)
        return None if change is None else self.with_stored(change.value)

    def _changes(self) -> dict[int, SettingChange]:
        """The last changes of weights by version, the newest first."""
        history = self.store.controls.settings_history(CHANGES_READ, keys=[WEIGHTS])
        return {change.version: change for change in history}

    def steps(self) -> WeightSteps:
        """The changes that undo and redo would act on.

        Undo and redo write a change of weights themselves, and right behind it what is then in force under
        `WEIGHT_STEPS`. A change newer than that was made by hand, and nothing before it can be redone.
        """
        changes = self._changes()
        last = next(iter(self.store.controls.settings_history(1, keys=[WEIGHT_STEPS])), None)
        kept = {"done": [], "undone": []} if last is None else last.value
        newer = sorted(version for version in changes if last is None or version > last.version)
        done = [version for version in kept["done"] if version in changes]
        undone = [] if newer else [version for version in kept["undone"] if version in changes]
        return WeightSteps(changes, (*done, *newer), tuple(undone))

    def undo(self, *, who: str, now: float) -> int | None:
        """Revert the last change that stands. Returns the number of the new change; None: there is none."""
        steps = self.steps()
        if not steps.done:
            return None
        *done, last = steps.done
        after = WeightSteps(steps.changes, tuple(done), (*steps.undone, last))
        version = self._step(steps.changes[last].previous, after, who, now)
        self._record(f"{who} reverted change {last} of the weights", now)
        return version

    def redo(self, *, who: str, now: float) -> int | None:
        """Repeat the last undone change. Returns the number of the new change; None: there is none."""
        steps = self.steps()
        if not steps.undone:
            return None
        *undone, last = steps.undone
        after = WeightSteps(steps.changes, (*steps.done, last), tuple(undone))
        version = self._step(steps.changes[last].value, after, who, now)
        self._record(f"{who} repeated change {last} of the weights", now)
        return version

    def _step(self, weights: Any, after: WeightSteps, who: str, now: float) -> int:
        steps = {"done": list(after.done), "undone": list(after.undone)}
        return self.store.controls.put_settings({WEIGHTS: weights, WEIGHT_STEPS: steps}, who=who, now=now)[0]

    def _record(self, text: str, now: float) -> None:
        self.store.events.add([Event(now, "weights_changed", text)])
