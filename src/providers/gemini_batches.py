"""Gemini's batch mode: the requests in one body, and the answers in the operation that the batch is.

https://ai.google.dev/gemini-api/docs/batch-api. Larger batches would go as files; these are sent as several
batches instead, which also end one by one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Collection, Sequence
from urllib.parse import quote

from ..records import CompletionRequest
from . import values
from .api_formats import API_FORMATS
from .batch_adapter import (
    CLOCKS_DIFFER_S,
    TRANSFER_S,
    BatchAdapter,
    number_of,
    row_id,
    seconds_of,
    to_bytes,
)
from .batch_api import BatchLimits, RemoteBatch, RemoteState, RenderedRow, RowAnswer, Search
from .prompts import Json

_STATES = {
    "PENDING": RemoteState.IN_PROGRESS,
    "RUNNING": RemoteState.IN_PROGRESS,
    "SUCCEEDED": RemoteState.ENDED,
    "CANCELLED": RemoteState.ENDED,  # without any answer, as an expired one
    "EXPIRED": RemoteState.ENDED,
    "FAILED": RemoteState.FAILED,
}
# google.rpc.Code as the status that a live call would have had
_STATUSES = {3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 9: 400, 11: 400, 13: 500, 14: 503, 16: 401}
_CANCELLED = 1  # of google.rpc.Code: the row was not done
_CUT_SHORT = frozenset({"CANCELLED", "EXPIRED"})
_QUOTA = 8
_PAGE = 20  # each batch that has ended comes with all its answers


class GeminiBatches(BatchAdapter):
    """Batches of Gemini, known by their display name."""

    limits = BatchLimits(rows=API_FORMATS["gemini"].batch_rows, bytes=19_000_000)

    async def render(self, marker: str, number: int, request: CompletionRequest) -> RenderedRow:
        """A member of `requests`, with a comma behind it."""
        body, warnings = await self._adapter.row(request)
        row = {"request": body, "metadata": {"key": row_id(marker, number)}}
        return RenderedRow(to_bytes(row) + b",", warnings)

    async def create(self, marker: str, model: str, rows: Sequence[bytes]) -> RemoteBatch:
        """Create the batch with all its rows."""
        head = f'{{"batch":{{"displayName":{json.dumps(marker)},"inputConfig":{{"requests":{{"requests":['
        content = head.encode() + b"".join(rows).removesuffix(b",") + b"]}}}}"
        path = f"models/{quote(model)}:batchGenerateContent"
        return _read(await self._adapter.send_json("POST", path, content, timeout_s=TRANSFER_S))

    async def find(self, marker: str, rows: int, since: float, known: Collection[str]) -> Search:
        """By its display name, among the batches since then."""
        token = ""
        while True:
            page = await self._large(f"batches?pageSize={_PAGE}{token}")
            found = [values.mapping(each) for each in values.sequence(page.get("operations"))]
            for each in found:
                if values.mapping(each.get("metadata")).get("displayName") == marker:
                    return Search(_read(each))
            next_token = values.text(page.get("nextPageToken"))
            if not next_token or not found or _read(found[-1]).created_at < since - CLOCKS_DIFFER_S:
                return Search()
            token = f"&pageToken={quote(next_token)}"

    async def _large(self, path: str) -> Json:
        """An operation, or a list of them, with all their answers."""
        content = b"".join([data async for data in self._pieces(path)])
        try:
            return values.mapping(await asyncio.to_thread(json.loads, content))
        except ValueError as error:
            raise self._adapter.unreadable(error) from error

    async def status(self, id: str) -> RemoteBatch:
        """How it is now."""
        return _read(await self._large(id))

    async def results(self, batch: RemoteBatch, marker: str) -> AsyncGenerator[RowAnswer, None]:
        """The answers in the operation."""
        operation = await self._large(batch.id)
        output = values.mapping(operation.get("response"))
        inlined = values.mapping(output.get("inlinedResponses"))
        for each in values.sequence(inlined.get("inlinedResponses")):
            if (answer := _row(values.mapping(each), marker)) is not None:
                yield answer

    async def cancel(self, id: str) -> None:
        """Ask for its end."""
        await self._cancel(f"{id}:cancel")

    async def clean_up(self, batch: RemoteBatch) -> None:
        """Delete the batch with its answers."""
        await self._exchange("DELETE", batch.id)


def _read(body: Json) -> RemoteBatch:
    metadata = values.mapping(body.get("metadata"))
    stats = values.mapping(metadata.get("batchStats"))
    _, _, state = values.text(metadata.get("state")).rpartition("_STATE_")
    error = values.mapping(body.get("error"))
    return RemoteBatch(
        values.text(body.get("name")),
        _STATES.get(state, RemoteState.IN_PROGRESS),
        seconds_of(metadata.get("createTime")),
        values.count(stats.get("requestCount")) or 0,
        values.count(stats.get("successfulRequestCount")) or 0,
        values.count(stats.get("failedRequestCount")) or 0,
        (),
        values.text(error.get("message")),
        error.get("code") == _QUOTA,
        state in _CUT_SHORT,
    )


def _row(inlined: Json, marker: str) -> RowAnswer | None:
    number = number_of(values.mapping(inlined.get("metadata")).get("key"), marker)
    if number is None:
        return None
    if "response" in inlined:  # read again by itself, within the bounds of one answer
        return RowAnswer(number, body=values.mapping(values.read_json(to_bytes(inlined["response"])).value))
    error = values.mapping(inlined.get("error"))
    code = values.count(error.get("code")) or 0
    if code == _CANCELLED:
        return RowAnswer(number)
    return RowAnswer(number, error={"error": error}, status=_STATUSES.get(code, 500))
