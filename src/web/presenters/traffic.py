"""The chart of the dashboard, and the strips of the last hour beside the providers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from markupsafe import Markup

from ...core.store import CallSums
from ...core.store.reports import GroupBy
from ...formatting import count, duration, money, plural
from ..charts import Cell, Layer, Panel, Span, TimeAxis, fitted, strip, time_chart
from ..context import SUMS_FRESH_S, AppContext
from .outages import Outage, outages
from .usage import last_hour

RANGES: Mapping[str, tuple[GroupBy, int, int]] = {  # name: (unit, its seconds, how many of them)
    "hour": ("minute", 60, 60),
    "day": ("half_hour", 1800, 48),
    "month": ("day", 86400, 30),
}
_WINDOWS = {"hour": "per minute", "day": "per half hour", "month": "per day (UTC)"}
SERIES = 6  # looks: s0 to s5
MOST_FAILED = 0.5  # of a minute's calls, from which on its cell is bad
_NONE = CallSums()


def traffic_chart(context: AppContext, name: str) -> Markup:
    """Calls, latency and cost of the last hour, day or month; empty if there were no calls."""
    return context.cache.get(f"traffic {name}", lambda: _traffic_chart(context, name), SUMS_FRESH_S)


def _traffic_chart(context: AppContext, name: str) -> Markup:
    unit, unit_s, units = RANGES[name]
    now = context.now()
    start = int(now // unit_s - units + 1) * unit_s
    read = context.past_usage.since(start, now, (unit, "provider"))
    found = {(int(key[0]), str(key[1])): s for key, s in read.items() if s.calls or s.uncertain_nanos}
    if not found:
        return Markup("")
    whole = TimeAxis(start, unit_s, units)
    axis = fitted(whole, [any(key[0] == at for key in found) for at in whole.starts()])
    panels = _panels(found, list(context.settings.providers), axis, _WINDOWS[name])
    return time_chart(axis, panels, _spans(axis, outages(context)))


def _spans(axis: TimeAxis, all_outages: Sequence[Outage]) -> list[Span]:
    """The outages that the axis shows."""
    in_view = (o for o in all_outages if o.since < axis.end and (o.until is None or o.until > axis.start))
    return [Span(outage.name, outage.since, outage.until) for outage in in_view]


def _panels(
    found: Mapping[tuple[int, str], CallSums], configured: Sequence[str], axis: TimeAxis, window: str
) -> list[Panel]:
    named = list(dict.fromkeys([*configured, *(provider for _, provider in found)]))
    by_provider = {p: [found.get((at, p), _NONE) for at in axis.starts()] for p in named}
    everything = [sum(column, start=_NONE) for column in zip(*by_provider.values(), strict=True)]
    answered = _layers(by_provider, lambda sums: sums.ok)
    failed = Layer("failed", "bad", [sums.failed + sums.uncertain for sums in everything])
    latency = (
        Layer("p50", "s3", [sums.p50_s for sums in everything]),
        Layer("p95", "s5", [sums.p95_s for sums in everything]),
    )
    cost = _layers(by_provider, lambda sums: sums.cost_nanos)
    return [
        Panel("Calls", window, (*answered, failed), count, least_top=2),
        Panel("Latency", "of answered calls", latency, duration, as_lines=True),
        Panel("Cost", window, cost, _money, tick=_short_money),
    ]


def _layers(
    by_provider: Mapping[str, Sequence[CallSums]], value: Callable[[CallSums], float]
) -> tuple[Layer, ...]:
    """A layer for each provider that was called, in the colour that it has everywhere."""
    return tuple(
        Layer(name, f"s{i % SERIES}", [value(sums) for sums in column])
        for i, (name, column) in enumerate(by_provider.items())
        if any(sums.calls for sums in column)
    )


def _money(nanos: float) -> str:
    return money(round(nanos))


def _short_money(nanos: float) -> str:
    """`$0.06`, `$2`: round amounts on an axis need no zeros at their end."""
    text = _money(nanos)
    return text.rstrip("0").rstrip(".") if "." in text else text


def provider_strips(context: AppContext) -> Mapping[str, Markup]:
    """The last 60 minutes of each provider as one cell a minute."""
    return context.cache.get("strips", lambda: _provider_strips(context), SUMS_FRESH_S)


def _provider_strips(context: AppContext) -> dict[str, Markup]:
    now = context.now()
    minutes, first = last_hour(context, now), (now // 60 - 59) * 60
    return {
        name: _strip(
            name, minutes.get(name, [_NONE] * 60), first, [o for o in outages(context) if o.provider == name]
        )
        for name in context.settings.providers
    }


def _strip(name: str, minutes: Sequence[CallSums], first: float, out: Sequence[Outage]) -> Markup:
    cells = [_cell(sums, first + 60 * i, out) for i, sums in enumerate(minutes)]
    calls, failed = sum(m.ok for m in minutes), sum(m.failed + m.uncertain for m in minutes)
    return strip(cells, f"{name}, last 60 minutes: {calls:,} answered, {failed:,} failed")


def _cell(sums: CallSums, at: float, out: Sequence[Outage]) -> Cell:
    failed = sums.failed + sums.uncertain
    is_out = any(o.since < at + 60 and (o.until is None or o.until > at) for o in out)
    if not (sums.ok or failed or is_out):
        return Cell("")
    if not (failed or is_out):
        return Cell("good")
    is_bad = is_out or failed >= MOST_FAILED * (sums.ok + failed)
    texts = (f"{plural(failed, 'failure')}, {sums.ok:,} answered", "out of service" if is_out else "")
    clock = f"{datetime.fromtimestamp(at, UTC):%H:%M} UTC"
    return Cell("bad" if is_bad else "warn", f"{clock}: {', '.join(filter(None, texts))}")
