"""Numbers as people read them."""

from __future__ import annotations

from datetime import datetime

from ..core.words import duration as duration
from ..core.words import money as money


def moment(at: float, now: float) -> str:
    """A time of day, with the day where it is not today: `18:05`, `Fri 27 Nov 03:12`."""
    then, today = (datetime.fromtimestamp(each).astimezone() for each in (at, now))
    return then.strftime("%H:%M" if then.date() == today.date() else "%a %d %b %H:%M")


def latency(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.2f} s"


def percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "-"


def tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count:,} tasks"
