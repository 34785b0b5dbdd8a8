"""The summary of a run: tables of models and agents, then totals."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..formatting import duration, money, percent, plural, share
from ..records import NANOS_PER_USD, OPEN_STATUSES, TaskStatus
from .console import fitting, print_line, rich_console
from .progress_counts import ProgressCounts

if TYPE_CHECKING:
    from rich.table import Table

    from ..core.plans import Substitution
    from ..core.store import BatchExtras, CallSums, SavedParts, Summary, TierSavings
    from ..routing.cost.budgets import BudgetRule


MODEL_COLUMNS = ("provider", "calls", "share", "success", "median", "p95", "tokens in", "tokens out", "cost")
SPARE_COLUMNS = (
    "provider",
    "median",
    "share",
    "p95",
    "success",
    "tokens in",
)  # dropped in this order on a narrow terminal


@dataclass(frozen=True, slots=True)
class Totals:
    """What the summary of a run is made of."""

    summary: Summary  # everything that is stored for the batch
    progress: ProgressCounts  # of this run
    baseline_model: str
    elapsed_s: float
    simulated: bool
    substitutions: Sequence[Substitution] = ()
    agents_are_home: bool = True  # whether each agent's home provider is configured
    batches: BatchExtras | None = None  # what batches at providers add


def print_summary(totals: Totals, *, quiet: bool, stderr: bool) -> None:
    """Print tables and totals; the totals alone with `quiet`, or if there was no call."""
    screen, summary = rich_console(stderr=stderr), totals.summary
    if summary.models and not quiet:
        screen.print()
        screen.print(fitting(screen, partial(model_table, summary), SPARE_COLUMNS))
        screen.print()
        if totals.agents_are_home:  # else names such as `gemini-scout` stand for calls of other providers
            screen.print(agent_table(summary))
            screen.print()
    for line in total_lines(totals):
        print_line(screen, line)
    for each in totals.substitutions:
        print_line(screen, str(each))


def print_summary_json(totals: Totals, results: Path | None, *, stderr: bool) -> None:
    """The same as one JSON object: dollars and seconds."""
    stream = sys.stderr if stderr else sys.stdout
    found = summary_json(totals)
    found |= {"results": None if results is None else str(results), "simulated": totals.simulated}
    found["substitutions"] = [asdict(each) for each in totals.substitutions]
    stream.write(json.dumps({"summary": found}) + "\n")
    stream.flush()


def summary_json(totals: Totals) -> dict[str, Any]:
    """The summary as data: dollars, seconds, tokens."""
    summary, progress = totals.summary, totals.progress
    return {
        "tasks": sum(summary.counts.values()),
        "answered": summary.counts.get(TaskStatus.SUCCEEDED, 0),
        "complete": progress.finished,
        "rejected": progress.rejected,
        "statuses": {str(status): n for status, n in summary.counts.items() if n},
        "truncated": summary.tasks.truncated,
        "took_s": round(totals.elapsed_s, 3),
        "baseline_model": totals.baseline_model,
        "baseline_usd": summary.baseline_nanos / NANOS_PER_USD,
        "saved_usd": None if summary.saved_nanos is None else summary.saved_nanos / NANOS_PER_USD,
        "saved_parts": _parts_json(summary.saved_parts),
        "tiers": {part.tier: _savings_json(part) for part in summary.savings},
        **_sums_json(summary.calls),
        "providers": {name: _sums_json(sums) for name, sums in summary.providers.items()},
        "models": {f"{name}/{model}": _sums_json(sums) for (name, model), sums in summary.models.items()},
        "agents": {name: sums.tasks for name, sums in summary.agents.items()},
        "reasons": progress.reasons,
        "batches": None if totals.batches is None else _batches_json(totals.batches),
    }


def _batches_json(found: BatchExtras) -> dict[str, Any]:
    return {
        "paid_late_usd": found.late_nanos / NANOS_PER_USD,
        "open": dict(found.open),
        "reserved_usd": found.reserved_nanos / NANOS_PER_USD,
    }


def _parts_json(parts: SavedParts | None) -> dict[str, float] | None:
    if parts is None:
        return None
    return {
        name.removesuffix("_nanos") + "_usd": nanos / NANOS_PER_USD for name, nanos in parts._asdict().items()
    }


def _savings_json(part: TierSavings) -> dict[str, Any]:
    return {
        "tasks": part.tasks,
        "cost_usd": part.cost_nanos / NANOS_PER_USD,
        "baseline_usd": part.baseline_nanos / NANOS_PER_USD,
    }


def _sums_json(sums: CallSums) -> dict[str, Any]:
    return {
        "calls": sums.calls,
        "ok": sums.ok,
        "p50_s": sums.p50_s,
        "p95_s": sums.p95_s,
        "prompt_tokens": sums.prompt_tokens,
        "output_tokens": sums.output_tokens,
        "cost_usd": sums.cost_nanos / NANOS_PER_USD,
        "uncertain_usd": sums.uncertain_nanos / NANOS_PER_USD,
        "unknown_cost_calls": sums.unknown_cost_calls,
    }


def model_table(summary: Summary, padding: int = 2, without: Collection[str] = ()) -> Table:
    """Calls, share of the answers, success rate, latency, tokens and cost by model, and their sums."""
    from rich.table import Table

    table = Table(title="models", title_justify="left", box=None, padding=(0, padding, 0, 0))
    shown = [name for name in MODEL_COLUMNS if name not in without]
    table.add_column("model", no_wrap=True)
    for name in shown:
        table.add_column(name, justify="left" if name == "provider" else "right", no_wrap=True)
    rows = [(model, provider, sums, "") for (provider, model), sums in sorted(summary.models.items())]
    if len(rows) > 1:
        rows.append(("all", "", summary.calls, "bold"))
    for model, provider, sums, style in rows:
        cells = _cells(sums, summary.calls.ok) | {"provider": provider}
        table.add_row(model, *(cells[column] for column in shown), style=style)
    return table


def _cells(sums: CallSums, answers: int) -> dict[str, str]:
    return {
        "calls": f"{sums.calls:,}",
        "share": percent(share(sums.ok, answers)),
        "success": percent(share(sums.ok, sums.calls - sums.cancelled)),
        "median": duration(sums.p50_s),
        "p95": duration(sums.p95_s),
        "tokens in": f"{sums.prompt_tokens:,}",
        "tokens out": f"{sums.output_tokens:,}",
        "cost": _cost(sums),
    }


def _cost(sums: CallSums) -> str:
    """Known dollars, with a plus sign if there are calls of unknown price."""
    if sums.unknown_cost_calls and not sums.cost_nanos:
        return "unknown"
    return money(sums.cost_nanos) + ("+" if sums.unknown_cost_calls else "")


def agent_table(summary: Summary) -> Table:
    """Tasks and answers by agent, the busiest first."""
    from rich.table import Table

    table = Table(title="agents", title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("agent")
    table.add_column("tasks", justify="right")
    table.add_column("answered", justify="right")
    for agent, sums in sorted(summary.agents.items(), key=lambda item: -item[1].tasks):
        table.add_row(agent or "(none)", f"{sums.tasks:,}", f"{sums.succeeded:,}")
    return table


def total_lines(totals: Totals) -> Iterator[str]:
    """How many tasks were answered, what they cost, and why others were not answered."""
    summary = totals.summary
    total, answered = sum(summary.counts.values()), summary.counts.get(TaskStatus.SUCCEEDED, 0)
    truncated = summary.tasks.truncated
    cut = f", {truncated:,} of them truncated at max_tokens" if truncated else ""
    of_all = "" if totals.progress.rejected and answered == total else f" of {plural(total, 'task')}"
    rejected = f", {totals.progress.rejected:,} rejected" if totals.progress.rejected else ""
    yield f"{answered:,}{of_all} answered{cut}{rejected}; this run took {duration(totals.elapsed_s)}"
    yield _cost_line(totals)
    if summary.savings:
        # The tiers include what the attempts of killed processes may have cost.
        has_uncertain = summary.tasks.cost_nanos > summary.calls.cost_nanos
        billed = ", if those calls are billed" if has_uncertain else ""
        yield f"  by tier{billed}: " + "; ".join(_savings(part) for part in summary.savings)
    if (parts := summary.saved_parts) is not None and (parts.half_price_nanos or parts.cache_nanos):
        yield f"  saved {saved_text(parts)}"
    yield from _batch_lines(totals)
    yield from _unanswered_lines(summary, totals.progress.reasons)


def _batch_lines(totals: Totals) -> Iterator[str]:
    """What batches at providers cost for nothing, and what may still come from them."""
    if (found := totals.batches) is None:
        return
    if found.late_nanos:
        late = "for answers of batches that came after their tasks had gone live"
        yield f"  {money(found.late_nanos)} of it paid late, {late}"
    if not found.open:
        return
    number, where = sum(found.open.values()), " and ".join(found.open)
    there = f"{plural(number, 'batch', 'batches')} at {where}"
    if not totals.progress.finished:
        goes_on = "goes on there" if number == 1 else "go on there"
        yield f"{there} {goes_on}, for up to {money(found.reserved_nanos)}; a later run collects the answers"
        return
    more = f"up to {money(found.reserved_nanos)} may still be booked for what was done there"
    is_still = "is" if number == 1 else "are"
    yield f"{there} {is_still} still being cancelled: {more}, by a server, or by the same command"


def _unanswered_lines(summary: Summary, reasons: Sequence[str]) -> Iterator[str]:
    """Which tasks have no answer. `reasons`: of the first ones of this run."""
    unanswered = {
        status: n
        for status, n in summary.counts.items()
        if n and status not in (*OPEN_STATUSES, TaskStatus.SUCCEEDED)
    }
    if unanswered:
        yield "not answered: " + ", ".join(f"{n:,} {status}" for status, n in unanswered.items())
        yield from (f"  {reason}" for reason in reasons)
        if sum(unanswered.values()) > len(reasons):
            yield "  (the others are in the results)"
    if left := sum(summary.counts.get(status, 0) for status in OPEN_STATUSES):
        yield f"unfinished: {plural(left, 'task')}"


def how_to_continue(summary: Summary, spent: BudgetRule | None) -> str:
    """How the unfinished tasks get their answers. `spent`: the budget that ended the run."""
    if spent is None:
        return "run the same command again to continue"
    if spent.scope != "batch":
        return f"raise {spent} in [budgets] to continue"
    used = money(summary.calls.cost_nanos + summary.calls.uncertain_nanos)
    return f"{used} spent on this file in all; rerun with a higher --max-cost"


def _cost_line(totals: Totals) -> str:
    summary, calls = totals.summary, totals.summary.calls
    text = f"cost: {_cost(calls)}" + (" (simulated: nothing was spent)" if totals.simulated else "")
    if before := totals.progress.nanos_before:
        text += f", {money(calls.cost_nanos - before)} of it in this run"
    if calls.uncertain_nanos:
        text += f", and up to {money(calls.uncertain_nanos)} for calls that were cut off and may be billed"
    if calls.unknown_cost_calls:
        text += f"; the price of {plural(calls.unknown_cost_calls, 'call')} is unknown"
    if summary.saved_nanos is not None:
        less = _between(calls.cost_nanos, calls.uncertain_nanos, summary.baseline_nanos)
        baseline = f"{money(summary.baseline_nanos)} these tokens would cost on {totals.baseline_model}"
        text += f"; {less} than the {baseline}"
    return text


def _between(cost_nanos: int, uncertain_nanos: int, baseline_nanos: int) -> str:
    """The difference to the baseline; a range if more may be billed than is certain."""
    least = _difference(cost_nanos, baseline_nanos)
    most = _difference(cost_nanos + uncertain_nanos, baseline_nanos)
    return most if most == least else f"{least} (or {most}, if those calls are billed)"


def _savings(part: TierSavings) -> str:
    """`economy $0.12 instead of $0.50 (76 % less, 300 tasks)`."""
    difference = f"{_difference(part.cost_nanos, part.baseline_nanos)}, " if part.baseline_nanos else ""
    instead = f"{money(part.cost_nanos)} instead of {money(part.baseline_nanos)}"
    return f"{part.tier} {instead} ({difference}{plural(part.tasks, 'task')})"


def saved_text(parts: SavedParts) -> str:
    """`$1.20 by the choice of models, $0.40 at half price, $0.10 by prompt caches`."""
    named = (
        (parts.models_nanos, "by the choice of models"),
        (parts.half_price_nanos, "at half price"),
        (parts.cache_nanos, "by prompt caches"),
    )
    return ", ".join(f"{money(nanos)} {how}" for nanos, how in named)


def _difference(cost_nanos: int, baseline_nanos: int) -> str:
    less = 100 * (1 - cost_nanos / baseline_nanos)
    return f"{less:.0f} % less" if less >= 0 else f"{-less:.0f} % more"
