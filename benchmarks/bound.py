"""The shortest time in which a set of tasks can pass a set of limits, whoever schedules them.

    bound = min T  so that each task is split over the providers (parts add up to 1) and every bucket b has
            sum of its charges <= burst_b + rate_b x T

That is a linear program with a row per task. Its rows couple only through the few buckets, so it is solved
by column generation (Dantzig-Wolfe): the master program mixes whole assignments ("every task goes here or
there"), has a row per bucket and one more, and is small enough for a plain simplex; its prices w_b >= 0 of
the buckets name the next assignment to try, for each task the provider with the smallest w x charge. The
prices also give a lower bound, so it ends when upper and lower bound meet. No solver, no dependency.

A limit that changes at a moment t is a bucket with the later rate and
`burst + (rate before - rate after) x t`; a quota that does not come back is a bucket with rate 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CLOSE_ENOUGH = 1e-5  # of the bound: upper and lower
_EPSILON = 1e-12
_MOST_STEPS = 5_000

Charges = Mapping[str, Sequence[float]]  # of one task: by provider, in the order of the provider's buckets
Vector = list[float]


@dataclass(frozen=True, slots=True)
class Bucket:
    """`burst` units at once and `rate` units per second."""

    rate: float
    burst: float


def shortest_s(tasks: Sequence[Charges], providers: Mapping[str, Sequence[Bucket]]) -> float:
    """The bound in seconds, without the latency of the last call. Raises ValueError where there is none."""
    spans: dict[str, range] = {}
    buckets: list[Bucket] = []
    for name, own in providers.items():
        spans[name] = range(len(buckets), len(buckets) + len(own))
        buckets += own
    # Each row is divided by its rate: all numbers are seconds. A bucket without a rate, by its burst.
    scales = [b.rate if b.rate > 0 else b.burst for b in buckets]
    rooms = [b.burst / scale for b, scale in zip(buckets, scales, strict=True)]
    ticks = [1.0 if b.rate > 0 else 0.0 for b in buckets]
    choices = [
        [
            [(b, charge / scales[b]) for b, charge in zip(spans[name], charges[name], strict=True) if charge]
            for name in providers
        ]
        for charges in tasks
    ]
    endless = [i for i, span in enumerate(spans.values()) if all(ticks[b] for b in span)]
    if not endless:
        raise ValueError("every provider has a quota that does not come back")
    return _solve(choices, endless[0], rooms, ticks)


def _solve(choices: list[list[list[tuple[int, float]]]], first: int, rooms: Vector, ticks: Vector) -> float:
    """The simplex over assignments. Columns: a slack per bucket, the time, an assignment each."""
    size = len(rooms)
    load = [0.0] * size
    for options in choices:
        for b, seconds in options[first]:
            load[b] += seconds
    binding = max((b for b in range(size) if ticks[b]), key=lambda b: load[b] - rooms[b])
    if load[binding] <= rooms[binding]:
        return 0.0
    time_column = ([-tick for tick in ticks] + [0.0], 1.0)
    slacks = [([float(i == b) for i in range(size)] + [0.0], 0.0) for b in range(size)]
    basis = [time_column if b == binding else slacks[b] for b in range(size)] + [([*load, 1.0], 0.0)]
    right = [*rooms, 1.0]
    best_lower = 0.0
    for _ in range(_MOST_STEPS):
        values = _linear([[column[0][i] for column in basis] for i in range(size + 1)], right)
        duals = _linear([column[0] for column in basis], [column[1] for column in basis])
        upper = sum(v * column[1] for v, column in zip(values, basis, strict=True))
        entering = _cheap_column(duals, slacks, time_column)
        if entering is None:
            load = _best_assignment(choices, [-y for y in duals[:size]], size)
            gain = sum(y * x for y, x in zip(duals, load, strict=False)) + duals[size]
            lower = sum(-y * (x - room) for y, x, room in zip(duals, load, rooms, strict=False))
            best_lower = max(best_lower, lower)
            if gain <= _EPSILON or upper - best_lower <= CLOSE_ENOUGH * upper:
                return best_lower
            entering = ([*load, 1.0], 0.0)
        step = _linear([[column[0][i] for column in basis] for i in range(size + 1)], entering[0])
        ratios = [(values[i] / step[i], i) for i in range(size + 1) if step[i] > _EPSILON]
        basis[min(ratios)[1]] = entering
    raise ValueError("the bound was not found")


def _cheap_column(
    duals: Vector, slacks: list[tuple[Vector, float]], time_column: tuple[Vector, float]
) -> tuple[Vector, float] | None:
    """A slack, or the time, that would lower the cost; None where only an assignment can."""
    b = max(range(len(slacks)), key=lambda b: duals[b])
    if duals[b] > _EPSILON:
        return slacks[b]
    reduced = 1.0 - sum(y * x for y, x in zip(duals, time_column[0], strict=True))
    return time_column if reduced < -_EPSILON else None


def _best_assignment(choices: list[list[list[tuple[int, float]]]], prices: Vector, size: int) -> Vector:
    """What each bucket is charged when every task goes where it is cheapest at these prices."""
    load = [0.0] * size
    for options in choices:
        best = min(options, key=lambda option: sum(prices[b] * seconds for b, seconds in option))
        for b, seconds in best:
            load[b] += seconds
    return load


def _linear(matrix: Sequence[Sequence[float]], right: Sequence[float]) -> Vector:
    """The solution of a small system, by elimination with pivoting."""
    n = len(matrix)
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for i in range(n):
        pivot = max(range(i, n), key=lambda r: abs(rows[r][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        if abs(rows[i][i]) < _EPSILON:
            raise ValueError("the bound's equations are singular")
        for r in range(i + 1, n):
            factor = rows[r][i] / rows[i][i]
            if factor:
                rows[r] = [a - factor * b for a, b in zip(rows[r], rows[i], strict=True)]
    found = [0.0] * n
    for i in reversed(range(n)):
        known = sum(rows[i][j] * found[j] for j in range(i + 1, n))
        found[i] = (rows[i][n] - known) / rows[i][i]
    return found
