"""SIGHUP: a server reads its tokens and keys again; one whose terminal was closed ends.

Where there is no SIGHUP (Windows), or it is ignored (`nohup`), only a restart reads them again.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from .errors import OrchestratorError
from .stop_signals import HANGUP

log = logging.getLogger(__name__)

SETTLE_S = 0.05  # a terminal's processes get the signal some microseconds before they lose the terminal


class Reloader:
    """The steps of a reload. One that fails changes nothing and does not keep the others from their work.

    Steps run on threads: a signal handler may interrupt the main thread in the middle of a log line.
    """

    def __init__(self) -> None:
        self._steps: list[Callable[[], str]] = []
        self._had_terminal = _has_terminal()
        self._running = threading.Lock()

    @contextmanager
    def step(self, step: Callable[[], str]) -> Iterator[None]:
        """Run `step` at each reload while the block runs.

        It returns what it did, "" where another process says so, or raises OrchestratorError where it changed
        nothing.
        """
        self._steps.append(step)
        try:
            yield
        finally:
            self._steps.remove(step)

    def hang_up(self) -> bool:
        """Reload on another thread; or return False, where the signal says that the terminal is closed."""
        if self._had_terminal:
            time.sleep(SETTLE_S)
            if not _has_terminal():
                return False
        threading.Thread(target=self._reload, name="reload", daemon=True).start()
        return True

    def _reload(self) -> None:
        with self._running:
            for step in tuple(self._steps):
                try:
                    done = step()
                except OrchestratorError as error:
                    log.error("reload: %s; what was in use stays", error, extra={"action": "reload_failed"})
                else:
                    if done:
                        log.warning("reload: %s", done, extra={"action": "reloaded"})

    @contextmanager
    def handling(self) -> Iterator[None]:
        """Handle SIGHUP while the block runs. The handler before it handles a closed terminal.

        For the main thread.
        """
        before = signal.SIG_IGN if HANGUP is None else signal.getsignal(HANGUP)
        if HANGUP is None or before is signal.SIG_IGN:
            yield
            return

        def handle(number: int, frame: FrameType | None) -> None:
            if not self.hang_up() and callable(before):
                before(number, frame)

        signal.signal(HANGUP, handle)
        try:
            yield
        finally:
            signal.signal(HANGUP, before)


def _has_terminal() -> bool:
    """Whether this process has a controlling terminal."""
    if sys.platform == "win32":
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
