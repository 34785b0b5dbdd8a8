"""The lines of a file that were no tasks, with the reason of each, for whoever mends them.

The file is of the last reading alone: every run reads its tasks anew, and so a line that was mended is gone
from it, and the file with the last of them.
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

FIRST_KEY = b'{"line"'  # what every row of such a file begins with


class RejectsFile:
    """JSON Lines of `line`, `reason` and `text`, made with permissions 0600 when there is a first one.

    Without a path nothing is kept. Raises InputError for a file of something else, or that can't be written.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    def add(self, bad: BadLine) -> None:
        if self.path is None:
            return
        with _told(self.path):
            if self._file is None:
                self._file = _open(self.path)
            self._file.write(encode_row({"line": bad.line, "reason": bad.reason, "text": bad.text}))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.path is None:
            return
        if self._file is not None:
            with _told(self.path):
                self._file.close()
        elif kind is None and _is_ours(self.path):
            self.path.unlink(missing_ok=True)  # of an earlier reading, whose lines have been mended


def _is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(FIRST_KEY)) == FIRST_KEY
    except OSError:
        return False


def _open(path: Path) -> BinaryIO:
    if path.exists() and path.stat().st_size and not _is_ours(path):
        raise InputError(f"{path}: exists and does not hold rejects; name another file with --rejects")
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o600), "wb")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """A full disk and its like in one line."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
