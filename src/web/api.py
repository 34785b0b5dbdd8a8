"""The JSON API. Errors have one shape, money is in USD, times are UTC epoch seconds.

GET  /api/providers/status                      POST /api/providers/NAME/pause | resume | reset
POST /api/providers/rebalance                   POST /api/providers/rebalance/undo | redo
GET  /api/providers/rebalance                   weights, presets, history
POST /api/tasks                                 one task, or {"tasks": [...], "batch", "wait_s"}
GET  /api/tasks?status=&type=&...&before=       GET  /api/tasks/ID of the queue, /BATCH/ID; /api/rows/ROW
POST /api/tasks/ID/cancel | retry               also /api/tasks/BATCH/ID/..., /api/rows/ROW/...
GET  /api/batches                               POST /api/batches/cancel | retry | purge {"batch"}
GET  /api/provider-batches?provider=&state=open   POST /api/provider-batches/NUMBER/cancel
GET  /api/usage?since=&until=&by=provider,hour  GET  /api/events?kind=&level=&...&before=
GET  /api/openapi.json                          this API for programs
GET  /healthz, /readyz, /leader                   without a token
"""

from __future__ import annotations

from typing import Any, cast

from flask import Blueprint, Response, current_app, request
from werkzeug.http import quote_etag

from ..core.store import TaskDetail
from ..errors import StoreError
from ..records import OPEN_STATUSES, Task
from . import provider_actions, task_actions, visibility
from .bodies import (
    BatchBody,
    EventsQuery,
    ProviderBatchQuery,
    PurgeBody,
    RebalanceBody,
    SubmitManyBody,
    TaskFilter,
    UsageQuery,
    body_of,
    json_body,
    query_of,
)
from .context import MAX_WAITING, app_context, caller_name, visible_submitter
from .openapi import document
from .presenters import as_json
from .presenters.dashboard import dashboard_view
from .presenters.events import event_list
from .presenters.pool import leads, pool_view
from .presenters.provider_batches import provider_batch_list, view_of
from .presenters.restricted import visible_dashboard_view, visible_pool_view
from .presenters.search import require_search
from .presenters.tasks import batch_view, task_detail_json, task_json, task_list
from .presenters.usage import DAY_S, usage_rows
from .presenters.weights import rebalance_view
from .problems import Problem

health = Blueprint("health", __name__)
api = Blueprint("api", __name__, url_prefix="/api")
TASKS_BODY_BYTES = 64 * 1024 * 1024
MAX_MINUTES = 7 * 1440
NOT_WAITED = (
    f"wait_s had no effect: {MAX_WAITING} requests are waiting already, which is the limit; "
    "fetch the task later"
)


def _json(data: Any, status: int = 200) -> Response:
    return Response(current_app.json.dumps(data), status, mimetype="application/json")


@health.get("/healthz")
def healthz() -> Response:
    """Whether this process is alive."""
    return _json({"status": "ok", "version": app_context().version, "simulated": app_context().simulated})


@health.get("/readyz")
def readyz() -> Response:
    """Whether the store can be reached, and whether an orchestrator is running."""
    try:
        running = pool_view(app_context()).orchestrator.running
    except StoreError:
        return _json({"status": "store unavailable", "simulated": app_context().simulated}, 503)
    return _json({"status": "ok", "orchestrator_running": running, "simulated": app_context().simulated})


@health.get("/leader")
def leader() -> Response:
    """Whether the orchestrator that started these pages leads: 200 at one server, 503 at the others."""
    is_leading = leads(app_context())
    return _json({"leads": is_leading, "simulated": app_context().simulated}, 200 if is_leading else 503)


@api.get("/openapi.json")
def openapi() -> Response:
    """This API as an OpenAPI document."""
    return _json(document(current_app, app_context().version))


# ------------------------------------------------------------------ providers


def _view(name: str, view: Any) -> Response:
    """A view that programs poll: serialised once, with an ETag for conditional requests."""
    text, tag = app_context().cache.made_of(view, f"json {name}", lambda: _written(view))
    response = Response(text, mimetype="application/json")
    response.headers["ETag"] = tag
    return cast(Response, response.make_conditional(request))


def _written(view: Any) -> tuple[str, str]:
    text = current_app.json.dumps(as_json(view))
    return text, quote_etag(f"{hash(text) & 0xFFFFFFFFFFFFFFFF:x}")


@api.get("/providers/status")
def providers_status() -> Response:
    """The state of every provider, as the orchestrator last reported it."""
    if visible_submitter():
        return _json(as_json(visible_pool_view(app_context())))
    return _view("pool", pool_view(app_context()))


@api.get("/dashboard")
def dashboard() -> Response:
    """The figures of the dashboard."""
    if visible_submitter():
        return _json(as_json(visible_dashboard_view(app_context())))
    return _view("dashboard", dashboard_view(app_context()))


@api.get("/providers/rebalance")
def weights() -> Response:
    """The weights in force, the configured ones and the candidates."""
    return _json(as_json(rebalance_view(app_context())))


@api.post("/providers/rebalance")
def rebalance() -> Response:
    """Set the weights; they take effect within a second."""
    body = body_of(RebalanceBody)
    wanted = provider_actions.wanted_weights(app_context(), body)
    version = None if body.dry_run else provider_actions.apply_weights(app_context(), wanted, caller_name())
    view = rebalance_view(app_context(), wanted)
    return _json(
        {
            "applied": not body.dry_run,
            "dry_run": body.dry_run,
            "version": version,
            "weights": {row.provider: row.weight for row in view.preview},
            "shares": {row.provider: row.share for row in view.preview},
            "providers": as_json(view.preview),
            "simulated": app_context().simulated,
        }
    )


@api.post("/providers/rebalance/undo")
def undo() -> Response:
    """Take back the last change of weights."""
    return _stepped(provider_actions.undo_weights(app_context(), caller_name()))


@api.post("/providers/rebalance/redo")
def redo() -> Response:
    """Repeat the change of weights that was taken back last."""
    return _stepped(provider_actions.redo_weights(app_context(), caller_name()))


def _stepped(version: int) -> Response:
    view = rebalance_view(app_context())
    weights = {row.provider: row.weight for row in view.current}
    return _json({"version": version, "weights": weights, "simulated": app_context().simulated})


@api.post("/providers/<name>/<any(pause, resume, reset):verb>")
def steer(name: str, verb: str) -> Response:
    """Pause or resume a provider, or reset its breaker."""
    provider_actions.steer(app_context(), name, verb, caller_name())
    return _json({"provider": name, "requested": verb, "simulated": app_context().simulated}, 202)


# ------------------------------------------------------------------ tasks


@api.post("/tasks")
def submit() -> Response:
    """Submit one task (its keys, `batch`, `wait_s`) or several. 200 if all have ended, else 202."""
    body = json_body()
    many = isinstance(body, dict) and "tasks" in body
    wanted = SubmitManyBody.model_validate(body if many else _one(body))
    tasks, report = task_actions.submit(app_context(), wanted.tasks, wanted.batch, caller_name())
    statuses, waited = task_actions.wait_for(
        app_context(), wanted.batch, [task.id for task in tasks], wanted.wait_s
    )
    ended = [task for task in tasks if statuses[task.id] not in OPEN_STATUSES]
    answer: dict[str, Any] = {
        "batch": wanted.batch,
        "added": report.added,
        "existing": report.existing,
        "warnings": task_actions.warnings_of(app_context(), tasks),
        "simulated": app_context().simulated,
    }
    if wanted.wait_s:
        answer["waited"] = waited
    if not waited:
        answer["warnings"].append(NOT_WAITED)
    if many:
        answer["tasks"] = [{"id": task.id, "status": str(statuses[task.id])} for task in tasks]
    else:
        answer["task"] = _detail_of(wanted.batch, tasks[0])
    return _json(answer, 200 if len(ended) == len(tasks) else 202)


submit.body_bytes = TASKS_BODY_BYTES  # type: ignore[attr-defined]


def _one(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise Problem(422, "invalid", "send an object: a task, or {'tasks': [...]}", {"field": ""})
    task = {key: value for key, value in body.items() if key not in ("batch", "wait_s")}
    return {"tasks": [task], **{key: body[key] for key in ("batch", "wait_s") if key in body}}


def _detail_of(batch: str, task: Task) -> dict[str, Any]:
    return task_detail_json(app_context(), visibility.find_task_by_id(app_context(), batch, task.id))


@api.get("/tasks")
def tasks() -> Response:
    """A page of tasks that match the filters of the query."""
    wanted = query_of(TaskFilter)
    page = task_list(app_context(), wanted, wanted.limit)
    behind = require_search(app_context()).behind if wanted.q else None
    answer = {
        "tasks": [task_json(app_context(), row, state) for row, state in page.rows],
        "next_before": page.next_before,
        "next_after": page.next_after,
        "total": page.total,
        "exact": page.exact,
        "search_behind": behind,
        "simulated": app_context().simulated,
    }
    return _json(answer)


@api.get("/rows/<row>")
def task(row: str) -> Response:
    """One task by its row number, with its attempts."""
    return _json(task_detail_json(app_context(), visibility.find_task(app_context(), row)))


@api.get("/tasks/<task_id>")
def task_named(task_id: str) -> Response:
    """One task by its id, in the batch of the query."""
    return _json(task_detail_json(app_context(), visibility.find_queued_task(app_context(), task_id)))


@api.get("/tasks/<batch>/<task_id>")
def task_by_id(batch: str, task_id: str) -> Response:
    """One task by batch and id."""
    return _json(task_detail_json(app_context(), visibility.find_task_by_id(app_context(), batch, task_id)))


@api.post("/rows/<row>/<any(cancel, retry):verb>")
def task_verb(row: str, verb: str) -> Response:
    """Cancel a task or run it again, by its row number."""
    return _do(visibility.find_task(app_context(), row), verb)


@api.post("/tasks/<task_id>/<any(cancel, retry):verb>")
def task_verb_named(task_id: str, verb: str) -> Response:
    """Cancel a task or run it again, by its id."""
    return _do(visibility.find_queued_task(app_context(), task_id), verb)


@api.post("/tasks/<batch>/<task_id>/<any(cancel, retry):verb>")
def task_verb_by_id(batch: str, task_id: str, verb: str) -> Response:
    """Cancel a task or run it again, by batch and id."""
    return _do(visibility.find_task_by_id(app_context(), batch, task_id), verb)


def _do(detail: TaskDetail, verb: str) -> Response:
    if verb == "cancel":
        outcome = task_actions.cancel_task(app_context(), detail, caller_name())
    else:
        task_actions.retry_task(app_context(), detail, caller_name())
        outcome = "queued"
    row = detail.row
    return _json(
        {
            "batch": row.batch,
            "id": row.id,
            "row": row.row,
            "outcome": outcome,
            "simulated": app_context().simulated,
        },
        202,
    )


# ------------------------------------------------------------------ batches


@api.get("/batches")
def batches() -> Response:
    """Every batch with its counts."""
    found = [as_json(batch_view(row)) for row in visibility.visible_batches(app_context())]
    return _json({"batches": found, "simulated": app_context().simulated})


@api.post("/batches/cancel")
def cancel_batch() -> Response:
    """Cancel the tasks of a batch that have not started."""
    batch = body_of(BatchBody).batch
    done = task_actions.cancel_batch(app_context(), batch, caller_name())
    return _json({"batch": batch, **done, "simulated": app_context().simulated}, 202)


@api.post("/batches/retry")
def retry_batch() -> Response:
    """Run the ended tasks of a batch again, by their statuses."""
    batch = body_of(BatchBody).batch
    queued = task_actions.retry_batch(app_context(), batch, caller_name())
    return _json({"batch": batch, "queued": queued, "simulated": app_context().simulated}, 202)


@api.post("/batches/purge")
def purge_batch() -> Response:
    """Delete prompts and answers of ended tasks of a batch; ids, costs and results files stay."""
    body = body_of(PurgeBody)
    age_s, name = body.older_than_days * DAY_S, visibility.find_batch(app_context(), body.batch).name
    if body.dry_run:
        purged, left = 0, task_actions.purgeable(app_context(), name, age_s)
    else:
        purged, left = task_actions.purge_batch(app_context(), name, caller_name(), age_s)
    simulated = app_context().simulated
    return _json({"batch": name, "purged": purged, "left": left, "simulated": simulated})


@api.get("/provider-batches")
def provider_batches() -> Response:
    """The batches at providers, newest first."""
    page = provider_batch_list(app_context(), query_of(ProviderBatchQuery))
    answer = {"provider_batches": as_json(page.rows), "next_before": page.next_before}
    return _json({**answer, "simulated": app_context().simulated})


@api.post("/provider-batches/<number>/cancel")
def cancel_provider_batch(number: str) -> Response:
    """Ask the orchestrator to cancel a batch at its provider; rows that are not done go live."""
    batch = provider_actions.cancel_batch(app_context(), number, caller_name())
    answer = {"provider_batch": as_json(view_of(app_context(), batch))}
    return _json({**answer, "simulated": app_context().simulated}, 202)


# ------------------------------------------------------------------ usage and events


@api.get("/usage")
def usage() -> Response:
    """Tokens, calls and cost by day, provider, model, task type and submitter."""
    wanted = query_of(UsageQuery)
    now = app_context().now()
    until = now + 60 if wanted.until is None else wanted.until
    since = until - DAY_S if wanted.since is None else wanted.since
    if "minute" in wanted.by and (until - since) / 60 > MAX_MINUTES:
        raise Problem(422, "invalid", "grouped by minute: at most seven days at once", {"field": "since"})
    rows = as_json(usage_rows(app_context(), since, until, wanted.by))
    return _json({"since": since, "until": until, "rows": rows, "simulated": app_context().simulated})


@api.get("/events")
def events() -> Response:
    """Events, newest first; with `after`, those that follow it, oldest first."""
    page = event_list(app_context(), query_of(EventsQuery))
    answer = {"events": as_json(page.rows), "next_before": page.next_before}
    return _json({**answer, "simulated": app_context().simulated})
