"""What a file of tasks will cost and take, before it is started: the plan of a sample of it."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.forecast import Forecast
from ...core.planning import make_plan
from ...records import Task
from ..site import Site
from .usage import DAY_S

LEARNED_DAYS = 30
PLANNED_AT_MOST = 4_000  # tasks that run through virtual time while a person waits: a second or two


@dataclass(frozen=True, slots=True)
class Expectation:
    """Nano-dollars and seconds for all tasks. `sampled`: every n-th was planned. `waits_for`: what binds."""

    tasks: int
    expected_nanos: int
    at_most_nanos: int
    duration_s: float
    waits_for: str
    unknown_prices: tuple[str, ...]
    unknown_limits: tuple[str, ...]
    from_records: bool
    sampled: int


class Sample:
    """Every n-th task of a file of any length, n doubling as it grows, so that memory stays bounded."""

    def __init__(self) -> None:
        self.count = 0
        self._every = 1
        self._kept: list[Task] = []

    def add(self, task: Task) -> None:
        if self.count % self._every == 0:
            self._kept.append(task)
        self.count += 1
        if len(self._kept) > PLANNED_AT_MOST:
            self._kept = self._kept[::2]
            self._every *= 2

    def expectation(self, site: Site) -> Expectation:
        """The plan of the sample, for all tasks."""
        now = site.now()
        forecast = Forecast.from_store(site.store, now - LEARNED_DAYS * DAY_S, now + 60)
        plan = make_plan(self._kept, site.settings, forecast, now=now, configured=site.configured)
        scale = self.count / len(self._kept) if self._kept else 1.0
        return Expectation(
            tasks=self.count,
            expected_nanos=int(plan.expected_nanos * scale),
            at_most_nanos=int(plan.highest_nanos * scale),
            duration_s=plan.duration_s * scale,
            waits_for=plan.binding[0][0] if plan.binding else "",
            unknown_prices=plan.unknown_prices,
            unknown_limits=plan.unknown_limits,
            from_records=plan.from_records,
            sampled=self._every,
        )
