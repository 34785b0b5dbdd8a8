"""The shortest time in which a set of tasks can pass a set of limits, however they are scheduled.

The linear program of `src/routing/allocation/makespan_lp.py`, with every task by itself and what it is really
charged, which no scheduler knows beforehand. What comes back is the lower bound that weak duality proves.

A limit that changes at a moment t is a bucket with the later rate and
`burst + (rate before - rate after) x t`; a quota that does not come back is a bucket with rate 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from src.routing.allocation.makespan_lp import Capacity, Demand, minimise_makespan

Charges = Mapping[str, Sequence[float]]  # of one task: by provider, in the order of the provider's buckets


@dataclass(frozen=True, slots=True)
class Bucket:
    """`burst` units at once and `rate` units per second."""

    rate: float
    burst: float

    @property
    def scale(self) -> float:
        """Charges are divided by it: seconds of the rate, or parts of what does not come back."""
        return self.rate if self.rate > 0 else self.burst


def shortest_s(tasks: Sequence[Charges], providers: Mapping[str, Sequence[Bucket]]) -> float:
    """The bound in seconds, without the latency of the last call. Raises ValueError where there is none."""
    spans: dict[str, range] = {}
    buckets: list[Bucket] = []
    for name, own in providers.items():
        spans[name] = range(len(buckets), len(buckets) + len(own))
        buckets += own
    capacities = [Capacity(b.burst / b.scale, 1.0 if b.rate > 0 else 0.0) for b in buckets]

    def seconds(name: str, charges: Charges) -> list[tuple[int, float]]:
        own = zip(spans[name], charges[name], strict=True)
        return [(b, charge / buckets[b].scale) for b, charge in own if charge]

    demands = [Demand(1.0, [seconds(name, charges) for name in providers]) for charges in tasks]
    return minimise_makespan(demands, capacities).at_least_s
