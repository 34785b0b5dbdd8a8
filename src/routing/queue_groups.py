"""The parts of the queues: a waiting task, its class and its group.

Tasks of one class have the same options, are charged about the same, and wait in one order. Classes with the
same options and the same preferred provider form a group: a wait condition that is not specific to one class
holds all classes of its group.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from ..records import Attempt, Task, WaitReason
from .allocation.planner import FREE, Advice
from .candidates import WaitCondition
from .cost.budgets import BudgetRefusal
from .fair_share import Place
from .limits.group import RateLimitGroup
from .refusals import NEVER
from .retry_state import RetryState
from .routes import Route

ALWAYS = -math.inf  # a moment before any other
SLACK = 64  # dead entries that a heap may hold, beside twice as many as it has live ones
DRAWS = 20  # tries to draw a live entry; then the head is taken
Order = tuple[float, ...]


@dataclass(slots=True, eq=False)
class PendingTask:
    """One task that has not ended, waiting or in flight."""

    task: Task
    asked: Task  # as its next call sends it
    retry: RetryState
    key: tuple[object, ...]
    place: Place
    direct: bool = False  # its submitter waits for the answer: it is in no queue of the store
    attempts: list[Attempt] = field(default_factory=list)
    queue: QueueClass | None = None  # None: in flight
    holds: RateLimitGroup | None = None  # the group that it holds as the oldest, unless an older task came
    warnings: tuple[str, ...] = ()
    is_last_call: bool = False  # the task ends with the call in flight, whatever comes of it


@dataclass(slots=True, eq=False, kw_only=True)
class Parked:
    """Not evaluated before a moment, or before a provider of `settles` settles a call."""

    parked_until: float = ALWAYS
    settles: int = 0
    waits_for: WaitReason | None = None

    def park(self, blocked: WaitCondition, until: float | None) -> None:
        """Wait for `blocked`. `until` None: until a call settles."""
        self.parked_until = NEVER if until is None else until
        self.settles = blocked.settles
        self.waits_for = blocked.waits_for

    def unpark(self) -> None:
        """Evaluate it again."""
        self.parked_until = ALWAYS
        self.settles = 0


@dataclass(slots=True, eq=False)
class QueueClass(Parked):
    """Tasks with the same options, in one order.

    Dead entries stay in the heap until they come to its top, or are too many.
    """

    key: tuple[object, ...]
    route: Route
    group: QueueGroup
    task_type: str
    messages: int
    heap: list[tuple[Order, PendingTask]] = field(default_factory=list)
    count: int = 0
    chars: int = 0
    advice: Advice = FREE
    held_back: bool = False  # an older task holds a group that it could use
    over_budget: BudgetRefusal | None = None
    listed: Order = ()  # its place in the heap `ready` of its group; (): none
    rests_until: float = ALWAYS  # its newest place in the heap `resting` of its group

    def head(self) -> PendingTask | None:
        """The task that goes first; None: the class is empty."""
        heap = self.heap
        while heap and heap[0][1].queue is not self:
            heapq.heappop(heap)
        return heap[0][1] if heap else None

    def sweep(self) -> None:
        """Drop entries of tasks that were withdrawn or expired behind the head."""
        if len(self.heap) > SLACK + 2 * self.count:
            self.heap[:] = [item for item in self.heap if item[1].queue is self]
            heapq.heapify(self.heap)

    def draw(self, dice: Random) -> PendingTask | None:
        """Any of its tasks, each with the same probability."""
        for _ in range(DRAWS):
            entry = dice.choice(self.heap)[1]
            if entry.queue is self:
                return entry
        return self.head()

    def park(self, blocked: WaitCondition, until: float | None) -> None:
        """Wait for `blocked`, and record what else holds the class. `until` None: until a call settles."""
        Parked.park(self, blocked, until)
        self.held_back = blocked.held_back
        self.over_budget = blocked.over_budget

    def unpark(self) -> None:
        """Evaluate the class again."""
        Parked.unpark(self)
        self.held_back = False

    @property
    def holder(self) -> Parked:
        """The class or its group, whichever waits for longer."""
        return self.group if self.group.parked_until > self.parked_until else self


@dataclass(slots=True, eq=False)
class QueueGroup(Parked):
    """Classes with the same options and preference, which one condition may hold together.

    Both heaps are lazy: a change is noticed when an entry comes to the top.
    """

    places: tuple[object, ...]  # the rate-limit groups that its tasks may use
    prefer: int
    again: bool  # its tasks had attempts before, each with a retry state of its own
    hurried: bool  # its tasks have deadlines and may force a call: each class is evaluated separately
    classes: dict[QueueClass, None] = field(default_factory=dict)  # in the order they came
    ready: list[tuple[Order, int, QueueClass]] = field(default_factory=list)
    resting: list[tuple[float, int, QueueClass]] = field(default_factory=list)
    # Compared before the classes, which have no order
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def enlist(self, each: QueueClass) -> None:
        """Put the class among those to evaluate, by the order of its head."""
        order = each.heap[0][0]
        if each.listed != order:
            each.listed = order
            heapq.heappush(self.ready, (order, next(self._numbers), each))
            if len(self.ready) > SLACK + 2 * len(self.classes):
                self._sweep_ready()

    def rest(self, each: QueueClass) -> None:
        """Put a parked class among those to evaluate at a later moment."""
        if each.parked_until < NEVER and each.rests_until != each.parked_until:
            each.rests_until = each.parked_until
            heapq.heappush(self.resting, (each.parked_until, next(self._numbers), each))
            if len(self.resting) > SLACK + 2 * len(self.classes):
                self._sweep_resting()

    def _sweep_ready(self) -> None:
        """Drop outdated entries anywhere in the heap."""
        live = {
            each: (order, n, each) for order, n, each in self.ready if each.count and each.listed == order
        }
        self.ready[:] = live.values()
        heapq.heapify(self.ready)

    def _sweep_resting(self) -> None:
        live = {e: (at, n, e) for at, n, e in self.resting if e.count and e.rests_until == at}
        self.resting[:] = live.values()
        heapq.heapify(self.resting)

    def first(self, now: float) -> QueueClass | None:
        """The class whose head goes first, of those that are not parked."""
        resting, ready = self.resting, self.ready
        while resting and resting[0][0] <= now:
            until, _, each = heapq.heappop(resting)
            if each.rests_until == until:
                each.rests_until = ALWAYS
            if each.parked_until == until and each.count:
                each.unpark()
                self.enlist(each)
        while ready:
            order, _, each = ready[0]
            if each.listed == order:
                if each.count and each.parked_until <= now and each.heap[0][0] == order:
                    return each
                each.listed = ()
            heapq.heappop(ready)
        return None

    def next_at(self, now: float) -> float:
        """When time alone lets one of its classes be evaluated again; NEVER: now, or not by time."""
        someone = self.first(now) is not None
        resting = self.resting
        while resting and not (resting[0][2].count and resting[0][2].parked_until == resting[0][0]):
            until, _, each = heapq.heappop(resting)
            if each.rests_until == until:
                each.rests_until = ALWAYS
        rests = resting[0][0] if resting else NEVER
        if self.parked_until <= now:
            return rests
        return self.parked_until if someone else max(self.parked_until, rests)
