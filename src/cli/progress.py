"""What a run shows while it works: a live display on a terminal, else a line every 30 seconds.

Everything here goes to standard error, so that standard output is free for results.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from ..records import PoolSnapshot, ProviderSnapshot, TaskStatus
from .tally import Tally
from .words import duration, money, percent, tasks

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

LINE_EVERY_S = 30.0
PLAIN_WIDTH = 110  # where there is no terminal whose width counts
STATE_COLOURS = {
    "healthy": "green",
    "degraded": "yellow",
    "suspect": "yellow",
    "limited": "yellow",
    "half_open": "yellow",
    "paused": "cyan",
    "not_configured": "dim",
}


class View(Protocol):
    """Shows the progress of one run. `interval_s` is how often `update` wants to be called."""

    interval_s: float

    def update(self, pool: PoolSnapshot, tally: Tally) -> None: ...
    def note(self, text: str) -> None:
        """A line that stays on the screen."""

    def close(self) -> None: ...


def console(stderr: bool) -> Console:
    """A rich console that keeps tables whole where no terminal's width limits them. NO_COLOR is obeyed."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else PLAIN_WIDTH, highlight=False)


def make_view(quiet: bool) -> View:
    if quiet:
        return QuietView()
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return LiveView()
    return LineView()


class QuietView:
    """Says only what has to be said."""

    interval_s = 1.0

    def update(self, pool: PoolSnapshot, tally: Tally) -> None:
        return None

    def note(self, text: str) -> None:
        say(text)

    def close(self) -> None:
        return None


class LineView(QuietView):
    """A line every 30 seconds: for logs and pipes."""

    def __init__(self) -> None:
        self._next_s = time.monotonic() + LINE_EVERY_S

    def update(self, pool: PoolSnapshot, tally: Tally) -> None:
        if time.monotonic() < self._next_s:
            return
        self._next_s += LINE_EVERY_S
        at = datetime.now().astimezone().strftime("%H:%M:%S")
        flying = ", ".join(f"{p.name} {p.in_flight}" for p in pool.providers if p.in_flight) or "none"
        say(f"{at} {progress_line(pool, tally)}; in flight: {flying}")
        for line in waiting_lines(pool):
            say(f"{at} {line}")


class LiveView:
    """Redraws a bar and a table in place. Lines said meanwhile scroll by above it."""

    interval_s = 0.25

    def __init__(self) -> None:
        from rich.live import Live

        self._console = console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()

    def update(self, pool: PoolSnapshot, tally: Tally) -> None:
        self._live.update(_screen(pool, tally), refresh=True)

    def note(self, text: str) -> None:
        self._console.print(text, markup=False)

    def close(self) -> None:
        self._live.stop()


def say(text: str) -> None:
    """A plain line on standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


# ------------------------------------------------------------------ what is said


def progress_line(pool: PoolSnapshot, tally: Tally) -> str:
    """Done of all, how fast, how much longer, and what it has cost so far."""
    done = f"{tally.done:,} of {tally.total:,} done" if tally.total is not None else f"{tally.done:,} done"
    parts = [done, f"{tally.per_minute(pool.at):,.0f} a minute"]
    left = tally.left_s(pool.at)
    if left:
        parts.append(f"about {duration(left)} left")
    parts.append(
        f"{money(tally.cost_nanos)} so far" + (" (some prices unknown)" if tally.unknown_costs else "")
    )
    for status, count in sorted(tally.statuses.items()):
        if status is not TaskStatus.SUCCEEDED and count:
            parts.append(f"{count:,} {status}")
    return ", ".join(parts)


def waiting_lines(pool: PoolSnapshot) -> Iterator[str]:
    """Who waits for what, and since when nothing can be reached."""
    if pool.offline_since is not None:
        since = datetime.fromtimestamp(pool.offline_since).astimezone().strftime("%H:%M:%S")
        yield f"offline since {since}: no provider can be reached; {tasks(pool.waiting)} waiting"
    for each in pool.waiting_for:
        until = f" ({duration(each.until - pool.at)})" if each.until and each.until >= pool.at + 1 else ""
        yield f"{tasks(each.tasks)} waiting for {each.what}{until}"


def state_text(provider: ProviderSnapshot, now: float) -> str:
    """`limited (12 s)`: the state, and how long it lasts where that is known."""
    if provider.until is not None and provider.until > now:
        return f"{provider.state} ({duration(provider.until - now)})"
    return provider.state


def _screen(pool: PoolSnapshot, tally: Tally) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    rows: list[RenderableType] = []
    if tally.total:
        rows.append(ProgressBar(total=tally.total, completed=tally.done, width=60))
    rows += [Text(progress_line(pool, tally)), _provider_table(pool, tally)]
    rows += [Text(line, style="yellow") for line in waiting_lines(pool)]
    return Group(*rows)


def _provider_table(pool: PoolSnapshot, tally: Tally) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("provider")
    table.add_column("state", min_width=18)
    for name in ("in flight", "done", "share", "cost"):
        table.add_column(name, justify="right", min_width=8)
    everyone = tally.by_provider.total()
    for provider in pool.providers:
        done = tally.by_provider[provider.name]
        state = Text(state_text(provider, pool.at), style=STATE_COLOURS.get(provider.state, "red"))
        table.add_row(
            provider.name,
            state,
            str(provider.in_flight),
            f"{done:,}",
            percent(done, everyone),
            money(provider.cost_nanos),
        )
    return table
