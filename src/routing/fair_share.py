"""Fair shares: which of two tasks of equal priority goes first.

Each flow (batch, submitter) numbers its tasks from the tag of the last task that was placed, so that a file
of 200,000 rows and a single question take turns (start-time fair queueing: Goyal, Vin and Cheng, 1996).

All runs of a submitter begin in one flow, and a run's later turns keep its tag: see `runs.py`.

Memory is bounded by the tasks that have not ended and the runs that are not idle.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..records import RUNS, Task
from .runs import RunKey, Runs


@dataclass(slots=True)
class Flow:
    """One batch and submitter: how many of its tasks have not ended, and the tag of its newest."""

    open: int = 0
    tag: float = 0.0


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a task among the flows. `prefer`: the provider that served its run's last turn, or -1."""

    flow: tuple[str, str]
    tag: float
    run: RunKey | None = None
    prefer: int = -1


class FairShare:
    """The tags of all tasks that have not ended. Times are UTC epoch seconds."""

    def __init__(self) -> None:
        self._flows: dict[tuple[str, str], Flow] = {}
        self.runs = Runs()
        self.virtual_time = 0.0

    def __len__(self) -> int:
        return len(self._flows)

    def enter(self, task: Task, now: float, *, is_turn: bool = False) -> Place:
        """A task arrives. `is_turn`: its batch is a run, and it is the next turn."""
        if not is_turn:
            flow = (task.batch, task.submitter)
            return Place(flow, self._next_tag(flow))
        flow, run = (RUNS, task.submitter), (task.batch, task.submitter)
        if self.runs.is_new(run, now):
            first = self._next_tag(flow)
        else:
            first = self.virtual_time
            self._opened(flow)
        tag, provider = self.runs.begin_turn(run, first, now)
        return Place(flow, tag, run, provider)

    def _next_tag(self, flow: tuple[str, str]) -> float:
        found = self._opened(flow)
        found.tag = max(self.virtual_time, found.tag + 1.0)
        return found.tag

    def _opened(self, flow: tuple[str, str]) -> Flow:
        found = self._flows.get(flow)
        if found is None:
            found = self._flows[flow] = Flow()
        found.open += 1
        return found

    def placed(self, tag: float) -> None:
        """A task with this tag goes to a provider."""
        self.virtual_time = max(self.virtual_time, tag)

    def served(self, place: Place, provider: int) -> None:
        """The provider has answered the task."""
        if place.run is not None:
            self.runs.served(place.run, provider)

    def leave(self, place: Place, now: float | None) -> None:
        """The task has ended; `now` None: before any call."""
        if place.run is not None:
            self.runs.end_turn(place.run, now)
        flow = self._flows[place.flow]
        flow.open -= 1
        if not flow.open:
            del self._flows[place.flow]
