"""The content of a body out of its chunks (RFC 9112, 7.1), in whatever pieces they come. Pure.

Only what nearly all servers send is read here: a size in hexadecimal, its line and each chunk ended by CRLF.
At the last chunk, and at anything else, `is_plain` becomes False, and another parser goes on with `rest`:
what it gets begins like a chunk.
"""

from __future__ import annotations

import re

_NEXT = re.compile(rb"\r\n([0-9a-fA-F]{1,8})\r\n").match  # the end of a chunk and the head of the next one
_BEGINS = re.compile(rb"\r?|\r\n[0-9a-fA-F]{0,8}\r?").fullmatch  # as much of that may have come
_CRLF = b"\r\n"


class Chunks:
    """One body. Holds no content, at most the incomplete head of a chunk."""

    def __init__(self) -> None:
        self._held = _CRLF  # as if a chunk had ended before the first
        self._left = 0  # bytes of the open chunk that have not come
        self.is_plain = True

    def feed(self, data: bytes) -> bytes:
        """The content in these bytes. Not to be called once `is_plain` is False."""
        if not self._left:
            data = self._held + data
        found: list[bytes] = []
        at = 0
        while True:
            if self._left:
                found.append(data[at : at + self._left])
                taken = len(found[-1])
                self._left -= taken
                at += taken
                if self._left:
                    break
            head = _NEXT(data, at)
            if head is None:
                self._held = data[at:]
                self.is_plain = _BEGINS(self._held) is not None
                break
            self._left, at = int(head[1], 16), head.end()
            if not self._left:
                self._held, self.is_plain = data[head.start() :], False
                break
        return found[0] if len(found) == 1 else b"".join(found)

    def rest(self) -> bytes:
        """What another parser reads before the bytes that follow."""
        if self._left:
            return b"%x\r\n" % self._left  # the rest of the open chunk as one of its own
        if self._held.startswith(_CRLF):
            return self._held[len(_CRLF) :]
        if _CRLF.startswith(self._held):
            return b""  # the connection has ended there
        return b"!" + self._held  # a chunk is longer than its size: no parser may take this for a size
