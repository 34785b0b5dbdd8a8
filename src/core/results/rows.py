"""The row of a result, as users read it in every form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ...records import NANOS_PER_USD, Attempt, Candidate, Result, Task, Usage
from ...refusal_text import candidate_text
from ...storable import clean
from ..intake.chat_writing import written_calls

_TOKEN_KINDS = tuple(field.name for field in fields(Usage))
REPLACED = "invalid Unicode and NUL characters are replaced by U+FFFD"


def result_row(result: Result, *, simulated: bool) -> dict[str, Any]:
    """The row of a result.

    `usage` and `cost_usd` are sums over all attempts; `cost_usd` is None where a price is unknown.
    `latency_s` runs from the first call to the end of the last one, including waits between them. A task that
    got the answer of an equal one names that in `deduplicated_from`, and costs nothing itself. Where the
    model asks for calls, `tool_calls` has them, in the form in which messages give them back.
    """
    task, by, origin = result.task, result.answered_by, result.origin
    calls = written_calls(result.parts) if result.parts else []
    return {
        "id": task.id,
        "line": task.line,
        "status": str(result.status),
        "output": result.output,
        **({"tool_calls": calls} if calls else {}),
        "finish_reason": str(result.finish_reason) or None,
        "truncated": result.truncated,
        "error": result.error or None,
        "warnings": list(result.warnings),
        "provider": by.provider if by else None,
        "model": by.model if by else None,
        "agent": by.agent if by else None,
        "task_type": task.task_type,
        "tier": result.tier or task.tier,
        "usage": usage_row(result.usage),
        "cost_usd": usd(result.cost_nanos),
        "latency_s": latency_s(result),
        "attempts": [attempt_row(attempt) for attempt in result.attempts],
        **({"deduplicated_from": origin.task_id} if origin else {}),
        "simulated": simulated,
        "metadata": dict(task.metadata),
    }


def prompt_of(task: Task) -> str:
    """The last message of the user; as a prompt it was the only one."""
    return next((turn.text for turn in reversed(task.messages) if turn.role == "user"), "")


def storable_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as valid Unicode without NUL. Other characters become U+FFFD, which a warning says."""
    found: dict[str, Any] = _clean(dict(row))
    if "warnings" in found:
        found["warnings"].append(REPLACED)
    return found


def _clean(part: Any) -> Any:
    if isinstance(part, str):
        return clean(part)
    if isinstance(part, dict):
        return {clean(key): _clean(value) for key, value in part.items()}
    return [_clean(each) for each in part] if isinstance(part, list | tuple) else part


def attempt_row(attempt: Attempt) -> dict[str, Any]:
    """The row of one call: provider, reasons and outcome. `started_at`: UTC epoch seconds."""
    return {
        "number": attempt.number,
        "provider": attempt.provider,
        "model": attempt.model,
        "agent": attempt.agent,
        "outcome": str(attempt.outcome),
        "choice": attempt.choice,
        "forced": attempt.forced,
        "started_at": _rounded(attempt.started_at, 3),
        "latency_s": _rounded(attempt.latency_s, 4),
        "status": attempt.status,
        "error_kind": attempt.error_kind or None,
        "error": attempt.error or None,
        "usage": usage_row(attempt.usage),
        "cost_usd": usd(attempt.cost_nanos),
        "reasons": [_reason_row(candidate) for candidate in attempt.reasons],
    }


def _reason_row(candidate: Candidate) -> dict[str, Any]:
    return {
        "provider": candidate.provider,
        "model": candidate.model,
        "score": _rounded(candidate.score, 6),
        "why": candidate_text(candidate) or None,
    }


def usage_row(usage: Usage) -> dict[str, int]:
    """Tokens by kind."""
    return {kind: getattr(usage, kind) for kind in _TOKEN_KINDS}


def latency_s(result: Result) -> float | None:
    """Seconds from the first call to the end of the last one; None without a call."""
    if not result.attempts:
        return None
    first, last = result.attempts[0], result.attempts[-1]
    return _rounded(last.started_at + last.latency_s - first.started_at, 4)


def usd(nanos: int | None) -> float | None:
    """Dollars; None where the amount is unknown."""
    return None if nanos is None else nanos / NANOS_PER_USD


def _rounded(value: float, digits: int) -> float | None:
    return round(value, digits) if math.isfinite(value) else None
