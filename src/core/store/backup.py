"""A copy of an SQLite file while others write to it."""

from __future__ import annotations

import os
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

from ...errors import InputError, StoreError
from .engine import BUSY_TIMEOUT_S


def back_up(source: Path, target: Path) -> int:
    """Copy the database as it stands at one moment; returns the number of its tasks.

    Writers don't wait meanwhile. `target` appears once the copy is whole, tested and on the disk; a copy that
    was broken off is `.NAME.*.partial`. Raises InputError if `target` exists, StoreError if `source` can't be
    read or the copy can't be written.
    """
    if target.exists():
        raise InputError(f"{target} exists; name a new file")
    if not source.is_file():
        raise StoreError(f"{source}: no such database")
    fresh = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        tasks = _copy(source, fresh)
        fresh.rename(target)
    except OSError as error:
        raise StoreError(f"no backup: {target} cannot be written ({error.strerror or error})") from error
    except sqlite3.Error as error:
        raise StoreError(f"no backup: {error}") from error
    finally:
        fresh.unlink(missing_ok=True)
    return tasks


def _copy(source: Path, fresh: Path) -> int:
    reading = f"{source.resolve().as_uri()}?mode=ro"
    with (
        closing(sqlite3.connect(reading, uri=True, timeout=BUSY_TIMEOUT_S)) as old,
        closing(sqlite3.connect(fresh)) as new,
    ):
        new.execute("PRAGMA synchronous = FULL")
        old.backup(new)  # in one step: between two of them a writer would make it begin anew
        problems = new.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problems != "ok":
            raise sqlite3.DatabaseError(f"the copy is damaged ({problems})")
        new.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
        tasks: int = new.execute("SELECT COUNT(*) FROM tasks").fetchone()[0]
        return tasks
