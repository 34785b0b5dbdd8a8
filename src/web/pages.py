"""The pages. Every form works without script; every change answers with a redirect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import BinaryIO, cast

from flask import Blueprint, Response, flash, redirect, render_template, request, stream_with_context, url_for
from pydantic import ValidationError
from werkzeug.wrappers import Response as AnyResponse

from ..core.intake import QUEUE
from ..errors import InputError
from ..formatting import plural
from . import charts, export, guard, provider_actions, task_actions, visibility
from .bodies import RebalanceBody, TaskFilter, query_of
from .context import app_context, caller_name
from .presenters.dashboard import status_line
from .presenters.pool import pool_view
from .presenters.presets import PRESET_NOTES, PRESETS, preset, suggestion
from .presenters.provider_charts import usage_chart
from .presenters.restricted import visible_dashboard_view, visible_pool_view
from .presenters.tasks import CHOICES, batch_view, task_list, task_view
from .presenters.usage import RANGES, series, type_table
from .presenters.weights import rebalance_view
from .problems import Problem, from_validation
from .task_states import TaskState
from .uploads import MAX_UPLOAD_BYTES, Uploads

pages = Blueprint("pages", __name__)
BATCHES_SHOWN = 8
PAGE_SIZE = 50
DRAWINGS = {"stacked": charts.stacked, "segment": charts.Segment, "spark": charts.sparkline}


@pages.get("/")
def dashboard() -> str:
    """The dashboard."""
    view = visible_dashboard_view(app_context())
    return render_template("dashboard.html", view=view, line=status_line(view), form={})


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
        down_since={},
        weights=rebalance_view(app_context()) if may_weigh else None,
        types=type_table(app_context()),
        chart=usage_chart(series(app_context(), chosen)),
        range=chosen,
        ranges=RANGES,
        **DRAWINGS,
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
        **DRAWINGS,
    )


# ------------------------------------------------------------------ tasks


@pages.get("/tasks")
def tasks() -> str:
    """The list of tasks."""
    try:
        wanted, problem = query_of(TaskFilter), None
    except ValidationError as error:
        wanted, problem = TaskFilter(), from_validation(error)
    page = task_list(app_context(), wanted, PAGE_SIZE)
    rows = visibility.visible_batches(app_context(), BATCHES_SHOWN)
    if wanted.batch and all(row.name != wanted.batch for row in rows):
        with suppress(Problem):  # missing, or not visible
            rows = [*rows, visibility.find_batch(app_context(), wanted.batch)]
    return render_template(
        "tasks.html",
        page=page,
        wanted=wanted,
        query={k: v for k, v in wanted.model_dump(mode="json").items() if v and k not in ("before", "limit")},
        batches=[batch_view(row) for row in rows],
        states=list(TaskState),
        problem=problem,
        now=app_context().now(),
        refresh_s=visible_pool_view(app_context()).refresh_s,
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


def _task_page(view: object) -> str:
    pool = visible_pool_view(app_context())
    return render_template("task.html", view=view, choices=CHOICES, pool=pool, now=app_context().now())


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


@pages.post("/batches/<any(cancel, retry):verb>")
def batch_verb(verb: str) -> AnyResponse | str:
    """Cancel a batch or run its ended tasks again."""
    batch = request.form.get("batch", "")
    if verb == "cancel" and not request.form.get("confirmed"):
        return _confirm_cancel(batch)
    if verb == "cancel":
        done = task_actions.cancel_batch(app_context(), batch, caller_name())
        flash(f"{done['cancelled']} cancelled, cancellation of {done['requested']} more requested.")
    else:
        flash(f"{task_actions.retry_batch(app_context(), batch, caller_name())} tasks are queued again.")
    return redirect(url_for("pages.tasks", batch=batch), 303)


def _confirm_cancel(batch: str) -> str:
    """The page that asks before a batch is cancelled, with the number of tasks."""
    return render_template("confirm.html", batch=batch_view(visibility.find_batch(app_context(), batch)))


@pages.post("/batches/purge")
def purge_batch() -> AnyResponse | str:
    """Delete prompts and answers of the ended tasks of a batch, after a page that asks."""
    batch = visibility.find_batch(app_context(), request.form.get("batch", "")).name
    if not request.form.get("confirmed"):
        count = task_actions.purgeable(app_context(), batch)
        return render_template("confirm_purge.html", batch=batch, count=count)
    purged, left = task_actions.purge_batch(app_context(), batch, caller_name())
    more = f" {plural(left, 'more task')} can be purged: press the button again." if left else ""
    flash(f"Purged prompts and answers of {plural(purged, 'task')}.{more}")
    return redirect(url_for("pages.tasks", batch=batch), 303)


@pages.post("/tasks")
def submit_task() -> AnyResponse | tuple[str, int]:
    """Submit one task from the form."""
    form = request.form
    row: dict[str, object] = {"prompt": form.get("prompt", "").replace("\r\n", "\n")}
    row |= {name: form[name] for name in ("task_type", "tier", "system", "id") if form.get(name, "").strip()}
    try:
        if form.get("max_tokens", "").strip():
            row["max_tokens"] = _whole(form["max_tokens"])
        done, _ = task_actions.submit(app_context(), [row], QUEUE, caller_name())
    except (InputError, Problem) as error:
        view = visible_dashboard_view(app_context())
        message = error.what if isinstance(error, InputError) else error.message
        page = render_template(
            "dashboard.html", view=view, line=status_line(view), form=form, form_problem=message
        )
        return page, 422
    for warning in task_actions.warnings_of(app_context(), done):
        flash(warning)
    detail = visibility.find_task_by_id(app_context(), QUEUE, done[0].id)
    return redirect(url_for("pages.task", row=detail.row.row), 303)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"'max_tokens' must be a whole number, not {text[:20]!r}") from None


@pages.get("/tasks/export.<any(jsonl, csv):kind>")
def export_tasks(kind: str) -> Response:
    """Download the tasks that match the filters, as CSV or JSON Lines."""
    wanted = query_of(TaskFilter)
    make: Callable[..., Iterator[bytes]] = export.as_jsonl if kind == "jsonl" else export.as_csv
    mime = "application/x-ndjson" if kind == "jsonl" else "text/csv"
    response = Response(stream_with_context(make(app_context(), wanted)), mimetype=mime)
    name = "results.simulated" if app_context().simulated else "results"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}.{kind}"'
    return response


# ------------------------------------------------------------------ uploads


@pages.post("/uploads")
def upload() -> AnyResponse:
    """Store a task file and show its plan."""
    file = request.files.get("file")
    if file is None or not file.filename:
        raise Problem(422, "invalid", "Choose a file first.", {"field": "file"})
    template = request.form.get("template", "")
    kept = Uploads(app_context()).keep(cast(BinaryIO, file.stream), file.filename, template)
    return redirect(url_for("pages.uploaded", upload_id=kept.upload_id), 303)


upload.body_bytes = MAX_UPLOAD_BYTES  # type: ignore[attr-defined]


@pages.get("/uploads/<upload_id>")
def uploaded(upload_id: str) -> str:
    """The plan of an uploaded file."""
    return render_template(
        "upload.html", upload=Uploads(app_context()).find(upload_id), now=app_context().now()
    )


@pages.post("/uploads/<upload_id>")
def start_upload(upload_id: str) -> AnyResponse:
    """Queue the rows of an uploaded file."""
    if request.form.get("action") == "drop":
        Uploads(app_context()).drop(upload_id)
        flash("The file was discarded; none of its tasks was submitted.")
        return redirect(url_for("pages.dashboard"), 303)
    if request.form.get("action") == "template":
        Uploads(app_context()).use_template(upload_id, request.form.get("template", ""))
        return redirect(url_for("pages.uploaded", upload_id=upload_id), 303)
    batch = request.form.get("batch", "").strip() or Uploads(app_context()).find(upload_id).batch
    report = Uploads(app_context()).start(upload_id, batch, caller_name())
    if report.changed_count:
        message = f"{report.changed_count} ids exist in {batch} with another content; choose another name."
        raise Problem(409, "id_exists", message, {"ids": list(report.changed)})
    known = f", {report.existing} were in it already" if report.existing else ""
    flash(f"{report.added} tasks are queued{known}.")
    return redirect(url_for("pages.tasks", batch=batch), 303)
