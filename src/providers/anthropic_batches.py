"""Anthropic's Message Batches: the requests in one body, the results as JSON Lines once the batch has ended.

https://platform.claude.com/docs/en/build-with-claude/batch-processing
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing

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

_PATH = "/v1/messages/batches"
_STATES = {
    "in_progress": RemoteState.IN_PROGRESS,
    "canceling": RemoteState.CANCELLING,
    "ended": RemoteState.ENDED,
}
# https://platform.claude.com/docs/en/api/errors
_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_PAGE = 100


class AnthropicBatches(BatchAdapter):
    """Message Batches. They carry no name, so a batch is recognised by the ids of its rows."""

    limits = BatchLimits(rows=API_FORMATS["anthropic"].batch_rows, bytes=255_000_000)

    async def render(self, marker: str, number: int, request: CompletionRequest) -> RenderedRow:
        """A member of `requests`, with a comma behind it."""
        params, warnings = await self._adapter.row(request)
        return RenderedRow(to_bytes({"custom_id": row_id(marker, number), "params": params}) + b",", warnings)

    async def create(self, marker: str, model: str, rows: Sequence[bytes]) -> RemoteBatch:
        """Create the batch with all its rows."""
        content = b'{"requests":[' + b"".join(rows).removesuffix(b",") + b"]}"
        return _read(await self._adapter.send_json("POST", _PATH, content, timeout_s=TRANSFER_S))

    async def find(self, marker: str, rows: int, since: float, known: Collection[str]) -> Search:
        """Among the batches of that time, the one whose rows have the marker.

        The ids of rows are shown when a batch has ended. Before that, one with as many rows may be another
        program's, which must not be cancelled.
        """
        is_undecided = False
        async with aclosing(self._listed(since - CLOCKS_DIFFER_S)) as listed:
            async for each in listed:
                if each.rows != rows or each.id in known or each.created_at > since + CLOCKS_DIFFER_S:
                    continue
                if each.state is not RemoteState.ENDED:
                    is_undecided = True
                elif await self._has(each, marker):
                    return Search(each)
        return Search(is_undecided=is_undecided)

    async def _listed(self, since: float) -> AsyncGenerator[RemoteBatch, None]:
        """Batches that were created since then, the newest first."""
        after = ""
        while True:
            page = await self._exchange("GET", f"{_PATH}?limit={_PAGE}{after}")
            found = [_read(values.mapping(each)) for each in values.sequence(page.get("data"))]
            for each in found:
                if each.created_at < since:
                    return
                yield each
            if not page.get("has_more") or not found:
                return
            after = f"&after_id={found[-1].id}"

    async def _has(self, batch: RemoteBatch, marker: str) -> bool:
        """Whether the first of its results has the marker."""
        async with aclosing(self._lines(f"{_PATH}/{batch.id}/results")) as lines:
            async for line in lines:
                return number_of(line.get("custom_id"), marker) is not None
        return False

    async def status(self, id: str) -> RemoteBatch:
        """How it is now."""
        return _read(await self._exchange("GET", f"{_PATH}/{id}"))

    async def results(self, batch: RemoteBatch, marker: str) -> AsyncGenerator[RowAnswer, None]:
        """The lines of the results."""
        async with aclosing(self._lines(f"{_PATH}/{batch.id}/results")) as lines:
            async for line in lines:
                if (answer := _row(line, marker)) is not None:
                    yield answer

    async def cancel(self, id: str) -> None:
        """Ask for its end."""
        await self._cancel(f"{_PATH}/{id}/cancel")

    async def clean_up(self, batch: RemoteBatch) -> None:
        """Delete the batch with its results; Anthropic would keep them for 29 days."""
        await self._exchange("DELETE", f"{_PATH}/{batch.id}")


def _read(body: Json) -> RemoteBatch:
    counts = values.mapping(body.get("request_counts"))
    numbers = {name: values.count(number) or 0 for name, number in counts.items()}
    return RemoteBatch(
        values.text(body.get("id")),
        _STATES.get(values.text(body.get("processing_status")), RemoteState.IN_PROGRESS),
        seconds_of(body.get("created_at")),
        sum(numbers.values()),
        numbers.get("succeeded", 0),
        numbers.get("errored", 0),
    )


def _row(line: Json, marker: str) -> RowAnswer | None:
    number = number_of(line.get("custom_id"), marker)
    if number is None:
        return None
    result = values.mapping(line.get("result"))
    match values.text(result.get("type")):
        case "succeeded":
            return RowAnswer(number, body=values.mapping(result.get("message")))
        case "errored":
            error = values.mapping(result.get("error"))
            kind = values.text(values.mapping(error.get("error")).get("type"))
            return RowAnswer(number, error=error, status=_STATUSES.get(kind, 500))
    return RowAnswer(number)
