"""Whether a 429 is its task's own: evidence from the calls beside it in the same rate-limit group.

Some tasks always get a 429, wherever they are sent (because of a filter, or a gateway that miscounts them). A
reached limit rejects any next call. So the last call sent before the task's 429 decides, if it was sent after
the task's previous 429 in that group: its *neighbour*.

    neighbour    the 429 counts            then
    ----------   ------------------------  --------------------------------------------------------
    answered     1 towards the task's own  the group is not held
    refused      1 less                    the group is held
    none         nothing                   the group is held; from the second 429 on the task waits
                                           until there is a neighbour, a canary where no task is one

After SURELY_OWN the task is the cause, and each further 429 that counts costs it an attempt. As many in a
row, of any tasks beside different neighbours, show that the 429s do not depend on the rate: the rate of the
group is restored. Beside one neighbour, that call may have taken the last that a limit admits.

If other programs use a share of the limit, calls are rejected by chance. Then a task that is not the cause
fails in 7 of a million cases at the worst share, 0.55: the count is a random walk that goes up with
probability 0.25 and down with 0.3, and ends with 0.45 in an answer. So it climbs nine steps (three, and six
attempts) with 0.27 ** 9.

Tasks with a 429 of their own are not neighbours. If rejected, they may be such tasks as well, and counting
only the answered ones would bias the sample. A call much smaller than the task is not a neighbour either,
since a token limit may admit it and reject the task.

After a hold one call goes first, drawn from the tasks without a 429. The others follow once it is answered,
or is not refused within FIRST_S.
"""

from __future__ import annotations

import math
from typing import Protocol

SURELY_OWN = 3
COMPARABLE, SMALL_CHARS = 4.0, 8_000  # a task is at most so many times as long as its neighbour, or short
FIRST_S = 1.0  # a refusal takes less
WANTED_S = 3.0  # how long a task waits for a neighbour; its next evaluation extends that
NO_CANARY_S = 60.0  # no canary after one that was refused, or could not go


class RejectedTask(Protocol):
    """What a task remembers of the 429s that it has drawn: see `retry_state.py`."""

    limited: tuple[tuple[Evidence, int], ...]
    own_429s: int
    draws_429: int


class Evidence:
    """The neighbours of one group, and its holds without an answer. Times are UTC epoch seconds."""

    __slots__ = (
        "chars",
        "counted_beside",
        "first",
        "first_until",
        "holds",
        "newest",
        "no_canary_until",
        "ok",
        "own_429s_counted",
        "wanted_until",
    )

    def __init__(self) -> None:
        self.own_429s_counted = 0  # 429s that count, since a task that had drawn one was last answered
        self.counted_beside = 0  # the neighbour of the last one
        self.newest = 0  # the permit of the newest neighbour
        self.ok = True
        self.chars = 0
        self.holds = 0  # that began since a call was last answered
        self.first = 0  # the permit of the one call that goes first
        self.first_until = -math.inf
        self.wanted_until = -math.inf  # a task waits for a neighbour
        self.no_canary_until = -math.inf

    @property
    def are_tasks_own(self) -> bool:
        """Whether tasks that drew 429s draw them again while others are answered, and none of them is."""
        return self.own_429s_counted >= SURELY_OWN

    def answered(self, retry: RejectedTask | None, permit: int, chars: int) -> None:
        """A call was answered."""
        self.holds = 0
        if retry is not None and retry.draws_429:
            self.own_429s_counted = 0
        else:
            self.note(permit, chars, ok=True)

    def note(self, permit: int, chars: int, *, ok: bool) -> None:
        """A neighbour has ended: the call of a task without a 429 until now, or a canary."""
        if permit > self.newest:
            self.newest, self.ok, self.chars = permit, ok, chars

    def counts(self, retry: RejectedTask, permit: int, chars: int) -> bool:
        """Add a 429 to the task's retry state. Whether it counts towards the task's own."""
        last = next((number for group, number in retry.limited if group is self), 0)
        retry.limited = (*(pair for pair in retry.limited if pair[0] is not self), (self, permit))
        if not retry.draws_429:
            self.note(permit, chars, ok=False)
        retry.draws_429 += 1
        if not last or self.newest <= last:
            return False
        if not self.ok:
            retry.own_429s = max(0, retry.own_429s - 1) if retry.own_429s < SURELY_OWN else retry.own_429s
            return False
        if chars > max(SMALL_CHARS, COMPARABLE * self.chars):
            return False
        retry.own_429s += 1
        self.own_429s_counted += self.newest != self.counted_beside
        self.counted_beside = self.newest
        return True

    def wants_neighbour(self, retry: RejectedTask, now: float) -> bool:
        """Whether the task waits until another call has gone, since its next 429 would show nothing."""
        if retry.draws_429 < 2 or now < self.no_canary_until:
            return False
        last = next((number for group, number in retry.limited if group is self), 0)
        if not last or self.newest > last:
            return False
        self.wanted_until = now + WANTED_S
        return True

    def hold_began(self) -> None:
        """A 429 has begun a hold of the group."""
        self.holds += 1

    @property
    def sends_one_first(self) -> bool:
        """Whether the next call goes alone, to show whether the group is open."""
        return self.holds > 0

    def granted(self, permit: int, now: float) -> None:
        """A call goes to the group; after a hold it is the one that goes first."""
        if self.sends_one_first:
            self.first, self.first_until = permit, now + FIRST_S

    def settled(self, permit: int) -> None:
        """A call of the group has ended."""
        if permit == self.first:
            self.first, self.first_until = 0, -math.inf

    def is_canary_due(self, now: float) -> bool:
        """Whether a task waits for a neighbour and none has come."""
        return now < self.wanted_until and now >= self.no_canary_until
