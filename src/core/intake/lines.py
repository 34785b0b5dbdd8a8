"""Splits bytes into numbered lines of text; a line that is not text becomes a `BadLine`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ...errors import InputError, unreadable

MAX_LINE_BYTES = 16 * 1024 * 1024  # a longer line is a file without line ends, not a prompt
KEPT_CHARS = 1_000  # of a line that is too long to be kept
JUDGED_BYTES = 8 * 1024  # the beginning of a file decides whether it is text
NOT_TEXT = "not text (NUL bytes)"


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is not a valid task. `line` counts from 1; `reason` says what is wrong and what is allowed.

    `text` is the line as it was read, for the file of rejected lines.
    """

    line: int
    reason: str
    text: str = field(default="", compare=False, repr=False)

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Row:
    """The fields of one task as a format's reader yields them, not yet validated.

    `filled`: the values that it fills into a template. `content`: what the first scheme makes an id of; None:
    the fields.
    """

    line: int
    fields: Mapping[str, Any]
    text: str
    content: Mapping[str, Any] | None = None
    filled: tuple[str, ...] | None = None


Line = tuple[int, str]


def open_source(path: Path) -> BinaryIO:
    """Raises InputError where the file cannot be read."""
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: {unreadable(error)}") from error


def numbered(stream: BinaryIO) -> Iterator[Line | BadLine]:
    """Numbered lines of text with their ends, blank lines included; a BOM is dropped.

    Raises InputError for a file whose beginning is not text.
    """
    seen_bytes = 0
    for number in itertools.count(1):
        raw = stream.readline(MAX_LINE_BYTES + 1)
        if not raw:
            return
        if number == 1:
            raw = _without_bom(raw)
        if len(raw) > MAX_LINE_BYTES:
            _skip_rest(stream, raw)
            beginning = raw[:KEPT_CHARS].decode(errors="replace")
            yield BadLine(number, f"longer than {MAX_LINE_BYTES // 2**20} MiB", beginning)
            continue
        if b"\0" in raw:
            if seen_bytes < JUDGED_BYTES:
                raise InputError("not a text file (NUL bytes); expected UTF-8", line=number)
            text = raw.rstrip(b"\r\n").decode(errors="backslashreplace")
            yield BadLine(number, NOT_TEXT, text)
            continue
        seen_bytes += len(raw)
        try:
            yield number, raw.decode()
        except UnicodeDecodeError as error:
            text = raw.rstrip(b"\r\n").decode(errors="backslashreplace")
            yield BadLine(number, f"not UTF-8 at byte {error.start + 1}", text)


def nonblank(lines: Iterator[Line | BadLine]) -> Iterator[Line | BadLine]:
    """The lines that are not blank, without their ends."""
    for line in lines:
        if isinstance(line, BadLine):
            yield line
        elif line[1].strip():
            yield line[0], line[1].rstrip("\r\n")


def _without_bom(raw: bytes) -> bytes:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError("the file is UTF-16; save it as UTF-8", line=1)
    return raw.removeprefix(b"\xef\xbb\xbf")


def _skip_rest(stream: BinaryIO, raw: bytes) -> None:
    while raw and not raw.endswith(b"\n"):
        raw = stream.readline(MAX_LINE_BYTES)
