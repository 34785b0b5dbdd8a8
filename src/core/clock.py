"""The one source of `now`: UTC epoch seconds that never go backwards.

Wall clock at start plus monotonic time elapsed. Three things may happen to the wall clock meanwhile:

- it is set back: ignored, `now` goes on with monotonic time;
- it drifts ahead (a quartz is off by some 50 millionths): followed, by at most a thousandth of the time
  elapsed, so that midnight stays midnight in a run of weeks;
- it leaps ahead of monotonic time by more than `JUMP_S` between two looks, as after a laptop's sleep:
  `now` leaps with it, and `take_jump()` tells the seconds once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

JUMP_S = 2.0
_CATCH_UP = 0.001  # seconds of drift taken up per second elapsed


class Clock:
    """Real time. Safe to share between threads."""

    def __init__(
        self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._lock = threading.Lock()
        self._last_wall, self._last_monotonic = wall(), monotonic()
        self._now = self._last_wall
        self._jump_s = 0.0
        self.jumped_at: float | None = None  # `now` right after the last jump

    def now(self) -> float:
        """UTC epoch seconds, never less than the last answer."""
        with self._lock:
            wall, monotonic = self._wall(), self._monotonic()
            elapsed = monotonic - self._last_monotonic
            leap = wall - self._last_wall - elapsed
            self._last_wall, self._last_monotonic = wall, monotonic
            self._now += elapsed
            ahead = wall - self._now
            if leap > JUMP_S and ahead > 0:
                self._now = self.jumped_at = wall
                self._jump_s += ahead
            elif ahead > 0:
                self._now += min(ahead, elapsed * _CATCH_UP)
            return self._now

    def take_jump(self) -> float:
        """Seconds leapt over since this was last asked; 0.0 where there was no jump."""
        self.now()
        with self._lock:
            jump_s, self._jump_s = self._jump_s, 0.0
            return jump_s
