"""The common part of the adapters of batch APIs.

Each goes through the adapter of live calls, which renders the rows, reads their answers and knows the
provider's errors.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime

from ..errors import ProviderError
from ..records import Completion, CompletionRequest
from . import values
from .batch_api import RowAnswer
from .prompts import Json
from .sdk_adapter import SdkAdapter

EXCHANGE_S = 60.0  # for an exchange without a file
TRANSFER_S = 1_800.0  # for one with a file of up to 256 MB
CLOCKS_DIFFER_S = 2 * 86_400.0  # the provider's clock may differ from ours by that much
RESULTS_BYTES = 4_000_000_000  # of all answers of a batch
_ENDED = frozenset({400, 404, 409})  # answers to the cancellation of a batch that has ended, or is gone


def to_bytes(value: object) -> bytes:
    """JSON as it is sent: in ASCII, since some readers of lines end one at U+2028 too."""
    return json.dumps(value, separators=(",", ":")).encode()


def row_id(marker: str, number: int) -> str:
    """The id of a row: at most 40 characters, letters, digits and a hyphen."""
    return f"{marker}-{number}"


def number_of(id: object, marker: str) -> int | None:
    """The number of a row by its id; None for a row of another batch."""
    match = re.fullmatch(r"(.+)-([0-9]{1,9})", values.text(id))
    return int(match[2]) if match and match[1] == marker else None


def seconds_of(at: object) -> float:
    """RFC 3339 as epoch seconds; 0 for anything else."""
    try:
        return datetime.fromisoformat(values.text(at)).timestamp()
    except ValueError:
        return 0.0


class BatchAdapter:
    """One provider's batches. Subclasses hold what differs between the APIs."""

    def __init__(self, adapter: SdkAdapter) -> None:
        self._adapter = adapter

    def read(
        self, answer: RowAnswer, request: CompletionRequest, warnings: tuple[str, ...] = ()
    ) -> Completion:
        """What the answer to a row says."""
        if answer.body is None:
            raise self._adapter.row_error(answer.error or {}, answer.status, request)
        return self._adapter.read_row(answer.body, request, warnings)

    async def _exchange(self, method: str, path: str, content: bytes | None = None) -> Json:
        return await self._adapter.send_json(method, path, content, timeout_s=EXCHANGE_S)

    async def _cancel(self, path: str) -> None:
        try:
            await self._exchange("POST", path, b"{}")
        except ProviderError as error:
            if error.status not in _ENDED:
                raise

    async def _lines(self, path: str) -> AsyncGenerator[Json, None]:
        """The objects of a file of JSON Lines, as they come. A line that is not JSON is left out."""
        held = bytearray()
        async with aclosing(self._pieces(path)) as pieces:
            async for data in pieces:
                held += data
                if b"\n" in data:
                    *lines, rest = bytes(held).split(b"\n")
                    held[:] = rest
                    for found in filter(None, map(_object, lines)):
                        yield found
        if found := _object(bytes(held)):
            yield found

    async def _pieces(self, path: str) -> AsyncGenerator[bytes, None]:
        """A body that may be much longer than one answer."""
        response = await self._adapter.send("GET", path, timeout_s=EXCHANGE_S, stream=True)
        body = response.stream
        body.allow(RESULTS_BYTES)
        try:
            while data := await self._adapter.receive(body):
                yield data
        finally:
            body.close()


def _object(line: bytes) -> Json:
    """The object on a line; an empty one for anything else."""
    try:
        return values.mapping(values.read_json(line).value) if line.strip() else {}
    except values.NotJson:
        return {}
