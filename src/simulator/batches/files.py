"""Files that clients upload, and those that batches write."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from ..shapes import Json


@dataclass(slots=True)
class StoredFile:
    """A file. `made_at` is epoch seconds of the batch clock."""

    ident: str
    data: bytes
    name: str
    purpose: str
    made_at: float
    extra: Json = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Of its bytes, in hexadecimal digits."""
        return hashlib.sha256(self.data).hexdigest()


class FileStore:
    """The files of one provider."""

    def __init__(self) -> None:
        self._files: dict[str, StoredFile] = {}

    def clear(self) -> None:
        """Without files."""
        self._files.clear()

    def add(self, stored: StoredFile) -> StoredFile:
        """Keep a file."""
        self._files[stored.ident] = stored
        return stored

    def get(self, ident: str) -> StoredFile | None:
        """The file of that id."""
        return self._files.get(ident)

    def delete(self, ident: str) -> None:
        """Forget a file."""
        self._files.pop(ident, None)

    def newest_first(self) -> list[StoredFile]:
        """All files."""
        return list(self._files.values())[::-1]


async def read_at_most(chunks: AsyncIterator[bytes], most: float) -> bytes | None:
    """All bytes, or None where they are more. They are read to their end all the same, so that the client
    gets an answer instead of a broken connection."""
    data, size = bytearray(), 0
    async for chunk in chunks:
        size += len(chunk)
        if size <= most:
            data += chunk
    return bytes(data) if size <= most else None
