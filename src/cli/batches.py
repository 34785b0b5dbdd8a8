"""`batches`: the batches at providers, and the wish to cancel one."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.batching.listing import ProviderBatchView, views_of
from ..core.clock import Clock
from ..core.store import Store
from ..errors import InputError, StoreError
from ..formatting import count, duration, local_time, money, plural
from ..records import NANOS_PER_USD, Event
from .console import fitting, print_line, rich_console
from .session import Options, prepare, session

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = 100  # the newest
COLUMNS = ("state", "in", "answered", "failed", "not done", "pulled back", "age", "end", "reserved", "cost")
SPARE_COLUMNS = ("not done", "reserved", "failed", "age")  # dropped in this order on a narrow terminal


def batches(options: Options, *, only_open: bool, as_json: bool) -> int:
    """Print the newest batches at providers. Returns the exit code."""
    setup, clock = prepare(options), Clock()
    found: Sequence[ProviderBatchView] = ()
    if not isinstance(setup.database, Path) or setup.database.exists():  # looking creates no database
        with session(setup, options.console, clock) as opened:
            page = opened.store.provider_batch_lists.page(SHOWN, is_open=only_open)
            found = views_of(opened.store, page.rows, clock.now())
    if as_json:
        _print_json({"simulated": setup.simulated, "provider_batches": [_as_json(each) for each in found]})
    else:
        _print(found, clock.now())
    return 0


def cancel_batch(options: Options, number: int, *, as_json: bool) -> int:
    """Ask the orchestrator to cancel a batch at its provider. Returns the exit code.

    Raises InputError if there is no such batch, or if it has ended.
    """
    setup, clock = prepare(options), Clock()
    with session(setup, options.console, clock) as opened:
        batch = _cancel(opened.store, number, clock.now())
        is_served = opened.running_orchestrator() is not None
    if as_json:
        _print_json({"simulated": setup.simulated, "provider_batch": _as_json(batch)})
    else:
        _print_cancelled(batch, is_served=is_served)
    return 0


def _cancel(store: Store, number: int, now: float) -> ProviderBatchView:
    try:
        batch = store.provider_batch_lists.ask_cancel(number, now)
    except StoreError as error:
        raise InputError(str(error)) from None
    text = f"the command line cancelled batch {number} at {batch.provider}: {batch.left_rows:,} rows are left"
    store.events.add([Event(now, "batch_cancel_asked", text, batch.provider)])
    return views_of(store, [batch], now)[0]


def _print_cancelled(batch: ProviderBatchView, *, is_served: bool) -> None:
    when = "now" if is_served else "when an orchestrator runs"
    left = plural(batch.waiting, "row")
    print_line(
        rich_console(stderr=False),
        f"batch {batch.id} at {batch.provider} is cancelled {when}; {left} that are not done go live",
    )


def _print(found: Sequence[ProviderBatchView], now: float) -> None:
    screen = rich_console(stderr=False)
    if not found:
        print_line(screen, "no batch at a provider; `run --within 24h` sends rows there")
        return
    screen.print(fitting(screen, partial(_table, found, now), SPARE_COLUMNS))
    for each in found:
        if each.paid_late_nanos:
            late = f"{money(each.paid_late_nanos)} for {plural(each.paid_late, 'answer')}"
            print_line(screen, f"batch {each.id}: paid late {late} to rows that had gone live")
        if each.error:
            print_line(screen, f"batch {each.id}: {each.error}")


def _table(found: Sequence[ProviderBatchView], now: float, padding: int, without: Collection[str]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, padding, 0, 0))
    table.add_column("batch", justify="right", no_wrap=True)
    table.add_column("provider", no_wrap=True)
    table.add_column("model", no_wrap=True)
    shown = [name for name in COLUMNS if name not in without]
    for name in shown:
        table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
    for each in found:
        cells = {
            "state": f"{each.state_text}, late" if each.is_late else each.state_text,
            "in": count(each.rows),
            "answered": count(each.answered),
            "failed": count(each.failed),
            "not done": count(each.not_done),
            "pulled back": count(each.pulled_back),
            "age": duration(each.age_s),
            "end": _end(each, now),
            "reserved": money(each.reserved_nanos),
            "cost": money(each.cost_nanos),
        }
        texts = (str(each.id), each.provider, each.model, *(cells[name] for name in shown))
        table.add_row(*(Text(text) for text in texts))
    return table


def _end(batch: ProviderBatchView, now: float) -> str:
    if batch.ended_at is not None:
        return local_time(batch.ended_at, now)
    return "-" if batch.expected_at is None else f"about {local_time(batch.expected_at, now)}"


def _print_json(found: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


def _as_json(batch: ProviderBatchView) -> dict[str, Any]:
    """As `/api/provider-batches` writes it."""
    found: dict[str, Any] = {}
    for name in batch.__slots__:
        value = getattr(batch, name)
        if name.endswith("_nanos"):
            found[name.removesuffix("_nanos") + "_usd"] = value / NANOS_PER_USD
        else:
            found[name] = str(value) if name == "state" else value
    return found
