"""`suggest-weights`: propose base weights from recorded traffic, apply them, or undo a change of weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..formatting import duration, money, percent
from ..records import LOCAL, NANOS_PER_USD
from .console import rich_console
from .plan import learned_limits
from .session import Options, Session, headline, prepare, session

if TYPE_CHECKING:
    from rich.table import Table

    from ..bootstrap import Setup
    from ..core.forecast import Record
    from ..core.suggestions import Candidate
    from ..core.weight_changes import WeightChanges

OK, NO_RECORDS, NOTHING_TO_UNDO = 0, 1, 1


def suggest_weights(options: Options, *, hours: float, apply: bool, as_json: bool) -> int:
    """Print proposed base weights, and what the last `hours` would have cost under each candidate.

    `apply`: also set them, as the pages do.
    """
    from ..core.forecast import ENOUGH
    from ..core.suggestions import suggest_weights as suggest
    from ..core.virtual_pool import VirtualPool

    setup, console = prepare(options), options.console
    if setup.simulated and not as_json:
        console.note(headline(setup))
    with session(setup, console) as opened:
        pool = VirtualPool(setup.settings, _called(setup), learned_limits(opened))
        found = suggest(opened.store, pool, now=opened.now(), span_s=hours * 3600.0)
        if found is None:
            console.note(f"fewer than {ENOUGH} answers in the last {hours:g} h: too few to replay")
            return NO_RECORDS
        if apply:
            _changes(opened).apply(found.proposed.weights, who=LOCAL, now=opened.now())
        if as_json:
            rows = [_as_json(candidate) for candidate in found.candidates]
            printed = {
                "proposed": rows[0],
                "candidates": rows,
                "applied": apply,
                "simulated": setup.simulated,
            }
            sys.stdout.write(json.dumps(printed) + "\n")
            return OK
        screen = rich_console(stderr=False)
        screen.print(_record_table(found.records))
        screen.print(_candidate_table(found.compared))
        sampled = f" (every {found.sampled}th)" if found.sampled > 1 else ""
        console.note(f"replayed: {found.tasks:,} tasks answered in the last {hours:g} h{sampled}")
        weights = ", ".join(f"{name} {weight:.3g}" for name, weight in found.proposed.weights.items())
        console.note(f"proposed: {found.proposed.name}: {weights}")
        if apply:
            console.note(_in_force(opened))
    return OK


def undo_weights(options: Options, *, as_json: bool) -> int:
    """Revert the last change of weights that stands, wherever it was made, and print the weights in force."""
    setup, console = prepare(options, calls_providers=False), options.console
    with session(setup, console) as opened:
        version = _changes(opened).undo(who=LOCAL, now=opened.now())
        if version is None:
            console.note("no change of weights is left to undo")
            return NOTHING_TO_UNDO
        if as_json:
            weights = _changes(opened).in_force()
            sys.stdout.write(json.dumps({"weights": weights, "simulated": setup.simulated}) + "\n")
        else:
            console.note(_in_force(opened))
    return OK


def _changes(opened: Session) -> WeightChanges:
    from ..core.weight_changes import WeightChanges

    return WeightChanges(opened.store, opened.setup.settings)


def _in_force(opened: Session) -> str:
    from ..core.weight_changes import weights_text

    changes, called = _changes(opened), _called(opened.setup)
    weights = {name: weight for name, weight in changes.in_force().items() if name in called}
    undo = "; undo with: suggest-weights --undo" if changes.steps().done else ""
    return f"weights in force: {weights_text(weights)}{undo}"


def _called(setup: Setup) -> list[str]:
    """The providers that can be called."""
    return list(setup.access) if setup.simulated else [each.name for each in setup.configured]


def _as_json(candidate: Candidate) -> dict[str, Any]:
    return {
        "name": candidate.name,
        "weights": {name: round(weight, 3) for name, weight in candidate.weights.items()},
        "cost_usd": candidate.cost_nanos / NANOS_PER_USD,
        "mean_s": round(candidate.mean_s, 3),
        "answered": candidate.answered,
        "tasks": candidate.tasks,
    }


def _candidate_table(candidates: Sequence[Candidate]) -> Table:
    from rich.table import Table

    table = Table(
        title="the same tasks under other weights", title_justify="left", box=None, padding=(0, 2, 0, 0)
    )
    for name in ("candidate", "weights"):
        table.add_column(name)
    for name in ("cost", "mean time", "answered"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in candidates:
        weights = ", ".join(f"{name} {weight:.2f}" for name, weight in each.weights.items())
        answered = f"{each.answered:,} of {each.tasks:,}"
        table.add_row(each.name, weights, money(each.cost_nanos), duration(each.mean_s), answered)
    return table


def _record_table(records: Mapping[tuple[str, str], Record]) -> Table:
    from rich.table import Table

    table = Table(title="as recorded", title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("provider")
    table.add_column("task type")
    for name in ("answers", "success", "mean", "tokens out"):
        table.add_column(name, justify="right", no_wrap=True)
    for (provider, task_type), record in sorted(records.items()):
        table.add_row(
            provider,
            task_type,
            f"{record.answers:,}",
            percent(record.success),
            duration(record.latency_s),
            f"{record.output_tokens:.0f}",
        )
    return table
