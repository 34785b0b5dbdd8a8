"""Refuses every direct use of a database file, in each Python that a test starts.

On POSIX, closing any descriptor of a file drops all locks that the process holds on it. So no code but SQLite
itself may open a database file, its log or its index; to create one with O_EXCL is safe. An audit hook sees
every open made in Python, however deep in a library, and SQLite's own opens are made in C. What is refused is
noted in the file that `REPORT` names, since a refusal in a child of a child may go unseen; see conftest.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Any

REPORT = "TESTS_DATABASE_GUARD"  # an environment variable: the file that refusals are noted in
_OUR_NAMES = re.compile(r"(simulated|live)\.db(-wal|-shm|-journal)?")
_FILE_EVENTS = {"open", "os.remove", "os.rename", "os.truncate", "shutil.copyfile"}
_connected: set[str] = set()  # databases of this process


class OpenedDirectly(AssertionError):
    """A database file was used without SQLite. No `OSError`, so no code takes it for a full disk."""


def install() -> None:
    """From now on this process can reach database files through SQLite alone."""
    sys.addaudithook(_hook)


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if event == "sqlite3.connect":
        _connected.add(_absolute(args[0]))
    elif event in _FILE_EVENTS and not isinstance(args[0], int):
        made_anew = event == "open" and isinstance(args[2], int) and args[2] & os.O_EXCL
        allowed = made_anew or is_end_of_a_pool(event, args) or is_end_of_a_copy(event, args)
        if not allowed and is_database(_absolute(args[0])):
            _refuse(f"{event} {_absolute(args[0])}")


def is_end_of_a_pool(event: str, args: tuple[Any, ...]) -> bool:
    """Whether the temporary folder of a pool is removed, after its store has been closed."""
    if event != "os.remove" or args[1] == -1:
        return False
    folder = os.readlink(f"/proc/self/fd/{args[1]}")  # noqa: PTH115
    return os.path.basename(folder).startswith("orchestrator-")  # noqa: PTH119


def is_end_of_a_copy(event: str, args: tuple[Any, ...]) -> bool:
    """Whether a backup gets its name, or is given up, after its connection has been closed."""
    return event in ("os.rename", "os.remove") and os.fsdecode(args[0]).endswith(".partial")


def is_database(path: str) -> bool:
    """Whether this absolute path is a database of the project, a connected one, or a file beside one."""
    base = re.sub(r"-(wal|shm|journal)$", "", path)
    return base in _connected or _OUR_NAMES.fullmatch(os.path.basename(path)) is not None  # noqa: PTH119


def _absolute(path: Any) -> str:
    return os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - a path may be bytes


def _refuse(what: str) -> None:
    if report := os.environ.get(REPORT):
        descriptor = os.open(report, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, f"{what}\n".encode())
        os.close(descriptor)
    raise OpenedDirectly(f"only SQLite opens a database file: {what}")
