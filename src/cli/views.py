"""Views of a running batch: a live display on a terminal, else a line every 30 seconds, or JSON.

All of them write to standard error, so that standard output is free for results.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Protocol

from ..control_characters import terminal_safe
from ..formatting import local_time, money
from ..records import PoolSnapshot, ProviderCondition
from .console import Console, rich_console
from .progress_counts import ProgressCounts
from .progress_text import limit_lines, models_line, progress_json, progress_line, state_text, waiting_lines

if TYPE_CHECKING:
    from rich.console import RenderableType

LINE_EVERY_S = 30.0
JSON_EVERY_S = 5.0
STATE_COLOURS = {
    "healthy": "green",
    "degraded": "yellow",
    "suspect": "yellow",
    "limited": "yellow",
    "half_open": "yellow",
    "paused": "cyan",
}


class View(Protocol):
    """Shows the progress of one run. Call `update` every `interval_s` seconds."""

    interval_s: float

    def update(self, pool: PoolSnapshot, progress: ProgressCounts) -> None:
        """Show the state of the pool and the progress of the run."""

    def note(self, text: str) -> None:
        """Print a line that stays on the screen."""

    def suspended(self) -> AbstractContextManager[None]:
        """Print freely inside this block: nothing is drawn over it."""

    def close(self) -> None:
        """Show nothing more."""


def make_view(console: Console, *, quiet: bool) -> View:
    """The view that suits the console; a silent one with `quiet`."""
    if quiet or console.as_log:
        return QuietView(console)
    if console.as_json:
        return JsonView(console)
    if console.redraws:
        return LiveView()
    return LineView(console)


class QuietView:
    """Prints notes only."""

    interval_s = 1.0

    def __init__(self, console: Console) -> None:
        self._console = console

    def update(self, pool: PoolSnapshot, progress: ProgressCounts) -> None:
        return None

    def note(self, text: str) -> None:
        self._console.note(text)

    def suspended(self) -> AbstractContextManager[None]:
        return nullcontext()

    def close(self) -> None:
        return None


class LineView(QuietView):
    """Prints its lines every 30 seconds if they have changed: for logs and pipes.

    A network that is lost or found is shown at once.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._next_s = time.monotonic() + LINE_EVERY_S
        self._offline_since: float | None = None
        self._printed: list[str] = []

    def update(self, pool: PoolSnapshot, progress: ProgressCounts) -> None:
        if time.monotonic() < self._next_s and pool.offline_since == self._offline_since:
            return
        self._next_s = time.monotonic() + LINE_EVERY_S
        self._offline_since = pool.offline_since
        in_flight = ", ".join(f"{p.name} {p.in_flight}" for p in pool.providers if p.in_flight) or "none"
        limits = "; ".join(limit_lines(pool))
        lines = [f"{progress_line(pool, progress)}; in flight: {in_flight}"]
        lines += [models_line(progress)] if progress.by_model else []
        lines += [*waiting_lines(pool), *([limits] if limits else [])]
        if lines == self._printed:
            return
        self._printed = lines
        now = time.time()
        at = local_time(now, now, seconds=True)
        for line in lines:
            self.note(f"{at} {line}")


class JsonView(QuietView):
    """Prints a JSON object every few seconds, for programs."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._next_s = time.monotonic() + JSON_EVERY_S

    def update(self, pool: PoolSnapshot, progress: ProgressCounts) -> None:
        if time.monotonic() < self._next_s:
            return
        self._next_s += JSON_EVERY_S
        found = progress_json(pool, progress, simulated=bool(self._console.simulated))
        self._console.write_error(json.dumps({"progress": found}) + "\n")


class LiveView:
    """Redraws a progress bar and a table in place. Notes scroll by above them."""

    interval_s = 0.25

    def __init__(self) -> None:
        from rich.live import Live

        self._screen = rich_console(stderr=True)
        self._live = Live(console=self._screen, auto_refresh=False, transient=True)
        self._live.start()

    def update(self, pool: PoolSnapshot, progress: ProgressCounts) -> None:
        with suppress(OSError):  # the terminal is closed
            self._live.update(_display(pool, progress), refresh=True)

    def note(self, text: str) -> None:
        with suppress(OSError):
            self._screen.print(text)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        with suppress(OSError):
            self._live.update("", refresh=True)
            self._live.stop()
        try:
            yield
        finally:
            with suppress(OSError):
                self._live.start()

    def close(self) -> None:
        with suppress(OSError):
            self._live.stop()


def _display(pool: PoolSnapshot, progress: ProgressCounts) -> RenderableType:
    from rich.console import Group
    from rich.padding import Padding
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    rows: list[RenderableType] = []
    if progress.total:
        bar = ProgressBar(total=progress.total, completed=progress.done, width=60)
        rows.append(Padding(bar, 0))  # a bar alone does not end its line
    rows += [Text(terminal_safe(progress_line(pool, progress))), _provider_table(pool)]
    if progress.by_model:
        rows.append(_model_table(progress))
    rows += [Text(terminal_safe(line), style="dim") for line in limit_lines(pool)]
    rows += [Text(terminal_safe(line), style="yellow") for line in waiting_lines(pool)]
    return Group(*rows)


def _provider_table(pool: PoolSnapshot) -> RenderableType:
    """The state of each provider that is configured, and its calls in flight."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("provider", no_wrap=True)
    table.add_column("state", min_width=18, no_wrap=True)
    table.add_column("in flight", justify="right", no_wrap=True)
    for provider in pool.providers:
        if provider.state is ProviderCondition.NOT_CONFIGURED:
            continue
        state = terminal_safe(state_text(provider, pool.at))
        style = STATE_COLOURS.get(provider.state, "red")
        table.add_row(provider.name, Text(state, style=style), str(provider.in_flight))
    return table


def _model_table(progress: ProgressCounts) -> RenderableType:
    """Rows, tokens and dollars of each model that was called; they add up to the totals of the run."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("model", no_wrap=True)
    for name in ("answered", "tokens in", "tokens out", "cost"):
        table.add_column(name, justify="right", no_wrap=True)
    for (_, model), counts in sorted(progress.by_model.items()):
        numbers = (counts.rows, counts.prompt_tokens, counts.output_tokens)
        table.add_row(model, *(f"{n:,}" for n in numbers), money(counts.cost_nanos))
    return table
