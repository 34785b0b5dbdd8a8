"""Which answers 429 of a model group have nothing to do with its pace.

A limit that is reached refuses what is sent next, and refuses nothing once the pace is below it. So 429s are
*stray*, no matter of the pace, where one of these holds:

- A 429 comes although the pace is not above what was measured to pass (`AdaptiveLimit.is_contradicted`).
- Most of a configured or reported limit was unused at the first 429, and of the calls sent since then at
  least ENOUGH are answered, and twice as many as are refused. Below an inferred limit that shows nothing: a
  bucket that runs dry refuses the last calls of a burst, and calls overtake each other on their way.

From then on a 429 keeps its own task waiting and not the group, until none has come for STRAY_S, or until
EXCESS more calls are refused than pass within some stretch, calls in flight counted as passing. What has
passed in that stretch is the limit then.
"""

from __future__ import annotations

import math
from typing import NamedTuple

ENOUGH = 5
STRAY_S = 60.0
EXCESS = 5  # where a fifth of all calls is refused by chance, one in a thousand begins such a stretch


class Stretch(NamedTuple):
    """How many calls have passed since a moment, UTC epoch seconds."""

    passed: int
    began_at: float


class Rejections:
    """The 429s of one model group. `began_at`: calls sent up to then are of the burst that is held for."""

    __slots__ = ("_answered", "_excess", "_first_sent", "_refused", "_stray_until", "_stretch", "began_at")

    def __init__(self) -> None:
        self.began_at = -math.inf
        self._first_sent = 0.0  # when the first refused call of a series was sent
        self._refused = self._answered = 0  # since then
        self._stray_until = -math.inf
        self._excess = 0  # more refused than passed, since the stretch began
        self._stretch = Stretch(0, 0.0)

    def is_stray(self, now: float) -> bool:
        """Whether 429s are no matter of pace at present."""
        return now < self._stray_until

    def refused(self, sent_at: float, now: float, *, has_spare: bool, in_flight: int) -> Stretch | None:
        """A 429. The stretch that shows that 429s are a matter of pace after all, where this one does.

        `has_spare`: most of a stated limit was unused at the first of the series. `in_flight`: calls of the
        group.
        """
        if now < self._stray_until:
            return self._refused_astray(in_flight, now)
        if sent_at > self.began_at and not has_spare:
            self._first_sent = sent_at
            self._refused = self._answered = 0
        self._refused += 1
        if sent_at > self.began_at:
            self.began_at = now
        return None

    def _refused_astray(self, in_flight: int, now: float) -> Stretch | None:
        if not self._excess:
            self._stretch = Stretch(0, now)
        self._excess += 1
        self._stray_until = now + STRAY_S
        if self._excess < EXCESS + in_flight:  # they may pass: an answer takes longer than a refusal
            return None
        self._stray_until, self.began_at = -math.inf, now
        return self._stretch

    def answered(self, sent_at: float, now: float, *, has_spare: bool) -> bool:
        """A call was answered. Whether that shows that the 429s beside it were stray."""
        if now < self._stray_until:
            if self._excess:
                self._excess -= 1
                self._stretch = Stretch(self._stretch.passed + 1, self._stretch.began_at)
            return False
        if not has_spare or sent_at < self._first_sent:
            return False
        self._answered += 1
        if self._answered < max(ENOUGH, 2 * self._refused):
            return False
        self.begin_stray(now)
        return True

    def may_be_stray(self, in_flight: int) -> bool:
        """Whether so few calls were refused beside the others that it is open whether they are stray."""
        return self._answered + in_flight >= 2 * self._refused - ENOUGH

    def begin_stray(self, now: float) -> None:
        """The 429s are no matter of the pace from now on."""
        self._stray_until = now + STRAY_S
        self._excess = 0
