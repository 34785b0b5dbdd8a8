"""CSV: the columns that are keys of a task are its fields, the others come back with the result.

The delimiter (comma, semicolon, TAB or |) is the one that the header uses. Quoted cells may hold delimiters,
line ends and doubled quotes. An empty cell is a key that is not given.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ...errors import InputError
from .fields import TaskFields
from .json_text import parse_json
from .lines import MAX_LINE_BYTES, BadLine, Line, Row
from .sentences import near_key, shown
from .template import Template

DELIMITERS = ",;\t|"
PROMPT_KEYS = ("prompt", "messages")
# The longest cell that Python's reader takes, for the whole process: 128 KiB unless told.
csv.field_size_limit(max(csv.field_size_limit(), 2 * MAX_LINE_BYTES))

_SEPARATOR_LINE = re.compile(r"sep=(.)\s*$", re.IGNORECASE)  # how a spreadsheet is told the delimiter
_WHOLE = re.compile(r"[+-]?\d+(\.0+)?")


def read_csv(
    lines: Iterator[Line | BadLine],
    *,
    template: Template | None = None,
    on_warning: Callable[[str], None] = lambda _: None,
    on_columns: Callable[[tuple[str, ...]], None] = lambda _: None,
) -> Iterator[Row | BadLine]:
    """The rows of a CSV file. `on_columns` is told the columns that come back with each result.

    Raises InputError for a header that can't be meant, and where the quoting is broken beyond a row.
    """
    records = _Records(lines)
    header = next(records, None)
    if header is None:
        return
    if isinstance(header, BadLine):
        raise InputError(f"the header: {header.reason}", line=header.line)
    columns = _Columns(header, template, on_warning)
    on_columns(columns.returned)
    for record in records:
        yield record if isinstance(record, BadLine) else columns.row(record)


# ------------------------------------------------------------------ records


class _Record:
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


class _Records:
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

    def __iter__(self) -> _Records:
        return self

    def __next__(self) -> _Record | BadLine:
        while True:
            self._feed.begin()
            try:
                cells = next(self._reader)
            except csv.Error as error:
                return self._broken(str(error))
            if self._feed.bad is not None:
                return BadLine(self._feed.bad.line, self._feed.bad.reason, self._text())
            if len(cells) > 1 or (cells and cells[0].strip()):
                return _Record(self._feed.first, cells, self._text())

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


# ------------------------------------------------------------------ columns


class _Columns:
    """What each column of a file is for."""

    def __init__(self, header: _Record, template: Template | None, on_warning: Callable[[str], None]) -> None:
        self._template = template
        self._names = _names(header)
        own_prompt = PROMPT_KEYS if template is not None else ()
        keys = [name for name in TaskFields.model_fields if name not in own_prompt]
        if template is None:
            self._check_prompt(header.line)
        else:
            template.check(self._names)
        used = () if template is None else template.columns
        others = [name for name in self._names if name not in keys]
        for name in others:
            if name not in used:
                _check_name(name, keys, header.line, on_warning)
        self.returned = tuple(others)
        self._keys = tuple(name for name in self._names if name in keys)

    def _check_prompt(self, line: int) -> None:
        if not any(key in self._names for key in PROMPT_KEYS):
            near = next((name for name in self._names if near_key(name, PROMPT_KEYS)), "")
            raise InputError(
                f"no column 'prompt' among {', '.join(map(repr, self._names))}"
                + (f"; rename {near!r}" if near else "")
                + ", or fill a template (--prompt-file)",
                line=line,
            )

    def row(self, record: _Record) -> Row | BadLine:
        if len(record.cells) != len(self._names):
            what = "cell" if len(record.cells) == 1 else "cells"
            reason = (
                f"{len(record.cells)} {what} for {len(self._names)} columns; a cell with a delimiter or a "
                "line end in it is put in double quotes"
            )
            return BadLine(record.line, reason, record.text)
        cells = dict(zip(self._names, record.cells, strict=True))
        try:
            return Row(record.line, self._fields(cells), record.text, content=cells)
        except InputError as error:
            return BadLine(record.line, error.what, record.text)

    def _fields(self, cells: Mapping[str, str]) -> dict[str, Any]:
        fields = {key: _READ.get(key, _text)(key, cells[key]) for key in self._keys if cells[key].strip()}
        if self._template is not None:
            fields["prompt"] = self._template.fill(cells)
        elif "prompt" in cells and "messages" not in fields:
            fields.setdefault("prompt", cells["prompt"])
        others = {name: cells[name] for name in self.returned}
        if others and isinstance(fields.setdefault("metadata", {}), dict):
            fields["metadata"] |= others
        return fields


def _names(header: _Record) -> tuple[str, ...]:
    """The header's cells; a column without a name is called by its number. Raises InputError."""
    names = [cell.strip() or f"column_{n}" for n, cell in enumerate(header.cells, 1)]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise InputError(
                f"columns {names.index(name) + 1} and {index + 1} are both called {shown(name)}; "
                "rename one of them",
                line=header.line,
            )
    return tuple(names)


def _check_name(name: str, keys: Sequence[str], line: int, on_warning: Callable[[str], None]) -> None:
    """A column that is a slip of the pen is an error; one that might be meant is told once."""
    near = near_key(name, keys)
    if not near:
        return
    if near.startswith(name):  # `model`, `message`, `choice`: words of their own
        on_warning(f"column {name!r} comes back with the results as it is; the key of a task is {near!r}")
        return
    raise InputError(f"unknown column {shown(name)}; did you mean {near!r}? Rename it", line=line)


# ------------------------------------------------------------------ cells


def _text(_key: str, cell: str) -> str:
    return cell


def _word(_key: str, cell: str) -> str:
    return cell.strip()


def _whole(key: str, cell: str) -> int:
    """`512.0` is how some programs write a whole number beside empty cells."""
    if not _WHOLE.fullmatch(cell.strip()) or len(cell) > 30:
        raise InputError(f"{key!r} must be a whole number, not {shown(cell)}")
    return int(cell.strip().partition(".")[0])


def _number(key: str, cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise InputError(f"{key!r} must be a number such as 0.5, not {shown(cell)}") from None


def _json(key: str, cell: str) -> Any:
    try:
        return parse_json(cell)
    except InputError as error:
        raise InputError(f"{key!r}: {error.what}") from None


def _list(key: str, cell: str) -> Any:
    """A JSON list, or words with commas between them."""
    if cell.lstrip().startswith("["):
        return _json(key, cell)
    return [word.strip() for word in cell.split(",") if word.strip()]


def _stop(key: str, cell: str) -> Any:
    """A comma may well be what to stop at."""
    return _json(key, cell) if cell.lstrip().startswith("[") else [cell]


_READ: dict[str, Callable[[str, str], Any]] = {
    **dict.fromkeys(["id", "task_type", "tier"], _word),
    **dict.fromkeys(["max_tokens", "priority"], _whole),
    **dict.fromkeys(["temperature", "deadline_s"], _number),
    **dict.fromkeys(["models", "providers", "choices"], _list),
    **dict.fromkeys(["messages", "metadata", "response_schema"], _json),
    "stop": _stop,
}
