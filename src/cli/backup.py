"""`backup`: copy the SQLite database while it is in use."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from ..formatting import plural
from .session import Options, prepare


def backup(options: Options, target: Path) -> int:
    """Copy the database of this mode to `target`. Raises OrchestratorError."""
    from ..core.store.backup import back_up
    from ..core.store.database import Database

    source = Database(prepare(options, calls_providers=False).database)
    if source.file is None:
        raise InputError(f"{source.place} is not an SQLite file; back it up with pg_dump")
    tasks = back_up(source.file, target)
    size = f"{plural(tasks, 'task')}, {target.stat().st_size / 1e6:,.1f} MB"
    options.console.note(f"backed up {source.place} to {target}: {size}")
    return 0
