"""When which fault strikes."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from src.simulator.faults import FAULTS, FaultPlan, FaultWindow


def picks(plan: FaultPlan, t: float = 0.0, calls: int = 20_000) -> Counter[str | None]:
    dice = random.Random(1)
    return Counter(plan.pick(t, dice) for _ in range(calls))


def test_rates_keep_their_probabilities_beside_each_other() -> None:
    seen = picks(FaultPlan({"server_error": 0.05, "rate_limit": 0.3, "reset": 0.01}, ()))
    assert seen["server_error"] / 20_000 == pytest.approx(0.05, abs=0.005)
    assert seen["rate_limit"] / 20_000 == pytest.approx(0.3, abs=0.01)
    assert seen["reset"] / 20_000 == pytest.approx(0.01, abs=0.003)


def test_a_fault_of_rate_1_leaves_no_room_for_others() -> None:
    assert set(picks(FaultPlan({"rate_limit": 0.5, "server_error": 1.0}, ()))) == {"server_error"}


def test_no_fault_throws_no_dice() -> None:
    dice = random.Random(1)
    state = dice.getstate()
    assert FaultPlan({"reset": 0.0}, ()).pick(0, dice) is None
    assert dice.getstate() == state


def test_a_window_is_open_from_its_start_to_before_its_end() -> None:
    plan = FaultPlan({}, [FaultWindow(10, 20, "silence"), FaultWindow(15, None, "reset")])
    found = {t: plan.pick(t, random.Random(1)) for t in (9.99, 10, 15, 19.99, 20, 1e9)}
    assert found == {9.99: None, 10: "silence", 15: "silence", 19.99: "silence", 20: "reset", 1e9: "reset"}


def test_a_window_s_rate_falls_through_to_the_faults_of_every_call() -> None:
    seen = picks(FaultPlan({"overloaded": 1.0}, [FaultWindow(0, 10, "reset", 0.25)]))
    assert seen["reset"] / 20_000 == pytest.approx(0.25, abs=0.01)
    assert seen["reset"] + seen["overloaded"] == 20_000


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_only_a_failing_provider_fails_to_list_its_models(fault: str) -> None:
    listed = fault in {"down", "outage", "silence", "server_error"}
    by_window = FaultPlan({}, [FaultWindow(0, 10, fault)]).pick_for_models(5, random.Random(1))
    for_good = FaultPlan({fault: 1.0}, ()).pick_for_models(5, random.Random(1))
    by_rate = FaultPlan({fault: 0.99}, ()).pick_for_models(5, random.Random(1))
    assert (by_window, for_good, by_rate) == (fault if listed else None, fault if listed else None, None)


def test_the_port_is_closed_in_a_window_or_for_good_and_changes_at_its_edges() -> None:
    plan = FaultPlan(
        {}, [FaultWindow(5, 8, "down"), FaultWindow(1, 2, "reset"), FaultWindow(20, None, "down")]
    )
    assert [plan.is_down(t) for t in (0, 5, 7.9, 8, 20, 99)] == [False, True, True, False, True, True]
    assert [plan.next_change(t) for t in (0, 5, 8, 20)] == [5, 8, 20, None]
    assert FaultPlan({"down": 1.0}, ()).is_down(0)
    assert not FaultPlan({"down": 0.5}, ()).is_down(0)
