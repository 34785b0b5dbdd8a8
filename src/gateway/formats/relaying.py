"""What the three stream writers share: whether a stream is relayed or written anew.

The first event with something in it decides. One with `raw` comes from the API of the caller, and so do all
that follow: their bytes go out as they came. Otherwise each event is written in the caller's API.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from ...errors import InvalidResponse
from ...messages import Reasoning
from ...records import Completion
from ...stream_events import Finished, Passed, StreamEvent, deltas_of
from .base import Served
from .writing import comment


class Writer(ABC):
    """One stream, as `StreamWriter`."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._relays: bool | None = None
        self._wholes = 0  # how much reasoning has been written with what is opaque in it

    def event(self, event: StreamEvent) -> bytes:
        """As `StreamWriter.event`. Raises InvalidResponse for deltas that no stream of the API can hold."""
        if self._relays:
            return self._relayed(event.raw) if event.raw else b""
        if self._relays is None:
            return self._first(event)
        return self._written(event)

    def _unwritten(self, completion: Completion) -> Iterator[tuple[int, Reasoning]]:
        """Reasoning that the model wants back and that no delta has brought, with its place in the answer."""
        found = [
            (place, part)
            for place, part in enumerate(completion.parts)
            if isinstance(part, Reasoning) and part.opaque
        ]
        yield from found[self._wholes :]

    def _first(self, event: StreamEvent) -> bytes:
        if event.raw:
            self._relays = True
            return self._relayed(event.raw)
        if type(event) is Passed:
            return b""
        self._relays = False
        opening = self._opening(event)
        if type(event) is not Finished:
            return opening + self._written(event)
        return opening + b"".join(map(self._written, (*deltas_of(event.completion), event)))

    @abstractmethod
    def _opening(self, event: StreamEvent) -> bytes:
        """What stands before everything else; `event` is the first."""

    @abstractmethod
    def _written(self, event: StreamEvent) -> bytes:
        """An event that has no `raw`."""

    def _relayed(self, raw: bytes) -> bytes:
        return raw + b"\n\n"

    def end(self, comment_text: str) -> bytes:
        """As `StreamWriter.end`."""
        return comment(comment_text)


def mixed_up() -> InvalidResponse:
    """More of a tool call behind which something else has begun."""
    return InvalidResponse("the provider continued a tool call that had ended")
