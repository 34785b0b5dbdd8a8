"""A whole pool in virtual time: Dispatch, providers that answer, fail, fall silent and count, health calls.

    world = World(settings, {"openai": Provider(latency_s=lambda: 0.5, server=..., faults=[...])})
    world.offer(at_s, task)
    world.run()                what happened is in `world.calls`, `world.results`, `world.finished_at`

Seconds are counted from the start. A fault is in force for calls that arrive within it:

    down     answered with 500                  refused  no connection
    silent   no answer before the time limit    busy     answered with 529
    empty    answered with 200 and no text      reset    the connection breaks

Tasks named in `poisoned` meet such a fault at every provider; with "hangs" the first call alone
is silent, with "long" each takes a minute.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from src.errors import (
    InvalidResponse,
    Overloaded,
    ProviderError,
    RateLimited,
    ServerError,
    TimedOut,
    Unreachable,
)
from src.records import Completion, Outcome, Placement, Result, Task, TaskStatus
from src.routing.canaries import CANARY
from src.routing.connectivity import HEALTH_CHECK_S, HealthCheckResult
from src.routing.limits.group import Need
from src.routing.outcomes import CallEnd, outcome_of
from src.settings import Settings

from .build import NAMES, START, answer, make_dispatch
from .servers import Server

Answer = Completion | ProviderError


@dataclass(frozen=True)
class Fault:
    """What is wrong from `start_s` to `end_s`, and whether health calls show it."""

    kind: str
    start_s: float
    end_s: float
    shows: bool = True


@dataclass
class Provider:
    """How one provider behaves."""

    latency_s: Callable[[], float] = lambda: 0.5
    server: Server | None = None
    faults: list[Fault] = field(default_factory=list)
    on_the_way_s: Callable[[], float] = lambda: 0.02
    output_tokens: Callable[[], int] = lambda: 50
    retry_after_s: float | None = None
    slows: Callable[[int], float] = lambda in_flight: 1.0  # how many times as long with so many calls there
    in_flight: int = 0
    most_in_flight: int = 0

    def fault_at(self, second: float) -> Fault | None:
        return next((f for f in self.faults if f.start_s <= second < f.end_s), None)


class Call(NamedTuple):
    """One call: when it left, where to, how chosen, when it came back and how (`ok` or an error's name)."""

    at_s: float
    provider: str
    choice: str
    back_s: float
    outcome: str


class World:
    """See the top of the file."""

    def __init__(
        self,
        settings: Settings,
        providers: Mapping[str, Provider] | None = None,
        *,
        seed: int = 1,
        health: bool = True,
        poisoned: Mapping[str, str] | None = None,
        canaries: bool = True,
        **options: object,
    ) -> None:
        self.settings = settings
        self.providers = {name: (providers or {}).get(name, Provider()) for name in NAMES}
        self.dispatch = make_dispatch(settings, seed=seed, proven=False, **options)
        self.balancer = self.dispatch.balancer
        self.rng = random.Random(seed)
        self.poisoned = poisoned or {}  # tasks that fail wherever they are asked: how, by id
        self.started_s = 0.0  # when the newest call arrived
        self.calls: list[Call] = []
        self.results: list[Result] = []
        self.finished_at: list[float] = []
        self.longest_idle_s = 0.0  # the longest time in which tasks were open and none was finished
        self._todo: list[tuple[float, int, Callable[[float], None]]] = []
        self._count = itertools.count()
        self._due = 0
        self._wake_at: float | None = None
        self._out: dict[int, Placement] = {}
        self._idle_since = START
        self.canaries: list[Call] = []
        self.balancer.registry.canaries = canaries
        self._at(START, self._keep_house)
        if health:
            for name in self.providers:
                self._look_after_soon(START, name, -math.inf)

    # ------------------------------------------------------------------ what a test does

    def offer(self, at_s: float, *tasks: Task) -> None:
        self._due += len(tasks)
        self._at(START + at_s, lambda now: self._take_in(tasks, now))

    def spread(self, tasks: Iterable[Task], per_s: float, from_s: float = 0.0) -> None:
        """One task after the other, so many a second."""
        for number, task in enumerate(tasks):
            self.offer(from_s + number / per_s, task)

    def change(self, at_s: float, what: Callable[[], None]) -> None:
        """Anything else that happens at a moment."""
        self._at(START + at_s, lambda now: what())

    def run(self, until_s: float = 3_600.0) -> World:
        """Until every task has ended, or to that second."""
        while self._due > len(self.results):
            assert self._todo, f"stuck with {self.dispatch.waiting} waiting: {self.dispatch.waiting_for()}"
            now, _, what = heapq.heappop(self._todo)
            if now > START + until_s:
                break
            what(now)
            assert next(self._count) < 5_000_000, "it spins"
        return self

    # ------------------------------------------------------------------ what happened

    @property
    def makespan_s(self) -> float:
        return max(self.finished_at, default=START) - START

    @property
    def statuses(self) -> Counter[TaskStatus]:
        return Counter(result.status for result in self.results)

    def calls_to(self, name: str, start_s: float = 0.0, end_s: float = float("inf")) -> list[Call]:
        return [c for c in self.calls if c.provider == name and start_s <= c.at_s < end_s]

    def outcomes(self, name: str | None = None) -> Counter[str]:
        return Counter(c.outcome for c in self.calls if name in (None, c.provider))

    # ------------------------------------------------------------------ inside

    def _at(self, moment: float, what: Callable[[float], None]) -> None:
        heapq.heappush(self._todo, (moment, next(self._count), what))

    def _take_in(self, tasks: Iterable[Task], now: float) -> None:
        if not len(self.dispatch):
            self._idle_since = now
        for task in tasks:
            self.dispatch.offer(task, now)
        self._pump(now)

    def _pump(self, now: float) -> None:
        done = self.dispatch.dispatch(now)
        for result in done.ended:
            self._end(result, now)
        for placement in done.placements:
            self._send(placement, now)
        assert done.next_wake is None or done.next_wake > now
        if done.next_wake is not None and done.next_wake != self._wake_at:
            self._wake_at = done.next_wake
            self._at(done.next_wake, self._alarm)

    def _alarm(self, now: float) -> None:
        if now == self._wake_at:
            self._wake_at = None
            self._pump(now)

    def _send(self, placement: Placement, now: float) -> None:
        provider = self.providers[placement.provider]
        self._out[placement.permit] = placement
        self._at(now + provider.on_the_way_s(), lambda then: self._arrive(placement, provider, then))

    def _arrive(self, placement: Placement, provider: Provider, now: float) -> None:
        fault = provider.fault_at(now - START)
        kind = fault.kind if fault is not None else self.poisoned.get(placement.task.id)
        if kind == "hangs":
            kind = "silent" if placement.attempt == 1 else None
        long, kind = kind == "long", None if kind == "long" else kind
        self.started_s = now - START
        provider.in_flight += 1
        provider.most_in_flight = max(provider.most_in_flight, provider.in_flight)
        if kind is not None:
            back_s, found = self._faulty(kind, placement, now)
        else:
            back_s, found = self._served(placement, provider, now)
            back_s = 60.0 if long else back_s * provider.slows(provider.in_flight)
        self._at(now + back_s, lambda then: self._back(placement, found, then))

    def _faulty(self, kind: str, placement: Placement, now: float) -> tuple[float, Answer]:
        if kind == "silent":
            return placement.at + placement.timeout_s - now, TimedOut("no answer in time")
        errors: dict[str, ProviderError] = {
            "down": ServerError("it broke", status=500),
            "refused": Unreachable("connection refused", sent=False),
            "reset": Unreachable("connection reset", sent=True),
            "busy": Overloaded("overloaded", status=529),
            "empty": InvalidResponse("no text", status=200),
            "limited": RateLimited("too fast", status=429),
            "limited for 20 s": RateLimited("too fast", status=429, retry_after_s=20.0),
        }
        return 0.05, errors[kind]

    def _served(self, placement: Placement, provider: Provider, now: float) -> tuple[float, Answer]:
        server = provider.server
        chars, output = placement.task.text_chars // 4, provider.output_tokens()
        if server is None:
            return provider.latency_s(), answer(placement, output_tokens=output)
        fits = server.arrive(Need(chars, output, placement.max_tokens), chars, now)
        limits = server.headers(now)
        if not fits:
            return 0.02, RateLimited("429", status=429, retry_after_s=provider.retry_after_s, limits=limits)
        latency_s = provider.latency_s()
        self._at(now + latency_s, lambda then: server.produced(output, then))
        return latency_s, answer(placement, output_tokens=output, limits=limits)

    def _back(self, placement: Placement, found: Answer, now: float) -> None:
        if self._out.pop(placement.permit, None) is None:
            return  # it was given up before
        self.providers[placement.provider].in_flight -= 1
        if placement.choice == CANARY:
            self._canary_back(placement, found, now)
            return
        if isinstance(found, Completion):
            settled = self.dispatch.settle(placement, now, completion=found)
        else:
            settled = self.dispatch.settle(placement, now, error=found)
        outcome = "ok" if isinstance(found, Completion) else found.kind
        back_s, at_s = now - START, placement.at - START
        self.calls.append(Call(at_s, placement.provider, placement.choice, back_s, outcome))
        if settled.result is not None:
            self._end(settled.result, now)
        self._pump(now)

    def _canary_back(self, placement: Placement, found: Answer, now: float) -> None:
        error = None if isinstance(found, Completion) else found
        usage = found.usage if isinstance(found, Completion) else None
        outcome = outcome_of(None, error) if error else Outcome.OK
        self.balancer.settle(placement.permit, CallEnd(outcome, usage=usage, error=error), now)
        kind = error.kind if error else "ok"
        self.canaries.append(Call(placement.at - START, placement.provider, CANARY, now - START, kind))
        self.dispatch.wake_all()
        self._pump(now)

    def _end(self, result: Result, now: float) -> None:
        self.results.append(result)
        self.finished_at.append(now)
        self.longest_idle_s = max(self.longest_idle_s, now - self._idle_since)
        self._idle_since = now

    def _keep_house(self, now: float) -> None:
        """Each second, as the orchestrator does."""
        self._give_up_lost(now)
        self.balancer.note_states(now)
        for name in self.balancer.by_name:
            if (canary := self.balancer.place_canary(name, now)) is not None:
                self._send(canary, now)
        self._pump(now)
        self._at(now + 1.0, self._keep_house)

    def _give_up_lost(self, now: float) -> None:
        for permit in self.balancer.take_abandoned(now):
            self._back(self._out[permit], TimedOut("given up"), now)

    def _look_after_soon(self, at: float, name: str, checked_at: float) -> None:
        self._at(at, lambda now: self._look_after(name, checked_at, now))

    def _look_after(self, name: str, checked_at: float, now: float) -> None:
        """Free calls when they are due, as the orchestrator's watch makes them."""
        if name not in self.balancer.by_name:
            return
        due = self.balancer.next_health_check_at(name, checked_at, now)
        if due > now:
            self._look_after_soon(min(due, now + 0.5), name, checked_at)
            return
        fault = self.providers[name].fault_at(now - START)
        found, took_s = _FREE_CALLS[fault.kind if fault is not None and fault.shows else ""]
        self._at(now + took_s, lambda then: self._health_checked(name, found, now, then))

    def _health_checked(self, name: str, found: HealthCheckResult, checked_at: float, now: float) -> None:
        if self.balancer.record_health_check(name, found, checked_at, now):
            self._give_up_lost(now)
            self.dispatch.wake_all()
            self._pump(now)
        self._look_after(name, checked_at, now)


_FREE_CALLS = {
    "": (HealthCheckResult.ANSWERS, 0.05),
    "down": (HealthCheckResult.REFUSES, 0.05),
    "busy": (HealthCheckResult.REFUSES, 0.05),
    "empty": (HealthCheckResult.ANSWERS, 0.05),
    "reset": (HealthCheckResult.ANSWERS, 0.05),
    "refused": (HealthCheckResult.UNREACHABLE, 0.001),
    "silent": (HealthCheckResult.SILENT, HEALTH_CHECK_S),
}
