"""Events as one line of text, their times in the local time zone; the event of a purge by hand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from ..formatting import local_time, plural
from ..records import Event

_TIMES = ("since", "until")


def event_text(event: Event, *, with_zone: bool = False) -> str:
    """`openai is exhausted: quota spent (insufficient_quota), until 14:05:00`.

    `with_zone` adds the UTC offset, for readers in other time zones: `until 14:05:00 UTC+01:00`.
    """
    times = [
        f"{word} {local_time(at, event.at, seconds=True)}{f' {_zone(at)}' if with_zone else ''}"
        for word, at in times_of(event.fields)
    ]
    return ", ".join([event.message, *times])


def times_of(fields: Mapping[str, Any]) -> list[tuple[str, float]]:
    """`("until", epoch seconds)` for each time among an event's fields."""
    return [(word, float(fields[word])) for word in _TIMES if word in fields]


def _zone(at: float) -> str:
    """`UTC+01:00`. The offset is unambiguous; abbreviations such as CST are not."""
    offset = datetime.fromtimestamp(at).astimezone().utcoffset()
    return str(timezone(offset)) if offset else "UTC"


def purged_event(now: float, who: str, tasks: int, batch: str = "") -> Event:
    """That `who` purged the contents of so many tasks, of one batch or of all. `now` is in epoch seconds."""
    of_batch = f" of {batch}" if batch else ""
    text = f"{who} purged prompts and answers of {plural(tasks, 'task')}{of_batch}"
    fields: dict[str, Any] = {"tasks": tasks} | ({"batch": batch} if batch else {})
    return Event(now, "purged", text, fields=fields)
