"""What a results file may be written as; its ending decides, or the name of the format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from ...errors import InputError
from ...records import Result
from .csv_table import CsvForm
from .jsonl import JsonLines
from .openai_batch import BatchRows

OPENAI_BATCH = "openai-batch"
# Endings of other formats. JSON Lines under such a name could be opened by no program that goes by it.
NOT_WRITTEN = (
    *(".xlsx", ".xls", ".xlsm", ".ods", ".numbers", ".parquet", ".feather", ".arrow", ".orc", ".avro"),
    *(".pkl", ".pickle", ".npy", ".h5", ".db", ".sqlite", ".sqlite3", ".duckdb", ".pdf", ".docx"),
    *(".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".tar", ".tgz"),
)


class Form(Protocol):
    """One way of writing results to a file, which a crash may have cut off anywhere."""

    def head(self) -> bytes:
        """What comes before the first row."""

    def encode(self, result: Result, *, simulated: bool) -> bytes:
        """One result's row."""

    def whole_bytes(self, path: Path) -> int:
        """The length of `path` up to the end of its last whole row. Raises InputError for a foreign file."""

    def pieces(self, path: Path) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
        """All of a mended file, oldest first: the bytes of each row, and the row with `id`, `status` and
        `simulated` at least; None for a header and for what is no row.
        """


def form_of(output: str, fmt: str | None = None, *, excel_safe: bool = False) -> Form:
    """The form for a results file of this name. Raises InputError where they don't go together."""
    suffix = Path(output).suffix.lower()
    if excel_safe and suffix not in CsvForm.DELIMITERS:
        raise InputError(f"--excel-safe is for a table, and {output} is none: let it end in .csv or .tsv")
    if suffix in NOT_WRITTEN:
        raise InputError(f"{output}: {suffix} is not written; let the output end in .jsonl, .csv or .tsv")
    if fmt == OPENAI_BATCH:
        if suffix in CsvForm.DELIMITERS:
            raise InputError(f"{output}: {OPENAI_BATCH} rows are JSON Lines; let the output end in .jsonl")
        return BatchRows()
    if suffix in CsvForm.DELIMITERS:
        return CsvForm(CsvForm.DELIMITERS[suffix], excel_safe=excel_safe)
    return JsonLines()
