"""The pages. Every form works without script; every change answers with a redirect."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for
from pydantic import ValidationError
from werkzeug.wrappers import Response as AnyResponse

from . import export, guard, provider_actions, task_actions, visibility
from .bodies import WITHIN_S, ExportQuery, RebalanceBody, TaskFilter, query_of, query_or_default
from .context import app_context, caller_name
from .presenters import traffic
from .presenters.batches import running_batches
from .presenters.headline import headline
from .presenters.outages import outages
from .presenters.pool import pool_view
from .presenters.presets import PRESET_NOTES, PRESETS, preset, suggestion
from .presenters.provider_charts import usage_chart
from .presenters.restricted import visible_dashboard_view, visible_pool_view
from .presenters.search import require_search, search_view
from .presenters.tasks import (
    CHOICES,
    TRUNCATED,
    TaskView,
    configured_models,
    curl_of,
    task_list,
    task_view,
)
from .presenters.usage import RANGES, series, type_table
from .presenters.weights import rebalance_view
from .problems import Problem, from_validation
from .task_states import TaskState

pages = Blueprint("pages", __name__)
BATCHES_OFFERED = 50  # names to choose from
PAGE_SIZE = 50


@pages.get("/")
def dashboard() -> str:
    """The dashboard."""
    here, chosen = app_context(), request.args.get("range", "")
    view = visible_dashboard_view(here)
    chosen = chosen if chosen in traffic.RANGES else "hour"
    return render_template(
        "dashboard.html",
        view=view,
        now=view.pool.now,
        headline=headline(view, outages(here)),
        batches=running_batches(here),
        strips=traffic.provider_strips(here),
        chart=traffic.traffic_chart(here, chosen),
        chosen=chosen,
        ranges=traffic.RANGES,
    )


@pages.get("/provider-status")
def provider_status() -> str:
    """Providers, agents and limits."""
    chosen = request.args.get("range", "hour")
    chosen = chosen if chosen in RANGES else "hour"
    may_weigh = guard.allows("/rebalance")
    return render_template(
        "provider_status.html",
        view=(view := visible_pool_view(app_context())),
        places={provider.name: place for place, provider in enumerate(view.providers)},
        down_since={o.provider: o.since for o in outages(app_context()) if o.until is None},
        weights=rebalance_view(app_context()) if may_weigh else None,
        types=type_table(app_context()),
        chart=usage_chart(series(app_context(), chosen)),
        range=chosen,
        ranges=RANGES,
    )


@pages.post("/providers/<name>/<any(pause, resume, reset):verb>")
def steer(name: str, verb: str) -> AnyResponse:
    """Pause or resume a provider, or reset its breaker."""
    provider_actions.steer(app_context(), name, verb, caller_name())
    done = {"pause": "paused", "resume": "resumed", "reset": "breaker reset requested"}[verb]
    flash(f"{name}: {done}")
    return redirect(url_for("pages.provider_status", _anchor=name), 303)


# ------------------------------------------------------------------ rebalance


@pages.get("/rebalance")
def rebalance() -> str:
    """The weights, their history, and recent traffic under other weights."""
    name = request.args.get("preset", "")
    if name not in PRESETS:
        return _rebalance_page(None, "")
    try:
        return _rebalance_page(preset(app_context(), name), name)
    except Problem as problem:
        return _rebalance_page(None, "", problem)


@pages.post("/rebalance")
def rebalance_form() -> AnyResponse | str | tuple[str, int]:
    """Preview or apply the weights of the form, in percent of any sum; undo, redo, or restore a change."""
    action = request.form.get("action", "")
    if action in ("undo", "redo"):
        step = provider_actions.undo_weights if action == "undo" else provider_actions.redo_weights
        step(app_context(), caller_name())
        flash(
            "Reverted the last change of weights." if action == "undo" else "Repeated the change of weights."
        )
        return redirect(_weights_shown_at(), 303)
    try:
        wanted = provider_actions.wanted_weights(app_context(), _rebalance_body())
    except (ValidationError, Problem) as error:
        problem = error if isinstance(error, Problem) else from_validation(error)
        return _rebalance_page(None, "", problem), problem.status
    if action == "preview":
        return _rebalance_page(wanted, "")
    provider_actions.apply_weights(app_context(), wanted, caller_name())
    flash("The new weights are set.")
    return redirect(_weights_shown_at(), 303)


def _weights_shown_at() -> str:
    """The page with the form that was sent: two pages have it."""
    on_providers = request.form.get("page") == "providers"
    return (
        url_for("pages.provider_status", _anchor="weighing") if on_providers else url_for("pages.rebalance")
    )


def _rebalance_body() -> RebalanceBody:
    if version := request.form.get("version", ""):
        return RebalanceBody.model_validate({"version": int(version) if version.isdigit() else version})
    weights: dict[str, float | str] = {}
    for name in app_context().settings.providers:
        given = request.form.get(f"weight-{name}", "0").strip().replace(",", ".") or "0"
        try:
            weights[name] = float(given)
        except ValueError:
            weights[name] = given
    return RebalanceBody.model_validate({"weights": weights})


def _rebalance_page(wanted: dict[str, float] | None, chosen: str, problem: Problem | None = None) -> str:
    view = rebalance_view(app_context(), wanted)
    return render_template(
        "rebalance.html",
        view=view,
        in_force={row.provider: row.weight for row in view.current},
        refresh_s=pool_view(app_context()).refresh_s,
        is_preview=wanted is not None,
        presets=PRESETS,
        notes=PRESET_NOTES,
        chosen=chosen,
        trials=suggestion(app_context()) if chosen == "suggested" else (),
        problem=problem,
    )


# ------------------------------------------------------------------ tasks


@pages.get("/tasks")
def tasks() -> str:
    """The list of tasks."""
    here = app_context()
    wanted, problem = query_or_default(TaskFilter)
    if wanted.q:
        try:
            require_search(here)
        except Problem as error:
            wanted, problem = wanted.model_copy(update={"q": ""}), error
    page = task_list(here, wanted, PAGE_SIZE)
    return render_template(
        "tasks.html",
        page=page,
        wanted=wanted,
        query=wanted.in_query(),
        batches=[row.name for row in visibility.visible_batches(here, BATCHES_OFFERED)],
        states=(*TaskState, TRUNCATED),
        within=tuple(WITHIN_S),
        models=configured_models(here),
        search=search_view(here),
        problem=problem,
        now=here.now(),
        refresh_s=visible_pool_view(here).refresh_s,
    )


@pages.get("/rows/<row>")
def task(row: str) -> str:
    """One task, by its row number."""
    return _task_page(task_view(app_context(), visibility.find_task(app_context(), row)))


@pages.get("/tasks/<task_id>")
def task_named(task_id: str) -> AnyResponse:
    """Redirect to the task of the queue with this id, else to this row, else to tasks with this prefix."""
    try:
        found = visibility.find_queued_task(app_context(), task_id)
    except Problem:
        return redirect(url_for("pages.tasks", id=task_id), 303)
    return redirect(url_for("pages.task", row=found.row.row), 303)


@pages.get("/tasks/<batch>/<task_id>")
def task_by_id(batch: str, task_id: str) -> str:
    """One task, by batch and id."""
    return _task_page(task_view(app_context(), visibility.find_task_by_id(app_context(), batch, task_id)))


def _task_page(view: TaskView) -> str:
    here = app_context()
    return render_template(
        "task.html",
        view=view,
        choices=CHOICES,
        pool=visible_pool_view(here),
        curl=curl_of(f"{request.url_root}api/rows/{view.row.row}", with_token=bool(here.access.tokens)),
        now=here.now(),
    )


@pages.post("/rows/<row>/<any(cancel, retry):verb>")
def task_verb(row: str, verb: str) -> AnyResponse:
    """Cancel a task or run it again."""
    detail = visibility.find_task(app_context(), row)
    if verb == "cancel":
        outcome = task_actions.cancel_task(app_context(), detail, caller_name())
        flash(
            "Cancelled."
            if outcome == "cancelled"
            else "Cancellation requested; applies if the task has not started."
        )
    else:
        task_actions.retry_task(app_context(), detail, caller_name())
        flash("The task is queued again.")
    return redirect(url_for("pages.task", row=row), 303)


@pages.get("/tasks/export.<any(jsonl, csv):kind>")
def export_tasks(kind: str) -> Response:
    """Download the tasks that match the filters, as CSV or JSON Lines."""
    wanted = query_of(ExportQuery)
    if wanted.q:
        require_search(app_context())
    make: Callable[..., Iterator[bytes]] = export.as_jsonl if kind == "jsonl" else export.as_csv
    return export.download(make(app_context(), wanted), "results", kind)
