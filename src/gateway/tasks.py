"""`/v1/tasks/ID`: what became of a request, by the id in its `x-orchestrator-task-id`."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from ..core.results import attempt_row, usd
from ..core.store import TaskDetail, TaskSelection
from ..records import REQUEST_BATCHES
from ..tokens import SUBMIT
from .answers import CALLER, json_response
from .context import CONTEXT
from .formats.base import FormatError
from .formats.problems import ProblemKind

COMMITTED_WITHIN_S = (0.0, 0.1, 0.3)  # an answer is delivered before its commit


async def task(request: web.Request) -> web.Response:
    """Status, provider, model, cost and attempts of one request; never its prompt or answer."""
    context, caller = request.app[CONTEXT], request[CALLER]
    task_id = request.match_info["task_id"]
    owner = caller.name if caller.role == SUBMIT else ""

    def find() -> TaskDetail | None:
        page = context.store.tasks.page(1, TaskSelection(id_prefix=task_id, submitter=owner))
        row = page.rows[0] if page.rows else None
        if row is None or row.id != task_id or not row.batch.startswith(REQUEST_BATCHES):
            return None
        return context.store.tasks.at_row(row.row)

    submitter = context.open_requests.get(task_id)
    if submitter is not None and owner in ("", submitter):
        return json_response({"id": task_id, "status": "open"})
    for wait_s in COMMITTED_WITHIN_S:
        await asyncio.sleep(wait_s)
        if (found := await asyncio.to_thread(find)) is not None:
            return json_response(_shown(found) | {"simulated": context.simulated})
    raise FormatError("no request with this id is known", kind=ProblemKind.NOT_FOUND)


def _shown(found: TaskDetail) -> dict[str, Any]:
    row = found.row
    return {
        "id": row.id,
        "status": row.status,
        "batch": row.batch,
        "provider": row.provider,
        "model": row.model,
        "cost_usd": usd(row.cost_nanos),
        "error": row.error,
        "attempts": [attempt_row(attempt) for attempt in found.attempts],
    }
