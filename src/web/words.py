"""Numbers and times as people read them; the filters of the templates."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ..core.words import duration as long_duration
from ..core.words import money as money
from ..records import Candidate, WaitingFor

STATES = {
    "healthy": "Healthy",
    "degraded": "Degraded",
    "suspect": "Suspect",
    "limited": "Limited",
    "open": "Breaker open",
    "half_open": "Half-open",
    "exhausted": "Exhausted",
    "misconfigured": "Misconfigured",
    "offline": "Offline",
    "paused": "Paused",
    "not_configured": "Not configured",
    "unknown": "Not seen yet",
}
# The tone is the colour: shape and word say the same without it.
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
SPENT = ": exhausted"  # how a budget ends that has no money left; see `Refusal`
LIMITED = frozenset({"requests", "tokens", "input tokens", "output tokens", "requests per day"})
TASK_TONES = {"succeeded": "good", "running": "busy", "failed": "bad", "refused": "bad", "expired": "bad"}


def count(number: float | None) -> str:
    """`1,234`, `12.3 k`, `4.56 M`."""
    if number is None:
        return "-"
    for size, unit in ((1_000_000_000, "G"), (1_000_000, "M"), (10_000, "k")):
        if abs(number) >= size:
            scaled = number / (1000 if unit == "k" else size)
            return f"{f'{scaled:.1f}'.removesuffix('.0') if scaled < 100 else f'{scaled:,.0f}'} {unit}"
    return f"{number:,.0f}" if abs(number) >= 10 or number == int(number) else f"{number:.1f}"


def duration(seconds: float | None) -> str:
    """`40 ms`, `1.2 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds is None:
        return "-"
    return f"{max(0.0, seconds) * 1000:.0f} ms" if seconds < 0.95 else long_duration(seconds)


def percent(part: float | None, digits: int = 0) -> str:
    """0.256 is `26 %`."""
    return "-" if part is None else f"{100 * part:.{digits}f} %"


def rate(per_second: float | None) -> str:
    """Tasks a second, or a minute where they are few."""
    if per_second is None:
        return "-"
    return f"{per_second:,.1f} /s" if per_second >= 1 or per_second == 0 else f"{per_second * 60:,.1f} /min"


def plural(number: float, one: str, many: str = "") -> str:
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock_time(at: float, now: float) -> str:
    """The time of day, with the date where it is another day. UTC: the page's script makes it local."""
    moment = datetime.fromtimestamp(at, UTC)
    today = moment.date() == datetime.fromtimestamp(now, UTC).date()
    return moment.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M") + " UTC"


def exact_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def humanise(name: str) -> str:
    """`code_generation` is `code generation`."""
    return name.replace("_", " ")


def state_word(state: str) -> str:
    return STATES.get(state, humanise(state).capitalize())


def state_tone(state: str) -> str:
    return TONES.get(state, "quiet")


def task_word(status: str) -> str:
    """What an orchestrator has taken is `running` to programs, although most of it may still wait there."""
    return "in progress" if status == "running" else str(status)


def frees(waiting: WaitingFor, now: float) -> str:
    """When what tasks wait for lets one of them go."""
    if waiting.until is None:
        return "when it is raised" if waiting.what.endswith(SPENT) else "with the next answer"
    return f"in {duration(waiting.until - now)}" if waiting.until > now else "any moment"


def why_not(candidate: Candidate) -> str:
    """`openai requests` as people read it beside the name: which limit has no room."""
    why = candidate.why.removeprefix(f"{candidate.provider} ").removeprefix(f"{candidate.provider}: ")
    return f"no room now: {why}" if why in LIMITED else why


def task_tone(status: str) -> str:
    return TASK_TONES.get(str(status), "quiet")


FILTERS: dict[str, Any] = {
    "money": money,
    "count": count,
    "duration": duration,
    "percent": percent,
    "rate": rate,
    "plural": plural,
    "iso": iso,
    "clock_time": clock_time,
    "exact_time": exact_time,
    "humanise": humanise,
    "state_word": state_word,
    "state_tone": state_tone,
    "task_tone": task_tone,
    "task_word": task_word,
    "frees": frees,
    "why_not": why_not,
}
