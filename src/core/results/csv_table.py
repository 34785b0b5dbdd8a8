"""Results as CSV: a header and one record per result, in the columns of `table_columns`.

RFC 4180: CRLF, doubled quotes. A cell may contain line ends, so the last whole record ends with the last line
end outside quotes, and the file is read from its beginning to find it.
"""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from ...records import Result
from ...storable import clean, is_clean
from .jsonl import not_results
from .rows import prompt_of, result_row, storable_row
from .table_columns import EARLIER_FIRST, SIMULATED, Layout, TableColumns, layout_of, new_layout

# Beginnings of cells that a spreadsheet calculates; some treat the full-width signs alike.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_BOM = b"\xef\xbb\xbf"  # a program that saved the file again may have added one
_LONGEST_HEADER_BYTES = 1 << 20
_ANY = TableColumns()


class CsvForm:
    """The CSV form of one results file. The first row, or the existing file, fixes its columns."""

    DELIMITERS: ClassVar = {".csv": ",", ".tsv": "\t", ".tab": "\t"}

    def __init__(
        self, delimiter: str = ",", *, excel_safe: bool = False, columns: TableColumns = _ANY
    ) -> None:
        """`excel_safe`: write an apostrophe before cells that a spreadsheet would calculate."""
        self._delimiter, self._excel_safe = delimiter, excel_safe
        self._columns = columns
        self._layout = new_layout(columns, simulated=False)
        # For the whole process; the default of 128 KiB is less than a cell may have.
        csv.field_size_limit(min(sys.maxsize, 2**31 - 1))

    def head(self, *, simulated: bool) -> bytes:
        """The header of a new file."""
        self._layout = new_layout(self._columns, simulated=simulated)
        return csv_line(self._layout.header, self._delimiter)

    def encode(self, result: Result, *, simulated: bool) -> bytes:
        """The record of a result."""
        row = result_row(result, simulated=simulated) | {"prompt": prompt_of(result.task)}
        text = self._record(result, row)
        if not is_clean(text):
            text = self._record(result, storable_row(row))
        return text.encode()

    def _record(self, result: Result, row: dict[str, Any]) -> str:
        cells = self._layout.values(result, row)
        if self._excel_safe:
            ids = self._layout.index("id")  # the id stays as it is
            cells = [cell if index == ids else guard(cell) for index, cell in enumerate(cells)]
        return csv_text(cells, self._delimiter)

    def whole_bytes(self, path: Path) -> int:
        """The length of the whole records, 0 without a result; also reads the columns. Raises InputError."""
        with path.open("rb") as file:
            begin = file.read(_LONGEST_HEADER_BYTES).removeprefix(_BOM)
        header = next(_whole_records(io.BytesIO(begin)), None)
        if header is None:
            if self._is_begin(begin):
                return 0
            raise not_results(path)
        layout = layout_of(self._cells(header), self._columns.own)
        if layout is None:
            raise not_results(path)
        self._layout = layout
        with path.open("rb") as file:
            lengths = [0, 0]  # of the header, and of all
            for number, record in enumerate(_whole_records(file)):
                lengths[number > 0] += len(record)
        return sum(lengths) if lengths[1] else 0

    def _is_begin(self, begin: bytes) -> bool:
        """Whether this is the beginning of a header, which a crash has cut off."""
        earlier = self._delimiter.join(EARLIER_FIRST).encode()
        headers = [self.head(simulated=simulated) for simulated in (False, True)]
        return begin.startswith(earlier) or any(head.startswith(begin) for head in (earlier, *headers))

    def pieces(self, path: Path) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
        """Each record with its row; None for the header and for invalid records."""
        layout: Layout | None = None
        with path.open("rb") as file:
            for number, record in enumerate(_whole_records(file)):
                cells = self._cells(record)
                if not number:
                    layout = layout_of(cells, self._columns.own)
                    yield record, None
                else:
                    yield record, None if layout is None else _row(layout, cells)

    def _cells(self, record: bytes) -> tuple[str, ...]:
        text = record.removeprefix(_BOM).decode(errors="replace")
        return tuple(next(csv.reader(io.StringIO(text, newline=""), delimiter=self._delimiter), ()))


def _row(layout: Layout, cells: tuple[str, ...]) -> dict[str, Any] | None:
    """What a record says of its result: `id`, `status` and `simulated`; None if it has too few cells."""
    if len(cells) != len(layout.header):
        return None
    found: dict[str, Any] = {}
    for key in ("id", "status", SIMULATED):
        index = layout.index(key)
        found[key] = "" if index is None else cells[index]
    return found | {SIMULATED: found[SIMULATED] == "true"}


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
    csv.writer(line, delimiter=delimiter).writerow(map(_plain, cells))
    return line.getvalue()


def _plain(cell: Any) -> Any:
    """Booleans as in JSON, and numbers without an exponent: dollars of one call are often that small."""
    if isinstance(cell, bool):
        return json.dumps(cell)
    if isinstance(cell, float) and math.isfinite(cell):
        return f"{Decimal(repr(cell)):f}"
    return cell


def _whole_records(file: BinaryIO) -> Iterator[bytes]:
    """All whole records: each ends with the first line end outside quotes."""
    lines: list[bytes] = []
    quotes = 0
    for line in file:
        lines.append(line)
        quotes += line.count(b'"')
        if not quotes % 2 and line.endswith(b"\n"):
            yield b"".join(lines)
            lines.clear()
            quotes = 0
