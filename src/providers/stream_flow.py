"""Bytes of a stream in, events out, without waiting: what a connection calls when something has come.

Events go to `offer` as long as it takes them; what it refuses is `pending`, for the task that awaits the
stream, and so are an error and the end of the answer.
"""

from __future__ import annotations

from collections.abc import Callable

from ..stream_events import Offer, StreamEvent
from .sse import EventParser
from .stream_reader import StreamReader


class StreamFlow:
    """One stream. `clean` takes out of an event that is passed on what nobody may see; None: none is."""

    def __init__(
        self,
        reader: StreamReader,
        most_bytes: int,
        offer: Offer,
        clean: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._reader, self._parser = reader, EventParser(most_bytes)
        self._offer, self._clean = offer, clean
        self.pending: list[StreamEvent] = []
        self.error: Exception | None = None  # behind `pending`

    def take(self, data: bytes) -> bool:
        """Bytes have come. False: there is something for the task."""
        found: list[StreamEvent] = []
        try:
            self._read(data, found)
        except Exception as error:  # noqa: BLE001 - this may be a callback; the task raises it again
            self.error = error
        if not (self._reader.terminated or self.error) and (not found or self._offer(found)):
            return True
        self.pending = found
        return False

    def end(self) -> None:
        """No more bytes come."""
        self.pending = []
        self.take(b"")

    def _read(self, data: bytes, found: list[StreamEvent]) -> None:
        reader, clean = self._reader, self._clean
        for event in self._parser.feed(data) if data else self._parser.rest():
            if reader.terminated:  # nothing follows the last event
                return
            if clean is not None and (raw := clean(event.raw)) is not event.raw:
                event = event._replace(data=clean(event.data), raw=raw)
            found.extend(reader.read(event))
