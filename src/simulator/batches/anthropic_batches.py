"""Anthropic: /v1/messages/batches, its batches, their results, cancellation and deletion.

What a request's `params` hold is checked when the request is processed, not when the batch is created.
Sources: the API reference and the guide "Batch processing" of the Claude documentation.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from ..net import whole
from ..shapes import Answer, Fail, Json, refused
from .files import read_at_most
from .pages import Page
from .store import Batch, BatchStore, Row
from .timeline import FINAL, Phase

_WINDOW_S = 86_400.0
_KEPT_S = 29 * 86_400  # how long results can be read
_MAX_BYTES = 256 * 1024 * 1024
_MAX_ROWS = 100_000
_MOST_LISTED = 1_000
_KEY = re.compile(r"^[a-zA-Z0-9_-]{1,64}$", re.ASCII)
_PREFIX = "msgbatch_"
_PATH = "/v1/messages/batches"

_ACTIONS = {
    ("POST", "", ""): "create",
    ("GET", "", ""): "list",
    ("GET", "id", ""): "retrieve",
    ("GET", "id", "results"): "results",
    ("POST", "id", "cancel"): "cancel",
    ("DELETE", "id", ""): "delete",
}


def _at(seconds: float | None) -> str | None:
    """A moment as the API shows it: UTC with microseconds."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class AnthropicBatches:
    """The pages of batches."""

    def __init__(self, store: BatchStore) -> None:
        self._store = store

    def route(self, request: web.BaseRequest) -> Page | None:
        """The page that a request is for."""
        path = request.path
        if path != _PATH and not path.startswith(_PATH + "/"):
            return None
        ident, _, last = path[len(_PATH) + 1 :].partition("/")
        action = _ACTIONS.get((request.method, "id" if ident else "", last))
        return None if action is None else Page(action, action, ident)

    async def handle(self, request: web.BaseRequest, name: str, ident: str) -> web.Response:
        """Answer a request. Raises Fail."""
        match name:
            case "create":
                body = await self._shown(await self._create(request), request)
            case "list":
                body = await self._listed(request)
            case "retrieve":
                body = await self._shown(self._find(ident), request)
            case "cancel":
                body = await self._cancel(self._find(ident), request)
            case "delete":
                body = await self._delete(self._find(ident))
            case _:
                return await self._results(self._find(ident))
        return whole(Answer(200, json.dumps(body).encode()), {})

    def _find(self, ident: str) -> Batch:
        found = self._store.get(ident.removeprefix(_PREFIX))
        if found is None:
            raise Fail("no_such", message=f"Message Batch {ident} not found.")
        return found

    # -- creation --

    async def _create(self, request: web.BaseRequest) -> Batch:
        settings = self._store.engine.config.batches
        raw = await read_at_most(request.content.iter_any(), settings.max_bytes or _MAX_BYTES)
        if raw is None:
            raise Fail("too_large")
        rows = _read_rows(raw, settings.max_rows or _MAX_ROWS)
        if settings.max_queued_rows is not None:
            queued = sum(len(batch.rows) for batch in self._store.active())
            if queued + len(rows) > settings.max_queued_rows:
                text = (
                    "This request would exceed your organization's limit of batch requests in the processing "
                    f"queue ({settings.max_queued_rows:,})."
                )
                raise Fail("queue_full", message=text)
        return self._store.create(rows, {}, _WINDOW_S, [])

    async def _cancel(self, batch: Batch, request: web.BaseRequest) -> Json:
        phase = await self._store.settle(batch)
        if phase in FINAL:
            raise refused("Cannot cancel a Message Batch that has ended.")
        if phase is not Phase.CANCELLING:
            self._store.cancel(batch)
        return await self._shown(batch, request)

    async def _delete(self, batch: Batch) -> Json:
        if await self._store.settle(batch) not in FINAL:
            raise refused("Cannot delete a Message Batch while it is being processed. Cancel it first.")
        self._store.delete(batch)
        return {"id": _PREFIX + batch.ident, "type": "message_batch_deleted"}

    # -- showing --

    async def _listed(self, request: web.BaseRequest) -> Json:
        """A page of batches, the newest first. `before_id` gives those next to it on its newer side."""
        limit = _limit(request.query.get("limit"))
        listed = self._store.listed()
        ids = [_PREFIX + batch.ident for batch in listed]
        start, end = 0, len(ids)
        if after := request.query.get("after_id"):
            start = ids.index(after) + 1 if after in ids else end
        before = request.query.get("before_id")
        if before:
            end = ids.index(before) if before in ids else 0
            start = max(0, end - limit)
        found = listed[start:end][:limit]
        return {
            "data": [await self._shown(batch, request) for batch in found],
            "has_more": start > 0 if before else end - start > limit,
            "first_id": _PREFIX + found[0].ident if found else None,
            "last_id": _PREFIX + found[-1].ident if found else None,
        }

    async def _shown(self, batch: Batch, request: web.BaseRequest) -> Json:
        phase = await self._store.settle(batch)
        line, ident, is_over = batch.timeline, _PREFIX + batch.ident, phase in FINAL
        archived_at = line.created_at + _KEPT_S
        is_archived = is_over and self._store.clock.now() >= archived_at
        has_results = is_over and not is_archived
        return {
            "id": ident,
            "type": "message_batch",
            "processing_status": "ended" if is_over else _STATUS.get(phase, "in_progress"),
            "request_counts": _counts(batch, phase),
            "ended_at": _at(line.over_at) if is_over else None,
            "created_at": _at(line.created_at),
            "expires_at": _at(line.expires_at),
            "archived_at": _at(archived_at) if is_archived else None,
            "cancel_initiated_at": _at(line.cancelling_at),
            "results_url": f"http://{request.host}{_PATH}/{ident}/results" if has_results else None,
        }

    async def _results(self, batch: Batch) -> web.Response:
        """JSON Lines, in the order in which the rows were answered."""
        phase = await self._store.settle(batch)
        if phase not in FINAL or self._store.clock.now() >= batch.timeline.created_at + _KEPT_S:
            raise Fail("no_such", message=f"Message Batch {_PREFIX}{batch.ident} has no available results.")
        lines = []
        for row, answer in batch.answered():
            kind, name = (b"succeeded", b"message") if answer.status == 200 else (b"errored", b"error")
            head = b'{"custom_id":"%b","result":{"type":"%b","%b":' % (row.key.encode(), kind, name)
            lines.append(head + answer.body + b"}}\n")
        rest = "expired" if phase is Phase.EXPIRED else "canceled"
        form = '{{"custom_id":"{key}","result":{{"type":"{rest}"}}}}\n'
        lines.extend(form.format(key=row.key, rest=rest).encode() for row in batch.unanswered())
        return whole(Answer(200, b"".join(lines), {"Content-Type": "application/x-jsonl"}), {})


_STATUS = {Phase.CANCELLING: "canceling"}


def _counts(batch: Batch, phase: Phase) -> Json:
    """All are processing until the batch has ended."""
    counts = {"processing": 0, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    if phase not in FINAL:
        return {**counts, "processing": len(batch.rows)}
    rest = "expired" if phase is Phase.EXPIRED else "canceled"
    counts["succeeded"], counts["errored"] = batch.succeeded, batch.failed
    counts[rest] = len(batch.rows) - batch.done
    return counts


def _limit(given: str | None) -> int:
    if given is None:
        return 20
    if not given.isdecimal() or not 1 <= int(given) <= _MOST_LISTED:
        raise refused(f"limit: Input should be a number from 1 to {_MOST_LISTED}")
    return int(given)


def _read_rows(raw: bytes, most: int) -> list[Row]:
    """The requests of a creation. Raises Fail for what Anthropic refuses at once."""
    try:
        body: Any = json.loads(raw)
    except ValueError:
        raise refused("The request body is not valid JSON.") from None
    requests = body.get("requests") if isinstance(body, dict) else None
    if not isinstance(requests, list):
        raise refused("requests: Field required")
    if not 1 <= len(requests) <= most:
        bound = f"at most {most} items" if requests else "at least 1 item"
        raise refused(f"requests: List should have {bound} after validation, not {len(requests)}")
    rows: list[Row] = []
    seen: set[str] = set()
    for i, sent in enumerate(requests):
        row = _read_row(sent, i)
        if row.key in seen:
            raise refused(f"requests.{i}.custom_id: '{row.key}' is not unique within the batch")
        seen.add(row.key)
        rows.append(row)
    return rows


def _read_row(sent: Any, i: int) -> Row:
    if not isinstance(sent, dict):
        raise refused(f"requests.{i}: Input should be an object")
    for name in sent:
        if name not in ("custom_id", "params"):
            raise refused(f"requests.{i}.{name}: Extra inputs are not permitted")
    key, params = sent.get("custom_id"), sent.get("params")
    if not isinstance(key, str):
        raise refused(f"requests.{i}.custom_id: Field required")
    if not _KEY.match(key) or key.endswith("\n"):
        raise refused(f"requests.{i}.custom_id: String should match pattern '{_KEY.pattern}'")
    if not isinstance(params, dict):
        raise refused(f"requests.{i}.params: Field required")
    return Row(key, params, "generate", str(params.get("model", "")))
