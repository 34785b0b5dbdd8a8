"""A plan as text: complete for `plan`, in short before a run, and as JSON."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..core.batching.foresee import BatchForecast
from ..core.intake import BadLine
from ..core.plans import CostLine, Plan, WaitSpan
from ..formatting import duration, local_time, money, plural, rough_duration
from ..records import NANOS_PER_USD, TaskStatus, WaitReason
from ..refusal_text import wait_text

if TYPE_CHECKING:
    from rich.table import Table

SHORTEST_WAIT_S = 0.5  # a shorter wait is no bottleneck
SPANS_SHOWN = 3
PLAN_COLUMNS = (
    "provider", "tier", "calls", "tokens in", "tokens out", "low", "expected", "at most", "done at",
)  # fmt: skip
SPARE_PLAN_COLUMNS = ("provider", "low", "tokens in", "tier")  # dropped in this order on a narrow terminal


def plan_lines(plan: Plan, rejected: int) -> Iterator[str]:
    """The whole plan; an empty line marks the place of the table."""
    yield _count(plan, rejected)
    yield f"tokens: {plan.prompt_tokens:,} in, about {plan.output_tokens:,} out"
    yield f"cost: {_cost(plan)}"
    yield from _batches(plan)
    yield ""
    if plan.unknown_prices:
        yield f"no price for {', '.join(plan.unknown_prices)}: not included in cost totals"
    calls = ", ".join(f"{name} {count:,}" for name, count in sorted(plan.calls.items()))
    yield f"time: {_time(plan)}; calls: {calls}"
    yield from _bottlenecks(plan)
    yield from map(str, plan.substitutions)
    yield from _agents(plan)
    yield from _caveats(plan)
    yield from _advice(plan)
    if plan.sampled > 1:
        yield f"estimated from every {plan.sampled}th task"


def short_lines(plan: Plan, affordable: Plan, rejected: int) -> Iterator[str]:
    """The plan before a run. `affordable`: the plan for as many tasks as `--max-cost` pays for."""
    tokens = f"{plan.prompt_tokens:,} tokens in, about {plan.output_tokens:,} out"
    yield f"plan: {_count(plan, rejected)}; {tokens}"
    if plan.price_is_unknown:
        yield f"plan: cost unknown: no price for {', '.join(plan.unknown_prices)}"
    else:
        yield f"plan: {_cost(plan)}"
        if plan.unknown_prices:
            yield f"plan: no price for {', '.join(plan.unknown_prices)}: their cost comes on top"
    yield from (f"plan: {text}" for text in _model_lines(affordable))
    yield from (f"plan: {text}" for text in _batches(plan))
    if affordable.tasks < plan.tasks:
        of_all = f"{affordable.tasks:,} of {plan.tasks:,} tasks"
        yield f"plan: --max-cost pays for about {of_all}, then the run stops"
    if affordable.tasks:
        yield f"plan: {_time(affordable)}"
        yield from (
            f"plan: {text}"
            for text in (
                *_bottlenecks(affordable),
                *plan.substitutions,
                *_agents(plan),
                *_caveats(plan),
                *_advice(plan),
            )
        )


def _batches(plan: Plan) -> Iterator[str]:
    """The same work with the providers' batch APIs, where it may go there."""
    found = plan.batches
    if found is None:
        return
    where = ", ".join(f"{rows:,} at {model}" for model, rows in found.models.items())
    live = f", {found.live_tasks:,} live" if found.live_tasks else ""
    in_batches = found.expected_nanos(plan.expected_nanos)
    is_less = in_batches < plan.expected_nanos or plan.unknown_prices
    cost = money(in_batches)
    if (between := found.range_nanos(plan.expected_nanos)) is not None:
        cost += f", {money(between[0])} to {money(between[1])}"
    cost += "," if between is not None or not is_less else ""
    instead = "instead" if is_less else "which is no less than live calls cost"
    yield f"in batches: about {cost} {instead} ({where}{live})"
    low, high = rough_duration(found.p10_s), rough_duration(found.p90_s)
    known = "as assumed" if found.is_assumed else "as recorded"
    yield f"in batches: all have ended after {low} to {high}, {known}"


def _model_lines(plan: Plan) -> Iterator[str]:
    """A line for each model and tier: how much of the work goes there, what it costs, when it is done."""
    for line in plan.lines if plan.tasks else ():
        tokens = f"{line.prompt_tokens:,} tokens in, {line.output_tokens:,} out"
        at = f"done at {_done_at(plan, line)}"
        where = f"{line.model} ({line.provider}, {line.tier}): {plural(line.calls, 'call')}"
        yield f"  {where}, {tokens}, {_price(line, line.expected_nanos)}, {at}"


def models_text(plan: Plan) -> str:
    """`90 calls of gpt-6.1-terra for $1.20, 30 calls of claude-sonnet-5-5 for $0.80`."""
    found: dict[str, tuple[int, int]] = {}
    for line in plan.lines:
        calls, nanos = found.get(line.model, (0, 0))
        found[line.model] = (calls + line.calls, nanos + line.expected_nanos)
    parts = []
    for model, (calls, nanos) in found.items():
        cost = "an unknown price" if model in plan.unknown_prices else money(nanos)
        parts.append(f"{plural(calls, 'call')} of {model} for {cost}")
    return ", ".join(parts)


def plan_table(plan: Plan, padding: int = 2, without: Collection[str] = ()) -> Table:
    """A row for each model and tier, the most expensive first."""
    from rich.table import Table

    table = Table(box=None, padding=(0, padding, 0, 0))
    shown = [name for name in PLAN_COLUMNS if name not in without]
    table.add_column("model", no_wrap=True)
    for name in shown:
        table.add_column(name, justify="left" if name in ("provider", "tier") else "right", no_wrap=True)
    for line in plan.lines:
        cells = {
            "provider": line.provider,
            "tier": line.tier,
            "calls": f"{line.calls:,}",
            "tokens in": f"{line.prompt_tokens:,}",
            "tokens out": f"{line.output_tokens:,}",
            "low": _price(line, line.low_nanos),
            "expected": _price(line, line.expected_nanos),
            "at most": _price(line, line.highest_nanos),
            "done at": _done_at(plan, line),
        }
        table.add_row(line.model, *(cells[name] for name in shown))
    return table


def _done_at(plan: Plan, line: CostLine) -> str:
    return local_time(plan.at + plan.start_s + line.done_s, plan.at)


def _advice(plan: Plan) -> Iterator[str]:
    """A limit that bounds the cost, where answers could be far longer than they usually are."""
    if plan.is_wide:
        yield (
            f"at most {money(plan.highest_nanos)} because answers may be far longer than usual; "
            f"--max-tokens {plan.usual_max_tokens or 'N'} lowers that"
        )


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
        shown = "; ".join(f"{_what(each.reason, between=' ')} ({_span(each, plan)})" for each in spans)
        yield f"bottlenecks: {shown}"
    else:
        waits = [(what, s) for what, s in plan.bottlenecks[:SPANS_SHOWN] if s >= SHORTEST_WAIT_S]
        shown = "; ".join(f"{_what(what, between=' ')} ({duration(s)})" for what, s in waits)
        yield f"bottlenecks in order: {shown}"


def _what(reason: WaitReason, *, between: str = ": ") -> str:
    """What tasks wait for. The batch of a plan is its results file, whose cap is `--max-cost`."""
    if reason.budget_scope == "batch":
        reason = replace(reason, detail="--max-cost")
    return wait_text(reason, between=between)


def _span(span: WaitSpan, plan: Plan) -> str:
    """`0-1.6 s`, `until 40 s` or `from 12 s`: seconds since the start."""
    end_s = plan.duration_s - plan.start_s
    if span.from_s < SHORTEST_WAIT_S:
        return "throughout" if span.to_s >= end_s - SHORTEST_WAIT_S else f"until {duration(span.to_s)}"
    if span.to_s >= end_s - SHORTEST_WAIT_S:
        return f"from {duration(span.from_s)}"
    return f"{duration(span.from_s)} to {duration(span.to_s)}"


def _agents(plan: Plan) -> Iterator[str]:
    for agent, tasks in sorted(plan.agents.items()):
        name = "1 task names" if tasks == 1 else f"{tasks:,} tasks name"
        own = "it has its" if tasks == 1 else "they have their"
        yield f"{name} the agent {agent}: its system prompt comes first, unless {own} own"


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
        yield "too few answers are recorded yet: this assumes answers of the usual length and speed"


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
                "model": line.model,
                "tier": line.tier,
                "calls": line.calls,
                "prompt_tokens": line.prompt_tokens,
                "output_tokens": line.output_tokens,
                "done_s": round(plan.start_s + line.done_s, 3),
                **_dollars(line),
            }
            for line in plan.lines
        ],
        "waits": [{"what": _what(what), "seconds": round(s, 3)} for what, s in plan.bottlenecks],
        "binds": [
            {"what": _what(each.reason), "from_s": round(each.from_s, 3), "to_s": round(each.to_s, 3)}
            for each in plan.spans
        ],
        "statuses": {str(status): count for status, count in plan.statuses.items()},
        "unknown_prices": list(plan.unknown_prices),
        "unknown_limits": list(plan.unknown_limits),
        "usual_max_tokens": plan.usual_max_tokens,
        "substitutions": [asdict(each) for each in plan.substitutions],
        "agents": dict(plan.agents),
        "batches": None if plan.batches is None else _batches_json(plan, plan.batches),
        "from_records": plan.from_records,
        "sampled": plan.sampled,
        "simulated": simulated,
    }


def _batches_json(plan: Plan, found: BatchForecast) -> dict[str, Any]:
    low, high = found.range_nanos(plan.expected_nanos) or (None, None)
    return {
        "tasks": found.tasks,
        "live_tasks": found.live_tasks,
        "expected_usd": found.expected_nanos(plan.expected_nanos) / NANOS_PER_USD,
        "p10_usd": None if low is None else low / NANOS_PER_USD,
        "p90_usd": None if high is None else high / NANOS_PER_USD,
        "models": dict(found.models),
        "p10_s": round(found.p10_s, 1),
        "p90_s": round(found.p90_s, 1),
        "assumed": found.is_assumed,
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
