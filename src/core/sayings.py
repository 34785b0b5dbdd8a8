"""Events as sentences for people, with their times as the clock on the wall shows them."""

from __future__ import annotations

from datetime import datetime

from ..records import Event

_TIMES = ("since", "until")


def said(event: Event) -> str:
    """`openai is exhausted: quota spent (insufficient_quota), until 14:05:00`."""
    told = [f"{word} {wall_time(event.fields[word], event.at)}" for word in _TIMES if word in event.fields]
    return ", ".join([event.message, *told])


def wall_time(at: float, now: float) -> str:
    """`14:05:00`, with the date where it is another day than `now`. Both are epoch seconds."""
    local, today = datetime.fromtimestamp(at).astimezone(), datetime.fromtimestamp(now).astimezone()
    return local.strftime("%H:%M:%S" if local.date() == today.date() else "%Y-%m-%d %H:%M")
