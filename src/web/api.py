"""JSON for programs. Errors have one shape, money is in USD, times are UTC epoch seconds.

GET  /api/providers/status                      POST /api/providers/NAME/pause | resume | reset
POST /api/providers/rebalance                   POST /api/providers/rebalance/undo | redo
GET  /api/providers/rebalance                   weights, presets, history
POST /api/tasks                                 one task, or {"tasks": [...], "batch", "wait_s"}
GET  /api/tasks?status=&type=&...&before=       GET  /api/tasks/ID of the queue, /BATCH/ID; /api/rows/ROW
POST /api/tasks/ID/cancel | retry               also /api/tasks/BATCH/ID/..., /api/rows/ROW/...
GET  /api/batches                               POST /api/batches/cancel | retry {"batch"}
GET  /api/usage?since=&until=&by=provider,hour  GET  /api/events?after=&limit=&kind=
GET  /healthz, /readyz, /leader                   without a token
"""

from __future__ import annotations

from typing import Any, cast

from flask import Blueprint, Response, current_app, request
from werkzeug.http import quote_etag

from ..core.intake import QUEUE
from ..core.store import TaskDetail
from ..errors import StoreError
from ..records import Task
from . import actions
from .bodies import (
    BatchBody,
    EventsQuery,
    RebalanceBody,
    SubmitManyBody,
    TaskFilter,
    UsageQuery,
    body_of,
    json_body,
    query_of,
)
from .presenters import as_json
from .presenters.dashboard import dashboard_view, event_views
from .presenters.own import own_dashboard_view, own_pool_view
from .presenters.pool import pool_view
from .presenters.tasks import OPEN, batch_view, task_detail_json, task_json
from .presenters.usage import DAY_S, usage_rows
from .presenters.weights import rebalance_view
from .problems import Problem
from .quick import BASIS
from .site import own_only, site, who

health = Blueprint("health", __name__)
api = Blueprint("api", __name__, url_prefix="/api")
TASKS_BODY_BYTES = 64 * 1024 * 1024
MOST_MINUTES = 7 * 1440
NOT_WAITED = (
    f"wait_s had no effect: {actions.MOST_WAITING} requests are waiting already, which is the limit; "
    "ask for the task again later"
)


def _json(data: Any, status: int = 200) -> Response:
    return Response(current_app.json.dumps(data), status, mimetype="application/json")


@health.get("/healthz")
def healthz() -> Response:
    """This process answers."""
    return _json({"status": "ok", "version": site().version, "simulated": site().simulated})


@health.get("/readyz")
def readyz() -> Response:
    """The store answers, too; and whether anybody works on it."""
    try:
        running = pool_view(site()).orchestrator.running
    except StoreError:
        return _json({"status": "store unavailable", "simulated": site().simulated}, 503)
    return _json({"status": "ok", "orchestrator_running": running, "simulated": site().simulated})


@health.get("/leader")
def leader() -> Response:
    """Whether the orchestrator that started these pages leads: for a load balancer, true at one place."""
    here = site()
    leader = here.recent.get("leader", here.store.leader)
    leads = leader.alive and bool(here.beside) and leader.holder == here.beside
    return _json({"leads": leads, "simulated": here.simulated}, 200 if leads else 503)


# ------------------------------------------------------------------ providers


def _view(name: str, view: Any) -> Response:
    """The JSON of what many programs ask for often: written once per view, and quickly answered again."""
    text, tag = site().recent.made_of(view, f"json {name}", lambda: _written(view))
    response = Response(text, mimetype="application/json")
    response.headers["ETag"] = tag
    request.environ[BASIS] = (name, view)
    return cast(Response, response.make_conditional(request))


def _written(view: Any) -> tuple[str, str]:
    text = current_app.json.dumps(as_json(view))
    return text, quote_etag(f"{hash(text) & 0xFFFFFFFFFFFFFFFF:x}")


@api.get("/providers/status")
def providers_status() -> Response:
    if own_only():
        return _json(as_json(own_pool_view(site())))
    return _view("pool", pool_view(site()))


@api.get("/dashboard")
def dashboard() -> Response:
    if own_only():
        return _json(as_json(own_dashboard_view(site())))
    return _view("dashboard", dashboard_view(site()))


@api.get("/providers/rebalance")
def weights() -> Response:
    return _json(as_json(rebalance_view(site())))


@api.post("/providers/rebalance")
def rebalance() -> Response:
    body = body_of(RebalanceBody)
    wanted = actions.wanted_weights(site(), body)
    version = None if body.dry_run else actions.apply_weights(site(), wanted, who())
    view = rebalance_view(site(), wanted)
    return _json(
        {
            "applied": not body.dry_run,
            "dry_run": body.dry_run,
            "version": version,
            "weights": {row.provider: row.weight for row in view.preview},
            "shares": {row.provider: row.share for row in view.preview},
            "providers": as_json(view.preview),
            "simulated": site().simulated,
        }
    )


@api.post("/providers/rebalance/undo")
def undo() -> Response:
    return _stepped(actions.undo_weights(site(), who()))


@api.post("/providers/rebalance/redo")
def redo() -> Response:
    return _stepped(actions.redo_weights(site(), who()))


def _stepped(version: int) -> Response:
    view = rebalance_view(site())
    weights = {row.provider: row.weight for row in view.current}
    return _json({"version": version, "weights": weights, "simulated": site().simulated})


@api.post("/providers/<name>/<any(pause, resume, reset):verb>")
def steer(name: str, verb: str) -> Response:
    actions.steer(site(), name, verb, who())
    return _json({"provider": name, "asked": verb, "simulated": site().simulated}, 202)


# ------------------------------------------------------------------ tasks


@api.post("/tasks")
def submit() -> Response:
    """One task (its keys, and `batch`, `wait_s`) or many. 200 when all have ended, else 202."""
    body = json_body()
    many = isinstance(body, dict) and "tasks" in body
    wanted = SubmitManyBody.model_validate(body if many else _one(body))
    tasks, report = actions.submit(site(), wanted.tasks, wanted.batch, who())
    statuses, waited = actions.wait_for(site(), wanted.batch, [task.id for task in tasks], wanted.wait_s)
    ended = [task for task in tasks if statuses[task.id] not in OPEN]
    answer: dict[str, Any] = {
        "batch": wanted.batch,
        "added": report.added,
        "existing": report.existing,
        "warnings": actions.warnings_of(site(), tasks),
        "simulated": site().simulated,
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
    return task_detail_json(site(), actions.find_task_by_id(site(), batch, task.id))


@api.get("/tasks")
def tasks() -> Response:
    wanted = query_of(TaskFilter)
    page = site().store.tasks(
        wanted.limit,
        before=wanted.before,
        statuses=[wanted.status] if wanted.status else [],
        task_type=wanted.type,
        provider=wanted.provider,
        batch=wanted.batch,
        submitter=wanted.submitter,
        id_prefix=wanted.id,
        owner=own_only(),
        shared=(QUEUE,),
    )
    rows = [task_json(site(), row) for row in page.rows]
    return _json({"tasks": rows, "next_before": page.next_before, "simulated": site().simulated})


@api.get("/rows/<row>")
def task(row: str) -> Response:
    return _json(task_detail_json(site(), actions.find_task(site(), row)))


@api.get("/tasks/<task_id>")
def task_named(task_id: str) -> Response:
    return _json(task_detail_json(site(), actions.find_task_named(site(), task_id)))


@api.get("/tasks/<batch>/<task_id>")
def task_by_id(batch: str, task_id: str) -> Response:
    return _json(task_detail_json(site(), actions.find_task_by_id(site(), batch, task_id)))


@api.post("/rows/<row>/<any(cancel, retry):verb>")
def task_verb(row: str, verb: str) -> Response:
    return _do(actions.find_task(site(), row), verb)


@api.post("/tasks/<task_id>/<any(cancel, retry):verb>")
def task_verb_named(task_id: str, verb: str) -> Response:
    return _do(actions.find_task_named(site(), task_id), verb)


@api.post("/tasks/<batch>/<task_id>/<any(cancel, retry):verb>")
def task_verb_by_id(batch: str, task_id: str, verb: str) -> Response:
    return _do(actions.find_task_by_id(site(), batch, task_id), verb)


def _do(detail: TaskDetail, verb: str) -> Response:
    if verb == "cancel":
        outcome = actions.cancel_task(site(), detail, who())
    else:
        actions.retry_task(site(), detail, who())
        outcome = "queued"
    row = detail.row
    return _json(
        {"batch": row.batch, "id": row.id, "row": row.row, "outcome": outcome, "simulated": site().simulated},
        202,
    )


# ------------------------------------------------------------------ batches


@api.get("/batches")
def batches() -> Response:
    found = [as_json(batch_view(row)) for row in actions.batches(site())]
    return _json({"batches": found, "simulated": site().simulated})


@api.post("/batches/cancel")
def cancel_batch() -> Response:
    batch = body_of(BatchBody).batch
    done = actions.cancel_batch(site(), batch, who())
    return _json({"batch": batch, **done, "simulated": site().simulated}, 202)


@api.post("/batches/retry")
def retry_batch() -> Response:
    batch = body_of(BatchBody).batch
    queued = actions.retry_batch(site(), batch, who())
    return _json({"batch": batch, "queued": queued, "simulated": site().simulated}, 202)


# ------------------------------------------------------------------ usage and events


@api.get("/usage")
def usage() -> Response:
    wanted = query_of(UsageQuery)
    now = site().now()
    until = now + 60 if wanted.until is None else wanted.until
    since = until - DAY_S if wanted.since is None else wanted.since
    if "minute" in wanted.by and (until - since) / 60 > MOST_MINUTES:
        raise Problem(422, "invalid", "by minute: at most seven days at once", {"field": "since"})
    rows = as_json(usage_rows(site(), since, until, wanted.by))
    return _json({"since": since, "until": until, "rows": rows, "simulated": site().simulated})


@api.get("/events")
def events() -> Response:
    wanted = query_of(EventsQuery)
    kinds = [wanted.kind] if wanted.kind else []
    rows = event_views(site().store.events(wanted.limit, after_id=wanted.after, kinds=kinds))
    return _json({"events": as_json(rows), "simulated": site().simulated})
