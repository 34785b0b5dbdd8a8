"""Result rows as JSON Lines, CSV or lines of OpenAI's Batch API, and the file they are appended to.

The store holds the results; the file is a copy that may be cut, completed and even deleted: a resumed run
writes what is missing. A row is written in one piece, so a crash can damage only the last row, which is cut
when the file is opened again.
"""

from __future__ import annotations

from .csv_table import csv_line, guard
from .file import STDOUT, ResultsFile, holds_simulated, real_path, refuse_special
from .forms import Form, form_of, is_table
from .jsonl import encode_row
from .parquet_file import pack, rows_path, unpack
from .rows import attempt_row, latency_s, prompt_of, result_row, usage_row, usd
from .table_columns import ATTEMPTS, COLUMNS, METADATA, TOOL_CALLS, USAGE, TableColumns, flat_row

__all__ = [
    "ATTEMPTS",
    "COLUMNS",
    "METADATA",
    "TOOL_CALLS",
    "STDOUT",
    "USAGE",
    "Form",
    "ResultsFile",
    "TableColumns",
    "attempt_row",
    "csv_line",
    "encode_row",
    "flat_row",
    "form_of",
    "guard",
    "holds_simulated",
    "is_table",
    "latency_s",
    "pack",
    "prompt_of",
    "real_path",
    "refuse_special",
    "result_row",
    "rows_path",
    "unpack",
    "usage_row",
    "usd",
]
