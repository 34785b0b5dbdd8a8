"""A plan as text: complete for `plan`, in short before a run, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..core.intake import BadLine
from ..core.plans import CostLine, Plan, WaitSpan
from ..formatting import duration, local_time, money, plural
from ..records import NANOS_PER_USD, TaskStatus
from ..refusal_text import wait_text

if TYPE_CHECKING:
    from rich.table import Table

SHORTEST_WAIT_S = 0.5  # a shorter wait is no bottleneck
SPANS_SHOWN, LINES_SHOWN = 3, 3


def plan_lines(plan: Plan, rejected: int) -> Iterator[str]:
    """The whole plan; an empty line marks the place of the table."""
    yield _count(plan, rejected)
    yield f"tokens: {plan.prompt_tokens:,} in, about {plan.output_tokens:,} out"
    yield f"cost: {_cost(plan)}"
    yield ""
    if plan.unknown_prices:
        yield f"no price for {', '.join(plan.unknown_prices)}: not included in cost totals"
    calls = ", ".join(f"{name} {count:,}" for name, count in sorted(plan.calls.items()))
    yield f"time: {_time(plan)}; calls: {calls}"
    yield from _bottlenecks(plan)
    yield from map(str, plan.substitutions)
    yield from _caveats(plan)
    if plan.sampled > 1:
        yield f"estimated from every {plan.sampled}th task"


def short_lines(plan: Plan, affordable: Plan, rejected: int) -> Iterator[str]:
    """The plan before a run. `affordable`: the plan for as many tasks as `--max-cost` pays for."""
    tokens = f"{plan.prompt_tokens:,} tokens in, about {plan.output_tokens:,} out"
    yield f"plan: {_count(plan, rejected)}; {tokens}"
    if plan.price_is_unknown:
        yield f"plan: cost unknown: no price for {', '.join(plan.unknown_prices)}"
    else:
        yield f"plan: {_cost(plan)}: {_dearest(plan)}"
        if plan.unknown_prices:
            yield f"plan: no price for {', '.join(plan.unknown_prices)}: their cost comes on top"
    if affordable.tasks < plan.tasks:
        of_all = f"{affordable.tasks:,} of {plan.tasks:,} tasks"
        yield f"plan: --max-cost pays for about {of_all}, then the run stops"
    if affordable.tasks:
        yield f"plan: {_time(affordable)}"
        yield from (
            f"plan: {text}" for text in (*_bottlenecks(affordable), *plan.substitutions, *_caveats(plan))
        )


def _dearest(plan: Plan) -> str:
    """The cost of the most expensive parts, and of all others together."""
    shown = ", ".join(
        f"{x.provider} {x.tier} {_price(x, x.expected_nanos)}" for x in plan.lines[:LINES_SHOWN]
    )
    rest = sum(line.expected_nanos for line in plan.lines[LINES_SHOWN:])
    return shown + (f", others {money(rest)}" if rest else "")


def plan_table(plan: Plan) -> Table:
    """A row per provider and tier, the most expensive first."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("provider")
    table.add_column("tier")
    for name in ("calls", "tokens in", "tokens out", "low", "expected", "at most"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in plan.lines:
        numbers = (line.calls, line.prompt_tokens, line.output_tokens)
        prices = (line.low_nanos, line.expected_nanos, line.highest_nanos)
        table.add_row(
            line.provider, line.tier, *(f"{n:,}" for n in numbers), *(_price(line, n) for n in prices)
        )
    return table


def _count(plan: Plan, rejected: int) -> str:
    return plural(plan.tasks, "task") + (f" ({plural(rejected, 'bad line')} skipped)" if rejected else "")


def _cost(plan: Plan) -> str:
    if plan.price_is_unknown:
        return "unknown"
    low, high = money(plan.low_nanos), money(plan.highest_nanos)
    return f"about {money(plan.expected_nanos)} (low {low}, at most {high})"


def _price(line: CostLine, nanos: int) -> str:
    return "unknown" if line.price_is_unknown else money(nanos)


def _time(plan: Plan) -> str:
    return f"about {duration(plan.duration_s)}, done at {local_time(plan.done_at, plan.at)}"


def _bottlenecks(plan: Plan) -> Iterator[str]:
    """What tasks wait for and when; only the longest waits if they alternate too often for a list."""
    spans = [span for span in plan.spans if span.to_s - span.from_s >= SHORTEST_WAIT_S]
    if not spans:
        yield "no limit is reached"
    elif len(spans) <= SPANS_SHOWN:
        yield "bottlenecks: " + "; ".join(f"{_span(each, plan)}: {wait_text(each.reason)}" for each in spans)
    else:
        waits = [(what, s) for what, s in plan.bottlenecks[:SPANS_SHOWN] if s >= SHORTEST_WAIT_S]
        shown = "; ".join(f"{wait_text(what)} ({duration(s)})" for what, s in waits)
        yield f"bottlenecks in order: {shown}"


def _span(span: WaitSpan, plan: Plan) -> str:
    """`0-1.6 s`, `until 40 s` or `from 12 s`: seconds since the start."""
    end_s = plan.duration_s - plan.start_s
    if span.from_s < SHORTEST_WAIT_S:
        return "throughout" if span.to_s >= end_s - SHORTEST_WAIT_S else f"until {duration(span.to_s)}"
    if span.to_s >= end_s - SHORTEST_WAIT_S:
        return f"from {duration(span.from_s)}"
    return f"{duration(span.from_s)} to {duration(span.to_s)}"


def _caveats(plan: Plan) -> Iterator[str]:
    if plan.unknown_limits:
        names = ", ".join(plan.unknown_limits)
        tables = ", ".join(f"[providers.{name}.limits]" for name in plan.unknown_limits)
        yield f"rate limits for {names} are unknown, so this may take longer; set {tables}"
    failed = sum(n for status, n in plan.statuses.items() if status is not TaskStatus.SUCCEEDED)
    if failed:
        why = "no provider can serve them, or their deadline is too near"
        yield f"{plural(failed, 'task')} can't be answered: {why}"
    if not plan.from_records:
        yield "no calls are recorded yet: this assumes answers of the usual length and speed"


def as_json(plan: Plan, bad: Sequence[BadLine], *, simulated: bool) -> dict[str, Any]:
    """The plan as data: dollars, and seconds since the start."""
    return {
        "tasks": plan.tasks,
        "bad_lines": [{"line": line.line, "reason": line.reason} for line in bad],
        "prompt_tokens": plan.prompt_tokens,
        "output_tokens": plan.output_tokens,
        **_dollars(plan),
        "duration_s": round(plan.duration_s, 3),
        "start_s": plan.start_s,
        "done_at": datetime.fromtimestamp(plan.done_at, UTC).isoformat(timespec="seconds"),
        "calls": dict(plan.calls),
        "lines": [
            {
                "provider": line.provider,
                "tier": line.tier,
                "calls": line.calls,
                "prompt_tokens": line.prompt_tokens,
                "output_tokens": line.output_tokens,
                **_dollars(line),
            }
            for line in plan.lines
        ],
        "waits": [{"what": wait_text(what), "seconds": round(s, 3)} for what, s in plan.bottlenecks],
        "binds": [
            {"what": wait_text(each.reason), "from_s": round(each.from_s, 3), "to_s": round(each.to_s, 3)}
            for each in plan.spans
        ],
        "statuses": {str(status): count for status, count in plan.statuses.items()},
        "unknown_prices": list(plan.unknown_prices),
        "unknown_limits": list(plan.unknown_limits),
        "substitutions": [asdict(each) for each in plan.substitutions],
        "from_records": plan.from_records,
        "sampled": plan.sampled,
        "simulated": simulated,
    }


def _dollars(part: Plan | CostLine) -> dict[str, float | None]:
    """Null instead of $0 if no price is known."""
    named = {
        "low_usd": part.low_nanos,
        "expected_usd": part.expected_nanos,
        "highest_usd": part.highest_nanos,
    }
    if part.price_is_unknown:
        return dict.fromkeys(named)
    return {name: nanos / NANOS_PER_USD for name, nanos in named.items()}
