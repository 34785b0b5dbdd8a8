"""The deadlines of waiting tasks, the soonest first."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator

from .queue_groups import SLACK, PendingTask
from .refusals import NEVER


class Deadlines:
    """A lazy heap: entries of tasks that no longer wait stay until they come to its top, or are too many.

    A task that waits again after a call is pushed again. Times are UTC epoch seconds.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, PendingTask]] = []
        self._numbers = itertools.count()  # compared before the tasks, which have no order
        self._waiting = 0

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, entry: PendingTask) -> None:
        """A task waits."""
        if entry.task.deadline_at is None:
            return
        self._waiting += 1
        heapq.heappush(self._heap, (entry.task.deadline_at, next(self._numbers), entry))
        self._sweep()

    def remove(self, entry: PendingTask) -> None:
        """A task no longer waits; its queue is None already."""
        if entry.task.deadline_at is None:
            return
        self._waiting -= 1
        self._sweep()

    def take_due(self, now: float, least_s: float) -> Iterator[PendingTask]:
        """The waiting tasks whose deadline is less than `least_s` away; the caller removes each of them.

        That is computed as `next_at() - least_s <= now`, like the moment to wake up, to the last bit.
        """
        while self._heap and self._heap[0][0] - least_s <= now:
            entry = heapq.heappop(self._heap)[2]
            if entry.queue is not None:
                yield entry

    def next_at(self) -> float:
        """The soonest deadline of a waiting task; NEVER: none has one."""
        while self._heap and self._heap[0][2].queue is None:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else NEVER

    def _sweep(self) -> None:
        """Drop entries of tasks that no longer wait, and keep one of each that waits."""
        if len(self._heap) <= SLACK + 2 * self._waiting:
            return
        live = {item[2].retry.order: item for item in self._heap if item[2].queue is not None}
        self._heap[:] = live.values()
        heapq.heapify(self._heap)
