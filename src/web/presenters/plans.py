"""What a file of tasks will cost and take, before it is started: the plan of a sample of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...core.forecast import Forecast
from ...core.planning import RECORDS_S, make_plan
from ...core.planning import Sample as SampleOfTasks
from ..site import Site

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


class Sample(SampleOfTasks):
    """What is looked at of a file while a person waits."""

    def __init__(self) -> None:
        super().__init__(PLANNED_AT_MOST)

    def expectation(self, site: Site) -> Expectation:
        """The plan of the sample, for all tasks."""
        now = site.now()
        forecast = Forecast.from_store(site.store, now - RECORDS_S, now + 60)
        plan = make_plan(
            self.kept,
            site.settings,
            forecast,
            now=now,
            configured=site.configured,
            learned=learned_limits(site),
        )
        plan = plan.for_all(self.count, self.every)
        return Expectation(
            tasks=self.count,
            expected_nanos=plan.expected_nanos,
            at_most_nanos=plan.highest_nanos,
            duration_s=plan.duration_s,
            waits_for=plan.binding[0][0] if plan.binding else "",
            unknown_prices=plan.unknown_prices,
            unknown_limits=plan.unknown_limits,
            from_records=plan.from_records,
            sampled=self.every,
        )


def learned_limits(site: Site) -> dict[str, dict[str, Any]]:
    """The limits that earlier runs found out, by provider."""
    known = {name: site.store.learned(*identity) for name, identity in site.identities.items()}
    return {name: dict((found or {}).get("groups", {})) for name, found in known.items()}
