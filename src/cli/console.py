"""Output of one command: notes on standard error, results and tables on standard output."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

from ..control_characters import terminal_safe

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.table import Table
    from rich.text import Text

WIDTH_WITHOUT_TERMINAL = 110
UNBOUNDED = 1_000  # columns


class Console:
    """Writes plain lines, or JSON lines for a program that reads them, or lines of a log (`as_log`).

    Each JSON line says whether it belongs to a simulated run; `simulated` is None until that is known.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.as_log = False  # of JSON, on standard output
        self.simulated: bool | None = None

    @property
    def redraws(self) -> bool:
        """Whether standard error is a terminal on which lines can be redrawn."""
        return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def note(self, text: str) -> None:
        """Write one line to standard error; a terminal gets it broken between words."""
        if self.as_log:
            self._log(text, "info")
            return
        line = self.line(text)
        self.write_error((line if self.as_json else folded(line, _terminal_width())) + "\n")

    def error(self, text: str) -> None:
        """Write why a command has failed."""
        if self.as_log:
            self._log(text, "error")
        else:
            self.note(f"error: {text}")

    def pass_on(self, line: str) -> None:
        """Write a line of a child process, which has the format of this console."""
        if self.as_log:
            self._write(sys.stdout, line)
        else:
            self.note(line)

    def _log(self, text: str, level: str) -> None:
        from ..logging_setup import json_line

        known = {"simulated": True} if self.simulated else {}
        self._write(sys.stdout, json_line(text, level, **known))

    def line(self, text: str) -> str:
        """One line as `note` writes it."""
        if not self.as_json:
            return terminal_safe(text)
        known = {} if self.simulated is None else {"simulated": self.simulated}
        return json.dumps({"note": text, **known})

    def write_error(self, text: str) -> None:
        """Write to standard error. A closed terminal or pipe does not end a run."""
        self._write(sys.stderr, text, end="")

    @staticmethod
    def _write(stream: TextIO, text: str, end: str = "\n") -> None:
        with suppress(OSError):
            stream.write(text + end)
            stream.flush()


def folded(text: str, width: int) -> str:
    """The text in lines of at most `width` characters, as far as words allow; as it is with a width of 0."""
    if width <= 0 or len(text) <= width:
        return text
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)


def _terminal_width() -> int:
    """The columns of standard error; 0 if it is no terminal, or does not know them."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns if sys.stderr.isatty() else 0
    except (OSError, ValueError):
        return 0


def print_line(screen: RichConsole, text: str | Text) -> None:
    """Print one line; a terminal gets it broken between words."""
    if isinstance(text, str):
        text = folded(text, screen.width if screen.is_terminal else 0)
        screen.print(text, soft_wrap=True)
    else:
        screen.print(text, soft_wrap=not screen.is_terminal)


def rich_console(*, stderr: bool) -> RichConsole:
    """A console for tables. It keeps them whole without a terminal, and obeys NO_COLOR.

    It prints text literally, in tables too: `[models]` is no markup and `:name:` no emoji.
    """
    from rich.console import Console as RichConsole

    class LiteralConsole(RichConsole):
        def render_str(self, text: str, **options: Any) -> Text:
            """Make text safe for a terminal; rich calls this for the cells of tables too."""
            return super().render_str(terminal_safe(text), **options)

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDTH_WITHOUT_TERMINAL
    return LiteralConsole(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def fitting(
    screen: RichConsole, build: Callable[[int, Collection[str]], Table], spare: Sequence[str]
) -> Table:
    """The table that `build` makes, narrow enough for `screen`: a cut number would mislead.

    `build` takes the space between columns and the columns to drop. The space shrinks first, then the
    columns of `spare` are dropped one by one.
    """
    from rich.measure import Measurement

    table = build(2, ())
    for left_out in ((), *(spare[: i + 1] for i in range(len(spare)))):
        if Measurement.get(screen, screen.options.update(width=UNBOUNDED), table).maximum <= screen.width:
            break
        table = build(1, left_out)
    return table
