"""Streams that last: a provider whose events come is not silent, and its call is not taken from it."""

from __future__ import annotations

import pytest

from src.records import Placement
from src.routing.balancer import ProviderLoadBalancer
from src.routing.health.circuit_breaker import BreakerState
from src.routing.limits.concurrency import INITIAL

from .build import START, Desk, make_balancer, make_task, ok, place

LONG_S = 300


def begun() -> tuple[ProviderLoadBalancer, Placement]:
    """A pool that knows how long answers take, with one call in flight that others could serve too."""
    balancer = make_balancer()
    for number in range(90):
        ok(balancer, place(balancer, START + number, make_task(number)), START + number + 0.5)
    return balancer, place(balancer, START + 100, make_task("long"))


@pytest.mark.parametrize("streams", [True, False])
def test_a_call_whose_events_are_delivered_is_not_abandoned(streams: bool) -> None:
    balancer, placement = begun()
    if streams:
        balancer.keep_call(placement.permit)
    abandoned: list[int] = []
    for second in range(LONG_S):
        now = START + 100 + second
        if streams:
            balancer.stream_heard(placement.permit, now)
        abandoned += balancer.take_abandoned(now)
    assert abandoned == ([] if streams else [placement.permit])


def test_a_provider_that_streams_takes_further_calls() -> None:
    balancer, placement = begun()
    provider = balancer.by_name[placement.provider]
    for second in range(LONG_S):
        balancer.stream_heard(placement.permit, START + 100 + second)
        assert balancer.gate(provider, START + 100 + second) is None
    assert provider.breaker.state is BreakerState.CLOSED


def test_streams_that_begin_let_further_calls_go_before_they_end() -> None:
    """A call that waits in the provider's queue has no events; one that has is carried."""
    desk = Desk(proven=False, configured=("openai",))
    desk.offer(*(make_task(n) for n in range(60)))
    placements = desk.go()
    assert len(placements) == INITIAL
    for placement in placements:
        desk.balancer.keep_call(placement.permit)
        desk.balancer.keep_call(placement.permit)  # which changes nothing
    assert len(desk.go(0.1)) == INITIAL
    for placement in placements:
        desk.ok(placement, 0.1)
    assert len(desk.go()) == INITIAL  # their ends raise nothing again


def test_a_call_that_has_ended_is_heard_no_more() -> None:
    balancer, placement = begun()
    ok(balancer, placement, START + 101)
    balancer.keep_call(placement.permit)
    balancer.stream_heard(placement.permit, START + 500)
    assert balancer.by_name[placement.provider].connection.heard_at < START + 500
