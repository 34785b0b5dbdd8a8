"""`suggest-weights`, from what was recorded, and `alert-test`, one webhook on request."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..bootstrap import open_store
from ..core.clock import Clock
from ..errors import ConfigError
from ..formatting import money
from .plan import learned_limits
from .progress import console, say
from .setup import Options, headline, prepare

if TYPE_CHECKING:
    from rich.table import Table

    from ..core.alerts import Alerter, HookAnswer
    from ..core.forecast import Record

OK, NOTHING_TO_GO_BY = 0, 1


def suggest_weights(options: Options, *, hours: float, as_json: bool) -> int:
    """Print base weights proposed from the last `hours`, and what each candidate would have come to."""
    from ..core.suggestions import suggest_weights as suggest
    from ..core.virtual_pool import VirtualPool

    setup = prepare(options)
    if setup.simulated and not as_json:
        say(headline(setup))
    names = list(setup.access) if setup.simulated else [each.name for each in setup.configured]
    with open_store(setup) as store:
        found = suggest(
            store,
            VirtualPool(setup.settings, names, learned_limits(setup, store)),
            now=Clock().now(),
            span_s=hours * 3600.0,
        )
    if found is None:
        say(f"nothing was answered in the last {hours:g} h: there is nothing to go by")
        return NOTHING_TO_GO_BY
    rows: list[dict[str, Any]] = [
        {
            "name": c.name,
            "weights": {n: round(w, 3) for n, w in c.weights.items()},
            "cost_usd": c.cost_nanos / 1e9,
            "mean_s": round(c.mean_s, 3),
            "answered": c.answered,
            "tasks": c.tasks,
        }
        for c in found.candidates
    ]
    if as_json:
        sys.stdout.write(
            json.dumps({"proposed": rows[0], "candidates": rows, "simulated": setup.simulated}) + "\n"
        )
        return OK
    screen = console(stderr=False)
    screen.print(_reason_table(found.records))
    screen.print(_candidate_table(rows))
    sampled = f" (every {found.sampled}th replayed)" if found.sampled > 1 else ""
    say(f"replayed: {found.tasks:,} answered tasks of the last {hours:g} h{sampled}")
    weights = ", ".join(f"{name} {weight:g}" for name, weight in rows[0]["weights"].items())
    say(f"proposed: {rows[0]['name']}: {weights}")
    return OK


def alert_test(options: Options) -> int:
    """Send one alert to ALERT_WEBHOOK_URL and print what it answered."""
    from ..core.alerts import Alerter

    setup = prepare(options)
    url = setup.environ.get("ALERT_WEBHOOK_URL")
    if not url:
        raise ConfigError("ALERT_WEBHOOK_URL is not set (set it to the address of an incoming webhook)")
    answer = asyncio.run(_send(Alerter(url)))
    say(str(answer))
    return OK if answer.ok else NOTHING_TO_GO_BY


async def _send(alerter: Alerter) -> HookAnswer:
    try:
        return await alerter.send_test()
    finally:
        await alerter.close()


def _candidate_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    from rich.table import Table

    table = Table(
        title="the same tasks under other weights", title_justify="left", box=None, padding=(0, 2, 0, 0)
    )
    for name in ("candidate", "weights"):
        table.add_column(name)
    for name in ("cost", "mean time", "answered"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        weights = ", ".join(f"{name} {weight:.2f}" for name, weight in row["weights"].items())
        answered = f"{row['answered']:,} of {row['tasks']:,}"
        table.add_row(
            row["name"], weights, money(int(row["cost_usd"] * 1e9)), f"{row['mean_s']:.2f} s", answered
        )
    return table


def _reason_table(records: Mapping[tuple[str, str], Record]) -> Table:
    from rich.table import Table

    table = Table(title="as recorded", title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("provider")
    table.add_column("task type")
    for name in ("answers", "success", "mean", "tokens out"):
        table.add_column(name, justify="right", no_wrap=True)
    for (provider, task_type), record in sorted(records.items()):
        success = f"{100 * record.success:.0f} %"
        mean = f"{record.latency_s:.2f} s"
        table.add_row(
            provider, task_type, f"{record.answers:,}", success, mean, f"{record.output_tokens:.0f}"
        )
    return table
