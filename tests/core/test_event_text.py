from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from src.core.alerts import body_of
from src.core.event_text import event_text
from src.records import Event

NOON = datetime(2026, 11, 26, 12, 0, 0).astimezone().timestamp()


def test_times_are_in_local_time_and_another_day_has_its_date() -> None:
    offline = Event(NOON, "offline", "offline: waiting", fields={"since": NOON - 61.0})
    assert event_text(offline) == "offline: waiting, since 11:58:59"
    spent = Event(NOON, "quota_exhausted", "openai: quota spent", "openai", fields={"until": NOON + 86_400.0})
    assert event_text(spent) == "openai: quota spent, until 2026-11-27 12:00"
    assert event_text(Event(NOON, "online", "online again after 60 s")) == "online again after 60 s"


@pytest.mark.parametrize(
    ("zone", "until"),
    [
        ("Europe/Berlin", "until 13:00:00 UTC+01:00"),
        ("Asia/Kolkata", "until 17:30:00 UTC+05:30"),
        ("UTC", "until 12:00:00 UTC"),
    ],
)
def test_a_text_for_readers_elsewhere_names_the_zone(
    monkeypatch: pytest.MonkeyPatch, zone: str, until: str
) -> None:
    noon = datetime(2026, 11, 26, 12, 0, 0, tzinfo=UTC).timestamp()
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        spent = Event(noon - 60.0, "quota_exhausted", "openai: quota spent", fields={"until": noon})
        assert event_text(spent, with_zone=True) == f"openai: quota spent, {until}"
        assert body_of(spent)["text"] == f"[info] quota_exhausted: openai: quota spent, {until}"
        assert body_of(spent)["event"]["message"] == "openai: quota spent"
    finally:
        monkeypatch.undo()
        time.tzset()
