"""Gemini: models/MODEL:batchGenerateContent, batches/ID and its cancellation, and files.

A batch is shown as a long-running operation whose metadata is the batch. Sources: the API reference, and
answers recorded in googleapis/python-genai#1323 (statistics), in flachesis/gemini-rust#13 (listing) and by
clients. An operation that is done repeats its output in `response`. Rows that failed have a google.rpc code.
A batch that is cancelled before it runs ends as CANCELLED, a later one as SUCCEEDED with cancelled rows.
"""

from __future__ import annotations

import json
import re
from typing import Any

from aiohttp import web

from ..net import whole
from ..shapes import Answer, Fail, Json, refused
from .files import StoredFile, read_at_most
from .gemini_files import GeminiFiles, at
from .gemini_input import read_file, read_inline
from .pages import Page
from .store import Batch, BatchStore, Row
from .timeline import FINAL, Phase

_WINDOW_S = 2 * 86_400.0
_MAX_INLINE_BYTES = 20 * 1024 * 1024
_MAX_ACTIVE = 100
_USUAL_PAGE, _MOST_LISTED = 50, 1_000
_TYPE = "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch"
_ROUTES = (
    (re.compile(r"/v1(?:beta)?/models/([^/:]+):batchGenerateContent"), {"POST": "create"}),
    (re.compile(r"/v1(?:beta)?/batches"), {"GET": "list"}),
    (re.compile(r"/v1(?:beta)?/batches/([^/:]+)"), {"GET": "retrieve", "DELETE": "delete"}),
    (re.compile(r"/v1(?:beta)?/batches/([^/:]+):cancel"), {"POST": "cancel"}),
)
_STATE = {
    Phase.VALIDATING: "PENDING",
    Phase.RUNNING: "RUNNING",
    Phase.FINALIZING: "RUNNING",
    Phase.CANCELLING: "RUNNING",
    Phase.COMPLETED: "SUCCEEDED",
    Phase.FAILED: "FAILED",
    Phase.EXPIRED: "EXPIRED",
    Phase.CANCELLED: "CANCELLED",
}
# statuses of HTTP as codes of google.rpc
_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 429: 8, 499: 1, 500: 13, 503: 14, 504: 4}
_CANCELLED, _INTERNAL, _DEADLINE = 1, 13, 4
_TOO_MANY = "You exceeded your current quota: {what} (limit: {limit:,.0f})."


class GeminiBatches:
    """The pages of batches and files."""

    def __init__(self, store: BatchStore) -> None:
        self._store = store
        self._files = GeminiFiles(store)

    def route(self, request: web.BaseRequest) -> Page | None:
        """The page that a request is for."""
        for pattern, actions in _ROUTES:
            found = pattern.fullmatch(request.path)
            action = actions.get(request.method)
            if found and action:
                return Page(action, f"batches {action}", (*found.groups(), "")[0])
        return self._files.route(request)

    async def handle(self, request: web.BaseRequest, name: str, ident: str) -> web.Response:
        """Answer a request. Raises Fail."""
        match name:
            case "batches create":
                body = await self._shown(await self._create(request, ident))
            case "batches list":
                body = await self._listed(request)
            case "batches retrieve":
                body = await self._shown(self._find(ident))
            case "batches cancel":
                body = await self._cancel(self._find(ident))
            case "batches delete":
                self._store.delete(self._find(ident))
                body = b"{}"
            case _:
                return await self._files.handle(request, name, ident)
        return whole(Answer(200, body), {})

    def _find(self, ident: str) -> Batch:
        found = self._store.get(ident)
        if found is None:
            raise Fail("no_such", message=f"Requested entity was not found: batches/{ident}")
        return found

    # -- creation --

    async def _create(self, request: web.BaseRequest, model: str) -> Batch:
        engine = self._store.engine
        config, settings = engine.config, engine.config.batches
        most = settings.max_inline_bytes or _MAX_INLINE_BYTES
        raw = await read_at_most(request.content.iter_any(), most)
        if raw is None:
            raise refused(f"Request payload size exceeds the limit: {most} bytes.")
        batch, source = _read_create(raw)
        if config.models is not None and model not in config.models:
            raise Fail("model_not_found", model=model)
        info: Json = {"model": f"models/{model}", "displayName": batch.get("displayName", "")}
        errors: list[Json] = []
        if "fileName" in source:
            stored = self._files.find(str(source["fileName"]).removeprefix("files/"))
            rows, errors = await read_file(stored.data, model, settings.max_rows)
            info["fileName"] = f"files/{stored.ident}"
        else:
            rows = read_inline(source, model, settings.max_rows)
        return await self._enter(rows, info, errors, model)

    async def _enter(self, rows: list[Row], info: Json, errors: list[Json], model: str) -> Batch:
        """Create the batch. Raises Fail where a limit on waiting batches refuses it."""
        settings = self._store.engine.config.batches
        limit = settings.most_enqueued(model)
        enqueued = 0 if limit is None else (await self._store.count_tokens(rows))[model]
        # from here on without waiting, so that two creations can't both take the last place
        most_active = settings.max_active_batches or _MAX_ACTIVE
        if len(self._store.active()) >= most_active:
            raise Fail("queue_full", message=_TOO_MANY.format(what="concurrent batches", limit=most_active))
        if limit is not None and self._store.enqueued(model) + enqueued > limit:
            what = f"enqueued batch tokens of {model}"
            raise Fail("queue_full", message=_TOO_MANY.format(what=what, limit=limit))
        batch = self._store.create(rows, info, _WINDOW_S, errors)
        batch.keeps_expired = False
        batch.enqueued[model] = enqueued
        return batch

    async def _cancel(self, batch: Batch) -> bytes:
        phase = await self._store.settle(batch)
        if phase not in FINAL and phase is not Phase.CANCELLING:
            self._store.cancel(batch)
        return b"{}"

    # -- showing --

    async def _listed(self, request: web.BaseRequest) -> bytes:
        given = request.query.get("pageSize", "")
        size = min(int(given), _MOST_LISTED) if given.isdecimal() and int(given) else _USUAL_PAGE
        token = request.query.get("pageToken", "")
        listed = self._store.listed()
        if token.isdecimal():  # the number of the batch that comes next
            listed = [batch for batch in listed if batch.number <= int(token)]
        if not listed:
            return b"{}"
        page = b'{"operations":[' + b",".join([await self._shown(batch) for batch in listed[:size]]) + b"]"
        rest = b',"nextPageToken":"%d"' % listed[size].number if len(listed) > size else b""
        return page + rest + b"}"

    async def _shown(self, batch: Batch) -> bytes:
        """The operation as JSON. The answers in it are made once: they may be many."""
        phase = await self._store.settle(batch)
        line, now = batch.timeline, self._store.clock.now()
        was_running = line.cancelling_at is not None and line.cancelling_at >= line.validated_at
        if phase is Phase.CANCELLED and was_running:
            phase = Phase.COMPLETED
        name = f"batches/{batch.ident}"
        metadata: Json = {
            "@type": _TYPE,
            "model": batch.info["model"],
            "displayName": batch.info["displayName"],
            "createTime": at(line.created_at),
            "updateTime": at(min(now, line.over_at)),
            "batchStats": _stats(batch, phase),
            "state": f"BATCH_STATE_{_STATE[phase]}",
            "name": name,
        }
        if "fileName" in batch.info:
            metadata["inputConfig"] = {"fileName": batch.info["fileName"]}
        head = b'{"name":"%b","metadata":' % name.encode()
        if phase not in FINAL:
            return head + json.dumps(metadata).encode() + b"}"
        metadata["endTime"] = at(line.over_at)
        meta = json.dumps(metadata).encode()
        if phase is not Phase.COMPLETED:
            return head + meta + b',"done":true,"error":' + json.dumps(_error(batch, phase)).encode() + b"}"
        output = self._output(batch)
        response = b'{"@type":"%bOutput",%b' % (_TYPE.encode(), output[1:])
        return head + meta[:-1] + b',"output":' + output + b'},"done":true,"response":' + response + b"}"

    def _output(self, batch: Batch) -> bytes:
        """Where the answers are, in the order of the requests: in the operation, or in a file."""
        if "output" not in batch.info:
            lines = _lines(batch)
            if "fileName" in batch.info:
                ident, made_at = f"batch-{batch.ident}", batch.timeline.over_at
                data, extra = b"".join(line + b"\n" for line in lines), {"type": "application/jsonl"}
                self._store.files.add(StoredFile(ident, data, "", "output", made_at, extra))
                batch.info["output"] = b'{"responsesFile":"files/%b"}' % ident.encode()
            else:
                batch.info["output"] = b'{"inlinedResponses":{"inlinedResponses":[%b]}}' % b",".join(lines)
        output: bytes = batch.info["output"]
        return output


def _lines(batch: Batch) -> list[bytes]:
    lines = []
    for row, answer in zip(batch.rows, batch.answers, strict=True):
        if answer is None:
            said = b'"error":{"code":%d}' % _CANCELLED
        elif answer.status == 200:
            said = b'"response":' + answer.body
        else:
            sent = json.loads(answer.body)["error"]
            error = {"code": _CODES.get(answer.status, 2), "message": sent["message"]}
            said = b'"error":' + json.dumps(error).encode()
        extra = json.dumps(row.extra)[1:-1].encode()
        lines.append(b"{" + said + (b"," + extra if extra else b"") + b"}")
    return lines


def _stats(batch: Batch, phase: Phase) -> Json:
    """Counts as text; those that are zero are left out."""
    done, failed = batch.succeeded, batch.failed
    rest = len(batch.rows) - batch.done
    if phase is Phase.COMPLETED:
        failed, rest = failed + rest, 0
    counts = {
        "requestCount": len(batch.rows),
        "successfulRequestCount": done,
        "failedRequestCount": failed,
        "pendingRequestCount": rest,
    }
    return {name: str(count) for name, count in counts.items() if count}


def _error(batch: Batch, phase: Phase) -> Json:
    if phase is Phase.FAILED:
        return batch.errors[0]
    if phase is Phase.EXPIRED:
        return {"code": _DEADLINE, "message": "Batch expired."}
    return {"code": _INTERNAL, "message": "Batch was cancelled."}


def _read_create(raw: bytes) -> tuple[Json, Json]:
    """The batch of a creation, and where its requests are. Raises Fail for what Gemini refuses."""
    try:
        body: Any = json.loads(raw)
    except ValueError:
        body = None
    batch = body.get("batch") if isinstance(body, dict) else None
    if not isinstance(batch, dict):
        raise refused("Invalid JSON payload received.")
    source = batch.get("inputConfig", batch.get("input_config"))
    if not isinstance(source, dict):
        raise refused("* BatchGenerateContentRequest.batch.input_config: input_config is required\n")
    if "file_name" in source:
        source = {"fileName": source["file_name"]}
    if ("fileName" in source) == ("requests" in source):
        raise refused("* BatchGenerateContentRequest.batch.input_config.source: exactly one is required\n")
    return batch, source
