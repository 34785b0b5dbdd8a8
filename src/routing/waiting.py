"""The tasks that `dispatch.py` owns, and the classes in which they wait: who may go to the same places."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field

from ..records import Attempt, Task
from .allotment import FREE, Advice
from .budgets import Refusal
from .limits import ModelGroup
from .routes import Route
from .surveys import CLAIMED, NEVER, Blocked, Memory

ALWAYS = -math.inf


@dataclass(slots=True, eq=False)
class Entry:
    """One task, waiting or in flight."""

    task: Task
    asked: Task  # as its next call asks it
    memory: Memory
    key: tuple[object, ...]
    attempts: list[Attempt] = field(default_factory=list)
    queue: TaskClass | None = None  # None: in flight
    claimed: ModelGroup | None = None  # whose room it has first claim on, unless an older one came
    warnings: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class TaskClass:
    """Tasks that may go to the same places. Dead entries stay in the heap until they come to its top."""

    key: tuple[object, ...]
    route: Route
    routes_version: int
    task_type: str
    messages: int
    heap: list[tuple[tuple[float, ...], Entry]] = field(default_factory=list)
    count: int = 0
    chars: int = 0
    advice: Advice = FREE
    parked_until: float = ALWAYS
    settles: int = 0
    claimed: bool = False  # an older task's claim keeps it out somewhere
    waits_for: str = ""
    over_budget: Refusal | None = None

    def head(self) -> Entry | None:
        heap = self.heap
        while heap and heap[0][1].queue is not self:
            heapq.heappop(heap)
        return heap[0][1] if heap else None

    def park(self, blocked: Blocked, until: float | None) -> None:
        """Until that moment (None: until something settles), or a settle that may make room."""
        self.parked_until = NEVER if until is None else until
        self.settles = blocked.settles
        # A claim is one task's affair: what all are told alike knows of none.
        self.claimed = not blocked.common and any(c.why == CLAIMED for c in blocked.reasons)
        self.waits_for = blocked.waits_for
        self.over_budget = blocked.over_budget

    def is_like(self, other: TaskClass) -> bool:
        """Whether both may go to the same places."""
        mine, its = self.route, other.route
        return (
            mine.groups == its.groups
            and mine.pinned == its.pinned
            and self.routes_version == other.routes_version
        )

    def unpark(self) -> None:
        self.parked_until = ALWAYS
        self.settles = 0
        self.claimed = False
