"""`now` never goes back, follows drift slowly and jumps after a sleep."""

from __future__ import annotations

import pytest

from src.core.clock import Clock
from tests.helpers import VirtualClock


class Times:
    """What the machine's two clocks say."""

    def __init__(self) -> None:
        self.wall, self.monotonic = 1000.0, 5.0

    def pass_(self, seconds: float, *, wall: float | None = None) -> None:
        self.monotonic += seconds
        self.wall += seconds if wall is None else wall


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
def clock(times: Times) -> Clock:
    return Clock(wall=lambda: times.wall, monotonic=lambda: times.monotonic)


def test_the_clock_starts_at_wall_time_and_follows_monotonic_time(clock: Clock, times: Times) -> None:
    assert clock.now() == 1000.0
    times.pass_(7.5)
    assert clock.now() == 1007.5
    assert clock.take_jump() == 0.0


def test_a_wall_clock_set_back_is_ignored(clock: Clock, times: Times) -> None:
    times.pass_(1.0, wall=-3600.0)
    assert clock.now() == 1001.0
    times.pass_(1.0)
    assert clock.now() == 1002.0
    assert clock.jumped_at is None


def test_a_wall_clock_set_back_and_forth_is_not_a_jump(clock: Clock, times: Times) -> None:
    times.pass_(1.0, wall=-3600.0)
    clock.now()
    times.pass_(1.0, wall=3601.0 + 1.0)
    assert clock.now() == pytest.approx(1002.0)
    assert clock.take_jump() == 0.0


def test_a_sleep_is_one_jump_that_is_reported_once(clock: Clock, times: Times) -> None:
    times.pass_(0.5, wall=600.5)
    assert clock.now() == 1600.5
    assert clock.jumped_at == 1600.5
    assert clock.take_jump() == 600.0
    assert clock.take_jump() == 0.0


def test_taking_the_jump_detects_it(clock: Clock, times: Times) -> None:
    times.pass_(0.0, wall=60.0)
    assert clock.take_jump() == 60.0


def test_two_sleeps_add_up(clock: Clock, times: Times) -> None:
    for _ in range(2):
        times.pass_(1.0, wall=11.0)
        clock.now()
    assert clock.take_jump() == 20.0


def test_drift_is_followed_slowly_and_is_not_a_jump(clock: Clock, times: Times) -> None:
    times.pass_(1.0, wall=2.5)  # 1.5 s ahead at once: still no jump
    assert clock.now() == pytest.approx(1001.001)
    for _ in range(2000):
        times.pass_(1.0)
        clock.now()
    assert clock.now() == pytest.approx(times.wall)
    assert clock.take_jump() == 0.0


def test_the_real_clock_does_not_go_back() -> None:
    clock = Clock()
    seen = [clock.now() for _ in range(1000)]
    assert seen == sorted(seen)


def test_virtual_time_stands_still_until_it_is_set() -> None:
    clock = VirtualClock(10.0)
    assert clock.now() == clock.now() == 10.0
    clock.advance(2.5)
    assert clock.now() == 12.5
    assert clock.take_jump() == 0.0
    clock.jump(100.0)
    assert (clock.now(), clock.jumped_at, clock.take_jump(), clock.take_jump()) == (112.5, 112.5, 100.0, 0.0)


def test_virtual_time_does_not_go_back() -> None:
    clock = VirtualClock(10.0)
    with pytest.raises(ValueError, match="does not go back"):
        clock.set(9.0)
    assert clock.now() == 10.0
