"""Midnight in California: when Gemini's daily quotas come back."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


def next_midnight_pacific(now: float) -> float:
    """The next one after `now`, both UTC epoch seconds."""
    zone = _pacific()
    day = datetime.fromtimestamp(now, UTC).astimezone(zone).date() + timedelta(days=1)
    return datetime.combine(day, time(), zone).timestamp()


def _pacific() -> tzinfo:
    try:
        return ZoneInfo("America/Los_Angeles")
    except ZoneInfoNotFoundError:  # no time zone data here: a small container, Windows
        return timezone(timedelta(hours=-8))  # winter time; in summer an hour late, never early
