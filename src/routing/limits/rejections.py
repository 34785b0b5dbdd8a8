"""Which answers 429 of a model group have nothing to do with its pace.

A limit that is reached refuses what is sent next, and refuses nothing once the pace is below it. So:

- Calls sent beside a refused one are answered, ENOUGH of them within BURST_S and twice as many as are
  refused: the limit is not reached. The hold ends and the pace is what it was.
- Three 429s within MEMORY_S with answers between them, the last at a pace of at most SLOWER of the first:
  going slower does not help.

From then on, for STRAY_S, a 429 keeps its own task waiting and not the group, unless more are refused than
answered.
"""

from __future__ import annotations

import math
from collections import deque

ENOUGH, BURST_S = 5, 0.1
IN_A_ROW, SLOWER, MEMORY_S = 3, 0.4, 60.0
STRAY_S = 60.0


class Rejections:
    """The 429s of one model group. `began_at`: calls sent up to then are of the burst that is held for."""

    def __init__(self) -> None:
        self.began_at = -math.inf
        self._first_sent = 0.0
        self._refused = self._answered = 0
        self._paces: deque[tuple[float, float]] = deque(maxlen=IN_A_ROW)  # (when, calls a second before it)
        self._answers = 0  # since the last 429
        self._between: deque[int] = deque(maxlen=IN_A_ROW)  # answers before each
        self._stray_until = -math.inf

    def is_stray(self, now: float) -> bool:
        """Whether 429s are no matter of pace at present."""
        if now < self._stray_until and self._refused > max(self._answered, ENOUGH):
            self._stray_until = -math.inf  # it is one after all
        return now < self._stray_until

    def refused(self, sent_at: float, pace: float, now: float) -> None:
        """A 429. `pace` is what was let through until now, calls a second."""
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
