"""Files that are small by their nature: settings, templates, schemas, prompts."""

from __future__ import annotations

import errno
from pathlib import Path

MOST_BYTES = 16 * 2**20


def read_small(path: Path) -> bytes:
    """The content of the file. Raises OSError, also for one that is longer than any of its kind.

    A device without end, or a wrong file of many gigabytes, must not fill the memory.
    """
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise OSError(errno.EFBIG, f"longer than {MOST_BYTES // 2**20} MiB")
    return content
