"""The course of a batch as a pure function of time: states only go forward, rows only become more."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.simulator.batches.settings import BatchSettings, Turnaround
from src.simulator.batches.timeline import FINAL, Phase, Timeline, draw_timeline

DAY_S = 86_400.0
RANK = {
    Phase.VALIDATING: 0,
    Phase.RUNNING: 1,
    Phase.FINALIZING: 2,
    Phase.CANCELLING: 3,
    **dict.fromkeys(FINAL, 4),
}


def drawn(seed: int, *, is_valid: bool = True, **settings: object) -> Timeline:
    own = BatchSettings(**settings)  # type: ignore[arg-type]
    return draw_timeline(own, DAY_S, 0.0, random.Random(seed), is_valid=is_valid)


@given(
    seed=st.integers(0, 10_000),
    expiring=st.sampled_from([0.0, 0.5, 1.0]),
    cancel=st.one_of(st.none(), st.floats(0, 2 * DAY_S)),
    moments=st.lists(st.floats(0, 3 * DAY_S), min_size=2, max_size=20),
)
def test_states_go_forward_and_rows_become_more(
    seed: int, expiring: float, cancel: float | None, moments: list[float]
) -> None:
    line = drawn(seed, expiring=expiring)
    if cancel is not None and line.phase(cancel) not in FINAL:
        line.cancel(cancel, 30.0)
    seen = [(line.phase(t), line.rows_done(t, 1_000)) for t in sorted(moments)]
    for (before, rows_before), (after, rows_after) in itertools.pairwise(seen):
        assert RANK[before] <= RANK[after]
        assert rows_before <= rows_after <= 1_000
        assert before is after or before not in FINAL


@given(
    seed=st.integers(0, 10_000),
    is_valid=st.booleans(),
    expiring=st.sampled_from([0.0, 1.0]),
    cancel=st.one_of(st.none(), st.floats(0, 600), st.floats(0, 2 * DAY_S)),
)
def test_a_batch_is_over_when_it_says_so(
    seed: int, is_valid: bool, expiring: float, cancel: float | None
) -> None:
    line = drawn(seed, is_valid=is_valid, expiring=expiring)
    if cancel is not None and line.phase(cancel) not in FINAL:
        line.cancel(cancel, 30.0)
    assert line.phase(line.over_at) in FINAL
    assert line.phase(line.over_at - 1e-3) not in FINAL


@pytest.mark.parametrize(
    ("settings", "end", "rows"),
    [
        pytest.param({}, Phase.COMPLETED, range(1_000, 1_001), id="completed"),
        pytest.param({"expiring": 1.0}, Phase.EXPIRED, range(290, 910), id="expired with some rows"),
        pytest.param({"stuck": 1.0}, Phase.RUNNING, range(1), id="stuck"),
    ],
)
def test_how_a_batch_ends(settings: dict[str, float], end: Phase, rows: range) -> None:
    for seed in range(20):
        line = drawn(seed, turnaround=Turnaround(100.0, 200.0), **settings)
        assert line.phase(30 * DAY_S) is end
        assert line.rows_done(30 * DAY_S, 1_000) in rows


def test_a_batch_that_is_stuck_can_be_cancelled() -> None:
    line = drawn(1, stuck=1.0)
    line.cancel(1_000.0, 30.0)
    assert (line.phase(1_029.0), line.phase(1_030.0)) == (Phase.CANCELLING, Phase.CANCELLED)


def test_an_invalid_batch_fails_after_its_validation_without_an_answer() -> None:
    line = draw_timeline(BatchSettings(), DAY_S, 0.0, random.Random(1), is_valid=False)
    assert line.phase(0.0) is Phase.VALIDATING
    assert line.phase(DAY_S) is Phase.FAILED
    assert line.rows_done(DAY_S, 1_000) == 0


def test_turnarounds_have_the_median_and_the_90th_percentile_that_were_asked_for() -> None:
    times = sorted(drawn(seed).ended_at for seed in range(4_000))
    assert times[2_000] == pytest.approx(420.0, rel=0.12)
    assert times[3_600] == pytest.approx(3_600.0, rel=0.2)


def test_a_turnaround_of_one_length_is_exact() -> None:
    assert {Turnaround(100.0, 100.0).draw(z) for z in (-3.0, 0.0, 3.0)} == {100.0}
    assert Turnaround(0.0, 0.0).draw(3.0) == 0.0


def test_shares_of_fates_are_kept() -> None:
    lines = [drawn(seed, expiring=0.2, stuck=0.1) for seed in range(2_000)]
    expired = sum(line.phase(30 * DAY_S) is Phase.EXPIRED for line in lines)
    stuck = sum(math.isinf(line.over_at) for line in lines)
    assert 340 < expired < 460
    assert 150 < stuck < 250
