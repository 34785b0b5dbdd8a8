"""The clock of batches: it can run faster than live traffic, and jump forward."""

from __future__ import annotations

from ..net import Clock


class BatchClock:
    """UTC epoch seconds: from the real time on, `factor` times as fast. 0 stops it. It never goes back."""

    def __init__(self, clock: Clock, factor: float) -> None:
        self._clock = clock
        self._first_factor = factor
        self.reset()

    def now(self) -> float:
        """Seconds since the epoch, on this clock."""
        return self._base + (self._clock.now() - self._since) * self.factor

    def set(self, *, factor: float | None = None, advance_s: float = 0.0) -> None:
        """Jump by `advance_s`, and run `factor` times as fast from now on."""
        self._base, self._since = self.now() + advance_s, self._clock.now()
        if factor is not None:
            self.factor = factor

    def reset(self) -> None:
        """As at the start: the real time and the configured factor."""
        self._base = self._since = self._clock.now()
        self.factor = self._first_factor
