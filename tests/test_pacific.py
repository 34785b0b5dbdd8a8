"""Midnight in California, for limits and for what an answer's quota is held until."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src import pacific
from src.pacific import next_midnight_pacific

PACIFIC = ZoneInfo("America/Los_Angeles")


@pytest.mark.parametrize(
    ("local", "hours"),
    [
        pytest.param(datetime(2026, 7, 1, 23, 30, tzinfo=PACIFIC), 0.5, id="summer"),
        pytest.param(datetime(2026, 1, 1, 0, 0, tzinfo=PACIFIC), 24.0, id="winter-midnight"),
        pytest.param(datetime(2026, 3, 8, 0, 0, tzinfo=PACIFIC), 23.0, id="spring-forward"),
        pytest.param(datetime(2026, 11, 1, 0, 0, tzinfo=PACIFIC), 25.0, id="fall-back"),
    ],
)
def test_it_knows_daylight_saving(local: datetime, hours: float) -> None:
    now = local.timestamp()
    assert next_midnight_pacific(now) - now == hours * 3600.0


@given(st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)))  # noqa: DTZ001 - made aware below
def test_it_is_ahead_and_comes_within_25_hours(naive: datetime) -> None:
    now = naive.replace(tzinfo=UTC).timestamp()
    midnight = next_midnight_pacific(now)
    there = datetime.fromtimestamp(midnight, PACIFIC)
    assert (there.hour, there.minute, there.second) == (0, 0, 0)
    assert 0 < midnight - now <= timedelta(hours=25).total_seconds()


def test_without_time_zone_data_it_is_late_in_summer_and_never_early(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ZoneInfo:
        raise ZoneInfoNotFoundError(name)

    summer = datetime(2027, 7, 1, 12, tzinfo=UTC).timestamp()
    winter = datetime(2027, 1, 1, 12, tzinfo=UTC).timestamp()
    right = [next_midnight_pacific(at) for at in (summer, winter)]
    monkeypatch.setattr(pacific, "ZoneInfo", missing)
    assert [next_midnight_pacific(at) for at in (summer, winter)] == [right[0] + 3600, right[1]]
