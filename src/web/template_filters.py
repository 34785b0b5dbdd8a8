"""The filters of the templates: names of states, reasons, numbers and times as text."""

from __future__ import annotations

from typing import Any

from .. import formatting
from ..formatting import duration, humanise
from ..records import Candidate, RefusalKind
from ..refusal_text import candidate_text

STATES = {
    "healthy": "Healthy",
    "degraded": "Degraded",
    "suspect": "Suspect",
    "limited": "Limited",
    "open": "Circuit open",
    "half_open": "Half-open",
    "exhausted": "Exhausted",
    "misconfigured": "Misconfigured",
    "offline": "Offline",
    "paused": "Paused",
    "not_configured": "Not configured",
    "unknown": "Not seen yet",
}
# The tone is a colour; shape and name say the same without it.
TONES = {
    "healthy": "good",
    "degraded": "warn",
    "suspect": "warn",
    "limited": "warn",
    "half_open": "warn",
    "open": "bad",
    "exhausted": "bad",
    "misconfigured": "bad",
    "offline": "bad",
}
TASK_TONES = {"succeeded": "good", "in_flight": "busy", "failed": "bad", "refused": "bad", "expired": "bad"}


def state_word(state: str) -> str:
    return STATES.get(state, humanise(state).capitalize())


def state_tone(state: str) -> str:
    return TONES.get(state, "quiet")


def frees(until: float | None, kind: str, now: float) -> str:
    """When the next of the waiting tasks can go. `kind` is a `RefusalKind`."""
    if until is None:
        return "when it is raised" if kind == RefusalKind.BUDGET_SPENT else "with the next answer"
    return f"in {duration(until - now)}" if until > now else "any moment"


def time_left(seconds: float) -> str:
    """`about 3 min left`, `less than 1 s left`."""
    return f"about {duration(seconds)} left" if seconds >= 1 else "less than 1 s left"


def why_not(candidate: Candidate) -> str:
    """Why the candidate was not eligible, to stand beside its name."""
    return candidate_text(candidate)


def task_tone(status: str) -> str:
    return TASK_TONES.get(str(status), "quiet")


FILTERS: dict[str, Any] = {
    "money": formatting.money,
    "count": formatting.count,
    "duration": duration,
    "percent": formatting.percent,
    "rate": formatting.rate,
    "plural": formatting.plural,
    "iso": formatting.iso_time,
    "clock_time": formatting.utc_time,
    "exact_time": formatting.exact_time,
    "humanise": humanise,
    "state_word": state_word,
    "state_tone": state_tone,
    "task_tone": task_tone,
    "frees": frees,
    "time_left": time_left,
    "why_not": why_not,
}
