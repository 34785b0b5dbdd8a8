"""Notice writes of other processes, cheaply enough for fifty looks a second.

SQLite counts commits in memory that all processes share: `PRAGMA data_version` takes some microseconds, no
lock and no disk. On PostgreSQL every look reports a possible change, and looks are less frequent.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Self

SQLITE_LOOKS_EVERY_S, OTHERS_LOOK_EVERY_S = 0.02, 0.05


class Watch:
    """For one thread at a time, made by `Store.watch`. Close it, or use it as a context manager."""

    def __init__(self, sqlite_file: str | Path | None) -> None:
        self._connection: sqlite3.Connection | None = None
        self._seen = -1
        self.look_every_s = OTHERS_LOOK_EVERY_S
        if sqlite_file is not None:
            self._connection = sqlite3.connect(sqlite_file, isolation_level=None, check_same_thread=False)
            self.look_every_s = SQLITE_LOOKS_EVERY_S

    def changed(self) -> bool:
        """Whether anything may have been committed since the last look; True the first time."""
        if self._connection is None:
            return True
        try:
            version = int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error:
            return True  # the query that follows raises what is wrong
        changed, self._seen = version != self._seen, version
        return changed

    def close(self) -> None:
        """Close its connection."""
        if self._connection is not None:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
