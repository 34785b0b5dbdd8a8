"""A stop in two steps: the first Ctrl-C, SIGTERM or SIGHUP drains, the second ends the process.

SIGHUP comes when a terminal closes. What would be printed there is dropped from then on. Under `nohup` the
signal is ignored, as usual.

Signals are read by a thread of their own. Python's handlers run in the main thread, between two
instructions, so a loop that is blocked or a main thread that waits in C code would keep them waiting; but the
handler of the operating system writes each signal's number to `signal.set_wakeup_fd` at once.

The second press stops in good order where that can be done: calls are cancelled, and what has come in is
stored. It has `STOP_WITHIN_S` for that, or no time where the store refuses. Then `os._exit` ends the process,
which waits for nothing: no thread that hangs in SQLite or in a call. What is lost is said before.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none
STOP_WITHIN_S = 3.0  # a commit and the end of all calls take some hundred milliseconds
SHOW_CURSOR = "\x1b[?25h"  # a progress display hides it


def stop_signals() -> list[signal.Signals]:
    """The signals that stop this process; without SIGHUP where its parent has it ignored, as `nohup` does."""
    found = [signal.SIGINT, signal.SIGTERM]
    if HANGUP is not None and signal.getsignal(HANGUP) is not signal.SIG_IGN:
        found.append(HANGUP)
    return found


def drop_lost_terminals() -> None:
    """Send output for a terminal that was closed to the null device: each write would fail with EIO."""
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


class StopListener:
    """Calls `press(1)` and `press(2)` on the loop for the first and second signal; see the theory above.

    `last_words` says what is lost: an exit code and a line. `hopeless` tells whether stopping in good order
    would have to wait for a store that refuses. Made in the main thread; a context manager.
    """

    def __init__(
        self,
        press: Callable[[int], None],
        last_words: Callable[[], tuple[int, str]],
        hopeless: Callable[[], bool],
    ) -> None:
        self._press, self._last_words, self._hopeless = press, last_words, hopeless
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
            self._before[number] = signal.signal(number, _noticed_elsewhere)
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
                        drop_lost_terminals()
                    self._pressed()

    def _pressed(self) -> None:
        self.presses += 1
        if self.presses > 2:
            self._end()
        if self.loop is not None:
            with suppress(RuntimeError):  # it is closed: the end is near
                self.loop.call_soon_threadsafe(self._press, self.presses)
        if self.presses == 2:
            threading.Thread(target=self._end_soon, name="stop", daemon=True).start()

    def _end_soon(self) -> None:
        """A third signal ends it sooner."""
        if not self._over.wait(0.0 if self._hopeless() else STOP_WITHIN_S):
            self._end()

    def _end(self) -> None:
        code, text = self._last_words()
        cursor = SHOW_CURSOR if sys.stderr.isatty() else ""
        with suppress(OSError):
            os.write(2, f"{cursor}{text}\n".encode(errors="replace"))
        os._exit(code)


def _noticed_elsewhere(number: int, frame: FrameType | None) -> None:
    """The thread that reads `set_wakeup_fd` has seen it."""
