"""Results as CSV: a header and one record per result, with the columns of the input file at the end.

RFC 4180: CRLF, doubled quotes. A cell may contain line ends, so the last whole record ends with the last line
end outside quotes, and the file is read from its beginning to find it.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from ...records import Result
from ...storable import clean, is_clean
from .jsonl import not_results
from .rows import result_row, storable_row

COLUMNS = (
    "id", "line", "status", "output", "finish_reason", "truncated", "error", "warnings", "provider", "model",
    "agent", "task_type", "tier", "cost_usd", "latency_s", "simulated",
    "deduplicated_from",
)  # fmt: skip
USAGE = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
ATTEMPTS = "attempts"  # their number
METADATA = "metadata"  # as JSON: all that has no column of its own
OWN = METADATA + "."  # before the name of an input column that a result column has too
FIRST = ("id", "line", "status", "output")  # the beginning of the header of a results file

_OURS = frozenset([*COLUMNS, *USAGE, ATTEMPTS, METADATA])
# Beginnings of cells that a spreadsheet calculates; some treat the full-width signs alike.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_BOM = b"\xef\xbb\xbf"  # a program that saved the file again may have added one


class CsvForm:
    """The CSV form of one results file. The first row, or the existing file, fixes its header."""

    DELIMITERS: ClassVar = {".csv": ",", ".tsv": "\t", ".tab": "\t"}

    def __init__(self, delimiter: str = ",", *, excel_safe: bool = False) -> None:
        """`excel_safe`: write an apostrophe before cells that a spreadsheet would calculate."""
        self._delimiter, self._excel_safe = delimiter, excel_safe
        self._own: tuple[str, ...] = ()
        self._header: tuple[str, ...] = ()
        # For the whole process; the default of 128 KiB is less than a cell may have.
        csv.field_size_limit(min(sys.maxsize, 2**31 - 1))

    def add_columns(self, names: Iterable[str]) -> None:
        """Columns of the input file, for the next header that is written."""
        self._own = tuple(OWN + name if name in _OURS else name for name in names)

    def head(self) -> bytes:
        """The header."""
        self._header = (*COLUMNS, *USAGE, ATTEMPTS, *self._own, METADATA)
        return csv_line(self._header, self._delimiter)

    def encode(self, result: Result, *, simulated: bool) -> bytes:
        """The record of a result."""
        row = result_row(result, simulated=simulated)
        text = csv_text(self._cells_of(row), self._delimiter)
        if not is_clean(text):
            text = csv_text(self._cells_of(storable_row(row)), self._delimiter)
        return text.encode()

    def _cells_of(self, row: Mapping[str, Any]) -> list[Any]:
        """In the order of the header."""
        cells = flat_row(row)
        rest = {}
        for name, value in row["metadata"].items():
            own = OWN + name if name in _OURS else name
            if own in self._header:
                cells[own] = value if isinstance(value, str) else _json(value)
            else:
                rest[name] = value
        cells[METADATA] = _json(rest) if rest else ""
        line = [cells.get(name, "") for name in self._header]
        return [line[0], *map(guard, line[1:])] if self._excel_safe else line  # the id stays as it is

    def whole_bytes(self, path: Path) -> int:
        """The length of the whole records; also reads the existing header. Raises InputError."""
        begin = self._delimiter.join(FIRST).encode()
        with path.open("rb") as file:
            first = file.read(len(_BOM) + len(begin) + 1).removeprefix(_BOM)
        if not first.startswith(begin[: len(first)]):
            raise not_results(path)
        whole = 0
        for record in _whole_records(path):
            if not whole:
                self._header = self._cells(record)
            whole += len(record)
        return whole

    def pieces(self, path: Path) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
        """Each record with its row; None for the header and for invalid records."""
        header: tuple[str, ...] = ()
        for record in _whole_records(path):
            cells = self._cells(record)
            if header and len(cells) == len(header):
                row: dict[str, Any] = dict(zip(header, cells, strict=True))
                yield record, {**row, "simulated": row.get("simulated") == "true"}
            else:
                header = header or cells
                yield record, None

    def _cells(self, record: bytes) -> tuple[str, ...]:
        text = record.removeprefix(_BOM).decode(errors="replace")
        return tuple(next(csv.reader(io.StringIO(text, newline=""), delimiter=self._delimiter), ()))


def flat_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A result's row as cells."""
    cells = {name: row.get(name) for name in COLUMNS}
    cells |= {name: row["usage"][name] for name in USAGE}
    cells["warnings"] = "; ".join(row["warnings"])
    cells[ATTEMPTS] = len(row["attempts"])
    cells[METADATA] = _json(row["metadata"]) if row["metadata"] else ""
    return cells


def guard(value: Any) -> Any:
    """Mark a formula as text; numbers stay as they are."""
    if not (isinstance(value, str) and value.startswith(_FORMULA)):
        return value
    try:
        float(value)
    except ValueError:
        return "'" + value
    return value


def csv_line(cells: Iterable[Any], delimiter: str = ",") -> bytes:
    """One record as valid UTF-8."""
    return clean(csv_text(cells, delimiter)).encode()


def csv_text(cells: Iterable[Any], delimiter: str) -> str:
    """One record with its line end."""
    line = io.StringIO()
    plain = (json.dumps(cell) if isinstance(cell, bool) else cell for cell in cells)
    csv.writer(line, delimiter=delimiter).writerow(plain)
    return line.getvalue()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _whole_records(path: Path) -> Iterator[bytes]:
    """All whole records: each ends with the first line end outside quotes."""
    lines: list[bytes] = []
    quotes = 0
    with path.open("rb") as file:
        for line in file:
            lines.append(line)
            quotes += line.count(b'"')
            if not quotes % 2 and line.endswith(b"\n"):
                yield b"".join(lines)
                lines.clear()
                quotes = 0
