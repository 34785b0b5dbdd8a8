"""Submit a task or a file: two forms on one page. An error stands beside its field, which keeps its text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO, cast

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from ..core.intake import QUEUE, check_batch_name
from ..errors import InputError
from . import task_actions, visibility
from .context import app_context, caller_name
from .problems import Problem
from .template_filters import batch_url
from .uploads import MAX_UPLOAD_BYTES, Uploads

submit_pages = Blueprint("submit", __name__)
TIERS = ("standard", "economy", "premium", "auto")
_TEXTS = ("task_type", "tier", "system", "id")
_FIELDS = frozenset({"prompt", "batch", "max_tokens", *_TEXTS})
_FILE_FIELDS = frozenset({"file", "template"})
Form = Mapping[str, str]


@submit_pages.get("/new")
def new() -> str:
    """The forms for a task and for a file; a query fills in the fields of the task."""
    return _page(request.args)


@submit_pages.post("/tasks")
def submit_task() -> AnyResponse | tuple[str, int]:
    """Submit one task from the form."""
    form = request.form
    try:
        batch = check_batch_name(form.get("batch", "").strip() or QUEUE)
    except InputError as error:
        return _page(form, {"batch": error.what}), 422
    try:
        done, _ = task_actions.submit(app_context(), [_row(form)], batch, caller_name())
    except InputError as error:
        return _page(form, _beside(error.field, error.what, _FIELDS)), 422
    except Problem as problem:
        found = _beside(str(problem.details.get("field", "")), problem.message, _FIELDS)
        return _page(form, found), problem.status
    for warning in task_actions.warnings_of(app_context(), done):
        flash(warning)
    detail = visibility.find_task_by_id(app_context(), batch, done[0].id)
    return redirect(url_for("pages.task", row=detail.row.row), 303)


def _row(form: Form) -> dict[str, object]:
    """The form as a row of a task file. Raises InputError."""
    prompt = form.get("prompt", "").replace("\r\n", "\n")
    if not prompt.strip():
        raise InputError("the prompt is empty", field="prompt")
    row: dict[str, object] = {"prompt": prompt}
    row |= {name: form[name].replace("\r\n", "\n") for name in _TEXTS if form.get(name, "").strip()}
    if text := form.get("max_tokens", "").strip():
        try:
            row["max_tokens"] = int(text)
        except ValueError:
            what = f"'max_tokens' must be a whole number, not {text[:20]!r}"
            raise InputError(what, field="max_tokens") from None
    return row


def _beside(field: str, message: str, known: frozenset[str]) -> dict[str, str]:
    """The message under the name of its field; under no name if the form does not have it."""
    return {field if field in known else "": message}


def _page(
    form: Form, errors: Mapping[str, str] | None = None, file_errors: Mapping[str, str] | None = None
) -> str:
    context = app_context()
    return render_template(
        "new.html",
        form=form,
        errors=errors or {},
        file_errors=file_errors or {},
        gateway_url=context.store.leadership.gateway().url or context.settings.gateway.url,
        tiers=TIERS,
    )


# ------------------------------------------------------------------ files


@submit_pages.post("/uploads")
def upload() -> AnyResponse | tuple[str, int]:
    """Store a task file and show its plan."""
    file, template = request.files.get("file"), request.form.get("template", "")
    if file is None or not file.filename:
        return _page(request.form, file_errors={"file": "Choose a file first."}), 422
    try:
        kept = Uploads(app_context()).keep(cast(BinaryIO, file.stream), file.filename, template)
    except InputError as error:
        where = "" if error.line is None else f"line {error.line}: "
        found = _beside(error.field or "file", f"{where}{error.what}", _FILE_FIELDS)
        return _page(request.form, file_errors=found), 422
    return redirect(url_for("submit.uploaded", upload_id=kept.upload_id), 303)


upload.body_bytes = MAX_UPLOAD_BYTES  # type: ignore[attr-defined]


@submit_pages.get("/uploads/<upload_id>")
def uploaded(upload_id: str) -> str:
    """The plan of an uploaded file."""
    return render_template(
        "upload.html", upload=Uploads(app_context()).find(upload_id), now=app_context().now()
    )


@submit_pages.post("/uploads/<upload_id>")
def start_upload(upload_id: str) -> AnyResponse:
    """Queue the rows of an uploaded file."""
    if request.form.get("action") == "drop":
        Uploads(app_context()).drop(upload_id)
        flash("The file was discarded; none of its tasks was submitted.")
        return redirect(url_for("submit.new"), 303)
    if request.form.get("action") == "template":
        Uploads(app_context()).use_template(upload_id, request.form.get("template", ""))
        return redirect(url_for("submit.uploaded", upload_id=upload_id), 303)
    batch = request.form.get("batch", "").strip() or Uploads(app_context()).find(upload_id).batch
    report = Uploads(app_context()).start(upload_id, batch, caller_name())
    if report.changed_count:
        message = f"{report.changed_count} ids exist in {batch} with another content; choose another name."
        raise Problem(409, "id_exists", message, {"ids": list(report.changed)})
    known = f", {report.existing} were in it already" if report.existing else ""
    flash(f"{report.added} tasks are queued{known}.")
    return redirect(batch_url(batch), 303)
