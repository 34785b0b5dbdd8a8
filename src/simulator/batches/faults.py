"""What can go wrong with requests to the batch endpoints, and with single rows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

ACTIONS = ("upload", "create", "retrieve", "list", "results", "cancel", "delete")
EFFECTS: Mapping[str, str] = {
    "refused": "500, and nothing was done",
    "limited": "429, and nothing was done",
    "gone": "404, and nothing was done",
    "forbidden": "403, and nothing was done",
    "error": "done, then 500",
    "reset": "done, then a connection reset; of results, half have been sent",
    "silence": "done, and never answered",
}
BATCH_FAULTS: Mapping[str, str] = {
    f"{action}_{effect}": f"{action}: {text}" for action in ACTIONS for effect, text in EFFECTS.items()
} | {"results_cut": "results: the first half of the lines, as if they were all"}
BEFORE: Mapping[str, str] = {
    "refused": "server_error",
    "limited": "rate_limit",
    "gone": "not_found",
    "forbidden": "forbidden",
}

ROW_FAULTS: Mapping[str, str] = dict.fromkeys(
    (
        *("rate_limit", "server_error", "overloaded", "unavailable", "timeout_status"),
        *("context_length", "content_policy", "bad_request", "model_not_found"),
        *("empty", "no_stop_reason", "length", "content_filter"),
        *("wrong_json", "wrong_json_once", "fenced_json"),
    ),
    "the live fault of this name",
)


class BatchFault(NamedTuple):
    """The name of a fault and what it does."""

    name: str
    effect: str


class BatchFaultPlan:
    """Which fault a request to the batch endpoints meets: those ordered go first, then shares decide."""

    def __init__(self) -> None:
        self._ordered: Counter[str] = Counter()

    def order(self, fault: str, times: int) -> None:
        """The next `times` requests that can meet this fault do."""
        self._ordered[fault] += times

    def clear(self) -> None:
        """Drop what was ordered."""
        self._ordered.clear()

    def pick(self, action: str, shares: Mapping[str, float], rng: random.Random) -> BatchFault | None:
        """The fault of a request that arrives now."""
        effects = [*EFFECTS, "cut"] if action == "results" else list(EFFECTS)
        for effect in effects:
            name = f"{action}_{effect}"
            if self._ordered[name] > 0:
                self._ordered[name] -= 1
                return BatchFault(name, effect)
        for effect in effects:
            name = f"{action}_{effect}"
            share = shares.get(name, 0.0)
            if share and rng.random() < share:
                return BatchFault(name, effect)
        return None


def pick_row_fault(shares: Mapping[str, float], rng: random.Random) -> str | None:
    """The fault of a row: one number decides among the shares, so that each keeps its exact probability."""
    drawn = rng.random()
    for fault, share in shares.items():
        drawn -= share
        if drawn < 0:
            return fault
    return None
