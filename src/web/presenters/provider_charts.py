"""Calls and cost of each provider over time, as a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from ...formatting import count, money
from ..charts import Layer, Panel, TimeAxis, fitted, time_chart
from .usage import Series

LEAST_NANOS = 1_000_000  # the cost axis ends there or above
_UNITS = {60: "minute", 3_600: "hour", 86_400: "day"}


def usage_chart(series: Series) -> Markup | None:
    """Stacked bars of calls and of cost; the axis begins shortly before the first call. None without any."""
    if not any(map(any, series.calls.values())):
        return None
    whole = TimeAxis(series.starts[0], series.unit_s, len(series.starts))
    columns = zip(*series.calls.values(), strict=True)
    axis = fitted(whole, [any(calls) for calls in columns])
    per = f"per {_UNITS[series.unit_s]}"
    return time_chart(
        axis,
        [
            Panel("Calls", per, _layers(series.calls, axis.units), lambda n: count(round(n)), least_top=2),
            Panel(
                "Cost",
                per,
                _layers(series.cost_nanos, axis.units),
                lambda n: money(round(n)),
                least_top=LEAST_NANOS,
            ),
        ],
    )


def _layers(values: Mapping[str, Sequence[int]], newest: int) -> tuple[Layer, ...]:
    """A layer per provider, in the colour that it has everywhere, with its `newest` values."""
    return tuple(Layer(name, f"s{i}", each[-newest:]) for i, (name, each) in enumerate(values.items()))
