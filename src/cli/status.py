"""`status`: the providers and the queue, as the orchestrator last described them."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..bootstrap import Setup
from ..core.clock import Clock
from ..core.event_text import event_text
from ..core.preferences import PreferenceHeld, preference_shares
from ..formatting import duration, humanise, money, percent, share
from ..records import Event, PoolSnapshot, TaskStatus
from .console import fitting, print_line, rich_console
from .progress_text import share_left, state_text, waiting_lines
from .session import Options, prepare, session

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ..core.store import OrchestratorRow

DAY_S = 86_400.0
EVENTS_READ = 200
ALERTS_SHOWN = 5
POOL_COLUMNS = ("state", "share", "in flight", "calls", "success", "median", "p95", "cost")
LIMIT_COLUMNS = ("limits of", "model", "what", "left", "limit", "known")
SPARE_POOL_COLUMNS = ("median", "p95", "share")  # dropped in this order on a narrow terminal


def status(options: Options, *, as_json: bool) -> int:
    """Print the state of the providers and the queue. Returns the exit code."""
    setup = prepare(options)
    clock = Clock()
    found = _read(setup, options, clock)
    if as_json:
        sys.stdout.write(json.dumps(_as_json(setup, found, clock.now()), indent=2, default=str) + "\n")
    else:
        _print(setup, found, clock.now())
    return 0


@dataclass(frozen=True, slots=True)
class _Stored:
    """What the store holds. `alive`: whether the newest orchestrator is running."""

    pool: PoolSnapshot | None = None
    orchestrator: OrchestratorRow | None = None
    alive: bool = False
    counts: Mapping[TaskStatus, int] = field(default_factory=dict)
    alerts: Sequence[Event] = ()
    preferences: Sequence[PreferenceHeld] = ()
    gateway_url: str = ""  # as the orchestrator has published it


def _read(setup: Setup, options: Options, clock: Clock) -> _Stored:
    """Read the store, without creating a database where there is none."""
    if isinstance(setup.database, Path) and not setup.database.exists():
        return _Stored()
    now = clock.now()
    with session(setup, options.console, clock) as opened:
        store = opened.store
        pool, row = store.orchestrators.latest_snapshot()
        alerts = [each.event for each in store.events.recent(EVENTS_READ) if each.event.level != "info"]
        usage = store.reports.usage(now - DAY_S, now + 60, ("task_type", "provider"))
        return _Stored(
            pool,
            row,
            store.leadership.leader().is_at_work(row),
            store.reports.task_counts(),
            alerts[:ALERTS_SHOWN],
            preference_shares(usage, setup.settings),
            store.leadership.gateway().url,
        )


def _print(setup: Setup, found: _Stored, now: float) -> None:
    screen = rich_console(stderr=False)
    _print_orchestrator(screen, setup, found, now)
    counts = ", ".join(f"{n:,} {what}" for what, n in _task_counts(found).items() if n)
    screen.print(f"tasks: {counts or 'none yet'}")
    if found.pool is not None:
        screen.print(fitting(screen, partial(_pool_table, found.pool), SPARE_POOL_COLUMNS))
        for each in found.pool.providers:
            if each.reason:
                print_line(screen, f"{each.name} {state_text(each, found.pool.at)}: {each.reason}")
        if any(provider.limits for provider in found.pool.providers):
            screen.print(fitting(screen, partial(_limit_table, found.pool), ("known",)))
        for line in waiting_lines(found.pool):
            screen.print(line)
    if found.preferences:
        print_line(screen, _preferences_line(found.preferences))
    for event in found.alerts:
        print_line(screen, f"{event.level}, {duration(now - event.at)} ago: {event_text(event)}")


def _print_orchestrator(screen: Console, setup: Setup, found: _Stored, now: float) -> None:
    print_line(screen, _orchestrator_line(setup, found, now))
    if line := _gateway_line(found):
        print_line(screen, line)


def _task_counts(found: _Stored) -> dict[str, int]:
    """Tasks by status. Those that an orchestrator has claimed but not sent wait, as on the pages."""
    counts = dict(found.counts)
    claimed, queued = counts.pop(TaskStatus.RUNNING, 0), counts.pop(TaskStatus.QUEUED, 0)
    in_flight = sum(p.in_flight for p in found.pool.providers) if found.pool and found.alive else 0
    calling = min(claimed, in_flight)
    shown = {"waiting": queued + claimed - calling, "in flight": calling}
    return shown | {str(status): n for status, n in counts.items()}


def _preferences_line(held: Sequence[PreferenceHeld]) -> str:
    parts = []
    for each in held:
        preferred = percent(share(each.preferred_answers, each.answers))
        parts.append(f"{each.task_type} {preferred} of {each.answers:,} ({each.provider})")
    return f"answered by the preferred provider in the last 24 hours: {', '.join(parts)}"


def _orchestrator_line(setup: Setup, found: _Stored, now: float) -> str:
    row = found.orchestrator
    if row is None:
        return f"{setup.mode}: no orchestrator has run on this state yet ({setup.settings.state_dir})"
    if not found.alive:
        last_seen = duration(now - row.heartbeat_at)
        return f"{setup.mode}: no orchestrator is running; the last one was seen {last_seen} ago"
    what = f"batch {row.batch}" if row.batch else "the queue"
    return f"{setup.mode}: process {row.pid} serves {what}, started {duration(now - row.started_at)} ago"


def _gateway_line(found: _Stored) -> str:
    """Where clients connect while the queue is served, whatever port its server was started with."""
    if not (found.alive and found.gateway_url):
        return ""
    return (
        f"gateway: OpenAI and Anthropic clients connect to {found.gateway_url}; `env` prints their settings"
    )


def _pool_table(pool: PoolSnapshot, padding: int, without: Collection[str]) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, padding, 0, 0))
    shown = [name for name in POOL_COLUMNS if name not in without]
    table.add_column("provider", no_wrap=True)
    for name in shown:
        table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
    for each in pool.providers:
        cells = {
            "state": state_text(each, pool.at),
            "share": percent(each.share),
            "in flight": f"{each.in_flight}",
            "calls": f"{each.calls:,}",
            "success": percent(share(each.succeeded, each.succeeded + each.failed)),
            "median": duration(each.p50_s),
            "p95": duration(each.p95_s),
            "cost": money(each.cost_nanos),
        }
        table.add_row(each.name, *(cells[name] for name in shown))
    return table


def _limit_table(pool: PoolSnapshot, padding: int, without: Collection[str]) -> Table:
    """What is left of each limit, the lowest share first for each provider."""
    from rich.table import Table

    table = Table(box=None, padding=(0, padding, 0, 0))
    shown = [name for name in LIMIT_COLUMNS if name not in without]
    for name in shown:
        table.add_column(name, justify="right" if name in ("left", "limit") else "left", no_wrap=True)
    for provider in pool.providers:
        for gauge in sorted(provider.limits, key=share_left):
            per = "day" if gauge.window_s > 3600.0 else "minute"
            limit = gauge.capacity if per == "day" else gauge.per_minute
            cells = {
                "limits of": provider.name,
                "model": gauge.group,
                "what": humanise(gauge.dimension),
                "left": percent(share_left(gauge)),
                "limit": f"{limit:,.0f} a {per}",
                "known": humanise(gauge.source),
            }
            table.add_row(*(cells[name] for name in shown))
    return table


def _as_json(setup: Setup, found: _Stored, now: float) -> dict[str, object]:
    return {
        "simulated": setup.simulated,
        "running": found.alive,
        "orchestrator": asdict(found.orchestrator) if found.orchestrator else None,
        "age_s": round(now - found.pool.at, 3) if found.pool else None,
        "tasks": {str(status): n for status, n in found.counts.items()},
        "preferences": [{**asdict(each), "share": each.share} for each in found.preferences],
        "pool": asdict(found.pool) if found.pool else None,
    }
