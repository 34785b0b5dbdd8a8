"""A plan in words: whole for `plan`, in short before a run, and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..core.intake import BadLine
from ..core.plans import CostLine, Plan
from ..formatting import duration, local_time, money, plural
from ..records import NANOS_PER_USD, TaskStatus
from ..refusal_text import wait_text

if TYPE_CHECKING:
    from rich.table import Table

WORTH_TELLING_S = 0.5  # a shorter wait is no limit that binds
SPANS_SHOWN, LINES_SHOWN = 6, 3


def plan_lines(plan: Plan, bad: int) -> Iterator[str]:
    """Everything; an empty line is where the table belongs."""
    yield _count(plan, bad)
    yield f"tokens: {plan.prompt_tokens:,} in, about {plan.output_tokens:,} out"
    yield f"cost: {_cost(plan)}"
    yield ""
    if plan.unknown_prices:
        yield f"no price is known for {', '.join(plan.unknown_prices)}: it is in none of these sums"
    yield f"time: {_time(plan)}; calls: " + ", ".join(
        f"{name} {count:,}" for name, count in sorted(plan.calls.items())
    )
    yield _limits(plan)
    yield from map(str, plan.substitutions)
    yield from _caveats(plan)
    if plan.sampled > 1:
        yield f"reckoned from every {plan.sampled}th task"


def short_lines(plan: Plan, bad: int) -> Iterator[str]:
    """What is said before a run."""
    yield f"plan: {_count(plan, bad)}; {plan.prompt_tokens:,} tokens in, about {plan.output_tokens:,} out"
    shown = ", ".join(
        f"{x.provider} {x.tier} {_price(x, x.expected_nanos)}" for x in plan.lines[:LINES_SHOWN]
    )
    rest = sum(line.expected_nanos for line in plan.lines[LINES_SHOWN:])
    if plan.price_is_unknown:
        yield f"plan: cost unknown: no price is known for {', '.join(plan.unknown_prices)}"
    else:
        yield f"plan: {_cost(plan)}: {shown}" + (f", others {money(rest)}" if rest else "")
        if plan.unknown_prices:
            yield f"plan: no price is known for {', '.join(plan.unknown_prices)}: it comes on top"
    yield f"plan: {_time(plan)}; {_limits(plan)}"
    yield from (f"plan: {text}" for text in (*plan.substitutions, *_caveats(plan)))


def plan_table(plan: Plan) -> Table:
    """A row per provider and tier, the dearest first."""
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


def _count(plan: Plan, bad: int) -> str:
    lines = "1 bad line" if bad == 1 else f"{bad:,} bad lines"
    return plural(plan.tasks, "task") + (f" (and {lines}, left out)" if bad else "")


def _cost(plan: Plan) -> str:
    if plan.price_is_unknown:
        return "unknown"
    low, high = money(plan.low_nanos), money(plan.highest_nanos)
    return f"about {money(plan.expected_nanos)} (low {low}, at most {high})"


def _price(line: CostLine, nanos: int) -> str:
    return "unknown" if line.price_is_unknown else money(nanos)


def _time(plan: Plan) -> str:
    return f"about {duration(plan.duration_s)}, done at {local_time(plan.done_at, plan.at)}"


def _limits(plan: Plan) -> str:
    """Which limit binds when; in short where they take turns too often to be listed."""
    spans = [span for span in plan.spans if span.to_s - span.from_s >= WORTH_TELLING_S]
    if not spans:
        return "no limit binds"
    if len(spans) <= SPANS_SHOWN:
        shown = ", ".join(
            f"{wait_text(each.reason)} ({duration(each.from_s)} to {duration(each.to_s)})" for each in spans
        )
        return f"limits that bind: {shown}"
    waits = ", ".join(
        f"{wait_text(what)} ({duration(s)})" for what, s in plan.bottlenecks[:3] if s >= WORTH_TELLING_S
    )
    return f"limits that bind, in turn: {waits}"


def _caveats(plan: Plan) -> Iterator[str]:
    if plan.unknown_limits:
        names = ", ".join(plan.unknown_limits)
        yield f"the limits of {names} are not known: it may take longer ([providers.NAME.limits] tells them)"
    failed = sum(n for status, n in plan.statuses.items() if status is not TaskStatus.SUCCEEDED)
    if failed:
        why = "no provider can serve them, or their deadline is too near"
        yield f"{plural(failed, 'task')} can't be answered: {why}"
    if not plan.from_records:
        yield "nothing has been recorded yet: answers are assumed to be of the usual length and speed"


def as_json(plan: Plan, bad: Sequence[BadLine], *, simulated: bool) -> dict[str, Any]:
    """The plan for programs: dollars, seconds since the start."""
    return {
        "tasks": plan.tasks,
        "bad_lines": [{"line": line.line, "reason": line.reason} for line in bad],
        "prompt_tokens": plan.prompt_tokens,
        "output_tokens": plan.output_tokens,
        **_dollars(plan.low_nanos, plan.expected_nanos, plan.highest_nanos),
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
                **_dollars(line.low_nanos, line.expected_nanos, line.highest_nanos),
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


def _dollars(low: int, expected: int, highest: int) -> dict[str, float]:
    named = {"low_usd": low, "expected_usd": expected, "highest_usd": highest}
    return {name: nanos / NANOS_PER_USD for name, nanos in named.items()}
