"""The order in which tasks were read, for results files in that order."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

from ..core.intake import BadLine
from ..records import Task

IN_MEMORY_BYTES = 1_000_000


class InputOrder:
    """The ids of all tasks of a file: in memory, or in an unnamed file if there are many."""

    def __init__(self) -> None:
        self.count = 0
        self._ids = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115 - it lives as long as the batch

    def recorded(self, lines: Iterator[Task | BadLine]) -> Iterator[Task | BadLine]:
        """The same lines; their ids replace those of an earlier reading."""
        self._ids.seek(0)
        self._ids.truncate()
        self.count = 0
        for line in lines:
            if isinstance(line, Task):
                self._ids.write(line.id.encode() + b"\n")  # an id has no line ends
                self.count += 1
            yield line

    def __iter__(self) -> Iterator[str]:
        self._ids.seek(0)
        for line in self._ids:
            yield line[:-1].decode()
