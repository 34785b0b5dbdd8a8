"""How far a file of tasks has been read, told where that takes long."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from .progress import say

Item = TypeVar("Item")
LOOK_EVERY = 500  # lines, so that counting costs nothing
LINE_EVERY_S, REDRAW_EVERY_S = 10.0, 0.5


class Reading:
    """Counts lines: on a terminal in a line that is drawn anew, else in a line now and then."""

    def __init__(self, name: str, *, quiet: bool = False) -> None:
        self._name, self._quiet = name, quiet
        self._draws = sys.stderr.isatty()
        self._every_s = REDRAW_EVERY_S if self._draws else LINE_EVERY_S
        self._next_s = time.monotonic() + self._every_s
        self._shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._draw("")

    def counted(self, lines: Iterable[Item]) -> Iterator[Item]:
        """The same lines, counted as they pass."""
        for number, line in enumerate(lines, 1):
            if number % LOOK_EVERY == 0 and not self._quiet and time.monotonic() >= self._next_s:
                self._next_s = time.monotonic() + self._every_s
                self._tell(f"{self._name}: {number:,} lines read")
            yield line

    def _tell(self, text: str) -> None:
        if self._draws:
            self._draw(text)
        else:
            say(text)

    def _draw(self, text: str) -> None:
        sys.stderr.write(f"\r{text.ljust(len(self._shown))}" + ("" if text else "\r"))
        sys.stderr.flush()
        self._shown = text
