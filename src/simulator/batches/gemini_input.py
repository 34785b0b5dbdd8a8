"""Gemini: the rows of a batch, sent with its creation or in a file."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from ..shapes import Json, refused
from .store import Row

_SLICE_LINES = 64
_INVALID = 3  # INVALID_ARGUMENT of google.rpc


def read_inline(source: Json, model: str, most: int | None) -> list[Row]:
    """The requests of a creation. Raises Fail for what Gemini refuses."""
    outer = source["requests"]
    requests = outer.get("requests") if isinstance(outer, dict) else None
    if not isinstance(requests, list) or not requests:
        raise refused("* BatchGenerateContentRequest.batch.input_config.requests: must not be empty\n")
    if most is not None and len(requests) > most:
        raise refused(f"The batch has {len(requests)} requests. At most {most} are allowed.")
    rows = []
    for i, sent in enumerate(requests):
        where = f"batch.input_config.requests.requests[{i}]"
        if not isinstance(sent, dict) or not isinstance(sent.get("request"), dict):
            raise refused(f"* BatchGenerateContentRequest.{where}.request: request is required\n")
        metadata = sent.get("metadata")
        if not isinstance(metadata, dict | None):
            raise refused(f"Invalid value at '{where}.metadata'")
        extra = {} if metadata is None else {"metadata": metadata}
        key = str((metadata or {}).get("key", ""))
        rows.append(Row(key, sent["request"], "generate", model, extra))
    return rows


async def read_file(data: bytes, model: str, most: int | None) -> tuple[list[Row], list[Json]]:
    """The rows of a file, and no errors; or the error that fails the batch, and no rows."""
    rows: list[Row] = []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        if number % _SLICE_LINES == 0:
            await asyncio.sleep(0)
        if not line.strip():
            continue
        row = _read_line(line, model)
        if row is None:
            return [], [{"code": _INVALID, "message": f"Failed to parse line {number} of the input file."}]
        rows.append(row)
    if not rows or (most is not None and len(rows) > most):
        text = "The input file has no requests." if not rows else f"At most {most} requests are allowed."
        return [], [{"code": _INVALID, "message": text}]
    return rows, []


def _read_line(line: str, model: str) -> Row | None:
    try:
        sent: Any = json.loads(line)
    except ValueError:
        return None
    if not isinstance(sent, dict) or not isinstance(sent.get("request"), dict):
        return None
    key = sent.get("key")
    extra = {} if key is None else {"key": key}
    return Row("" if key is None else str(key), sent["request"], "generate", model, extra)
