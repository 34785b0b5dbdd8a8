"""The signals that stop a process: Ctrl-C, SIGTERM, and SIGHUP when its terminal closes."""

from __future__ import annotations

import errno
import os
import signal
import sys

HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none


def stop_signals() -> list[signal.Signals]:
    """The signals to handle; without SIGHUP if it is ignored, which is what `nohup` does."""
    found = [signal.SIGINT, signal.SIGTERM]
    if HANGUP is not None and signal.getsignal(HANGUP) is not signal.SIG_IGN:
        found.append(HANGUP)
    return found


def drop_lost_terminals() -> None:
    """Redirect output for a closed terminal to the null device, since every write would fail with EIO."""
    if sys.platform == "win32":
        return
    import termios

    for descriptor in (1, 2):
        try:
            termios.tcgetattr(descriptor)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, descriptor)
                os.close(null)
