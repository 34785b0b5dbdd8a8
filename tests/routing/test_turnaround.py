"""How long batches take: assumed at first, one's own soon, and never shorter than those that are out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.routing.turnaround import ASSUMED, ASSUMED_MEDIAN_S, ASSUMED_P90_S, turnaround

seconds = st.floats(0.0, 100_000.0)


def test_without_a_batch_it_is_assumed() -> None:
    assert ASSUMED.is_assumed
    assert ASSUMED.p50_s == pytest.approx(ASSUMED_MEDIAN_S)
    assert ASSUMED.p90_s == pytest.approx(ASSUMED_P90_S)


def test_some_batches_of_ones_own_outweigh_the_assumption() -> None:
    found = turnaround([7_200.0] * 20)
    assert found.p50_s == 7_200.0
    assert found.batches == 20
    assert not found.is_assumed


def test_batches_that_stand_still_count_with_their_age() -> None:
    assert turnaround([60.0] * 5, [80_000.0] * 20).p50_s == 80_000.0


def test_a_young_batch_says_nothing() -> None:
    assert turnaround([], [1.0, 2.0]) == ASSUMED


@given(st.lists(seconds), st.lists(seconds))
def test_quantiles_are_in_order(done_s: list[float], ages_s: list[float]) -> None:
    found = turnaround(done_s, ages_s)
    assert 0.0 <= found.p10_s <= found.p50_s <= found.p90_s
