"""The pages of costs and events."""

from __future__ import annotations

from typing import TypeVar

from flask import Blueprint, Response, render_template, stream_with_context
from pydantic import ValidationError

from ..core.results import csv_line, guard
from .bodies import WITHIN_S, CostQuery, EventsQuery, ListQuery, query_of
from .context import app_context
from .presenters.costs import NO_NAME, RANGE_DAYS, cost_table, costs_view
from .presenters.events import LEVELS, event_kinds, event_list
from .problems import Problem, from_validation

list_pages = Blueprint("lists", __name__)
Query = TypeVar("Query", bound=ListQuery)


def _query_or_default(model: type[Query]) -> tuple[Query, Problem | None]:
    """The query of a page; without a valid one the default, and what is wrong."""
    try:
        return query_of(model), None
    except ValidationError as error:
        return model(), from_validation(error)


@list_pages.get("/costs")
def costs() -> str:
    """What calls cost, by day, provider, model, task type or submitter."""
    here = app_context()
    wanted, problem = _query_or_default(CostQuery)
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
    lines = (csv_line(guard(cell) for cell in row) for row in table)
    response = Response(stream_with_context(lines), mimetype="text/csv")
    name = "costs.simulated" if app_context().simulated else "costs"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return response


@list_pages.get("/events")
def events() -> str:
    """The log of events."""
    here = app_context()
    wanted, problem = _query_or_default(EventsQuery)
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
