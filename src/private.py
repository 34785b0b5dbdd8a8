"""Folders for the state, readable by their owner alone."""

from __future__ import annotations

from pathlib import Path


def make_private_folder(folder: Path) -> None:
    """Make it, and those above it that are missing, for this user alone (0700), whatever the umask is.

    `mkdir(parents=True)` would give the mode to the last one only. Those that exist stay as they are.
    """
    for each in (*reversed(folder.parents), folder):
        if not each.exists():
            each.mkdir(mode=0o700, exist_ok=True)
