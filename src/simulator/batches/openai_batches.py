"""OpenAI: POST and GET /v1/batches, GET /v1/batches/{id}, POST /v1/batches/{id}/cancel, and files.

What is wrong with an input file fails the batch, not its creation. Sources: the API reference and the guide
(fields, states, error file), openai/openai-python#2084 (token_limit_exceeded), stdapi-ai/stdapi.ai#240 (codes
of input files), ProjectTech4DevAI/kaapi-backend#723 (a batch without a sound answer has no output file).
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from aiohttp import web

from ..net import whole
from ..shapes import Answer, Fail, Json, refused
from .openai_files import OpenAIFiles, shown
from .openai_input import ENDPOINTS, read_input
from .openai_lists import page, positive
from .pages import Page
from .store import Batch, BatchStore
from .timeline import FINAL, Phase

_WINDOW_S = 86_400.0
_STATUS = {
    Phase.VALIDATING: "validating",
    Phase.RUNNING: "in_progress",
    Phase.FINALIZING: "finalizing",
    Phase.CANCELLING: "cancelling",
    Phase.COMPLETED: "completed",
    Phase.FAILED: "failed",
    Phase.EXPIRED: "expired",
    Phase.CANCELLED: "cancelled",
}
_NOT_RUN = {
    Phase.EXPIRED: (
        "batch_expired",
        "This request could not be executed before the completion window expired.",
    ),
    Phase.CANCELLED: ("batch_cancelled", "This request was not executed because the batch was cancelled."),
}
_QUEUE_FULL = (
    "Enqueued token limit reached for {model} in organization org-simulated. Limit: {limit:,.0f} enqueued "
    "tokens. Please try again once some in_progress batches have been completed."
)
_FIELDS = {"input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after"}
_MOST_METADATA, _LONGEST_KEY, _LONGEST_VALUE = 16, 64, 512


class OpenAIBatches:
    """The pages of batches and files."""

    def __init__(self, store: BatchStore) -> None:
        self._store = store
        self._files = OpenAIFiles(store)

    def route(self, request: web.BaseRequest) -> Page | None:
        """The page that a request is for."""
        path = request.path
        first, _, rest = path.removeprefix("/v1/").partition("/")
        if not path.startswith("/v1/") or first not in ("files", "batches"):
            return None
        ident, _, last = rest.partition("/")
        shape = request.method, first, "id" if ident else "", last
        action = _ACTIONS.get(shape)
        return None if action is None else Page(action, f"{first} {action}", ident)

    async def handle(self, request: web.BaseRequest, name: str, ident: str) -> web.Response:
        """Answer a request. Raises Fail."""
        match name:
            case "files upload":
                body: Json = await self._files.upload(request)
            case "files results":
                return self._files.content(ident)
            case "files delete":
                body = self._files.delete(ident)
            case "files list":
                body = self._files.listed(request)
            case "files retrieve":
                body = shown(self._files.find(ident))
            case "batches create":
                body = await self._shown(await self._create(request))
            case "batches retrieve":
                body = await self._shown(self._find(ident))
            case "batches cancel":
                body = await self._cancel(self._find(ident))
            case _:
                body = await self._listed(request)
        return whole(Answer(200, json.dumps(body).encode()), {})

    def _find(self, ident: str) -> Batch:
        found = self._store.get(ident.removeprefix("batch_"))
        if found is None:
            raise Fail("no_such", message=f"No batch found with id '{ident}'.", param="")
        return found

    # -- creation --

    async def _create(self, request: web.BaseRequest) -> Batch:
        body = _read_create(await request.read())
        stored = self._store.files.get(body["input_file_id"])
        if stored is None or stored.purpose != "batch":
            text = f"Invalid 'input_file_id': no file with id '{body['input_file_id']}' and purpose 'batch'."
            raise refused(text, "input_file_id", "invalid_value")
        engine = self._store.engine
        rows, errors = await read_input(stored.data, body["endpoint"], engine.config)
        model = rows[0].model if rows else ""
        limit = engine.config.batches.most_enqueued(model)
        enqueued: Counter[str] = Counter()
        if limit is not None and not errors:
            enqueued = await self._store.count_tokens(rows)
            if self._store.enqueued(model) + enqueued[model] > limit:
                text = _QUEUE_FULL.format(model=model, limit=limit)
                errors = [{"code": "token_limit_exceeded", "line": None, "message": text, "param": None}]
                rows, enqueued = [], Counter()
        batch = self._store.create(rows, {**body, "model": model or None}, _WINDOW_S, errors)
        batch.enqueued = enqueued
        return batch

    async def _cancel(self, batch: Batch) -> Json:
        phase = await self._store.settle(batch)
        if phase in FINAL or phase is Phase.CANCELLING:
            raise Fail("conflict", message=f"Cannot cancel a batch with status '{_STATUS[phase]}'.")
        self._store.cancel(batch)
        return await self._shown(batch)

    # -- showing --

    async def _listed(self, request: web.BaseRequest) -> Json:
        limit, after = positive(request.query, "limit", 20, 100), request.query.get("after")
        listed = self._store.listed()
        found = page([{"id": f"batch_{batch.ident}"} for batch in listed], after, limit)
        by_id = {f"batch_{batch.ident}": batch for batch in listed}
        found["data"] = [await self._shown(by_id[item["id"]]) for item in found["data"]]
        return found

    async def _shown(self, batch: Batch) -> Json:
        phase = await self._store.settle(batch)
        if phase in FINAL and not batch.errors:
            self._write_files(batch, phase)
        info, is_counted = batch.info, phase not in (Phase.VALIDATING, Phase.FAILED)
        return {
            "id": f"batch_{batch.ident}",
            "object": "batch",
            "endpoint": info["endpoint"],
            "model": info["model"],
            "errors": {"object": "list", "data": batch.errors} if phase is Phase.FAILED else None,
            "input_file_id": info["input_file_id"],
            "completion_window": info["completion_window"],
            "status": _STATUS[phase],
            "output_file_id": batch.output_ids.get("output"),
            "error_file_id": batch.output_ids.get("error"),
            **_times(batch, phase, self._store.clock.now()),
            "request_counts": {
                "total": len(batch.rows) if is_counted else 0,
                "completed": batch.succeeded,
                "failed": batch.failed,
            },
            "usage": self._usage(batch, phase),
            "metadata": info.get("metadata"),
        }

    def _usage(self, batch: Batch, phase: Phase) -> Json | None:
        if phase not in FINAL:
            return None
        if "usage" not in batch.info:
            batch.info["usage"] = _sum_usage(batch)
        usage: Json = batch.info["usage"]
        return usage

    def _write_files(self, batch: Batch, phase: Phase) -> None:
        """The output file and the error file, each where it has a line."""
        if "written" in batch.output_ids:
            return
        good: list[bytes] = []
        bad: list[bytes] = []
        for row, answer in batch.answered():
            ident = f"batch_req_{self._store.engine.ident()}"
            line = (
                f'{{"id": "{ident}", "custom_id": {json.dumps(row.key)}, "response": {{"status_code": '
                f'{answer.status}, "request_id": "{answer.request_id}", "body": '
            )
            (good if answer.status == 200 else bad).append(
                line.encode() + answer.body + b'}, "error": null}\n'
            )
            answer.body = b""  # the file has it
        code, text = _NOT_RUN.get(phase, ("", ""))
        for row in batch.unanswered():
            ident = f"batch_req_{self._store.engine.ident()}"
            error = {"code": code, "message": text}
            line = json.dumps({"id": ident, "custom_id": row.key, "response": None, "error": error})
            bad.append(line.encode() + b"\n")
        for kind, lines in (("output", good), ("error", bad)):
            if lines:
                name = f"batch_{batch.ident}_{kind}.jsonl"
                extra = {"kept_s": batch.info["output_expires_after"]["seconds"]} if _expires(batch) else None
                batch.output_ids[kind] = self._files.write(b"".join(lines), name, "batch_output", extra).ident
        batch.output_ids["written"] = ""


_ACTIONS = {
    ("POST", "files", "", ""): "upload",
    ("GET", "files", "", ""): "list",
    ("GET", "files", "id", ""): "retrieve",
    ("GET", "files", "id", "content"): "results",
    ("DELETE", "files", "id", ""): "delete",
    ("POST", "batches", "", ""): "create",
    ("GET", "batches", "", ""): "list",
    ("GET", "batches", "id", ""): "retrieve",
    ("POST", "batches", "id", "cancel"): "cancel",
}


def _expires(batch: Batch) -> bool:
    return bool(batch.info.get("output_expires_after"))


_ENDS = {
    Phase.COMPLETED: "completed_at",
    Phase.FAILED: "failed_at",
    Phase.EXPIRED: "expired_at",
    Phase.CANCELLED: "cancelled_at",
}


def _times(batch: Batch, phase: Phase, now: float) -> Json:
    """The moments of a batch, each null until it has come."""
    line = batch.timeline
    come: dict[str, float | None] = dict.fromkeys(
        ("in_progress_at", "expires_at", "finalizing_at", *_ENDS.values(), "cancelling_at")
    )
    come |= {"expires_at": line.expires_at, "cancelling_at": line.cancelling_at}
    until = min(now, line.over_at)
    if not batch.errors:
        for name, at in (("in_progress_at", line.validated_at), ("finalizing_at", line.rows_done_at)):
            come[name] = at if at <= until else None
    if phase in FINAL:
        come[_ENDS[phase]] = line.over_at
    shown = {name: None if at is None else int(at) for name, at in come.items()}
    return {"created_at": int(line.created_at), **shown}


def _sum_usage(batch: Batch) -> Json:
    answers = [answer for _, answer in batch.answered()]
    given, said = sum(a.input_tokens for a in answers), sum(a.output_tokens for a in answers)
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": sum(a.cached_tokens for a in answers)},
        "output_tokens": said,
        "output_tokens_details": {"reasoning_tokens": sum(a.thinking_tokens for a in answers)},
        "total_tokens": given + said,
    }


# -- the body of a creation --


def _read_create(raw: bytes) -> Json:
    """The body. Raises Fail for what OpenAI refuses."""
    try:
        body: Any = json.loads(raw)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise refused("We could not parse the JSON body of your request.")
    if unknown := body.keys() - _FIELDS:
        raise refused(f"Unknown parameter: '{min(unknown)}'.", min(unknown), "unknown_parameter")
    for name in ("input_file_id", "endpoint", "completion_window"):
        if not isinstance(body.get(name), str):
            raise refused(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")
    if body["endpoint"] not in ENDPOINTS:
        known = ", ".join(f"'{each}'" for each in ENDPOINTS)
        text = f"Invalid value: '{body['endpoint']}'. Supported values are: {known}."
        raise refused(text, "endpoint", "invalid_value")
    if body["completion_window"] != "24h":
        text = f"Invalid value: '{body['completion_window']}'. Value must be '24h'."
        raise refused(text, "completion_window", "invalid_value")
    _check_metadata(body.get("metadata"))
    return body


def _check_metadata(metadata: Any) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict) or len(metadata) > _MOST_METADATA:
        text = f"Invalid 'metadata': expected an object with at most {_MOST_METADATA} properties."
        raise refused(text, "metadata", "invalid_type")
    for key, value in metadata.items():
        if len(key) > _LONGEST_KEY or not isinstance(value, str) or len(value) > _LONGEST_VALUE:
            text = (
                f"Invalid 'metadata.{key[:_LONGEST_KEY]}': keys have at most {_LONGEST_KEY} characters, "
                f"values are strings of at most {_LONGEST_VALUE}."
            )
            raise refused(text, f"metadata.{key[:_LONGEST_KEY]}", "string_above_max_length")
