"""The one source of `now`: UTC epoch seconds that never go backwards.

It is the wall clock at the start plus elapsed monotonic time. Three things may happen to the wall clock:

- It is set back. This is ignored: `now` continues with monotonic time.
- It drifts ahead (a quartz is off by some 50 millionths). `now` follows by at most a thousandth of the
  elapsed time, so that midnight stays midnight in a run of weeks.
- It jumps ahead of monotonic time by more than `JUMP_S` between two readings, as after a laptop's sleep.
  `now` jumps with it, and `take_jump()` returns the seconds once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

JUMP_S = 2.0
_CATCH_UP = 0.001  # seconds of drift followed per elapsed second


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
        """UTC epoch seconds, never less than before."""
        with self._lock:
            wall, monotonic = self._wall(), self._monotonic()
            elapsed = monotonic - self._last_monotonic
            jump = wall - self._last_wall - elapsed
            self._last_wall, self._last_monotonic = wall, monotonic
            self._now += elapsed
            ahead = wall - self._now
            if jump > JUMP_S and ahead > 0:
                self._now = self.jumped_at = wall
                self._jump_s += ahead
            elif ahead > 0:
                self._now += min(ahead, elapsed * _CATCH_UP)
            return self._now

    def take_jump(self) -> float:
        """Seconds that were jumped since the last call; 0.0 without a jump."""
        self.now()
        with self._lock:
            jump_s, self._jump_s = self._jump_s, 0.0
            return jump_s
