"""The pages of costs and events."""

from __future__ import annotations

from flask import Blueprint, Response, render_template

from ..core.results import csv_line, guard
from .bodies import WITHIN_S, CostQuery, EventsQuery, query_of, query_or_default
from .context import app_context
from .export import download
from .presenters.costs import NO_NAME, RANGE_DAYS, cost_table, costs_view
from .presenters.events import LEVELS, event_kinds, event_list

list_pages = Blueprint("lists", __name__)


@list_pages.get("/costs")
def costs() -> str:
    """What calls cost, by day, provider, model, task type or submitter."""
    here = app_context()
    wanted, problem = query_or_default(CostQuery)
    return render_template(
        "costs.html",
        view=costs_view(here, wanted),
        wanted=wanted,
        query=wanted.in_query(),
        custom=wanted.since is not None or wanted.until is not None,
        ranges=tuple(RANGE_DAYS),
        no_name=NO_NAME,
        problem=problem,
    )


@list_pages.get("/costs.csv")
def export_costs() -> Response:
    """The costs of each day and group, as CSV."""
    table = cost_table(app_context(), query_of(CostQuery))
    return download((csv_line(guard(cell) for cell in row) for row in table), "costs", "csv")


@list_pages.get("/events")
def events() -> str:
    """The log of events."""
    here = app_context()
    wanted, problem = query_or_default(EventsQuery)
    return render_template(
        "events.html",
        page=event_list(here, wanted),
        wanted=wanted,
        query=wanted.in_query(),
        levels=LEVELS,
        kinds=event_kinds(here),
        within=tuple(WITHIN_S),
        problem=problem,
        now=here.now(),
    )
