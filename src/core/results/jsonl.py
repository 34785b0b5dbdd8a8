"""Results as JSON Lines: a row is one line, so a torn last one is found from the end of the file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

from ...errors import InputError

FIRST_KEY = b'{"id"'  # what every row of a results file begins with
CHUNK_BYTES = 1 << 16


def encode_row(row: dict[str, Any]) -> bytes:
    """One line of UTF-8. What would break a reader that splits at every kind of line end is escaped."""
    text = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
    for separator in ("\x85", "\u2028", "\u2029"):
        if separator in text:
            text = text.replace(separator, f"\\u{ord(separator):04x}")
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair in a provider's answer: keep it, escaped
        return json.dumps(row, separators=(",", ":")).encode() + b"\n"


def mend(file: BinaryIO, path: Path) -> int:
    """Check that the file is one of results and cut its torn last line; its length in bytes."""
    file.seek(0, os.SEEK_END)
    size = file.tell()
    if size == 0:
        return 0
    file.seek(0)
    if not file.read(len(FIRST_KEY)).startswith(FIRST_KEY[:size]):
        raise InputError(f"{path}: exists and does not hold results; choose another output")
    whole = _end_of_last_line(file, size)
    if whole == size:
        return size
    file.seek(whole)
    if parse_row(file.read(size - whole)) is None:
        os.ftruncate(file.fileno(), whole)
        return whole
    file.write(b"\n")  # a whole row whose line feed was lost
    return size + 1


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


def parse_row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and "id" in row and "status" in row else None
