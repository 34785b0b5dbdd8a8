"""The file of rejected lines: the lines of an input file that are not valid tasks, with their reasons.

Each run reads all lines and writes the file anew, so corrected lines disappear from it. Without rejected
lines there is no file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self

from ..errors import InputError
from .intake import BadLine
from .results import encode_row

FIRST_KEY = b'{"line"'  # the beginning of every row of such a file


class RejectsFile:
    """JSON Lines with `line`, `reason` and `text`, created with permissions 0600 at the first rejected line.

    Without a path nothing is written. Raises InputError for a file that holds something else or cannot be
    written.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    def add(self, bad: BadLine) -> None:
        """Write a rejected line."""
        if self.path is None:
            return
        with _one_line_errors(self.path):
            if self._file is None:
                self._file = _open(self.path)
            self._file.write(encode_row({"line": bad.line, "reason": bad.reason, "text": bad.text}))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.path is None:
            return
        if self._file is not None:
            with _one_line_errors(self.path):
                self._file.close()
        elif kind is None and _holds_rejects(self.path):
            self.path.unlink(missing_ok=True)  # of an earlier run, whose lines have been corrected


def _holds_rejects(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(FIRST_KEY)) == FIRST_KEY
    except OSError:
        return False


def _open(path: Path) -> BinaryIO:
    if path.exists() and path.stat().st_size and not _holds_rejects(path):
        raise InputError(f"{path}: exists and does not hold rejected lines; choose another --rejects file")
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o600), "wb")


@contextmanager
def _one_line_errors(path: Path) -> Iterator[None]:
    """Turn an error such as a full disk into an InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
