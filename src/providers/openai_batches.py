"""OpenAI's Batch API: a file of requests goes up, two files of answers and errors come down.

https://developers.openai.com/api/docs/guides/batch
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing

from ..errors import ProviderError
from ..records import CompletionRequest
from . import values
from .api_formats import API_FORMATS
from .batch_adapter import (
    CLOCKS_DIFFER_S,
    TRANSFER_S,
    BatchAdapter,
    number_of,
    row_id,
    to_bytes,
)
from .batch_api import BatchLimits, RemoteBatch, RemoteState, RenderedRow, RowAnswer, Search
from .openai_adapter import OpenAIAdapter
from .prompts import Json

_STATES = {
    "validating": RemoteState.IN_PROGRESS,
    "in_progress": RemoteState.IN_PROGRESS,
    "finalizing": RemoteState.IN_PROGRESS,
    "cancelling": RemoteState.CANCELLING,
    "completed": RemoteState.ENDED,
    "expired": RemoteState.ENDED,
    "cancelled": RemoteState.ENDED,
    "failed": RemoteState.FAILED,
}
_CUT_SHORT = frozenset({"expired", "cancelled"})
_QUEUE_FULL = "token_limit_exceeded"  # more tokens are enqueued than the account may have
_NOT_DONE = frozenset({"batch_expired", "batch_cancelled"})
_PAGE = 100


class OpenAIBatches(BatchAdapter):
    """Batches of OpenAI, or of a server that has the same API."""

    limits = BatchLimits(rows=API_FORMATS["openai"].batch_rows, bytes=200_000_000)

    async def render(self, marker: str, number: int, request: CompletionRequest) -> RenderedRow:
        """A line of the file."""
        body, warnings = await self._adapter.row(request)
        line = {
            "custom_id": row_id(marker, number),
            "method": "POST",
            "url": f"/v1{OpenAIAdapter.path}",
            "body": body,
        }
        return RenderedRow(to_bytes(line) + b"\n", warnings)

    async def create(self, marker: str, model: str, rows: Sequence[bytes]) -> RemoteBatch:
        """Upload the file and create the batch. A file whose batch was not created is of no use, and free."""
        file = (f"{marker}.jsonl", b"".join(rows), "application/jsonl")
        upload = ({"purpose": "batch"}, {"file": file})
        try:
            stored = await self._adapter.send_json("POST", "/files", timeout_s=TRANSFER_S, upload=upload)
        except ProviderError as error:
            error.sent = False  # the batch was not asked for yet
            raise
        order = {
            "input_file_id": values.text(stored.get("id")),
            "endpoint": f"/v1{OpenAIAdapter.path}",
            "completion_window": "24h",
            "metadata": {"marker": marker},
        }
        return _read(await self._exchange("POST", "/batches", to_bytes(order)))

    async def find(self, marker: str, rows: int, since: float, known: Collection[str]) -> Search:
        """By its metadata, among the batches since then."""
        after = ""
        while True:
            path = f"/batches?limit={_PAGE}{after}"
            page = await self._exchange("GET", path)
            found = [values.mapping(each) for each in values.sequence(page.get("data"))]
            for each in found:
                if values.mapping(each.get("metadata")).get("marker") == marker:
                    return Search(_read(each))
            if not page.get("has_more") or not found or _created_at(found[-1]) < since - CLOCKS_DIFFER_S:
                return Search()
            after = f"&after={values.text(found[-1].get('id'))}"

    async def status(self, id: str) -> RemoteBatch:
        """How it is now."""
        return _read(await self._exchange("GET", f"/batches/{id}"))

    async def results(self, batch: RemoteBatch, marker: str) -> AsyncGenerator[RowAnswer, None]:
        """The lines of both files."""
        for file in batch.files[1:]:
            async with aclosing(self._lines(f"/files/{file}/content")) as lines:
                async for line in lines:
                    if (answer := _row(line, marker)) is not None:
                        yield answer

    async def cancel(self, id: str) -> None:
        """Ask for its end, which takes up to ten minutes."""
        await self._cancel(f"/batches/{id}/cancel")

    async def clean_up(self, batch: RemoteBatch) -> None:
        """Delete its files; OpenAI would keep them for 30 days. The batch itself can't be deleted."""
        for file in batch.files:
            if file:
                await self._exchange("DELETE", f"/files/{file}")


def _created_at(body: Json) -> float:
    created_at = body.get("created_at")
    return float(created_at) if isinstance(created_at, int | float) else 0.0


def _read(body: Json) -> RemoteBatch:
    """`files`: the requests, then the answers and the errors as far as there are any."""
    counts = values.mapping(body.get("request_counts"))
    errors = values.sequence(values.mapping(body.get("errors")).get("data"))
    error = values.mapping(errors[0]) if errors else {}
    code, message = values.text(error.get("code")), values.text(error.get("message"))
    outputs = (values.text(body.get(name)) for name in ("output_file_id", "error_file_id"))
    return RemoteBatch(
        values.text(body.get("id")),
        _STATES.get(values.text(body.get("status")), RemoteState.IN_PROGRESS),
        _created_at(body),
        values.count(counts.get("total")) or 0,
        values.count(counts.get("completed")) or 0,
        values.count(counts.get("failed")) or 0,
        (values.text(body.get("input_file_id")), *(file for file in outputs if file)),
        f"{code}: {message}" if code or message else "",
        code == _QUEUE_FULL,
        values.text(body.get("status")) in _CUT_SHORT,
    )


def _row(line: Json, marker: str) -> RowAnswer | None:
    number = number_of(line.get("custom_id"), marker)
    if number is None:
        return None
    response, error = values.mapping(line.get("response")), values.mapping(line.get("error"))
    if not response:
        if values.text(error.get("code")) in _NOT_DONE:
            return RowAnswer(number)
        return RowAnswer(number, error={"error": error}, status=500)
    status = values.count(response.get("status_code")) or 0
    body = values.mapping(response.get("body"))
    if status < 300:
        return RowAnswer(number, body=body)
    return RowAnswer(number, error=body, status=status)
