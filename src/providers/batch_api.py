"""The seam between the pool and the providers' batch APIs: many requests, answered within a day for half the
price.

    create --> in progress --> ended           each row has an answer or an error of its own
                  |    ^
               cancel  +-- cancelling          rows that are done stay done, and are billed

A batch is known by its marker, which is written into it: a process that was killed after `create` was sent
finds the batch again instead of paying for another one. Adapters hold no state, and like those of live calls
they raise only `ProviderError` subclasses.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from ..records import Completion, CompletionRequest

MARKER = (
    r"[a-z0-9]{8,24}"  # with a hyphen and a row's number behind it, every API takes it as the id of a row
)


class RemoteState(StrEnum):
    """What the provider says of a batch."""

    IN_PROGRESS = "in_progress"
    CANCELLING = "cancelling"
    ENDED = "ended"  # its results are there: of all rows, or of those that were done before it ended
    FAILED = "failed"  # it was rejected as a whole; no row has been done


@dataclass(frozen=True, slots=True)
class RemoteBatch:
    """A batch at its provider. Counts are of rows."""

    id: str
    state: RemoteState
    created_at: float  # epoch seconds of the provider's clock
    rows: int = 0
    done: int = 0
    failed: int = 0
    files: tuple[str, ...] = ()  # that the provider keeps for it
    error: str = ""  # why it failed
    is_full: bool = False  # it failed since too much is enqueued: it may be created again later
    is_cut_short: bool = False  # it expired or was cancelled: rows that were not done may have no result


class Search(NamedTuple):
    """What a provider has for a marker: its batch, or none so far.

    `is_undecided`: batches are running that may be it, and show their marker only when they have ended.
    """

    batch: RemoteBatch | None = None
    is_undecided: bool = False


class RenderedRow(NamedTuple):
    """A row as it is sent. `warnings` name what the API can't take."""

    content: bytes
    warnings: tuple[str, ...] = ()


class RowAnswer(NamedTuple):
    """What came back for one row: the body of an answer, or that of an error with its status.

    Both None: the row was not done before the batch ended.
    """

    number: int
    body: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    status: int = 0


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """The most that one batch takes."""

    rows: int
    bytes: int


class BatchApi(Protocol):
    """Batches of one provider. Every method raises a `ProviderError` subclass where it fails."""

    limits: BatchLimits

    async def render(self, marker: str, number: int, request: CompletionRequest) -> RenderedRow:
        """A row in the API's form. `number`: its place within the batch, by which its answer is known."""

    async def create(self, marker: str, model: str, rows: Sequence[bytes]) -> RemoteBatch:
        """Create a batch of rendered rows for one model, within `limits`."""

    async def find(self, marker: str, rows: int, since: float, known: Collection[str]) -> Search:
        """Look for the batch with this marker, whose creation may have reached the provider.

        `since`: when it was sent, epoch seconds. `known`: ids of other batches of ours.
        """

    async def status(self, id: str) -> RemoteBatch:
        """How it is now."""

    def results(self, batch: RemoteBatch, marker: str) -> AsyncGenerator[RowAnswer, None]:
        """The rows of a batch that has ended, in any order. Where it was cut short, some may be missing."""

    def read(
        self, answer: RowAnswer, request: CompletionRequest, warnings: tuple[str, ...] = ()
    ) -> Completion:
        """What the answer to a row says. Raises as a live call does. `warnings`: those of its rendering."""

    async def cancel(self, id: str) -> None:
        """Ask the provider to end it. A batch that has ended stays as it is."""

    async def clean_up(self, batch: RemoteBatch) -> None:
        """Delete what the provider keeps of a batch whose results have been stored."""
