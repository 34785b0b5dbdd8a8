"""Splits bytes into numbered lines of text; a line that is not text becomes a `BadLine`."""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ...errors import InputError, not_utf_8, unreadable

PACKED = ".gz"
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


def plain_name(path: Path) -> Path:
    """The name of a file without the ending of its compression."""
    return path.with_suffix("") if path.suffix.lower() == PACKED else path


def open_source(path: Path) -> BinaryIO | Unpacked:
    """Unpacks `.gz` while it is read. Raises InputError where the file cannot be read."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: {unreadable(error)}") from error
    return file if plain_name(path) == path else Unpacked(file)


class Unpacked(gzip.GzipFile):
    """A compressed file, which it closes with itself."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(fileobj=file, mode="rb")
        self._packed = file

    def close(self) -> None:
        super().close()
        self._packed.close()


def numbered(stream: BinaryIO | Unpacked) -> Iterator[Line | BadLine]:
    """Numbered lines of text with their ends, blank lines included; a BOM is dropped.

    Raises InputError for a file whose beginning is not text, and for broken compression.
    """
    return _unpacked(_numbered(stream)) if isinstance(stream, Unpacked) else _numbered(stream)


def _unpacked(lines: Iterator[Line | BadLine]) -> Iterator[Line | BadLine]:
    last = 0
    try:
        for line in lines:
            last = line.line if isinstance(line, BadLine) else line[0]
            yield line
    except EOFError as error:
        raise InputError("the gzip file is incomplete; copy or pack it again", line=last + 1) from error
    except (zlib.error, gzip.BadGzipFile) as error:
        is_other = isinstance(error, gzip.BadGzipFile) and not last
        what = "not a gzip file, though its name ends in .gz" if is_other else "the gzip file is damaged"
        raise InputError(f"{what} ({error})", line=last + 1) from error


def _numbered(stream: BinaryIO | Unpacked) -> Iterator[Line | BadLine]:
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
            yield BadLine(number, not_utf_8(error), text)


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


def _skip_rest(stream: BinaryIO | Unpacked, raw: bytes) -> None:
    while raw and not raw.endswith(b"\n"):
        raw = stream.readline(MAX_LINE_BYTES)
