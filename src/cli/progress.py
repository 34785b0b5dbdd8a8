"""What a run shows while it works: a live display on a terminal, else a line every 30 seconds, or JSON.

Everything here goes to standard error, so that standard output is free for results.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from ..control_characters import terminal_safe
from ..formatting import duration, money, percent, plural, share
from ..records import NANOS_PER_USD, LimitGauge, PoolSnapshot, ProviderSnapshot, TaskStatus
from ..refusal_text import wait_text
from .eta import expected_nanos, remaining_s
from .progress_counts import ProgressCounts

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

LINE_EVERY_S = 30.0
JSON_EVERY_S = 5.0
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

    def update(self, pool: PoolSnapshot, progress: ProgressCounts) -> None: ...
    def note(self, text: str) -> None:
        """A line that stays on the screen."""

    def aside(self) -> AbstractContextManager[None]:
        """While the block runs, whatever is printed is not drawn over."""

    def close(self) -> None: ...


def console(stderr: bool) -> Console:
    """A rich console that keeps tables whole where no terminal's width limits them. NO_COLOR is obeyed.

    What it prints is text, in tables too: `[models]` is no markup and `:name:` no picture.
    """
    from rich.console import Console

    class Safe(Console):
        def render_str(self, text: str, **how: Any) -> Text:
            """Every text that is handed over as such, in cells of tables too."""
            return super().render_str(terminal_safe(text), **how)

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PLAIN_WIDTH
    return Safe(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def make_view(quiet: bool) -> View:
    if quiet:
        return QuietView()
    if voice.as_json:
        return JsonView()
    if _is_terminal():
        return LiveView()
    return LineView()


def _is_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


class QuietView:
    """Says only what has to be said."""

    interval_s = 1.0

    def update(self, pool: PoolSnapshot, progress: ProgressCounts) -> None:
        return None

    def note(self, text: str) -> None:
        say(text)

    def aside(self) -> AbstractContextManager[None]:
        return nullcontext()

    def close(self) -> None:
        return None


class LineView(QuietView):
    """A line every 30 seconds, and when the network goes or comes back: for logs and pipes."""

    def __init__(self) -> None:
        self._next_s = time.monotonic() + LINE_EVERY_S
        self._offline_since: float | None = None

    def update(self, pool: PoolSnapshot, progress: ProgressCounts) -> None:
        if time.monotonic() < self._next_s and pool.offline_since == self._offline_since:
            return
        self._next_s = time.monotonic() + LINE_EVERY_S
        self._offline_since = pool.offline_since
        at = datetime.now().astimezone().strftime("%H:%M:%S")
        flying = ", ".join(f"{p.name} {p.in_flight}" for p in pool.providers if p.in_flight) or "none"
        say(f"{at} {progress_line(pool, progress)}; in flight: {flying}")
        for line in waiting_lines(pool):
            say(f"{at} {line}")
        if limits := "; ".join(limit_lines(pool)):
            say(f"{at} {limits}")


class JsonView(QuietView):
    """A JSON object every few seconds: for programs."""

    def __init__(self) -> None:
        self._next_s = time.monotonic() + JSON_EVERY_S

    def update(self, pool: PoolSnapshot, progress: ProgressCounts) -> None:
        if time.monotonic() < self._next_s:
            return
        self._next_s += JSON_EVERY_S
        found = progress_json(pool, progress, simulated=bool(voice.simulated))
        sys.stderr.write(json.dumps({"progress": found}) + "\n")
        sys.stderr.flush()


class LiveView:
    """Redraws a bar and a table in place. Lines said meanwhile scroll by above it."""

    interval_s = 0.25

    def __init__(self) -> None:
        from rich.live import Live

        self._console = console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()

    def update(self, pool: PoolSnapshot, progress: ProgressCounts) -> None:
        self._live.update(_screen(pool, progress), refresh=True)

    def note(self, text: str) -> None:
        self._console.print(text)

    @contextmanager
    def aside(self) -> Iterator[None]:
        self._live.update("", refresh=True)
        self._live.stop()
        try:
            yield
        finally:
            self._live.start()

    def close(self) -> None:
        self._live.stop()


@dataclass(slots=True)
class Voice:
    """How this process speaks: in plain lines, or in JSON where a program listens.

    Each JSON row tells whether it is of a simulated run; `simulated` is None until that is known.
    """

    as_json: bool = False
    simulated: bool | None = None

    def note(self, text: str) -> str:
        """A line as it is written."""
        if not self.as_json:
            return terminal_safe(text)
        known = {} if self.simulated is None else {"simulated": self.simulated}
        return json.dumps({"note": text, **known})


voice = Voice()


def say(text: str) -> None:
    """A line on standard error."""
    sys.stderr.write(voice.note(text) + "\n")
    sys.stderr.flush()


# ------------------------------------------------------------------ what is said


def progress_line(pool: PoolSnapshot, progress: ProgressCounts) -> str:
    """Done of all, how fast, how much longer, what it has cost so far and will have cost."""
    done = (
        f"{progress.done:,} of {progress.total:,} done"
        if progress.total is not None
        else f"{progress.done:,} done"
    )
    parts = [done, f"{progress.per_minute(pool.at):,.0f} a minute"]
    left = remaining_s(pool, progress)
    if left:
        parts.append(f"about {duration(left)} left")
    parts.append(_cost(progress))
    for status, count in sorted(progress.statuses.items()):
        if status is not TaskStatus.SUCCEEDED and count:
            parts.append(f"{count:,} {status}")
    return ", ".join(parts)


def _cost(progress: ProgressCounts) -> str:
    text = f"{money(progress.cost_nanos)} so far"
    expected = expected_nanos(progress)
    if expected is not None and not progress.finished:
        text = f"{money(progress.cost_nanos)} of about {money(expected)}"
    return text + (" (some prices unknown)" if progress.unknown_costs else "")


def waiting_lines(pool: PoolSnapshot) -> Iterator[str]:
    """Who waits for what, and since when nothing can be reached."""
    if pool.offline_since is not None:
        since = datetime.fromtimestamp(pool.offline_since).astimezone().strftime("%H:%M:%S")
        yield f"offline since {since}: no provider can be reached; {plural(pool.waiting, 'task')} waiting"
    for each in pool.waiting_for:
        until = f" ({duration(each.until - pool.at)})" if each.until and each.until >= pool.at + 1 else ""
        yield f"{plural(each.tasks, 'task')} waiting for {wait_text(each.reason)}{until}"


def limit_lines(pool: PoolSnapshot) -> Iterator[str]:
    """How full each provider's buckets are: `left of openai's limits: requests 45 %, tokens 12 %`."""
    for provider in pool.providers:
        gauges: dict[str, LimitGauge] = {}
        for gauge in provider.limits:  # of several model groups the emptiest
            known = gauges.get(gauge.dimension)
            if known is None or fullness(gauge) < fullness(known):
                gauges[gauge.dimension] = gauge
        if gauges:
            shown = ", ".join(
                f"{name.replace('_', ' ')} {percent(fullness(g))}" for name, g in gauges.items()
            )
            yield f"left of {provider.name}'s limits: {shown}"


def fullness(gauge: LimitGauge) -> float:
    """The share of a bucket that is left, 0 to 1."""
    return min(1.0, max(0.0, gauge.level / gauge.capacity)) if gauge.capacity > 0 else 0.0


def progress_json(pool: PoolSnapshot, progress: ProgressCounts, *, simulated: bool) -> dict[str, Any]:
    """What the display shows, for programs: seconds, dollars, epoch seconds."""
    expected, left = expected_nanos(progress), remaining_s(pool, progress)
    return {
        "at": round(pool.at, 3),
        "done": progress.done,
        "total": progress.total,
        "statuses": {str(status): n for status, n in progress.statuses.items() if n},
        "rows_per_minute": round(progress.per_minute(pool.at), 1),
        "left_s": None if left is None else round(left, 1),
        "cost_usd": progress.cost_nanos / NANOS_PER_USD,
        "expected_usd": None if expected is None else expected / NANOS_PER_USD,
        "unknown_costs": progress.unknown_costs,
        "in_flight": pool.in_flight,
        "waiting": pool.waiting,
        "waiting_for": [
            {"what": wait_text(w.reason), "tasks": w.tasks, "until": w.until} for w in pool.waiting_for
        ],
        "offline_since": pool.offline_since,
        "providers": [_provider_json(provider, progress) for provider in pool.providers],
        "simulated": simulated,
    }


def _provider_json(provider: ProviderSnapshot, progress: ProgressCounts) -> dict[str, Any]:
    return {
        "name": provider.name,
        "state": provider.state,
        "reason": provider.reason,
        "until": provider.until,
        "in_flight": provider.in_flight,
        "done": progress.by_provider[provider.name],
        "cost_usd": progress.cost_of(provider) / NANOS_PER_USD,
        "limits": [{**asdict(gauge), "left": round(fullness(gauge), 3)} for gauge in provider.limits],
    }


def state_text(provider: ProviderSnapshot, now: float) -> str:
    """`limited (12 s)`: the state, and how long it lasts where that is known."""
    if provider.until is not None and provider.until > now:
        return f"{provider.state} ({duration(provider.until - now)})"
    return provider.state


def _screen(pool: PoolSnapshot, progress: ProgressCounts) -> RenderableType:
    from rich.console import Group
    from rich.padding import Padding
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    rows: list[RenderableType] = []
    if progress.total:
        bar = ProgressBar(total=progress.total, completed=progress.done, width=60)
        rows.append(Padding(bar, 0))  # a bar alone does not end its line
    rows += [Text(terminal_safe(progress_line(pool, progress))), _provider_table(pool, progress)]
    rows += [Text(terminal_safe(line), style="dim") for line in limit_lines(pool)]
    rows += [Text(terminal_safe(line), style="yellow") for line in waiting_lines(pool)]
    return Group(*rows)


def _provider_table(pool: PoolSnapshot, progress: ProgressCounts) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("provider")
    table.add_column("state", min_width=18)
    for name in ("in flight", "done", "share", "cost"):
        table.add_column(name, justify="right", min_width=8)
    everyone = progress.by_provider.total()
    for provider in pool.providers:
        done = progress.by_provider[provider.name]
        state = Text(
            terminal_safe(state_text(provider, pool.at)), style=STATE_COLOURS.get(provider.state, "red")
        )
        table.add_row(
            provider.name,
            state,
            str(provider.in_flight),
            f"{done:,}",
            percent(share(done, everyone)),
            money(progress.cost_of(provider)),
        )
    return table
