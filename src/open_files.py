"""How many files and connections this process may have open at once."""

from __future__ import annotations

import sys


def most_open_files(wanted: int) -> int:
    """The limit, raised towards `wanted` where it is lower and the system allows it; at most `wanted`."""
    if sys.platform == "win32":
        return wanted
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    raised = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    except (ValueError, OSError):  # macOS enforces a lower limit than the one it reports
        return soft
    return raised
