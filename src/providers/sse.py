"""Server-sent events out of bytes, in whatever pieces they come. Pure.

As the WHATWG HTML standard (9.2.6) reads them, with these limits: `id` and `retry` are ignored, an event
without data is none, and one of more than `most_bytes` is refused. What stands behind the last blank line is
an event too where the stream ends there, since some servers forget that line; its reader decides whether it
is whole.
"""

from __future__ import annotations

from typing import NamedTuple

_BOM = b"\xef\xbb\xbf"


class ServerSentEvent(NamedTuple):
    """One event. `raw` is what was received, with LF at the end of each line but the last."""

    name: bytes
    data: bytes
    raw: bytes


class EventTooLong(ValueError):
    """An event without an end within the limit."""


class EventParser:
    """Reads the events of one stream; holds nothing but the event that is still incomplete."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._held = bytearray()  # of an incomplete event
        self._at_start = True
        self._ends_with_cr = False  # a LF that follows belongs to it

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """The events that are whole with these bytes. Raises EventTooLong."""
        if self._ends_with_cr or b"\r" in data:
            data = self._with_line_feeds(data)
        held = self._held
        if held:
            searched = len(held) - 1  # the blank line may have begun
            held += data
            if held.find(b"\n\n", searched) < 0:
                self._check_length()
                return []
            data = bytes(held)
            held.clear()
        *whole, rest = data.split(b"\n\n")
        found: list[ServerSentEvent] = []
        for raw in whole:
            self._add(found, raw)
        if rest:
            held += rest
            self._check_length()
        return found

    def rest(self) -> list[ServerSentEvent]:
        """At the end of the stream: the last event, where no blank line follows it."""
        found: list[ServerSentEvent] = []
        self._add(found, bytes(self._held))
        self._held.clear()
        return found

    def _with_line_feeds(self, data: bytes) -> bytes:
        if self._ends_with_cr and data:
            data = data.removeprefix(b"\n")
            self._ends_with_cr = False
        self._ends_with_cr = self._ends_with_cr or data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _check_length(self) -> None:
        if len(self._held) > self._most_bytes:
            self._held.clear()
            raise EventTooLong(f"an event is longer than {self._most_bytes / 1e6:g} MB")

    def _add(self, found: list[ServerSentEvent], raw: bytes) -> None:
        if self._at_start:
            self._at_start = False
            raw = raw.removeprefix(_BOM)
        raw = raw.strip(b"\n")
        if raw.startswith(b"data: ") and b"\n" not in raw:
            found.append(ServerSentEvent(b"", raw[6:], raw))  # nearly always
            return
        name, lines = b"", []
        for line in raw.split(b"\n"):
            field, _, value = line.partition(b":")
            if field == b"data":
                lines.append(value.removeprefix(b" "))
            elif field == b"event":
                name = value.removeprefix(b" ")
        if lines:
            found.append(ServerSentEvent(name, b"\n".join(lines), raw))
