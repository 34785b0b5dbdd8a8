"""How many lines of a file have been read, shown if that takes long."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from .console import Console

Item = TypeVar("Item")
CHECK_EVERY = 500  # lines, so that counting costs nothing
LINE_EVERY_S, REDRAW_EVERY_S = 10.0, 0.5


class ReadProgress:
    """Counts lines. A terminal gets one line that is redrawn; anything else gets a line now and then."""

    def __init__(self, name: str, console: Console, *, quiet: bool = False) -> None:
        self._name, self._console, self._quiet = name, console, quiet
        self._redraws = sys.stderr.isatty()
        self._every_s = REDRAW_EVERY_S if self._redraws else LINE_EVERY_S
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
            if number % CHECK_EVERY == 0 and not self._quiet and time.monotonic() >= self._next_s:
                self._next_s = time.monotonic() + self._every_s
                text = f"{self._name}: {number:,} lines read"
                if self._redraws:
                    self._draw(text)
                else:
                    self._console.note(text)
            yield line

    def _draw(self, text: str) -> None:
        self._console.write_error(f"\r{text.ljust(len(self._shown))}" + ("" if text else "\r"))
        self._shown = text
