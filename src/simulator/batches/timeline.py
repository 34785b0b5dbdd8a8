"""The course of one batch: states over time. Pure; times are epoch seconds of the batch clock.

    validating -> running -> finalizing -> completed
        |            |-> expired        at the end of its window
        |-> failed   |-> cancelling -> cancelled

Rows are answered evenly between validation and `rows_done_at`, also while a batch is being cancelled. A batch
that is stuck answers none and never expires; a cancellation ends it.
"""

from __future__ import annotations

import enum
import math
import random
from dataclasses import dataclass

from .settings import BatchSettings

_LONGEST_SHARE = 0.1  # of the turnaround: how much validation and finalizing may take


class Phase(enum.Enum):
    """The states of a batch; each API has names of its own for them."""

    VALIDATING = enum.auto()
    RUNNING = enum.auto()
    FINALIZING = enum.auto()
    CANCELLING = enum.auto()
    COMPLETED = enum.auto()
    FAILED = enum.auto()
    EXPIRED = enum.auto()
    CANCELLED = enum.auto()


FINAL = frozenset({Phase.COMPLETED, Phase.FAILED, Phase.EXPIRED, Phase.CANCELLED})


@dataclass(slots=True)
class Timeline:
    """When a batch changes its state."""

    created_at: float
    validated_at: float
    rows_done_at: float
    ended_at: float
    expires_at: float
    is_valid: bool = True
    is_stuck: bool = False
    cancelling_at: float | None = None
    cancelled_at: float = math.inf

    def phase(self, now: float) -> Phase:
        """The state at `now`."""
        natural = self._natural_phase(min(now, self.cancelled_at))
        if self.cancelling_at is None or now < self.cancelling_at:
            return natural
        if natural in (Phase.EXPIRED, Phase.FAILED):
            return natural
        return Phase.CANCELLED if now >= self.cancelled_at else Phase.CANCELLING

    def _natural_phase(self, now: float) -> Phase:
        """The state of a batch that is not cancelled."""
        if now < self.validated_at:
            return Phase.VALIDATING
        if not self.is_valid:
            return Phase.FAILED
        if now >= self.expires_at and self.ended_at > self.expires_at and not self.is_stuck:
            return Phase.EXPIRED
        if now >= self.ended_at:
            return Phase.COMPLETED
        return Phase.FINALIZING if now >= self.rows_done_at else Phase.RUNNING

    @property
    def over_at(self) -> float:
        """When the batch reaches its final state; infinite for one that is stuck."""
        if not self.is_valid:
            return min(self.validated_at, self.cancelled_at)
        if self.ended_at > self.expires_at and not self.is_stuck:
            return min(self.expires_at, self.cancelled_at)
        return self.ended_at if self.cancelling_at is None else self.cancelled_at

    def rows_done(self, now: float, rows: int) -> int:
        """How many rows are answered at `now`."""
        if not self.is_valid:
            return 0
        at = min(now, self.over_at)
        if at >= self.rows_done_at:
            return rows
        span = self.rows_done_at - self.validated_at
        return int(rows * max(0.0, (at - self.validated_at) / span))

    def cancel(self, now: float, takes_s: float) -> None:
        """Begin a cancellation of a batch that is not over."""
        self.cancelling_at = now
        self.cancelled_at = now + takes_s


def draw_timeline(
    settings: BatchSettings, window_s: float, now: float, rng: random.Random, *, is_valid: bool
) -> Timeline:
    """The course of a batch that is created at `now`."""
    takes_s = settings.turnaround.draw(rng.gauss(0.0, 1.0))
    fate = rng.random()
    if fate < settings.expiring:
        takes_s = window_s / rng.uniform(0.3, 0.9)  # so much of it is done when the window ends
    is_stuck = settings.expiring <= fate < settings.expiring + settings.stuck
    validated_at = now + min(settings.validation_s, takes_s * _LONGEST_SHARE)
    ended_at = math.inf if is_stuck else now + takes_s
    rows_done_at = ended_at - min(settings.finalizing_s, takes_s * _LONGEST_SHARE)
    return Timeline(now, validated_at, rows_done_at, ended_at, now + window_s, is_valid, is_stuck)
