"""Folders that only their owner can read, and files that must be as private."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from .errors import ConfigError, unreadable

MAX_BYTES = 1_000_000
# A secret that Kubernetes mounts with an fsGroup can be read by its group, which is the program's own.
_OTHERS_MAY = stat.S_IRWXO | stat.S_IWGRP


def make_private_folder(folder: Path) -> None:
    """Make it, and those above it that are missing, for this user alone (0700), whatever the umask is.

    `mkdir(parents=True)` would give the mode to the last one only. Those that exist stay as they are.
    """
    for each in (*reversed(folder.parents), folder):
        if not each.exists():
            each.mkdir(mode=0o700, exist_ok=True)


def read_private(path: Path) -> bytes:
    """The content of a small file with secrets, or what stands for them.

    Raises ConfigError if it can't be read, or if users other than its owner and group may read it, or others
    than its owner may change it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(unreadable(error), where=str(path)) from error
    if os.name == "posix" and mode & _OTHERS_MAY:
        problem = f"other users can read or change it (mode {stat.S_IMODE(mode):04o}); run: chmod 600 FILE"
        raise ConfigError(problem, where=str(path))
    if len(content) > MAX_BYTES:
        raise ConfigError(f"is larger than {MAX_BYTES:,} bytes", where=str(path))
    return content
