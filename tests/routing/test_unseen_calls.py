"""Calls at workers that do not answer: their silence is not their provider's."""

from __future__ import annotations

import pytest

from src.errors import WorkerLost
from src.records import Placement
from src.routing.balancer import ProviderLoadBalancer

from .build import START, fail, make_balancer, make_task, ok, place

PLACED = START + 100
SECONDS = 300
FLOOR_S = 5.0


def begun() -> tuple[ProviderLoadBalancer, Placement]:
    """A pool that knows how long answers take, with one call in flight that others could serve too."""
    balancer = make_balancer()
    for number in range(90):
        ok(balancer, place(balancer, START + number, make_task(number)), START + number + 0.5)
    return balancer, place(balancer, PLACED, make_task("long"))


def another(balancer: ProviderLoadBalancer, like: Placement, at: float) -> Placement:
    return place(balancer, at, make_task("another", providers=(like.provider,)))


def silent_s(balancer: ProviderLoadBalancer, placement: Placement, now: float) -> float:
    since = balancer.by_name[placement.provider].silent_since(now, FLOOR_S)
    return 0.0 if since is None else now - since


@pytest.mark.parametrize("answers", [True, False], ids=["its worker answers", "its worker does not"])
def test_a_call_whose_worker_does_not_answer_makes_no_provider_suspect_and_is_not_abandoned(
    answers: bool,
) -> None:
    balancer, placement = begun()
    abandoned, suspect = [], False
    for now in (PLACED + second for second in range(SECONDS)):
        balancer.set_unseen([] if answers else [placement.permit], now)
        abandoned += balancer.take_abandoned(now)
        suspect |= silent_s(balancer, placement, now) > 0.0
    assert (abandoned, suspect) == (([placement.permit], True) if answers else ([], False))


def test_after_a_jump_of_the_clock_it_is_not_abandoned_either() -> None:
    balancer, placement = begun()
    balancer.set_unseen([placement.permit], PLACED + 1)
    balancer.jumped(60.0, PLACED + 61)
    assert balancer.take_abandoned(PLACED + 70) == []


def test_silence_counts_from_when_its_worker_answers_again() -> None:
    balancer, placement = begun()
    balancer.set_unseen([placement.permit], PLACED + 3)
    balancer.set_unseen([], PLACED + 20)
    assert silent_s(balancer, placement, PLACED + 24) == 0.0
    assert silent_s(balancer, placement, PLACED + 26) == 6.0


def test_the_other_calls_of_the_provider_count_from_the_oldest_of_them() -> None:
    balancer, placement = begun()
    other = another(balancer, placement, PLACED + 4)
    balancer.set_unseen([placement.permit], PLACED + 4.5)
    assert silent_s(balancer, other, PLACED + 8) == 0.0
    assert silent_s(balancer, other, PLACED + 10) == 6.0


def test_a_worker_that_is_lost_is_no_word_from_the_provider() -> None:
    balancer, placement = begun()
    another(balancer, placement, PLACED)
    error = WorkerLost("gone", provider=placement.provider, model=placement.model)
    balancer.set_unseen([placement.permit], PLACED + 1)
    fail(balancer, placement, error, PLACED + 5)
    assert silent_s(balancer, placement, PLACED + 6) == 6.0
    balancer.set_unseen([], PLACED + 6)
    assert balancer.by_name[placement.provider].unseen == 0
