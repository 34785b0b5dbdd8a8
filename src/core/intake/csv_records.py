"""The records of a CSV file: Python's reader over numbered lines, with the text of each record.

The delimiter (comma, semicolon, TAB or |) is the one that the header uses. Quoted cells may hold delimiters,
line ends and doubled quotes.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator

from ...errors import InputError
from .lines import MAX_LINE_BYTES, BadLine, Line

DELIMITERS = ",;\t|"
# The longest cell that Python's reader accepts, for the whole process; its default is 128 KiB.
csv.field_size_limit(max(csv.field_size_limit(), 2 * MAX_LINE_BYTES))

_SEPARATOR_LINE = re.compile(r"sep=(.)\s*$", re.IGNORECASE)  # names the delimiter to a spreadsheet


class Record:
    """The cells of one record, the line where it begins, and its text."""

    __slots__ = ("cells", "line", "text")

    def __init__(self, line: int, cells: list[str], text: str) -> None:
        self.line, self.cells, self.text = line, cells, text


class _Feed:
    """Feeds lines to Python's reader and keeps those of the current record."""

    def __init__(self, lines: Iterator[Line | BadLine]) -> None:
        self._lines = lines
        self.taken: list[str] = []
        self.first = self._chars = 0
        self.bad: BadLine | None = None  # a line of the record that is not text
        self.ended = False

    def begin(self) -> None:
        """Begin the next record."""
        self.taken.clear()
        self._chars = 0
        self.bad = None

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        line = next(self._lines, None)
        if line is None:
            self.ended = True
            raise StopIteration
        if isinstance(line, BadLine):  # read on to where the record ends
            self.bad = line
            line = line.line, line.text + "\n"
        self._take(*line)
        if self._chars > MAX_LINE_BYTES:
            raise _unclosed(self.first)
        return line[1]

    def _take(self, number: int, text: str) -> None:
        if not self.taken:
            self.first = number
        self.taken.append(text)
        self._chars += len(text)


class Records:
    """The records of a file. Blank ones are skipped."""

    def __init__(self, lines: Iterator[Line | BadLine]) -> None:
        first = next((line for line in lines if isinstance(line, BadLine) or line[1].strip()), None)
        self._delimiter = ","
        self._feed = _Feed(_again(first, lines))
        if isinstance(first, tuple):
            separator = _SEPARATOR_LINE.match(first[1])
            self._delimiter = separator[1] if separator else _delimiter_of(first[1])
            if separator:
                next(self._feed)
        self._reader = csv.reader(self._feed, delimiter=self._delimiter, strict=True)

    def __iter__(self) -> Records:
        return self

    def __next__(self) -> Record | BadLine:
        while True:
            self._feed.begin()
            try:
                cells = next(self._reader)
            except csv.Error as error:
                return self._broken(str(error))
            if self._feed.bad is not None:
                return BadLine(self._feed.bad.line, self._feed.bad.reason, self._text())
            if len(cells) > 1 or (cells and cells[0].strip()):
                return Record(self._feed.first, cells, self._text())

    def _broken(self, error: str) -> BadLine:
        """An invalid record; the next line begins a new one."""
        if self._feed.ended:
            raise _unclosed(self._feed.first)
        if "new-line character" in error:
            reason = "a carriage return outside quotes; line ends are LF or CRLF"
        else:
            reason = (
                f"expected {_named(self._delimiter)} or the end of the line after a closing quote; "
                "double a quote inside a quoted cell"
            )
        if len(self._feed.taken) > 1:
            reason = f"to line {self._feed.first + len(self._feed.taken) - 1}: {reason}"
        return BadLine(self._feed.first, reason, self._text())

    def _text(self) -> str:
        return "".join(self._feed.taken).rstrip("\r\n")


def _again(first: Line | BadLine | None, rest: Iterator[Line | BadLine]) -> Iterator[Line | BadLine]:
    if first is not None:
        yield first
    yield from rest


def _unclosed(line: int) -> InputError:
    return InputError("a quoted cell begins here and is never closed; add the closing quote", line=line)


def _delimiter_of(header: str) -> str:
    """The candidate that occurs most often outside quotes."""
    bare = re.sub(r'"[^"]*"', "", header)
    return max(DELIMITERS, key=bare.count)


def _named(delimiter: str) -> str:
    return {"\t": "TAB"}.get(delimiter, repr(delimiter))
