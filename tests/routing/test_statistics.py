"""Counters of one provider: equal errors are counted, the newest kinds are kept."""

from __future__ import annotations

from src.errors import ServerError
from src.records import Outcome
from src.routing.health.statistics import ERRORS_KEPT, CallStatistics


def test_equal_errors_are_counted_and_the_newest_kinds_kept() -> None:
    statistics = CallStatistics()
    texts = ["first", *(f"other {n}" for n in range(ERRORS_KEPT - 1)), "first", "last"]
    for now, text in enumerate(texts):
        statistics.record(Outcome.FAILED, None, 0, ServerError(text), float(now))
    found = [(each.text, each.count, each.last_at) for each in statistics.errors.values()]
    assert len(found) == ERRORS_KEPT
    assert found[-2:] == [
        ("ServerError: first", 2, float(len(texts) - 2)),
        ("ServerError: last", 1, float(len(texts) - 1)),
    ]
    assert "ServerError: other 0" not in statistics.errors
