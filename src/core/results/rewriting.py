"""Copies of a results file without some rows, or in another order."""

from __future__ import annotations

import os
from array import array
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

ROWS_AT_ONCE = 500  # in memory while a file is rewritten

Piece = tuple[bytes, dict[str, Any] | None]


def copy_without(pieces: Iterable[Piece], new: BinaryIO, ids: Collection[str]) -> tuple[int, int]:
    """Copy all rows but those of `ids` to `new`. Returns how many were left out, and its length in bytes."""
    dropped = 0

    def kept() -> Iterator[bytes]:
        nonlocal dropped
        for piece, row in pieces:
            if row is not None and str(row["id"]) in ids:
                dropped += 1
            else:
                yield piece

    size = _write(new, kept())
    return dropped, size


class RowOrder:
    """Where each row of a file is, and in which order they are wanted: 50 to 200 bytes for each row."""

    def __init__(self, pieces: Iterable[Piece], ids: Iterable[str]) -> None:
        """Rows of `ids` come first, in their order, then the others. A header stays at the beginning."""
        self._ends = array("Q")  # of each piece, in bytes
        numbers: dict[str, int] = {}
        end, has_header = 0, False
        for number, (piece, row) in enumerate(pieces):
            end += len(piece)
            self._ends.append(end)
            if row is not None:
                numbers.setdefault(str(row["id"]), number)
            elif not number:
                has_header = True
        self._wanted = array("Q", [0] if has_header else [])
        self._wanted.extend(numbers.pop(each) for each in ids if each in numbers)
        placed = bytearray(len(self._ends))
        for number in self._wanted:
            placed[number] = 1
        self._wanted.extend(number for number, is_placed in enumerate(placed) if not is_placed)

    @property
    def is_kept(self) -> bool:
        """Whether the file has this order already."""
        return all(number == place for place, number in enumerate(self._wanted))

    def copy(self, path: Path, new: BinaryIO) -> int:
        """Copy the rows of the file at `path` to `new`. Returns its length in bytes."""
        with path.open("rb") as file:
            return _write(new, (self._read(file, number) for number in self._wanted))

    def _read(self, file: BinaryIO, number: int) -> bytes:
        start = self._ends[number - 1] if number else 0
        file.seek(start)
        return file.read(self._ends[number] - start)


def write_all(file: BinaryIO, data: bytes) -> int:
    """Write all of `data`: an unbuffered file may write only a part at once."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
    return len(data)


def _write(new: BinaryIO, pieces: Iterable[bytes]) -> int:
    """Write the pieces to the disk, a few hundred at once. Returns their length in bytes."""
    size = 0
    waiting: list[bytes] = []
    for piece in pieces:
        waiting.append(piece)
        if len(waiting) == ROWS_AT_ONCE:
            size += write_all(new, b"".join(waiting))
            waiting.clear()
    size += write_all(new, b"".join(waiting))
    os.fsync(new.fileno())
    return size
