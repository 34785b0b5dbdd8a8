"""The records of a CSV file: Python's reader over numbered lines, with what each record was made of.

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
# The longest cell that Python's reader takes, for the whole process: 128 KiB unless told.
csv.field_size_limit(max(csv.field_size_limit(), 2 * MAX_LINE_BYTES))

_SEPARATOR_LINE = re.compile(r"sep=(.)\s*$", re.IGNORECASE)  # how a spreadsheet is told the delimiter


class Record:
    """The cells of one record, where it began, and the text it was made of."""

    __slots__ = ("cells", "line", "text")

    def __init__(self, line: int, cells: list[str], text: str) -> None:
        self.line, self.cells, self.text = line, cells, text


class _Feed:
    """Hands lines to Python's reader and remembers those of the record it is at."""

    def __init__(self, lines: Iterator[Line | BadLine]) -> None:
        self._lines = lines
        self.taken: list[str] = []
        self.first = self._chars = 0
        self.bad: BadLine | None = None  # a line of the record that is no text
        self.ended = False

    def begin(self) -> None:
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
    """The records of a file; one of blank lines alone is passed over."""

    def __init__(self, lines: Iterator[Line | BadLine]) -> None:
        first = next((line for line in lines if isinstance(line, BadLine) or line[1].strip()), None)
        self._delimiter = ","
        self._feed = _Feed(_again(first, lines))
        if isinstance(first, tuple):
            told = _SEPARATOR_LINE.match(first[1])
            self._delimiter = told[1] if told else _delimiter_of(first[1])
            if told:
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
        """A record that is none: the next line begins a new one."""
        if self._feed.ended:
            raise _unclosed(self._feed.first)
        if "new-line character" in error:
            reason = "a carriage return outside quotes; line ends are LF or CRLF"
        else:
            reason = (
                f"after a closing quote comes {_named(self._delimiter)} or the end of the line; "
                "a quote within a quoted cell is written twice"
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
    return InputError("a quoted cell begins here and does not end: close its quote", line=line)


def _delimiter_of(header: str) -> str:
    """The candidate that stands most often outside quotes."""
    bare = re.sub(r'"[^"]*"', "", header)
    return max(DELIMITERS, key=bare.count)


def _named(delimiter: str) -> str:
    return {"\t": "TAB"}.get(delimiter, repr(delimiter))
