"""Turns the scheduler's decisions into calls: when that is allowed, and when it is due again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from ..records import Event, PoolSnapshot, WorkerSnapshot
from ..routing.scheduler import Scheduler
from .calls import CallRunner
from .event_reporter import EventReporter
from .leadership import Leadership
from .result_writer import ResultWriter
from .run_end import RunEnd
from .task_ends import TaskEnds

LEAST_PAUSE_S = 0.01  # what a limit of 1,000/s lets go meanwhile goes together


class PlacementGuard:
    """Whether calls may be made at all now, those of tasks and canary calls.

    Not while the run ends, another orchestrator may lead, or answers cannot be stored: a paid answer must not
    be lost. The last is reported when it begins and when it is over.
    """

    def __init__(
        self,
        end: RunEnd,
        leadership: Leadership,
        result_writer: ResultWriter,
        reporter: EventReporter,
        now: Callable[[], float],
    ) -> None:
        self._end, self._leadership, self._result_writer = end, leadership, result_writer
        self._reporter, self._now = reporter, now
        self._held = False  # reported as on hold
        self.can_make_calls: Callable[[], bool] = lambda: True  # whether anything can make a call

    def may_place(self) -> bool:
        """Whether a call may be made now."""
        if self._end.draining or not self._leadership.may_place or not self.can_make_calls():
            return False
        return not self._is_stalled()

    def _is_stalled(self) -> bool:
        writer = self._result_writer
        stalled = writer.stalled
        if self._held != stalled and (self._held or writer.stall_is_news):
            self._held = stalled
            text = "placing resumed: the database stores answers again"
            if stalled:
                text = f"placing paused: {writer.unstored_text or 'answers cannot be stored'}; retrying"
            event = Event(self._now(), "store", text, level="alert" if stalled else "info")
            self._reporter.report([event])
        return stalled


class Placer:
    """Starts what the scheduler places at every event, and sets the alarm for the next time.

    `now` is in UTC epoch seconds. `tasks_wanted` is set when fewer claimed tasks wait than calls can be in
    flight, as long as there are any.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        guard: PlacementGuard,
        calls: CallRunner,
        ends: TaskEnds,
        reporter: EventReporter,
        now: Callable[[], float],
    ) -> None:
        self._scheduler, self._guard, self._calls = scheduler, guard, calls
        self._ends, self._reporter, self.now = ends, reporter, now
        self.tasks_wanted = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self.workers: Callable[[], tuple[WorkerSnapshot, ...]] = tuple  # for `snapshot`
        self._is_due = False  # in the next iteration of the loop
        self._next_at: float | None = None  # when time alone lets a task go; None: a call must settle

    def place(self) -> None:
        """Start every call that can go now. On the running loop."""
        with self._reporter.supervisor.guarding("placing tasks"):
            if self._guard.may_place():
                self._place()

    def place_soon(self) -> None:
        """Place once for all that happens in this iteration of the loop: each look costs something."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._place_due)

    def _place_due(self) -> None:
        self._is_due = False
        self.place()

    def place_anew(self) -> None:
        """Place after a change that concerns every waiting task: the network, a breaker, a model."""
        self.give_up_abandoned()
        self._reporter.report(self._scheduler.balancer.take_events())
        self._scheduler.wake_all()
        self.place()

    def give_up_abandoned(self) -> None:
        """Cancel calls that no answer will come to any more."""
        balancer, now = self._scheduler.balancer, self.now()
        balancer.set_unseen(self._calls.unseen, now)
        self._calls.give_up(balancer.take_abandoned(now))

    def _place(self) -> None:
        now, balancer = self.now(), self._scheduler.balancer
        placements, ended, next_wake = self._scheduler.dispatch(now)
        for result in ended:
            self._ends.ended(result)
        for placement in placements:  # before anything that may fail: each holds a permit
            self._calls.start(placement)
        self._reporter.report(balancer.take_events())  # of no call: a spent budget, an unknown price
        self._set_alarm(next_wake, now)
        scheduler = self._scheduler
        if scheduler.claimed and scheduler.claimed_waiting < balancer.slots:
            self.tasks_wanted.set()

    def _set_alarm(self, at: float | None, now: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._next_at = at
        if at is not None:
            self._alarm = asyncio.get_running_loop().call_later(max(LEAST_PAUSE_S, at - now), self.place)

    def next_in_s(self) -> float:
        """Seconds until time alone lets a waiting task go; 0 where a call must settle first."""
        return 0.0 if self._next_at is None else max(0.0, self._next_at - self.now())

    def snapshot(self) -> PoolSnapshot:
        """The pool right now: what `status` and the pages show."""
        return replace(
            self._scheduler.balancer.snapshot(self.now()),
            waiting=self._scheduler.waiting,
            waiting_for=self._scheduler.waiting_for(),
            oldest_waiting_at=self._scheduler.oldest_waiting_at(),
            rows_in_flight=self._calls.rows,
            workers=self.workers(),
        )
