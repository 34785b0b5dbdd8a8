"""Runs: requests of one agent that come one after the other, and belong together.

A run keeps its place. Its later turns have the fair-queueing tag of its first one, so that they go before
runs that have not begun: of N agents at a limit, one after the other finishes instead of all stalling
half-way. That ends after `MOST_TURNS` turns or `IDLE_S` seconds without one; the next turn is a first one
again. A run also knows which provider served its last turn, which has its prompt in its cache.

Memory is bounded by the runs that are not idle.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

IDLE_S = 60.0
MOST_TURNS = 50
LOOKED_AT = 4  # runs that are looked at with each turn: more than may come with it, so idle ones get fewer

RunKey = tuple[str, str]  # batch, submitter


@dataclass(slots=True)
class _Run:
    tag: float
    turns: int = 1
    open: int = 1
    used_at: float = 0.0
    provider: int = -1

    def is_idle(self, now: float) -> bool:
        return not self.open and now - self.used_at >= IDLE_S


class Runs:
    """The runs that are not idle. Times are UTC epoch seconds."""

    def __init__(self) -> None:
        self._runs: OrderedDict[RunKey, _Run] = OrderedDict()  # the one used last is the last

    def __len__(self) -> int:
        return len(self._runs)

    def begin_turn(self, key: RunKey, first_tag: float, now: float) -> tuple[float, int]:
        """The tag of the run's next turn, and the provider of its last one (-1: none).

        `first_tag`: the tag that a first turn gets.
        """
        self._forget_idle(now)
        run = self._runs.get(key)
        if run is None or run.is_idle(now):
            run = self._runs[key] = _Run(first_tag)
        else:
            run.open += 1
            run.turns += 1
            if run.turns > MOST_TURNS:
                run.tag, run.turns = max(run.tag, first_tag), 1
        self._use(key, run, now)
        return run.tag, run.provider

    def served(self, key: RunKey, provider: int) -> None:
        """The provider has answered a turn. No effect on a run that is not known."""
        if (run := self._runs.get(key)) is not None:
            run.provider = provider

    def end_turn(self, key: RunKey, now: float | None) -> None:
        """A turn has ended; `now` None: it was withdrawn. No effect on a run that is not known."""
        if (run := self._runs.get(key)) is not None:
            run.open -= 1
            self._use(key, run, run.used_at if now is None else now)

    def is_new(self, key: RunKey, now: float) -> bool:
        """Whether the run's next turn will be a first one."""
        run = self._runs.get(key)
        return run is None or run.is_idle(now) or run.turns >= MOST_TURNS

    def _use(self, key: RunKey, run: _Run, now: float) -> None:
        run.used_at = now
        self._runs.move_to_end(key)

    def _forget_idle(self, now: float) -> None:
        for _ in range(min(LOOKED_AT, len(self._runs))):
            key, run = next(iter(self._runs.items()))
            if run.open:
                self._runs.move_to_end(key)
            elif run.is_idle(now):
                del self._runs[key]
            else:
                break
