"""The steady clock: it goes on while the machine sleeps, and setting the wall clock does not change it.

CLOCK_BOOTTIME on Linux, CLOCK_MONOTONIC on macOS, `time.monotonic` on Windows.
"""

from __future__ import annotations

import sys
import time


def steady() -> float:
    """Seconds from an arbitrary point, including time in which the machine sleeps."""
    return time.clock_gettime(_CLOCK) if _CLOCK is not None else time.monotonic()


def _steady_clock() -> int | None:
    if sys.platform == "win32":  # time.monotonic includes sleep there
        return None
    return getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


_CLOCK = _steady_clock()
