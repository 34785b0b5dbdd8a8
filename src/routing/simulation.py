"""Routing in virtual time: a whole run without a call, a second or a cent.

The `Scheduler` that runs live is driven from a heap of call ends. `service` stands for the providers: for
each placement it returns how long the call takes and its outcome. So a plan runs a user's file before it is
paid for, a what-if replays recorded traffic under other weights, and a benchmark runs a million tasks.
Nothing in the scheduler knows that time is not real.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ..errors import ProviderError
from ..records import Completion, Placement, Result, Task, TaskStatus, WaitReason
from ..settings import Settings
from .balancer import ProviderLoadBalancer
from .scheduler import Scheduler

Answer = Completion | ProviderError
Service = Callable[[Placement, float], tuple[float, Answer]]  # (placement, now) -> (latency in s, answer)


@dataclass(slots=True)
class VirtualReport:
    """The result of a virtual run. Times are seconds of virtual time."""

    makespan_s: float = 0.0
    statuses: Counter[TaskStatus] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)  # by provider
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)  # by (provider, error class)
    cost_nanos: Counter[tuple[str, str]] = field(default_factory=Counter)  # by (provider, tier)
    upper_bound_nanos: int = 0  # of what was reserved for the calls that succeeded
    unknown_prices: Counter[str] = field(default_factory=Counter)  # calls by model
    prompt_tokens: int = 0
    output_tokens: int = 0
    waited_for_s: dict[WaitReason, float] = field(default_factory=dict)  # while tasks waited
    still_waiting: int = 0
    turnaround_s: float = 0.0  # from arrival to end, summed over all tasks that ended

    @property
    def mean_turnaround_s(self) -> float:
        """From a task's arrival to its end."""
        return self.turnaround_s / max(1, sum(self.statuses.values()))

    @property
    def total_nanos(self) -> int:
        """The cost of all calls with a known price, in nano-dollars."""
        return sum(self.cost_nanos.values())


class VirtualRun:
    """One run over a balancer of its own. `window`: how many tasks the scheduler holds at most, as live.

    `timed`: a task arrives at its `created_at`, in that order; else all are there at the start.
    """

    def __init__(
        self,
        balancer: ProviderLoadBalancer,
        settings: Settings,
        service: Service,
        *,
        window: int | None = None,
        timed: bool = False,
        on_result: Callable[[Result], None] | None = None,
    ) -> None:
        self._timed = timed
        self.dispatch = Scheduler(balancer, settings)
        self._service = service
        self._window = window or settings.pool.prefetch_limit
        self._on_result = on_result
        self._ends: list[tuple[float, int, Placement, Answer]] = []
        self._number = itertools.count()
        self._started_at = 0.0
        self.report = VirtualReport()

    def run(self, tasks: Iterable[Task], start: float, until: float = float("inf")) -> VirtualReport:
        """Run all of `tasks` from the moment `start`; stop at `until`, or when nothing can continue."""
        source = _Source(tasks, timed=self._timed)
        now, report = start, self.report
        self._started_at = start
        self._fill(source, now)
        while True:
            placed = self.dispatch.dispatch(now)
            for result in placed.ended:
                self._end(result)
            for placement in placed.placements:
                latency_s, answer = self._service(placement, now)
                heapq.heappush(self._ends, (now + latency_s, next(self._number), placement, answer))
            if source.has_one_at(now) and self.dispatch.waiting < self._window // 2:
                self._fill(source, now)
                continue
            moment = self._next_moment(source, placed.next_wake, now)
            if not now <= moment <= until or moment == math.inf:
                break
            self._note_waiting(moment - now)
            now = moment
            while self._ends and self._ends[0][0] <= now:
                _, _, placement, answer = heapq.heappop(self._ends)
                self._settle(placement, answer, now)
        report.makespan_s = now - start
        report.still_waiting = self.dispatch.waiting
        return report

    def _next_moment(self, source: _Source, next_wake: float | None, now: float) -> float:
        """When a call ends, a task arrives or a waiting one may go, whichever is first; infinity: never."""
        moment = self._ends[0][0] if self._ends else math.inf
        if self.dispatch.waiting < self._window and source.next_at > now:
            moment = min(moment, source.next_at)
        if next_wake is not None and self.dispatch.waiting:
            moment = min(moment, max(next_wake, now))
        return moment

    def _fill(self, source: _Source, now: float) -> None:
        """Offer the tasks that have arrived, until the window is full."""
        while self.dispatch.waiting < self._window and source.has_one_at(now):
            self.dispatch.offer(source.take(), now)
        more = source.has_one_at(now)
        self.dispatch.behind = self.dispatch.waiting if more else 0

    def _note_waiting(self, seconds: float) -> None:
        if seconds > 0 and self.dispatch.waiting:
            reason = self.dispatch.binding_reason()
            if reason:
                waited = self.report.waited_for_s
                waited[reason] = waited.get(reason, 0.0) + seconds

    def _settle(self, placement: Placement, answer: Answer, now: float) -> None:
        report = self.report
        report.calls[placement.provider] += 1
        if isinstance(answer, Completion):
            settled = self.dispatch.settle(placement, now, completion=answer)
            report.upper_bound_nanos += placement.reserved_nanos
            report.prompt_tokens += answer.usage.prompt_tokens
            report.output_tokens += answer.usage.output_tokens
        else:
            settled = self.dispatch.settle(placement, now, error=answer)
            report.errors[placement.provider, answer.kind] += 1
        if settled.attempt.cost_nanos is None:
            report.unknown_prices[placement.model] += 1
        else:
            report.cost_nanos[placement.provider, placement.tier] += settled.attempt.cost_nanos
        if settled.result is not None:
            self._end(settled.result)

    def _end(self, result: Result) -> None:
        self.report.statuses[result.status] += 1
        arrived_at = result.task.created_at if self._timed else self._started_at
        self.report.turnaround_s += result.finished_at - arrived_at
        if self._on_result is not None:
            self._on_result(result)


class _Source:
    """The tasks to come, with one of them read ahead."""

    def __init__(self, tasks: Iterable[Task], *, timed: bool) -> None:
        self._tasks = iter(tasks)
        self._timed = timed
        self._next = next(self._tasks, None)

    @property
    def next_at(self) -> float:
        """When the next one arrives; infinity at the end, minus infinity where all are there."""
        if self._next is None:
            return math.inf
        return self._next.created_at if self._timed else -math.inf

    def has_one_at(self, now: float) -> bool:
        return self.next_at <= now

    def take(self) -> Task:
        task, self._next = self._next, next(self._tasks, None)
        if task is None:
            raise ValueError("the source is at its end")
        return task
