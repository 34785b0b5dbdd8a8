"""The batches: their list, the page of one, and its buttons."""

from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.routing import BaseConverter
from werkzeug.wrappers import Response as AnyResponse

from ..core.intake import QUEUE
from ..core.store import FailureReason
from ..formatting import plural
from ..records import TaskStatus
from . import task_actions, visibility
from .bodies import BatchQuery, query_or_default
from .context import app_context, caller_name, visible_submitter
from .presenters.batches import batch_detail, with_progress
from .presenters.restricted import visible_pool_view
from .presenters.tasks import batch_view
from .problems import Problem
from .template_filters import batch_url

batch_pages = Blueprint("batches", __name__)
PAGE_SIZE = 50


class EveryText(BaseConverter):
    """The rest of a path, slashes and all."""

    regex = ".+"
    part_isolating = False


@batch_pages.get("/batches")
def index() -> str:
    """The batches, newest first."""
    here = app_context()
    wanted, problem = query_or_default(BatchQuery)
    page = visibility.visible_batch_page(here, PAGE_SIZE, name=wanted.name, before=wanted.before)
    return render_template(
        "batches.html",
        batches=with_progress(here, page.rows),
        next_before=page.next_before,
        wanted=wanted,
        problem=problem,
        now=here.now(),
        refresh_s=visible_pool_view(here).refresh_s,
    )


@batch_pages.get("/batches/<every_text:name>", merge_slashes=False)
def batch(name: str) -> AnyResponse | str:
    """One batch."""
    return _batch_page(name)


@batch_pages.get("/batch")
def batch_by_query() -> AnyResponse | str:
    """One batch whose name no path can hold: browsers and proxies resolve `..` and `//` in paths."""
    return _batch_page(request.args.get("name", ""))


def _batch_page(name: str) -> AnyResponse | str:
    here = app_context()
    row = visibility.find_batch(here, name)
    if name == QUEUE and visible_submitter():  # its numbers are those of everybody
        return redirect(url_for("pages.tasks", batch=QUEUE), 303)
    refresh_s = visible_pool_view(here).refresh_s
    return render_template("batch.html", view=batch_detail(here, row), now=here.now(), refresh_s=refresh_s)


@batch_pages.post("/batches/<any(cancel, retry):verb>")
def change(verb: str) -> AnyResponse | str:
    """Cancel a batch or run its ended tasks again, all or those that ended for one reason."""
    name = request.form.get("batch", "")
    if verb == "cancel" and not request.form.get("confirmed"):
        return _confirm_cancel(name)
    if verb == "cancel":
        done = task_actions.cancel_batch(app_context(), name, caller_name())
        flash(f"{done['cancelled']} cancelled, cancellation of {done['requested']} more requested.")
    else:
        count = task_actions.retry_batch(app_context(), name, caller_name(), _reason())
        flash(f"{plural(count, 'task')} {'is' if count == 1 else 'are'} queued again.")
    return redirect(batch_url(name), 303)


def _reason() -> FailureReason | None:
    """The reason that the form names, if it names one."""
    status = request.form.get("status", "")
    if not status:
        return None
    if status not in (TaskStatus.FAILED, TaskStatus.REFUSED, TaskStatus.EXPIRED, TaskStatus.CANCELLED):
        raise Problem(422, "invalid", "status: no status of a task that can run again", {"field": "status"})
    error_kind = request.form.get("error_kind", "")
    if error_kind and not error_kind.isidentifier():  # it goes into the log of events
        raise Problem(422, "invalid", "error_kind: no class of errors", {"field": "error_kind"})
    return FailureReason(TaskStatus(status), error_kind, 0)


def _confirm_cancel(batch: str) -> str:
    """The page that asks before a batch is cancelled, with the number of tasks."""
    return render_template("confirm.html", batch=batch_view(visibility.find_batch(app_context(), batch)))


@batch_pages.post("/batches/purge")
def purge() -> AnyResponse | str:
    """Delete prompts and answers of the ended tasks of a batch, after a page that asks."""
    name = visibility.find_batch(app_context(), request.form.get("batch", "")).name
    if not request.form.get("confirmed"):
        count = task_actions.purgeable(app_context(), name)
        return render_template("confirm_purge.html", batch=name, count=count)
    purged, left = task_actions.purge_batch(app_context(), name, caller_name())
    more = f" {plural(left, 'more task')} can be purged: press the button again." if left else ""
    flash(f"Purged prompts and answers of {plural(purged, 'task')}.{more}")
    return redirect(batch_url(name), 303)
