"""Events as sentences for people, with their times as the clock on the wall shows them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from ..records import Event

_TIMES = ("since", "until")


def said(event: Event, *, with_zone: bool = False) -> str:
    """`openai is exhausted: quota spent (insufficient_quota), until 14:05:00`.

    `with_zone` for who may read it elsewhere: `until 14:05:00 UTC+01:00`.
    """
    told = [
        f"{word} {wall_time(at, event.at)}{f' {_zone(at)}' if with_zone else ''}"
        for word, at in times_of(event.fields)
    ]
    return ", ".join([event.message, *told])


def times_of(fields: Mapping[str, Any]) -> list[tuple[str, float]]:
    """`("until", epoch seconds)` of each time that an event's fields tell beside its message."""
    return [(word, float(fields[word])) for word in _TIMES if word in fields]


def wall_time(at: float, now: float) -> str:
    """`14:05:00`, with the date where it is another day than `now`. Both are epoch seconds."""
    local, today = datetime.fromtimestamp(at).astimezone(), datetime.fromtimestamp(now).astimezone()
    return local.strftime("%H:%M:%S" if local.date() == today.date() else "%Y-%m-%d %H:%M")


def _zone(at: float) -> str:
    """`UTC+01:00`: by its offset, since the letters of a zone stand for several."""
    offset = datetime.fromtimestamp(at).astimezone().utcoffset()
    return str(timezone(offset)) if offset else "UTC"
