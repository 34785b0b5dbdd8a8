"""The charts: where marks lie, what axes say, and that values stay text."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from src.formatting import count, duration
from src.web.charts import (
    FEWEST_UNITS,
    MOST_TICKS,
    Cell,
    Layer,
    Panel,
    Segment,
    Span,
    TimeAxis,
    fitted,
    nice_top,
    sparkline,
    stacked,
    strip,
    time_chart,
)

SCRIPT = "<script>alert('\"')</script>"
NOON = 1_800_014_400  # 2027-01-15 12:00 UTC


def parsed(markup: Markup) -> ElementTree.Element:
    """The markup as a tree: it is well-formed, so nothing in it got out of its place."""
    return ElementTree.fromstring(str(markup))  # noqa: S314 our own markup


def bars(*layers: Layer) -> Panel:
    return Panel("Calls", "per minute", layers, count, least_top=2)


@pytest.mark.parametrize(
    ("unit_s", "units", "step_s"),
    [(60, 10, 120), (60, 60, 600), (600, 144, 6 * 3600), (3600, 24, 6 * 3600), (86400, 30, 5 * 86400)],
)
def test_ticks_stand_at_round_times(unit_s: int, units: int, step_s: int) -> None:
    ticks = TimeAxis(NOON + 120, unit_s, units).ticks()
    assert {at % step_s for at in ticks} == {0}
    assert {b - a for a, b in pairwise(ticks)} == {step_s}


@given(st.integers(0, 10**8), st.sampled_from([60, 600, 3600, 86400]), st.integers(FEWEST_UNITS, 200))
def test_ticks_are_few_and_on_the_axis(start: int, unit_s: int, units: int) -> None:
    axis = TimeAxis(start * 60, unit_s, units)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= MOST_TICKS + 1
    assert all(axis.start <= at < axis.end for at in ticks)


@pytest.mark.parametrize(
    ("first_with_data", "units"), [(0, 60), (30, 31), (55, FEWEST_UNITS), (None, FEWEST_UNITS)]
)
def test_an_axis_is_fitted_to_its_data(first_with_data: int | None, units: int) -> None:
    axis = TimeAxis(NOON, 60, 60)
    found = fitted(axis, [first_with_data is not None and i >= first_with_data for i in range(60)])
    assert (found.units, found.end) == (units, axis.end)


@given(st.floats(1e-9, 1e15))
def test_the_end_of_an_axis_is_round_and_near(value: float) -> None:
    top = nice_top(value)
    assert value * (1 - 1e-9) <= top <= value * 2.0001
    assert f"{top:.0e}".startswith(("1", "2", "4", "6", "8"))


def test_layers_are_stacked_in_their_order() -> None:
    panel = bars(Layer("ok", "s0", [30, 0, 10]), Layer("failed", "bad", [10, 0, 0]))
    tree = parsed(time_chart(TimeAxis(NOON, 60, 3), [panel]))
    drawn = {path.get("class"): path.get("d") for path in tree.iter("path")}
    assert panel.top == 40
    assert drawn["fill s0"] == "M0.1 25h.8v75h-.8zM2.1 75h.8v25h-.8z"
    assert drawn["fill bad"] == "M0.1 0h.8v25h-.8z"
    assert [text.text for text in tree.iter("text")][:3] == ["40", "20", "0"]


def test_lines_have_gaps_where_nothing_is_known() -> None:
    fast, slow = Layer("p50", "s0", [1, None, 1, 1]), Layer("p95", "s1", [2, None, None, 2])
    panel = Panel("Latency", "per minute", (fast, slow), duration, as_lines=True)
    drawn = {
        p.get("class"): p.get("d") for p in parsed(time_chart(TimeAxis(NOON, 60, 4), [panel])).iter("path")
    }
    assert drawn["line s0"] == "M0.2 50h.6M2.5 50L3.5 50"
    assert drawn["line s1"] == "M0.2 0h.6M3.2 0h.6"
    assert drawn["band"] == "M0.5 0L0.5 50zM3.5 0L3.5 50z"


def test_a_chart_has_all_its_numbers_as_a_table() -> None:
    panel = bars(Layer("ok", "s0", [30, None]), Layer("failed", "bad", [1, 2]))
    outage = Span("openai", NOON + 70, None)
    tree = parsed(time_chart(TimeAxis(NOON, 60, 2), [panel], [outage]))
    rows = [["".join(cell.itertext()) for cell in row] for row in tree.iter("tr")]
    assert rows[0] == ["from", "ok", "failed", "out of service"]
    assert [row[1:] for row in rows[1:]] == [["30", "1", ""], ["-", "2", "openai"]]
    assert all(svg.get("aria-label") for svg in tree.iter("svg") if svg.get("role") == "img")


def test_a_span_covers_the_time_of_an_outage() -> None:
    spans = [
        Span("past", NOON - 900, NOON - 600),
        Span("cut", NOON - 60, NOON + 90),
        Span("lasts", NOON + 120, None),
    ]
    tree = parsed(time_chart(TimeAxis(NOON, 60, 4), [bars(Layer("ok", "s0", [1] * 4))], spans))
    assert [(r.get("x"), r.get("width")) for r in tree.iter("rect")] == [("0", "1.5"), ("2", "2")]
    (caption,) = tree.iter("figcaption")
    assert "".join(caption.itertext()).endswith("cut, lasts"), "the legend names those in view"


def test_parts_of_a_bar_fill_it() -> None:
    tree = parsed(
        stacked(
            [Segment("a", "s0", 1, "1"), Segment("b", "s1", 0, "0"), Segment("c", "s2", 3, "3")],
            label="tasks",
        )
    )
    rects = [(r.get("x"), r.get("width")) for r in tree.iter("rect")][1:]
    assert rects == [("0", "25"), ("25", "75")]
    assert tree.get("aria-label") == "tasks: a 1, c 3"
    of_more = parsed(stacked([Segment("a", "s0", 1, "1")], whole=10))
    assert [r.get("width") for r in of_more.iter("rect")] == ["100", "10"]


def test_the_height_of_a_cell_says_its_state_too() -> None:
    tree = parsed(strip([Cell("good"), Cell(""), Cell("bad", "2 of 3 failed")], "openai"))
    heights = {p.get("class"): re.search(r"v([\d.]+)", p.get("d") or "") for p in tree.iter("path")}
    assert {look: float(h[1]) for look, h in heights.items() if h} == {
        "fill good": 6,
        "fill none": 1,
        "fill bad": 10,
    }
    assert [title.text for title in tree.iter("title")] == ["2 of 3 failed"]


@pytest.mark.parametrize("values", [[], [None], [0.0], [1.0, None, 3.0]])
def test_no_values_are_no_error(values: list[float | None]) -> None:
    parsed(sparkline(values, "latency"))
    panel = Panel("Cost", "per day", (Layer("all", "s0", values),), count)
    parsed(time_chart(TimeAxis(NOON, 86400, len(values)), [panel]))
    parsed(stacked([], label="nothing"))
    parsed(strip([], "nothing"))


def test_text_from_outside_stays_text() -> None:
    panel = Panel(SCRIPT, SCRIPT, (Layer(SCRIPT, "s0", [1]),), lambda _: SCRIPT)
    drawn = [
        time_chart(TimeAxis(NOON, 60, 1), [panel], [Span(SCRIPT, NOON, None)]),
        stacked([Segment(SCRIPT, "s0", 1, SCRIPT)], label=SCRIPT),
        strip([Cell("bad", SCRIPT)], SCRIPT),
        sparkline([1], SCRIPT),
    ]
    for markup in drawn:
        assert "<script" not in markup and " style=" not in markup
        assert any(SCRIPT in (text or "") for text in parsed(markup).itertext()) or SCRIPT in str(
            [each.attrib for each in parsed(markup).iter()]
        ).replace("\\'", "'")
