"""The progress of a run as lines of text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from ..formatting import duration, humanise, local_time, money, percent, plural
from ..records import NANOS_PER_USD, LimitGauge, PoolSnapshot, ProviderSnapshot, TaskStatus
from ..refusal_text import wait_text
from .eta import expected_nanos, remaining_s
from .progress_counts import ProgressCounts


def progress_line(pool: PoolSnapshot, progress: ProgressCounts) -> str:
    """Tasks done, rate, time left, cost so far and in the end."""
    done = f"{progress.done:,} done" if progress.total is None else _done_of(progress)
    rate = f"{progress.per_minute(pool.at):,.0f} a minute"
    if _is_starting(pool, progress):
        rate = "waiting for batches at providers" if progress.defers else "starting (loading SDKs)"
    parts = [done, rate]
    if left := remaining_s(pool, progress):
        parts.append(f"about {duration(left)} left" if left >= 1 else "less than 1 s left")
    parts.append(_cost(progress))
    for status, count in sorted(progress.statuses.items()):
        if status is not TaskStatus.SUCCEEDED and count:
            parts.append(f"{count:,} {status}")
    return ", ".join(parts)


def _is_starting(pool: PoolSnapshot, progress: ProgressCounts) -> bool:
    """Whether nothing was called yet, and nothing keeps a task from being called."""
    if progress.done > progress.before or pool.waiting_for or pool.offline_since is not None:
        return False
    return not any(provider.calls or provider.in_flight for provider in pool.providers)


def _done_of(progress: ProgressCounts) -> str:
    return f"{progress.done:,} of {progress.total:,} done"


def _cost(progress: ProgressCounts) -> str:
    text = f"{money(progress.cost_nanos)} so far"
    expected = expected_nanos(progress)
    if expected is not None and not progress.finished:
        text = f"{money(progress.cost_nanos)} of about {money(expected)}"
    text += " in this run" if progress.is_resumed else ""
    return text + (" (some prices unknown)" if progress.unknown_costs else "")


def waiting_lines(pool: PoolSnapshot) -> Iterator[str]:
    """What tasks wait for, and since when no provider has been reachable."""
    if pool.offline_since is not None:
        since = local_time(pool.offline_since, pool.at, seconds=True)
        yield f"offline since {since}: no provider can be reached; {plural(pool.waiting, 'task')} waiting"
    for each in pool.waiting_for:
        until = f" ({duration(each.until - pool.at)})" if each.until and each.until >= pool.at + 1 else ""
        yield f"{plural(each.tasks, 'task')} waiting for {wait_text(each.reason)}{until}"


def models_line(progress: ProgressCounts) -> str:
    """`models: gpt-6.1-terra 40 rows $0.31, claude-sonnet-5-5 20 rows $0.44`."""
    parts = (
        f"{model} {plural(counts.rows, 'row')} {money(counts.cost_nanos)}"
        for (_, model), counts in sorted(progress.by_model.items())
    )
    return f"models{' in this run' if progress.is_resumed else ''}: {', '.join(parts)}"


def limit_lines(pool: PoolSnapshot) -> Iterator[str]:
    """What is left of each provider's limits: `left of openai's limits: requests 45 %, tokens 12 %`."""
    for provider in pool.providers:
        lowest: dict[str, LimitGauge] = {}
        for gauge in provider.limits:  # of several groups of models, the one with the least left
            known = lowest.get(gauge.dimension)
            if known is None or share_left(gauge) < share_left(known):
                lowest[gauge.dimension] = gauge
        if lowest:
            shown = ", ".join(f"{humanise(name)} {percent(share_left(g))}" for name, g in lowest.items())
            yield f"left of {provider.name}'s limits: {shown}"


def share_left(gauge: LimitGauge) -> float:
    """The share of a bucket that is left, 0 to 1."""
    return min(1.0, max(0.0, gauge.level / gauge.capacity)) if gauge.capacity > 0 else 0.0


def progress_json(pool: PoolSnapshot, progress: ProgressCounts, *, simulated: bool) -> dict[str, Any]:
    """The same as data: seconds, dollars, epoch seconds."""
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
        "models": [
            {
                "provider": name,
                "model": model,
                "rows": counts.rows,
                "prompt_tokens": counts.prompt_tokens,
                "output_tokens": counts.output_tokens,
                "cost_usd": counts.cost_nanos / NANOS_PER_USD,
            }
            for (name, model), counts in sorted(progress.by_model.items())
        ],
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
        "limits": [{**asdict(gauge), "left": round(share_left(gauge), 3)} for gauge in provider.limits],
    }


def state_text(provider: ProviderSnapshot, now: float) -> str:
    """`limited (12 s)`: the state, and how long it lasts if that is known."""
    state = humanise(provider.state)
    if provider.until is not None and provider.until > now:
        return f"{state} ({duration(provider.until - now)})"
    return state
