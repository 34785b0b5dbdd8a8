"""Whether anything was written, asked so cheaply that a waiting process can ask fifty times a second.

SQLite counts the commits of others in memory that all processes share: `PRAGMA data_version` takes some
microseconds, no lock and no disk. Elsewhere the answer is always "perhaps", and one asks less often.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Self

SQLITE_LOOKS_EVERY_S, OTHERS_LOOK_EVERY_S = 0.02, 0.05


class Watch:
    """For one thread at a time; made by `Store.watch`. Close it, or use it as a context manager."""

    def __init__(self, sqlite_file: str | Path | None) -> None:
        self._connection: sqlite3.Connection | None = None
        self._seen = -1
        self.look_every_s = OTHERS_LOOK_EVERY_S
        if sqlite_file is not None:
            self._connection = sqlite3.connect(sqlite_file, isolation_level=None, check_same_thread=False)
            self.look_every_s = SQLITE_LOOKS_EVERY_S

    def changed(self) -> bool:
        """Whether anybody committed since this was last asked; True the first time, and where in doubt."""
        if self._connection is None:
            return True
        try:
            version = int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error:
            return True  # the query that follows says what is wrong
        changed, self._seen = version != self._seen, version
        return changed

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
