"""What calls cost, by day, provider, model, task type or submitter, from the sums that the store keeps.

Days are UTC, as in the store, so that a range of whole days is read from one small table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from markupsafe import Markup

from ...core.results import usd
from ...core.store import CallSums, UsageRow
from ...core.store.reports import GroupBy
from ...formatting import money
from ..bodies import CostGrouping, CostQuery, CostRange
from ..charts import Layer, Panel, TimeAxis, time_chart
from ..context import AppContext
from .usage import Totals, totals

DAY_S = 86_400
RANGE_DAYS: Mapping[CostRange, int] = {"today": 1, "week": 7, "month": 30, "quarter": 90, "year": 365}
MAX_DAYS = 3_660
LAYERS = 5  # series of the chart; the others are added up in one more
NO_NAME = "unknown"  # calls that a crash interrupted have neither model nor type
OTHERS = "others"


@dataclass(frozen=True, slots=True)
class CostRow:
    """One group. `name` is the value of the grouping, `start` the beginning of a day."""

    name: str
    totals: Totals
    share: float  # of the cost of all rows
    look: str = ""  # the class of its series in the chart
    start: float | None = None


@dataclass(frozen=True, slots=True)
class CostsView:
    """A table and a chart; the range is [start, end) in epoch seconds, whole UTC days."""

    by: CostGrouping
    start: int
    end: int
    rows: tuple[CostRow, ...]
    total: Totals
    chart: Markup | None


def bounds_of(wanted: CostQuery, now: float) -> tuple[int, int]:
    """The whole UTC days that are wanted, as epoch seconds [start, end)."""
    last = now if wanted.until is None else min(wanted.until, now)
    end = (int(last) // DAY_S + 1) * DAY_S
    start = end - RANGE_DAYS[wanted.range] * DAY_S
    if wanted.since is not None:
        start = int(wanted.since) // DAY_S * DAY_S
    return max(start, end - MAX_DAYS * DAY_S), end


def costs_view(context: AppContext, wanted: CostQuery) -> CostsView:
    """The costs of the range, the dearest group first; days newest first."""
    start, end = bounds_of(wanted, context.now())
    series: GroupBy = "provider" if wanted.by == "day" else wanted.by
    by_day = context.store.reports.usage(start, end, ("day", series))
    sums = _added(by_day, 0 if wanted.by == "day" else 1)
    every = sum(sums.values(), start=CallSums())
    looks = _looks(context, _added(by_day, 1), series)
    rows = tuple(_rows(sums, every, looks, is_by_day=wanted.by == "day"))
    chart = _chart(by_day, looks, start, end) if end - start > DAY_S and every.calls else None
    return CostsView(wanted.by, start, end, rows, totals(every), chart)


def _added(rows: list[UsageRow], place: int) -> dict[str, CallSums]:
    """The sums by one part of the key."""
    found: dict[str, CallSums] = {}
    for row in rows:
        name = str(row.key[place])
        found[name] = found[name] + row.sums if name in found else row.sums
    return found


def _rows(
    sums: dict[str, CallSums], every: CallSums, looks: Mapping[str, str], *, is_by_day: bool
) -> Iterator[CostRow]:
    order = sorted(sums, key=int, reverse=True) if is_by_day else sorted(sums, key=lambda n: _rank(n, sums))
    for name in order:
        share = sums[name].cost_nanos / every.cost_nanos if every.cost_nanos else 0.0
        if is_by_day:
            day = f"{datetime.fromtimestamp(int(name), UTC):%Y-%m-%d}"
            yield CostRow(day, totals(sums[name]), share, start=float(name))
        else:
            yield CostRow(name, totals(sums[name]), share, looks.get(name, f"s{LAYERS}"))


def _rank(name: str, sums: Mapping[str, CallSums]) -> tuple[int, int, str]:
    return -sums[name].cost_nanos, -sums[name].calls, name


def _looks(context: AppContext, sums: dict[str, CallSums], series: GroupBy) -> dict[str, str]:
    """The class of each series: providers have theirs on every page, others by their rank."""
    dearest = sorted((name for name in sums if name), key=lambda name: _rank(name, sums))
    if series == "provider":
        known = list(context.settings.providers)
        dearest = known + [name for name in dearest if name not in known]
    return {name: f"s{place}" for place, name in enumerate(dearest[:LAYERS])}


def _chart(rows: list[UsageRow], looks: Mapping[str, str], start: int, end: int) -> Markup:
    axis = TimeAxis(start, DAY_S, (end - start) // DAY_S)
    values: dict[str, list[float]] = {}
    for row in rows:
        name = str(row.key[1])
        layer = values.setdefault(name if name in looks else OTHERS, [0.0] * axis.units)
        layer[(int(row.key[0]) - start) // DAY_S] += row.sums.cost_nanos
    layers = [Layer(name, look, values[name]) for name, look in looks.items() if any(values.get(name, ()))]
    if any(values.get(OTHERS, ())):
        layers.append(Layer(OTHERS, f"s{LAYERS}", values[OTHERS]))
    return time_chart(axis, [Panel("Cost", "per UTC day", tuple(layers), lambda nanos: money(int(nanos)))])


COLUMNS = (
    "calls", "answered", "failed", "prompt_tokens", "output_tokens", "cost_usd", "uncertain_usd",
    "unknown_cost_calls",
)  # fmt: skip


def cost_table(context: AppContext, wanted: CostQuery) -> Iterator[tuple[object, ...]]:
    """The rows of a download with a header: a day and, unless these are wanted, a group of that day."""
    start, end = bounds_of(wanted, context.now())
    groups: tuple[GroupBy, ...] = ("day",) if wanted.by == "day" else ("day", wanted.by)
    yield (*groups, *COLUMNS)
    for row in context.store.reports.usage(start, end, groups):
        day, *names = row.key
        found = totals(row.sums)
        yield (
            f"{datetime.fromtimestamp(int(day), UTC):%Y-%m-%d}",
            *names,
            found.calls,
            found.ok,
            found.failed,
            found.prompt_tokens,
            found.output_tokens,
            usd(found.cost_nanos),
            usd(found.uncertain_nanos),
            found.unknown_cost_calls,
        )
