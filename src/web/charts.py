"""Charts as inline SVG, drawn on the server: pure functions from values to markup.

    time_chart      panels over one time axis: stacked bars, or lines with a band; spans behind them
    stacked         one horizontal bar of several parts
    strip           one cell per unit of time, each in a state
    sparkline       a line without axes

The pages allow no inline style, so places are SVG attributes and colours are classes: `s0`, `s1`, ... for
series; `good`, `warn`, `bad` for states. A plot is stretched to its frame. Labels stand beside it in an SVG
that is not stretched, so that text keeps its size. Every time chart has its numbers as a table, which the
readout at the pointer (`static/app.js`) shows row by row. Values are escaped here, whatever they hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import NamedTuple

from markupsafe import Markup, escape

from ..formatting import MISSING, exact_time, iso_time

Values = Sequence[float | None]
FEWEST_UNITS = 10  # of a fitted axis
MOST_TICKS = 7  # labels such as `28 Nov` stand side by side at 390 px
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_STEPS_S = (
    *(n * _MINUTE for n in (1, 2, 5, 10, 15, 30)),
    *(n * _HOUR for n in (1, 2, 3, 6, 12)),
    *(n * _DAY for n in (1, 2, 5, 10, 30)),
)
_TOPS = (1, 2, 4, 6, 8, 10)  # times a power of ten; their halves are short numbers too
_HEIGHTS = {"bad": 10.0, "warn": 8.0, "good": 6.0}  # of a cell, so that colour is not the only sign


# ------------------------------------------------------------------ axes


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """`units` of `unit_s` seconds one after the other, from the epoch second `start`."""

    start: int
    unit_s: int
    units: int

    @property
    def end(self) -> int:
        return self.start + self.units * self.unit_s

    def starts(self) -> range:
        """The epoch second at which each unit begins."""
        return range(self.start, self.end, self.unit_s)

    def place(self, at: float) -> float:
        """Where a time lies, in units from the left edge, cut at both edges."""
        return min(max((at - self.start) / self.unit_s, 0.0), float(self.units))

    def ticks(self) -> list[int]:
        """Round times on the axis, at most `MOST_TICKS`."""
        fits = (s for s in _STEPS_S if s >= self.unit_s and (self.end - self.start) / s <= MOST_TICKS)
        step = next(fits, _STEPS_S[-1])
        return list(range(-(-self.start // step) * step, self.end, step))


def fitted(axis: TimeAxis, has_data: Sequence[bool]) -> TimeAxis:
    """The end of the axis that has data, with one empty unit before it, and at least `FEWEST_UNITS`."""
    first = next((i for i, has in enumerate(has_data) if has), axis.units)
    cut = max(0, min(first - 1, axis.units - FEWEST_UNITS))
    return TimeAxis(axis.start + cut * axis.unit_s, axis.unit_s, axis.units - cut)


def nice_top(value: float, least: float = 0.0) -> float:
    """The end of a value axis: 1, 2, 4, 6 or 8 times a power of ten, not below `value` or `least`."""
    wanted = max(value, least)
    if wanted <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(wanted))
    return next((n * power for n in _TOPS if n * power >= wanted * (1 - 1e-9)), 10 * power)


# ------------------------------------------------------------------ over time


@dataclass(frozen=True, slots=True)
class Layer:
    """One series. `look` is its class; `values` has one value per unit, None where there is none."""

    name: str
    look: str
    values: Values


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot. As bars, the layers are stacked in their order; as lines, the space between is a band.

    `show` makes text of a value, `tick` of a round one on the axis, which ends at `least_top` or above.
    """

    title: str
    window: str  # such as `per minute`
    layers: tuple[Layer, ...]
    show: Callable[[float], str]
    as_lines: bool = False
    least_top: float = 0.0
    tick: Callable[[float], str] | None = None  # None: `show`

    @property
    def top(self) -> float:
        columns = zip(*(layer.values for layer in self.layers), strict=True)
        merge = max if self.as_lines else sum
        highest = max((merge(v or 0.0 for v in column) for column in columns), default=0)
        return nice_top(highest, self.least_top)


@dataclass(frozen=True, slots=True)
class Span:
    """A time to mark behind all panels, such as an outage. `until` None: it lasts."""

    name: str
    since: float
    until: float | None


def time_chart(axis: TimeAxis, panels: Sequence[Panel], spans: Sequence[Span] = ()) -> Markup:
    """The panels above each other, one time axis below them, and all numbers as a table."""
    return _tag(
        "div",
        *(_panel(axis, panel, spans, with_key=i == 0) for i, panel in enumerate(panels)),
        _time_labels(axis),
        _tag("p", class_="readout", hidden=""),
        _tag("details", _tag("summary", "Numbers as a table"), _table(axis, panels, spans)),
        class_="timechart",
        data_units=axis.units,
    )


def _panel(axis: TimeAxis, panel: Panel, spans: Sequence[Span], *, with_key: bool) -> Markup:
    top = panel.top
    tick = panel.tick or panel.show
    scale = ((0, tick(top)), (50, tick(top / 2)), (100, "0"))
    marks = (_tag("text", text, x="100%", y=f"{y}%") for y, text in scale)
    keys = [(layer.look, layer.name) for layer in panel.layers]
    if with_key and spans:
        keys.append(("span", ", ".join(_names_between(spans, axis.start, axis.end))))
    shown = (_tag("span", _tag("span", class_=f"dot {look}"), name, class_="key") for look, name in keys)
    return _tag(
        "figure",
        _tag("figcaption", panel.title, " ", _tag("small", panel.window, class_="window"), *shown),
        _tag("svg", *marks, class_="y", aria_hidden="true"),
        _plot(
            axis.units,
            100,
            f"{panel.title} {panel.window}, up to {tick(top)}",
            *_spans(axis, spans),
            _tag("path", class_="rule", d=f"M0 0H{axis.units}M0 50H{axis.units}M0 100H{axis.units}"),
            *(_lines(panel, top) if panel.as_lines else _bars(panel, top)),
        ),
        class_="panel",
    )


def _plot(width: int, height: int, label: str, *inside: Markup, class_: str = "plot") -> Markup:
    """An SVG that is stretched to its frame."""
    box = f"0 0 {width} {height}"
    named = {"role": "img", "aria_label": label}
    return _tag("svg", *inside, class_=class_, viewBox=box, preserveAspectRatio="none", **named)


def _spans(axis: TimeAxis, spans: Sequence[Span]) -> Iterator[Markup]:
    for span in spans:
        left, right = axis.place(span.since), axis.place(axis.end if span.until is None else span.until)
        if right > left:
            width = _num(max(right - left, 0.15))
            yield _tag("rect", _tag("title", span.name), class_="span", x=_num(left), width=width, height=100)


def _bars(panel: Panel, top: float) -> Iterator[Markup]:
    """One path per layer: a box for each value, on those of the layers before it."""
    bases: dict[int, float] = {}
    for layer in panel.layers:
        boxes = ""
        for i, value in enumerate(layer.values):
            if value:
                height = 100 * value / top
                bases[i] = bases.get(i, 0.0) + height
                boxes += _box(i, 100 - bases[i], height)
        if boxes:
            yield _tag("path", class_=f"fill {layer.look}", d=boxes)


def _box(unit: int, y: float, height: float) -> str:
    return f"M{unit}.1 {_num(y)}h.8v{_num(height)}h-.8z"


def _lines(panel: Panel, top: float) -> Iterator[Markup]:
    if len(panel.layers) == 2:
        low, high = (layer.values for layer in panel.layers)
        yield _tag("path", class_="band", d=_band(low, high, top))
    for layer in panel.layers:
        yield _tag("path", class_=f"line {layer.look}", d=_line(layer.values, top))


def _runs(*columns: Values) -> Iterator[list[int]]:
    """Units one after the other for which all the columns have a value."""
    known = [None not in values for values in zip(*columns, strict=True)]
    for is_known, run in groupby(range(len(known)), key=known.__getitem__):
        if is_known:
            yield list(run)


def _points(run: Sequence[int], values: Values, top: float) -> list[str]:
    return [f"{i}.5 {_y(values[i], top)}" for i in run]


def _y(value: float | None, top: float) -> str:
    return _num(100 - 100 * (value or 0.0) / top)


def _line(values: Values, top: float) -> str:
    """A line through the values; a value between two gaps is a dash."""
    return "".join(
        "M" + "L".join(_points(run, values, top))
        if len(run) > 1
        else f"M{run[0]}.2 {_y(values[run[0]], top)}h.6"
        for run in _runs(values)
    )


def _band(low: Values, high: Values, top: float) -> str:
    return "".join(
        "M" + "L".join(_points(run, high, top) + _points(run[::-1], low, top)) + "z"
        for run in _runs(low, high)
    )


def _time_labels(axis: TimeAxis) -> Markup:
    """The ticks. `data-at` lets the script write them in the reader's time zone; days are those of UTC."""
    labels = []
    for at in axis.ticks():
        middle = 0.5 if axis.unit_s == _DAY else 0.0
        x = f"{_num(100 * (axis.place(at) + middle) / axis.units)}%"
        moment = datetime.fromtimestamp(at, UTC)
        text = f"{moment.day} {moment:%b}" if at % _DAY == 0 else f"{moment:%H:%M}"
        labels.append(_tag("text", text, x=x, y=12, data_at=None if middle else iso_time(at)))
    return _tag("svg", *labels, class_="x", aria_hidden="true")


def _table(axis: TimeAxis, panels: Sequence[Panel], spans: Sequence[Span]) -> Markup:
    columns = [(panel, layer) for panel in panels for layer in panel.layers]
    names = (f"{p.title}: {x.name}" if len(panels) > 1 else x.name for p, x in columns)
    head = [_tag("th", "from", scope="col"), *(_tag("th", n, class_="num", scope="col") for n in names)]
    if spans:
        head.append(_tag("th", "out of service", scope="col"))
    rows = []
    for i, at in enumerate(axis.starts()):
        cells = [_tag("td", _shown(panel, layer.values[i]), class_="num") for panel, layer in columns]
        if spans:
            cells.append(_tag("td", ", ".join(_names_between(spans, at, at + axis.unit_s))))
        begins = _tag("time", exact_time(at), datetime=iso_time(at), data_show="clock")
        rows.append(_tag("tr", _tag("th", begins, scope="row"), *cells))
    named = f"{', '.join(panel.title for panel in panels)} as a table"
    table = _tag("table", _tag("thead", _tag("tr", *head)), _tag("tbody", *rows))
    return _tag("div", table, class_="scroll", tabindex=0, role="region", aria_label=named)


def _shown(panel: Panel, value: float | None) -> str:
    return MISSING if value is None else panel.show(value)


def _names_between(spans: Sequence[Span], start: float, end: float) -> Iterable[str]:
    """The names of the spans that overlap with a time, each once."""
    return dict.fromkeys(s.name for s in spans if s.since < end and (s.until is None or s.until > start))


# ------------------------------------------------------------------ small ones


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a bar. `text` is its value in words."""

    name: str
    look: str
    value: float
    text: str


def stacked(parts: Sequence[Segment], whole: float = 0.0, label: str = "") -> Markup:
    """A horizontal bar. Its full length is `whole`, or the sum of the parts if that is more."""
    total = max(whole, sum(part.value for part in parts)) or 1.0
    left, rects = 0.0, [_tag("rect", class_="track", width=100, height=10)]
    shown = [part for part in parts if part.value > 0]
    for part in shown:
        width = 100 * part.value / total
        title, look = _tag("title", f"{part.name} {part.text}"), f"fill {part.look}"
        rects.append(_tag("rect", title, class_=look, x=_num(left), width=_num(width), height=10))
        left += width
    said = ", ".join(f"{part.name} {part.text}" for part in shown) or "none"
    return _plot(100, 10, f"{label}: {said}" if label else said, *rects, class_="stacked")


class Cell(NamedTuple):
    """A unit of a strip. `look`: good, warn, bad, or empty for nothing. `text` is shown at the pointer."""

    look: str
    text: str = ""


def strip(cells: Sequence[Cell], label: str) -> Markup:
    """One cell per unit, oldest first; the worse its state, the higher the cell."""
    boxes: dict[str, str] = {}
    titles = []
    for i, (look, text) in enumerate(cells):
        height = _HEIGHTS.get(look, 1.0)
        boxes[look] = boxes.get(look, "") + _box(i, 10 - height, height)
        if text:
            titles.append(_tag("rect", _tag("title", text), class_="hit", x=i, width=1, height=10))
    drawn = (_tag("path", class_=f"fill {look or 'none'}", d=d) for look, d in boxes.items())
    return _plot(len(cells), 10, label, *drawn, *titles, class_="strip")


def sparkline(values: Values, label: str) -> Markup:
    """A line from the first value to the last, as high as the largest."""
    top = max((value for value in values if value is not None), default=0.0) or 1.0
    return _plot(len(values), 100, label, _tag("path", class_="line", d=_line(values, top)), class_="spark")


def _tag(name: str, *inside: str, **attributes: str | int | None) -> Markup:
    """An element. Text in it and attributes are escaped; `class_` is `class`, `data_at` is `data-at`."""
    given = (
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{''.join(given)}>{''.join(map(escape, inside))}</{name}>")  # noqa: S704 all escaped


def _num(value: float) -> str:
    """A short number for an attribute."""
    return f"{value:.2f}".rstrip("0").rstrip(".") or "0"
