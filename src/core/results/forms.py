"""The forms of a results file. Its suffix decides, or the name of a format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from ...errors import InputError
from ...records import Result
from ..intake.parquet import is_parquet
from .csv_table import CsvForm
from .jsonl import JsonLines
from .openai_batch import BatchRows
from .table_columns import TableColumns

OPENAI_BATCH = "openai-batch"
_ANY = TableColumns()
# Suffixes of other formats. A program that opens such a file by its suffix could not read JSON Lines.
NOT_WRITTEN = (
    *(".xlsx", ".xls", ".xlsm", ".ods", ".numbers", ".feather", ".arrow", ".orc", ".avro"),
    *(".pkl", ".pickle", ".npy", ".h5", ".db", ".sqlite", ".sqlite3", ".duckdb", ".pdf", ".docx"),
    *(".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".tar", ".tgz"),
)


class Form(Protocol):
    """One way to write results to a file, which a crash may cut off anywhere."""

    def head(self, *, simulated: bool) -> bytes:
        """The bytes before the first row."""

    def encode(self, result: Result, *, simulated: bool) -> bytes:
        """The row of a result."""

    def whole_bytes(self, path: Path) -> int:
        """The length of `path` up to the end of its last whole row. Raises InputError for a foreign file."""

    def pieces(self, path: Path) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
        """All of a file without an incomplete last row, oldest first.

        Yields the bytes of each row, and the row with `id`, `status` and `simulated` at least; None for a
        header and for anything else.
        """


def is_table(output: str) -> bool:
    """Whether a results file of this name has columns."""
    path = Path(output)
    return is_parquet(path) or path.suffix.lower() in CsvForm.DELIMITERS


def form_of(
    output: str,
    fmt: str | None = None,
    *,
    excel_safe: bool = False,
    columns: TableColumns = _ANY,
) -> Form:
    """The form for a results file of this name. Raises InputError where name and options do not fit."""
    suffix = Path(output).suffix.lower()
    if suffix not in CsvForm.DELIMITERS:
        for option, is_given in (("--excel-safe", excel_safe), ("--columns all", columns.all)):
            if is_given:
                raise InputError(f"{option} needs a table: end {output} in .csv or .tsv")
    if suffix in NOT_WRITTEN:
        raise InputError(
            f"{output}: {suffix} files are not supported; end the name in .jsonl, .csv, .tsv or .parquet"
        )
    if fmt == OPENAI_BATCH:
        if suffix in CsvForm.DELIMITERS:
            raise InputError(f"{output}: {OPENAI_BATCH} rows are JSON Lines; end the name in .jsonl")
        return BatchRows()
    if suffix in CsvForm.DELIMITERS:
        return CsvForm(CsvForm.DELIMITERS[suffix], excel_safe=excel_safe, columns=columns)
    return JsonLines()
