"""The filters of the templates: names of states, reasons, numbers and times as text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

from .. import formatting
from ..core.batching.listing import ProviderBatchView
from ..core.store import BatchState
from ..formatting import duration, humanise
from ..records import Candidate, ProviderCondition, RefusalKind
from ..refusal_text import candidate_text
from .answer_views import as_answer
from .task_states import TaskState

CONDITIONS = {
    ProviderCondition.HEALTHY: "Healthy",
    ProviderCondition.DEGRADED: "Degraded",
    ProviderCondition.SUSPECT: "Suspect",
    ProviderCondition.LIMITED: "Limited",
    ProviderCondition.OPEN: "Circuit open",
    ProviderCondition.HALF_OPEN: "Half-open",
    ProviderCondition.EXHAUSTED: "Exhausted",
    ProviderCondition.MISCONFIGURED: "Misconfigured",
    ProviderCondition.OFFLINE: "Offline",
    ProviderCondition.PAUSED: "Paused",
    ProviderCondition.NOT_CONFIGURED: "Not configured",
    ProviderCondition.UNKNOWN: "Not seen yet",
}
# The tone is a colour; shape and name say the same without it.
TONES = {
    ProviderCondition.HEALTHY: "good",
    ProviderCondition.DEGRADED: "warn",
    ProviderCondition.SUSPECT: "warn",
    ProviderCondition.LIMITED: "warn",
    ProviderCondition.HALF_OPEN: "warn",
    ProviderCondition.OPEN: "bad",
    ProviderCondition.EXHAUSTED: "bad",
    ProviderCondition.MISCONFIGURED: "bad",
    ProviderCondition.OFFLINE: "bad",
}
TASK_TONES = {
    TaskState.SUCCEEDED: "good",
    TaskState.IN_FLIGHT: "busy",
    TaskState.FAILED: "bad",
    TaskState.REFUSED: "bad",
    TaskState.EXPIRED: "bad",
}


def state_word(state: ProviderCondition) -> str:
    return CONDITIONS[state]


def state_tone(state: ProviderCondition) -> str:
    return TONES.get(state, "quiet")


def frees(until: float | None, kind: str, now: float) -> str:
    """When the next of the waiting tasks can go. `kind` is a `RefusalKind`."""
    if until is None:
        return "when it is raised" if kind == RefusalKind.BUDGET_SPENT else "with the next answer"
    return f"in {duration(until - now)}" if until > now else "any moment"


def utc_input(at: float | None) -> str:
    """The value of a `datetime-local` input, in UTC."""
    return "" if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M}"


def utc_day(at: float) -> str:
    """The UTC day, as the value of a `date` input."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"


def time_left(seconds: float) -> str:
    """`about 3 min left`, `less than 1 s left`."""
    return f"about {duration(seconds)} left" if seconds >= 1 else "less than 1 s left"


def why_not(candidate: Candidate) -> str:
    """Why the candidate was not eligible, to stand beside its name."""
    return candidate_text(candidate)


def path_of(link: str) -> str:
    """The path of a link of these pages, without query and fragment."""
    return urlsplit(link).path


def batch_url(name: str) -> str:
    """The address of a batch's page. Browsers and proxies resolve `//` and `..` in a path, not in a query."""
    if any(part in ("", ".", "..") for part in name.split("/")):
        return f"/batch?name={quote(name, safe='')}"
    return f"/batches/{quote(name)}"


def batch_tone(batch: ProviderBatchView) -> str:
    """`bad` for a batch without any result, `warn` for one that is late, `busy` while it is open."""
    if batch.state is BatchState.FAILED:
        return "bad"
    if batch.is_late:
        return "warn"
    return "busy" if batch.is_open else "good"


def task_tone(state: TaskState) -> str:
    return TASK_TONES.get(state, "quiet")


FILTERS: dict[str, Any] = {
    "money": formatting.money,
    "count": formatting.count,
    "duration": duration,
    "percent": formatting.percent,
    "rate": formatting.rate,
    "plural": formatting.plural,
    "iso": formatting.iso_time,
    "clock_time": formatting.utc_time,
    "minute_time": formatting.utc_minute,
    "exact_time": formatting.exact_time,
    "humanise": humanise,
    "state_word": state_word,
    "state_tone": state_tone,
    "task_tone": task_tone,
    "batch_tone": batch_tone,
    "frees": frees,
    "time_left": time_left,
    "utc_input": utc_input,
    "utc_day": utc_day,
    "as_answer": as_answer,
    "why_not": why_not,
    "path_of": path_of,
    "batch_url": batch_url,
}
