"""A stop in two steps: the first stop signal drains, the second ends the process.

A thread of its own reads the signals. Python runs signal handlers in the main thread, between two
instructions, so a blocked loop or a main thread inside C code would delay them. The handler of the operating
system writes the number of each signal to `signal.set_wakeup_fd` at once.

The loop is asyncio's. uvloop takes that descriptor for itself whenever it runs, and in a trial it saved
only 2 to 3 % of the processor time of a request to the gateway and 6 % of that of a streamed chunk.

The second signal cancels the calls and stores the answers that have arrived. That has `STOP_WITHIN_S`, or no
time while the database fails. Then `os._exit` ends the process. It waits for nothing, not even for a thread
that hangs in SQLite or in a call. What is lost is printed first.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

from ..stop_signals import HANGUP, drop_lost_terminals, stop_signals

STOP_WITHIN_S = 3.0  # a commit and the end of all calls take some hundred milliseconds
SHOW_CURSOR = "\x1b[?25h"  # a progress display hides it


class StopListener:
    """Calls `press(1)` and `press(2)` on the loop for the first and the second stop signal.

    `last_words` returns the exit code, and a line about what is lost. `hopeless` returns whether a clean stop
    would have to wait for a failing database. `reload` takes SIGHUP, unless it returns False. A context
    manager, made in the main thread.
    """

    def __init__(
        self,
        press: Callable[[int], None],
        last_words: Callable[[], tuple[int, str]],
        hopeless: Callable[[], bool],
        reload: Callable[[], bool] | None = None,
    ) -> None:
        self._press, self._last_words, self._hopeless = press, last_words, hopeless
        self._reload = reload
        self.loop: asyncio.AbstractEventLoop | None = None
        self.presses = 0
        self._reading, self._writing = socket.socketpair()
        self._writing.setblocking(False)
        self._signals = stop_signals()
        self._before: dict[int, Any] = {}
        self._wakeup_before = -1
        self._thread = threading.Thread(target=self._listen, name="signals", daemon=True)
        self._over = threading.Event()

    def __enter__(self) -> Self:
        for number in self._signals:
            self._before[number] = signal.signal(number, _ignore)
        self._wakeup_before = signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._writing.close()  # ends the thread
        self._thread.join(1.0)
        self._reading.close()

    def _listen(self) -> None:
        while numbers := self._reading.recv(64):
            for number in numbers:
                if number in self._signals:
                    if number == HANGUP:
                        if self._reload is not None and self._reload():
                            continue
                        drop_lost_terminals()
                    self._pressed()

    def _pressed(self) -> None:
        self.presses += 1
        if self.presses > 2:
            self._end()
        if self.loop is not None:
            with suppress(RuntimeError):  # the loop is closed: the process is about to end
                self.loop.call_soon_threadsafe(self._press, self.presses)
        if self.presses == 2:
            threading.Thread(target=self._end_soon, name="stop", daemon=True).start()

    def _end_soon(self) -> None:
        """End the process unless the stop is over in time. A third signal ends it sooner."""
        if not self._over.wait(0.0 if self._hopeless() else STOP_WITHIN_S):
            self._end()

    def _end(self) -> None:
        code, text = self._last_words()
        cursor = SHOW_CURSOR if sys.stderr.isatty() else ""
        with suppress(OSError):
            os.write(2, f"{cursor}{text}\n".encode(errors="replace"))
        os._exit(code)


def _ignore(number: int, frame: FrameType | None) -> None:
    """The thread that reads `set_wakeup_fd` handles the signal."""
