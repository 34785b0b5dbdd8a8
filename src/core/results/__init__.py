"""Results as rows of JSON Lines, and the file they are appended to.

The store is the truth; the file is a copy of it that a user can read, so it may be cut, completed and even
deleted: a resumed run writes what is missing. A row is written in one piece and ends with a line feed, so
the only damage a crash can do is one torn last line, which is cut when the file is opened again.
"""

from __future__ import annotations

from .file import STDOUT, ResultsFile, holds_simulated
from .jsonl import encode_row
from .rows import attempt_row, latency_s, result_row, total_usage, usage_row, usd

__all__ = [
    "STDOUT",
    "ResultsFile",
    "attempt_row",
    "encode_row",
    "holds_simulated",
    "latency_s",
    "result_row",
    "total_usage",
    "usage_row",
    "usd",
]
