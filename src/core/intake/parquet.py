"""Parquet files: tables whose cells become the text that a CSV file would have.

pyarrow reads them. It is an extra, since few need its 170 MB.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from .csv_records import Record
from .lines import BadLine

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIX = ".parquet"
ROWS_AT_ONCE = 500  # in memory
INSTALL = "pip install pyarrow"


def is_parquet(source: object) -> bool:
    """Whether this is the path of a Parquet file."""
    return isinstance(source, Path) and source.suffix.lower() == SUFFIX


def load_pyarrow(path: Path) -> tuple[Any, Any]:
    """`pyarrow` and `pyarrow.parquet`. Raises InputError if they are not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(f"{path}: Parquet files need pyarrow: {INSTALL}") from error
    return pyarrow, pyarrow.parquet


def parquet_records(path: Path) -> Iterator[Record | BadLine]:
    """The names of the columns as the first record, then the rows, which count from 1. Raises InputError."""
    pa, parquet = load_pyarrow(path)
    number = 0
    try:
        with path.open("rb") as stream, parquet.ParquetFile(stream) as file:
            names = [str(name) for name in file.schema_arrow.names]
            yield Record(1, names, "")
            for batch in file.iter_batches(ROWS_AT_ONCE):
                columns = [_values(column) for column in batch.columns]
                for values in zip(*columns, strict=True):
                    number += 1
                    yield _record(number, names, values)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"cannot be read as Parquet: {reason}", line=number + 1) from error


def _values(column: pa.Array) -> list[Any]:
    import pyarrow as pa

    if pa.types.is_temporal(column.type):  # its nanoseconds do not fit Python's own types
        column = column.cast(pa.string())
    found: list[Any] = column.to_pylist()
    return found


def _record(number: int, names: list[str], values: tuple[Any, ...]) -> Record | BadLine:
    cells = []
    for name, value in zip(names, values, strict=True):
        try:
            cells.append(_text(value))
        except (TypeError, ValueError):
            return BadLine(number, f"column {name!r} holds {type(value).__name__}, not text or numbers")
    return Record(number, cells, json.dumps(dict(zip(names, cells, strict=True)), ensure_ascii=False))


def _text(value: Any) -> str:
    """The cell as text: empty for null, JSON for lists and objects. Raises TypeError for binary values."""
    if value is None or value != value:  # NaN, which some programs write for a missing number
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | list | dict):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bytes):
        raise TypeError
    return str(value)
