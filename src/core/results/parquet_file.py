"""Results as a Parquet file, to which no row can be appended.

Until a run has finished its file, the rows are in a CSV table beside it, `NAME.parquet.rows.csv`. A finished
table becomes the Parquet file and is removed. A later run makes it again from the Parquet file, so both are
resumed alike. Each step writes a hidden file first, which then replaces the old one: a kill leaves the old
file, or the table, or both, and the table is never older.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from ...errors import InputError, StoreError
from ..intake.lines import BadLine
from ..intake.own_columns import RETURNED_FIELDS, OwnColumns
from ..intake.parquet import is_parquet, load_pyarrow, parquet_records
from .csv_table import csv_line
from .file import real_path
from .jsonl import not_results
from .table_columns import ATTEMPTS, DATA, OURS, SIMULATED, USAGE, Cell, Layout, layout_of

ROWS_OF_A_GROUP = 5_000  # in memory
_Read = Callable[[str], Any]
_KINDS: dict[str, tuple[str, _Read]] = {  # the type in pyarrow, and how the text is read
    **dict.fromkeys(["cost_usd", "latency_s"], ("float64", float)),
    **dict.fromkeys(["line", *USAGE, ATTEMPTS], ("int64", int)),
    **dict.fromkeys(["truncated", SIMULATED], ("bool_", "true".__eq__)),
}


def rows_path(output: str) -> Path:
    """Where rows are appended for this results file."""
    path = Path(output)
    return path.with_name(path.name + ".rows.csv") if is_parquet(path) else path


def unpack(output: str, own: OwnColumns) -> None:
    """Make the table of a Parquet file, if that is one and has no table. Raises InputError."""
    path, rows = Path(output), rows_path(output)
    if rows == path:
        return
    load_pyarrow(path)
    if rows.exists() or not path.exists():
        return
    try:
        with _replacing(rows) as new:
            for number, record in enumerate(parquet_records(path)):
                if isinstance(record, BadLine) or (not number and layout_of(record.cells, own) is None):
                    raise not_results(path)
                new.write(csv_line(record.cells))
    except OSError as error:
        raise InputError(f"{rows}: cannot be written ({error.strerror or error})") from error


def pack(output: str, own: OwnColumns) -> None:
    """Make the Parquet file of a table, and remove the table. Raises StoreError and leaves the table then."""
    path, rows = Path(output), rows_path(output)
    pa, parquet = load_pyarrow(path)
    try:
        with rows.open(encoding="utf-8", newline="") as file, _replacing(path) as new:
            records = csv.reader(file)
            header = next(records, [])
            layout = layout_of(header, own) or Layout((), ())
            columns = [_column(cell, pa) for cell in layout.cells]
            schema = pa.schema([(name, kind) for name, (kind, _) in zip(header, columns, strict=False)])
            with parquet.ParquetWriter(new, schema) as writer:
                while group := list(islice(records, ROWS_OF_A_GROUP)):
                    writer.write_batch(pa.record_batch(_arrays(group, columns, pa), schema=schema))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be written ({error}); its rows are in {rows}") from error
    rows.unlink()


def _arrays(group: Sequence[Sequence[str]], columns: Sequence[tuple[Any, _Read]], pa: Any) -> list[Any]:
    cells = zip(*group, strict=True)
    return [
        pa.array([read(cell) for cell in column], kind)
        for column, (kind, read) in zip(cells, columns, strict=True)
    ]


def _column(cell: Cell, pa: Any) -> tuple[Any, _Read]:
    """The type of a column, and how its cells are read. An empty cell of ours is null."""
    if cell.kind == DATA or cell.key in RETURNED_FIELDS:
        return pa.string(), str
    key = cell.key if cell.kind == OURS else ""
    kind, read = _KINDS.get(key, ("string", str))
    return getattr(pa, kind)(), lambda text: read(text) if text else None


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file with permissions 0600 that replaces the one at `path` if the block succeeds."""
    path = real_path(path)
    aside = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as new:
            yield new
            new.flush()
            os.fsync(new.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
