"""Which answers 429 of a rate-limit group do not depend on its rate.

A reached limit rejects the next calls, and rejects none at a rate below it. So either of these is evidence:

- Calls sent beside a rejected one are answered: ENOUGH of them within BURST_S, and twice as many as are
  rejected. The limit is not reached. The hold ends, and the rate is restored.
- Three 429s within MEMORY_S have answers between them, and the last came at SLOWER of the first one's rate or
  less. A lower rate does not help.

From then on, for STRAY_S, a 429 delays its own task and not the group, unless more calls are rejected than
answered.
"""

from __future__ import annotations

import math
from collections import deque

ENOUGH, BURST_S = 5, 0.1
IN_A_ROW, SLOWER, MEMORY_S = 3, 0.4, 60.0
STRAY_S = 60.0


class Rejections:
    """The 429s of one rate-limit group. `began_at`: calls sent until then belong to the burst."""

    def __init__(self) -> None:
        self.began_at = -math.inf
        self._first_sent = 0.0
        self._refused = self._answered = 0
        self._paces: deque[tuple[float, float]] = deque(maxlen=IN_A_ROW)  # (when, calls a second before it)
        self._answers = 0  # since the last 429
        self._between: deque[int] = deque(maxlen=IN_A_ROW)  # answers before each
        self._stray_until = -math.inf

    def is_stray(self, now: float) -> bool:
        """Whether 429s do not depend on the rate at present."""
        if now < self._stray_until and self._refused > max(self._answered, ENOUGH):
            self._stray_until = -math.inf  # it is a limit after all
        return now < self._stray_until

    def refused(self, sent_at: float, pace: float, now: float) -> None:
        """A 429. `pace`: the calls per second admitted until now."""
        if self.is_stray(now) or sent_at <= self.began_at:
            self._refused += 1
            return
        self.began_at, self._first_sent = now, sent_at
        self._refused, self._answered = 1, 0
        if pace < math.inf:
            self._paces.append((now, pace))
            self._between.append(self._answers)
        self._answers = 0

    def answered(self, sent_at: float, now: float) -> bool:
        """A call was answered. Whether that shows that the 429s beside it were stray."""
        self._answers += 1
        if self.is_stray(now):
            self._answered += 1
            return False
        if not self._first_sent <= sent_at <= self.began_at:
            return False
        self._answered += sent_at - self._first_sent <= BURST_S
        if self._answered < max(ENOUGH, 2 * self._refused):
            return False
        self.begin_stray(now)
        return True

    def slower_in_vain(self, now: float) -> bool:
        """Whether the newest 429 came although the pace had fallen far."""
        paces = [pace for at, pace in self._paces if now - at <= MEMORY_S]
        if len(paces) < IN_A_ROW or paces[-1] > SLOWER * paces[0] or sum(self._between) < IN_A_ROW:
            return False
        self.begin_stray(now)
        return True

    @property
    def pace(self) -> float:
        """The highest pace lately."""
        return max((pace for _, pace in self._paces), default=0.0)

    def begin_stray(self, now: float) -> None:
        self._stray_until = now + STRAY_S
        self._refused = self._answered = 0
