"""The linear program: its result can be reached, its bound can't be beaten, and small cases are known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from src.routing.allocation.makespan_lp import Capacity, Demand, Makespan, minimise_makespan


def load(demands: list[Demand], found: Makespan, buckets: int) -> list[float]:
    """What each bucket is charged by the shares that were found."""
    loads = [0.0] * buckets
    for lot, shares in zip(demands, found.shares, strict=True):
        for share, charges in zip(shares, lot.options, strict=True):
            for bucket, charge in charges:
                loads[bucket] += lot.count * share * charge
    return loads


def test_two_providers_share_what_both_are_charged_alike() -> None:
    found = minimise_makespan([Demand(100, [[(0, 1.0)], [(1, 0.5)]])], [Capacity(0.0), Capacity(0.0)])
    assert found.seconds == pytest.approx(100 / 3)
    assert found.shares[0] == pytest.approx([1 / 3, 2 / 3])


def test_each_goes_where_it_is_charged_less() -> None:
    demands = [Demand(10, [[(0, 1.0)], [(1, 9.0)]]), Demand(10, [[(0, 9.0)], [(1, 1.0)]])]
    found = minimise_makespan(demands, [Capacity(0.0), Capacity(0.0)])
    assert found.seconds == pytest.approx(10.0)
    assert found.shares == [[1.0, 0.0], [0.0, 1.0]]


def test_what_the_buckets_hold_takes_no_time() -> None:
    assert minimise_makespan([Demand(3, [[(0, 1.0)]])], [Capacity(3.0)]).seconds == 0.0


def test_a_bucket_that_owes_is_waited_for() -> None:
    assert minimise_makespan([Demand(3, [[(0, 1.0)]])], [Capacity(-4.0)]).seconds == pytest.approx(7.0)


def test_a_quota_that_does_not_come_back_is_used_up_and_no_more() -> None:
    demands = [Demand(10, [[(0, 1.0)], [(1, 0.1), (2, 1.0)]])]
    found = minimise_makespan(demands, [Capacity(0.0), Capacity(0.0), Capacity(4.0, 0.0)])
    assert found.seconds == pytest.approx(6.0)
    assert found.shares[0] == pytest.approx([0.6, 0.4])


def test_what_may_only_go_where_nothing_comes_back_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not come back"):
        minimise_makespan([Demand(10, [[(0, 1.0)]])], [Capacity(4.0, 0.0)])


def test_demands_may_have_different_places_to_go_to() -> None:
    demands = [Demand(10, [[(0, 1.0)]]), Demand(10, [[(0, 1.0)], [(1, 1.0)]])]
    found = minimise_makespan(demands, [Capacity(0.0), Capacity(0.0)])
    assert found.seconds == pytest.approx(10.0)
    assert found.shares[1] == pytest.approx([0.0, 1.0])


@st.composite
def programs(draw: st.DrawFn) -> tuple[list[Demand], list[Capacity]]:
    """Up to four providers with one to three buckets each, and demands that may go to some of them."""
    spans, capacities = [], []
    for _ in range(draw(st.integers(1, 4))):
        own = draw(st.integers(1, 3))
        spans.append(range(len(capacities), len(capacities) + own))
        capacities += [Capacity(draw(st.floats(-5.0, 60.0))) for _ in range(own)]
    demands = []
    for _ in range(draw(st.integers(1, 12))):
        where = draw(st.lists(st.sampled_from(spans), min_size=1, unique_by=lambda span: span.start))
        options = [[(b, draw(st.floats(0.001, 20.0))) for b in span] for span in where]
        demands.append(Demand(draw(st.integers(1, 500)), options))
    return demands, capacities


@hypothesis_settings(deadline=None, max_examples=200)
@given(programs())
def test_the_shares_reach_the_result_and_nothing_can_be_sooner(
    program: tuple[list[Demand], list[Capacity]],
) -> None:
    """Feasible to the right of the bound, and the bound is proved by duality: together, optimal."""
    demands, capacities = program
    found = minimise_makespan(demands, capacities)
    for shares in found.shares:
        assert sum(shares) == pytest.approx(1.0)
        assert min(shares) >= 0.0
    for used, room in zip(load(demands, found, len(capacities)), capacities, strict=True):
        assert used <= room.level + found.seconds + 1e-6 * (1.0 + used)
    assert found.at_least_s <= found.seconds * (1 + 1e-9) + 1e-9
    assert found.at_least_s >= found.seconds * (1 - 1e-4) - 1e-6
