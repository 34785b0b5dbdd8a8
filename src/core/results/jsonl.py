"""Results as JSON Lines: a row is a line, so an incomplete last one is found from the end of the file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from pydantic_core import PydanticSerializationError, to_json

from ...errors import InputError
from ...records import Result
from .rows import result_row, storable_row

_LINE_ENDS = [(char.encode(), f"\\u{ord(char):04x}".encode()) for char in "\x85\u2028\u2029"]
FIRST_KEY = b'{"id"'  # the beginning of every row of a results file
CHUNK_BYTES = 1 << 16

Row = dict[str, Any]


class JsonLines:
    """The full row of a result, see `rows.result_row`."""

    def head(self, *, simulated: bool) -> bytes:
        """Nothing: there is no header."""
        return b""

    def encode(self, result: Result, *, simulated: bool) -> bytes:
        """The row of a result, as one line."""
        return encode_row(result_row(result, simulated=simulated))

    def whole_bytes(self, path: Path) -> int:
        """The length of the whole rows. Raises InputError for other files."""
        return whole_lines(path, _row_of)

    def pieces(self, path: Path) -> Iterator[tuple[bytes, Row | None]]:
        """Each line with its row; None for a line that is not one."""
        return pieces_of_lines(path, _row_of)


def _row_of(line: Mapping[str, Any]) -> Row | None:
    """The row; None for others, such as a batch row, which has a `custom_id`."""
    return dict(line) if "id" in line and "status" in line and "custom_id" not in line else None


def encode_row(row: Mapping[str, Any]) -> bytes:
    """One line of valid UTF-8. Unusual line ends are escaped, since some readers split at them."""
    try:
        line = to_json(row)
    except PydanticSerializationError:  # half of a surrogate pair, which other readers refuse even if escaped
        line = to_json(storable_row(row))
    for separator, escaped in _LINE_ENDS:
        if separator in line:
            line = line.replace(separator, escaped)
    return line + b"\n"


def whole_lines(path: Path, row_of: Callable[[Row], Row | None]) -> int:
    """Bytes up to the end of the last whole row; its line feed may be missing.

    Raises InputError for a file whose first line is not a row.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        first = file.readline()
        if not first.startswith(FIRST_KEY[: len(first)]):
            raise not_results(path)
        if first.endswith(b"\n") and _parse(first, row_of) is None:
            raise InputError(
                f"{path}: holds rows of another format; choose another output or the matching --format"
            )
        whole = _end_of_last_line(file, size)
        file.seek(whole)
        return whole if _parse(file.read(), row_of) is None else size


def pieces_of_lines(path: Path, row_of: Callable[[Row], Row | None]) -> Iterator[tuple[bytes, Row | None]]:
    """Each line with its row, with one line in memory at a time."""
    with path.open("rb") as file:
        for line in file:
            yield line, _parse(line, row_of)


def not_results(path: Path) -> InputError:
    """The error for an existing file of something else."""
    return InputError(f"{path}: exists and does not hold results; choose another output")


def _parse(line: bytes, row_of: Callable[[Row], Row | None]) -> Row | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row_of(row) if isinstance(row, dict) else None


def _end_of_last_line(file: BinaryIO, size: int) -> int:
    """The offset after the last line feed, found from the end so that a large file is not read."""
    end = size
    while end > 0:
        start = max(0, end - CHUNK_BYTES)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
