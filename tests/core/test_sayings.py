from __future__ import annotations

from datetime import datetime

from src.core.sayings import said
from src.records import Event

NOON = datetime(2026, 11, 26, 12, 0, 0).astimezone().timestamp()


def test_times_are_told_by_the_clock_on_the_wall_and_another_day_by_its_date() -> None:
    offline = Event(NOON, "offline", "offline: waiting", fields={"since": NOON - 61.0})
    assert said(offline) == "offline: waiting, since 11:58:59"
    spent = Event(NOON, "quota_exhausted", "openai: quota spent", "openai", fields={"until": NOON + 86_400.0})
    assert said(spent) == "openai: quota spent, until 2026-11-27 12:00"
    assert said(Event(NOON, "online", "online again after 60 s")) == "online again after 60 s"
