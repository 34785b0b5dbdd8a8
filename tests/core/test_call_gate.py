"""The gate of every call: what waited too long for its reservation is placed anew, within limits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from src.core.budget_keeper import BudgetKeeper
from src.core.calls import LATE_S, CallGate
from src.core.leadership import Leadership
from src.records import Completion, Outcome, Placement
from src.routing.scheduler import Settled
from tests.store.makers import register

from ..routing.build import Desk, answer, make_task
from .pools import CountingThread, new_store
from .virtual_time import run_virtually


def test_a_late_call_is_placed_anew_once_and_then_goes_whatever_it_waits(tmp_path: Path) -> None:
    sent: list[Placement] = []

    async def reply(placement: Placement) -> Completion:
        sent.append(placement)
        return answer(placement)

    async def story(_: object) -> None:
        with new_store(tmp_path) as store, Leadership(store, 10.0) as leadership:
            leadership.acquire()
            register(leadership.store, leadership.incarnation)
            thread, desk = CountingThread(), Desk()
            keeper = BudgetKeeper(leadership.store, thread, leadership.incarnation)
            gate = CallGate(desk.dispatch, keeper, leadership, lambda: desk.now)

            async def made_after(waited_s: float, place: Callable[[], Placement]) -> Settled:
                call = gate.open(place())
                desk.now += waited_s
                await gate.make(call, reply)
                settled = gate.settle(call)
                gate.release(call)
                return settled

            desk.offer(make_task("prompt"))
            in_time = await made_after(0.9 * LATE_S, desk.one)
            assert in_time.attempt.outcome is Outcome.OK and len(sent) == 1
            desk.offer(make_task("late"))
            late = await made_after(LATE_S, desk.one)
            assert late.attempt.outcome is Outcome.CANCELLED and late.attempt.cost_nanos == 0
            assert late.result is None and len(sent) == 1
            again = await made_after(5 * LATE_S, desk.one)
            assert again.attempt.outcome is Outcome.OK and len(sent) == 2
            thread.close()

    run_virtually(story)
