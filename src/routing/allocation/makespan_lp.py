"""The shortest time in which demands can pass a set of token buckets, and the assignment that reaches it.

    least T  so that each demand is split over its options (parts add up to 1) and every bucket b has
             sum of its charges <= level_b + refill_b x T        all of it in seconds of the bucket's rate

That is a linear program with a row per demand. Its rows couple only through the few buckets, so it is solved
by column generation (Dantzig and Wolfe, 1960). The master program mixes whole assignments ("every demand goes
here or there"), has a row per bucket and one more, and is small enough for a plain revised simplex. Its
prices w_b >= 0 of the buckets name the next assignment to try: for each demand the option with the smallest w
x charge. The prices also give a lower bound (weak duality), so it ends when upper and lower bound meet.

A bucket that does not refill (a day's quota) has refill 0 and its charges in any unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

CLOSE_ENOUGH = 1e-5  # of the result: the gap between upper and lower bound
MOST_STEPS = 5_000
_EPSILON = 1e-12

Charge = tuple[int, float]  # (number of the bucket, what one task is charged there)
Vector = list[float]


class Capacity(NamedTuple):
    """What a bucket holds now, in seconds of its rate, and what it earns per second: 1, or 0 for ever."""

    level: float
    refill: float = 1.0


@dataclass(frozen=True, slots=True)
class Demand:
    """`count` equal tasks. `options`: what one of them is charged at each place it may go to."""

    count: float
    options: Sequence[Sequence[Charge]]


class Makespan(NamedTuple):
    """`at_least_s` <= the optimum <= `seconds`; `shares[demand][option]` reach `seconds`, sums are 1."""

    at_least_s: float
    seconds: float
    shares: list[list[float]]


class _Column(NamedTuple):
    """A variable of the master program. `choice`: for an assignment, the option of each demand."""

    entries: Vector
    cost: float
    choice: tuple[int, ...] = ()


def minimise_makespan(
    demands: Sequence[Demand], capacities: Sequence[Capacity], most_steps: int = MOST_STEPS
) -> Makespan:
    """Minimise T, in at most `most_steps` steps of the simplex.

    Raises ValueError where a demand has no option whose buckets all refill.
    """
    start = _assignment(
        demands, tuple(_first_endless(demand, capacities) for demand in demands), len(capacities)
    )
    late = _latest(start, capacities)
    if late < 0:
        return Makespan(0.0, 0.0, _shares(demands, [(1.0, start)]))
    master = _Master(capacities)
    master.enter(start, len(capacities))
    master.enter(master.time, late)
    at_least = 0.0
    for _ in range(most_steps):
        prices = master.prices()
        entering = master.cheap_column(prices)
        if entering is None:
            entering = _best_assignment(demands, prices, len(capacities))
            gain = sum(y * x for y, x in zip(prices, entering.entries, strict=True))
            at_least = max(at_least, _dual_bound(entering, prices, capacities))
            if gain <= _EPSILON or master.seconds - at_least <= CLOSE_ENOUGH * master.seconds:
                break
        if not master.improve(entering):
            break
    return Makespan(at_least, master.seconds, _shares(demands, master.assignments()))


class _Master:
    """The master program in revised simplex form: a basis, its inverse, and the values of its variables."""

    def __init__(self, capacities: Sequence[Capacity]) -> None:
        size = len(capacities) + 1
        self._capacities = capacities
        self._inverse = [[float(i == j) for j in range(size)] for i in range(size)]
        self._values = [max(r.level, 0.0) if not r.refill else r.level for r in capacities] + [1.0]
        self._slacks = [_Column([float(i == b) for i in range(size)], 0.0) for b in range(size)]
        self._basis = list(self._slacks)
        self.time = _Column([-capacity.refill for capacity in capacities] + [0.0], 1.0)

    @property
    def seconds(self) -> float:
        return sum(v * column.cost for v, column in zip(self._values, self._basis, strict=True))

    def prices(self) -> Vector:
        """The duals: none of a bucket is above 0 at the optimum."""
        found = [0.0] * len(self._values)
        for column, row in zip(self._basis, self._inverse, strict=True):
            if column.cost:
                found = [y + column.cost * x for y, x in zip(found, row, strict=True)]
        return found

    def cheap_column(self, prices: Vector) -> _Column | None:
        """A slack, or the time, that would lower the cost; None where only an assignment can."""
        b = max(range(len(self._capacities)), key=lambda b: prices[b])
        if prices[b] > _EPSILON:
            return self._slacks[b]
        reduced = 1.0 - sum(y * x for y, x in zip(prices, self.time.entries, strict=True))
        return self.time if reduced < -_EPSILON else None

    def improve(self, entering: _Column) -> bool:
        """One step of the simplex; False where rounding leaves none to make."""
        step = self._in_basis(entering)
        ratios = [(self._values[i] / s, i) for i, s in enumerate(step) if s > 1e-9]
        if not ratios:
            return False
        self.enter(entering, min(ratios)[1], step)
        return True

    def enter(self, column: _Column, row: int, step: Vector | None = None) -> None:
        """`column` takes the place of the basic variable of that row."""
        step = step or self._in_basis(column)
        pivot = step[row]
        lead = self._inverse[row] = [x / pivot for x in self._inverse[row]]
        value = self._values[row] = self._values[row] / pivot
        for i, factor in enumerate(step):
            if i != row and factor:
                self._inverse[i] = [x - factor * y for x, y in zip(self._inverse[i], lead, strict=True)]
                self._values[i] -= factor * value
        self._basis[row] = column

    def _in_basis(self, column: _Column) -> Vector:
        entries = [(j, x) for j, x in enumerate(column.entries) if x]
        return [sum(row[j] * x for j, x in entries) for row in self._inverse]

    def assignments(self) -> list[tuple[float, _Column]]:
        """The assignments that are mixed, and how much of each."""
        mixed = [
            (max(v, 0.0), c) for v, c in zip(self._values, self._basis, strict=True) if len(c.choice) > 0
        ]
        return [(v, c) for v, c in mixed if v > 0]


def _latest(start: _Column, capacities: Sequence[Capacity]) -> int:
    """The bucket that an assignment overdraws by most; -1: it overdraws none that refills."""
    over = [
        (x - capacity.level, b)
        for b, (x, capacity) in enumerate(zip(start.entries, capacities, strict=False))
        if capacity.refill
    ]
    most, bucket = max(over, key=lambda each: each[0], default=(0.0, -1))
    return bucket if most > 0 else -1


def _dual_bound(column: _Column, prices: Vector, capacities: Sequence[Capacity]) -> float:
    """What these prices show that no split can be faster than, by weak duality."""
    return sum(
        -y * (x - capacity.level) for y, x, capacity in zip(prices, column.entries, capacities, strict=False)
    )


def _first_endless(demand: Demand, capacities: Sequence[Capacity]) -> int:
    """An option that can take the whole demand, however long that takes."""
    for i, charges in enumerate(demand.options):
        if all(capacities[b].refill for b, _ in charges):
            return i
    raise ValueError("a demand has only options with a quota that does not come back")


def _assignment(demands: Sequence[Demand], choice: tuple[int, ...], size: int) -> _Column:
    load = [0.0] * (size + 1)
    load[size] = 1.0
    for demand, option in zip(demands, choice, strict=True):
        for b, charge in demand.options[option]:
            load[b] += demand.count * charge
    return _Column(load, 0.0, choice)


def _best_assignment(demands: Sequence[Demand], prices: Vector, size: int) -> _Column:
    """Every demand where it is cheapest at these prices (of the master's sign: none above 0)."""
    choice = []
    for demand in demands:
        costs = [sum(-prices[b] * charge for b, charge in charges) for charges in demand.options]
        choice.append(costs.index(min(costs)))
    return _assignment(demands, tuple(choice), size)


def _shares(demands: Sequence[Demand], mixed: Sequence[tuple[float, _Column]]) -> list[list[float]]:
    found = [[0.0] * len(demand.options) for demand in demands]
    total = sum(part for part, _ in mixed)
    for part, column in mixed:
        for shares, option in zip(found, column.choice, strict=True):
            shares[option] += part / total
    return found
