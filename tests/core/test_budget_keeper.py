"""The budget keeper: the cost of a call is on the disk before the call leaves, and no longer than needed."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.config import load_settings
from src.core.budget_keeper import BudgetKeeper, budgets_from
from src.core.store import Store
from src.records import NANOS_PER_USD, Placement
from tests.store.makers import a_result, an_attempt, register, tasks

from ..routing.build import START, make_task
from .pools import CountingThread, new_store
from .virtual_time import run_virtually

ACCOUNTS = [("openai", "file"), ("openai", "queue"), ("gemini", "queue")]


@contextmanager
def keeper_over(store: Store, **options: Any) -> Iterator[tuple[BudgetKeeper, CountingThread]]:
    thread = CountingThread()
    register(store)
    try:
        yield BudgetKeeper(store, thread, "me", **options), thread
    finally:
        thread.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path) as opened:
        yield opened


def placement(nanos: int, account: int = 0, permit: int = 1) -> Placement:
    """A call that may cost `nanos` at most."""
    provider, batch = ACCOUNTS[account]
    task = make_task(permit, batch=batch)
    return Placement(
        permit, task, provider, "a model", "a group", "standard", "an agent", 100, "weighted", (), START,
        60.0, 1, reserved_nanos=nanos,
    )  # fmt: skip


def owed_by_the_killed(store: Store, **options: Any) -> int:
    """What the next orchestrator books as uncertain for `me`."""
    booked: int = register(store, "the next", **options).uncertain_nanos
    return booked


def budgets(**limits: Any) -> Any:
    return budgets_from(load_settings(environ={}).budgets.model_copy(update=limits), None)


# ------------------------------------------------------------------ reservations


def test_a_call_leaves_only_after_its_cost_is_on_the_disk(store: Store, tmp_path: Path) -> None:
    async def reserve(_: object) -> None:
        with keeper_over(store) as (keeper, _), closing(sqlite3.connect(tmp_path / "state.db")) as other:
            other.isolation_level = None
            other.execute("BEGIN IMMEDIATE")  # another program holds the database
            reserving = asyncio.create_task(keeper.reserve(placement(700)))
            while not keeper_is_refused(keeper):
                await asyncio.sleep(0.1)
            assert not reserving.done()
            other.execute("COMMIT")
            await reserving

    def keeper_is_refused(keeper: BudgetKeeper) -> bool:
        return bool(keeper._thread.refusal)

    with Store.open(f"sqlite:///{tmp_path / 'state.db'}?timeout=0.05", simulated=False) as store:
        run_virtually(reserve)
        assert owed_by_the_killed(store) == 700


def test_calls_whose_cost_is_on_the_disk_do_not_queue_for_each_other(store: Store) -> None:
    async def reserve(_: object) -> list[int]:
        loop, iteration, left = asyncio.get_running_loop(), 0, list[int]()

        def count() -> None:
            nonlocal iteration
            iteration += 1
            if len(left) < 60:
                loop.call_soon(count)

        async def leave(call: Placement) -> None:
            await keeper.reserve(call)
            left.append(iteration)

        with keeper_over(store) as (keeper, _):
            loop.call_soon(count)
            await asyncio.gather(*(leave(placement(100, n % 3, n)) for n in range(60)))
        return left

    assert len(set(run_virtually(reserve))) <= 4


def test_calls_that_leave_together_share_a_commit(store: Store) -> None:
    async def reserve(_: object) -> int:
        with keeper_over(store) as (keeper, thread):
            calls = [placement(100, n % 3, n) for n in range(60)]
            await asyncio.gather(*(keeper.reserve(call) for call in calls))
            return thread.calls.total()

    assert 1 <= run_virtually(reserve) <= 3
    assert owed_by_the_killed(store) == 6_000


def test_a_call_below_the_peak_needs_no_commit(store: Store) -> None:
    async def reserve(_: object) -> int:
        with keeper_over(store) as (keeper, thread):
            await keeper.reserve(placement(500))
            for _number in range(20):
                keeper.release(placement(500))
                await keeper.reserve(placement(500))
            return thread.calls.total()

    assert run_virtually(reserve) == 1


def test_trimming_forgets_what_no_call_needs(store: Store) -> None:
    async def reserve(_: object) -> None:
        with keeper_over(store) as (keeper, _):
            await keeper.reserve(placement(900, 0))
            await keeper.reserve(placement(50, 1))
            keeper.release(placement(900, 0))
            await keeper.trim()
            await keeper.trim()

    run_virtually(reserve)
    assert owed_by_the_killed(store) == 50


def test_a_load_whose_sum_goes_up_and_down_between_trims_needs_no_commits(store: Store) -> None:
    async def reserve(_: object) -> int:
        with keeper_over(store) as (keeper, thread):
            for number in range(8):
                await keeper.reserve(placement(500, permit=number))
            commits = thread.calls.total()
            for _second in range(20):
                for number in range(8):
                    keeper.release(placement(500, permit=number))
                for number in range(6 + _second % 3):
                    await keeper.reserve(placement(500, permit=number))
                await keeper.trim()
                for number in range(6 + _second % 3, 8):
                    await keeper.reserve(placement(500, permit=number))
            return thread.calls.total() - commits

    assert run_virtually(reserve) == 0
    assert owed_by_the_killed(store) == 4_000


def test_a_call_does_not_leave_on_what_is_being_trimmed(store: Store, tmp_path: Path) -> None:
    async def reserve(_: object) -> None:
        with keeper_over(store) as (keeper, _), closing(sqlite3.connect(tmp_path / "state.db")) as other:
            await keeper.reserve(placement(900))
            keeper.release(placement(900))
            await keeper.trim()
            other.isolation_level = None
            other.execute("BEGIN IMMEDIATE")  # another program holds the database
            trimming = asyncio.create_task(keeper.trim())
            await asyncio.sleep(0.1)
            reserving = asyncio.create_task(keeper.reserve(placement(700)))
            await asyncio.sleep(0.1)
            assert not reserving.done()
            other.execute("COMMIT")
            await asyncio.gather(trimming, reserving)

    with Store.open(f"sqlite:///{tmp_path / 'state.db'}?timeout=0.05", simulated=False) as store:
        run_virtually(reserve)
        assert owed_by_the_killed(store) == 700


def test_a_simulated_call_reserves_nothing(store: Store) -> None:
    async def reserve(_: object) -> int:
        with keeper_over(store, reserves=False) as (keeper, thread):
            await keeper.reserve(placement(900))
            await keeper.trim()
            keeper.release(placement(900))
            return thread.calls.total()

    assert run_virtually(reserve) == 0
    assert owed_by_the_killed(store) == 0


steps = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(0, 2), st.integers(0, 1_000)),
        st.tuples(st.just("cancel"), st.integers(0, 2), st.integers(0, 1_000)),
        st.tuples(st.just("release"), st.integers(0, 20), st.just(0)),
        st.tuples(st.just("trim"), st.just(0), st.just(0)),
    ),
    max_size=25,
)


class Ledger:
    """Carries out steps, and keeps the truth: calls in flight and the peak of each account."""

    def __init__(self, keeper: BudgetKeeper) -> None:
        self._keeper = keeper
        self.in_flight: list[Placement] = []
        self.peaks: Counter[tuple[str, str]] = Counter()
        self.recent: Counter[tuple[str, str]] = Counter()  # peaks since the last trim

    async def carry_out(self, steps: list[tuple[str, int, int]]) -> None:
        for number, (step, which, nanos) in enumerate(steps):
            if step == "trim":
                await self.trim()
            elif step != "release":
                await self._reserve(placement(nanos, which, number), cancelled=step == "cancel")
            elif self.in_flight:
                self._keeper.release(self.in_flight.pop(which % len(self.in_flight)))

    async def _reserve(self, call: Placement, *, cancelled: bool) -> None:
        self.in_flight.append(call)
        self.peaks |= self.by_account()
        self.recent |= self.by_account()
        reserving = asyncio.create_task(self._keeper.reserve(call))
        await asyncio.sleep(0)
        if cancelled:
            reserving.cancel()
            self._keeper.release(self.in_flight.pop())
        await asyncio.gather(reserving, return_exceptions=True)

    async def trim(self) -> int:
        """Returns what was needed since the last trim."""
        needed, self.recent = self.recent.total(), self.by_account()
        await self._keeper.trim()
        return needed

    def by_account(self) -> Counter[tuple[str, str]]:
        sums: Counter[tuple[str, str]] = Counter()
        for call in self.in_flight:
            sums[call.provider, call.task.batch] += call.reserved_nanos
        return sums


@settings(deadline=None, max_examples=30)
@given(steps=steps, trims=st.booleans())
def test_a_crash_at_any_moment_owes_at_least_the_calls_in_flight_and_little_more(
    steps: list[tuple[str, int, int]], trims: bool
) -> None:
    """After a trim at most half more than since the trim before; else at most the peak of each account."""

    async def run(store: Store) -> tuple[int, float]:
        with keeper_over(store) as (keeper, _):
            ledger = Ledger(keeper)
            await ledger.carry_out(steps)
            most = 1.5 * await ledger.trim() if trims else ledger.peaks.total()
            return ledger.by_account().total(), most

    with TemporaryDirectory() as folder, new_store(Path(folder)) as store:
        needed, most = run_virtually(lambda _: run(store))
        assert needed <= owed_by_the_killed(store) <= most


# ------------------------------------------------------------------ budgets


def spend(store: Store, nanos: list[int]) -> None:
    """Tasks that cost so much, finished."""
    store.intake.add_tasks(tasks(len(nanos), "file"), now=START)
    register(store, "an earlier one", now=START)
    claimed = store.queue.claim("an earlier one", 100, now=START)
    attempts = [an_attempt(cost_nanos=cost, started_at=START) for cost in nanos]
    store.queue.finish("an earlier one", [a_result(t, a) for t, a in zip(claimed, attempts, strict=True)])
    store.orchestrators.retire("an earlier one", now=START)


def loaded(store: Store, given: Any, read: Callable[[BudgetKeeper], Any]) -> Any:
    async def load(_: object) -> Any:
        with keeper_over(store, budgets=given) as (keeper, _):
            await keeper.load(START)
            found = read(keeper)
            return await found if asyncio.iscoroutine(found) else found

    return run_virtually(load)


@pytest.mark.parametrize(
    ("limits", "headroom"),
    [
        pytest.param({"daily_usd": 2.0}, 2 * NANOS_PER_USD - 700, id="a daily budget"),
        pytest.param({"daily_usd": 2.0, "total_usd": 1.0}, NANOS_PER_USD - 700, id="the lower of two"),
        pytest.param({"total_usd": 1e-7}, 0, id="overdrawn"),
    ],
)
def test_headroom_is_what_the_overall_budgets_leave(
    store: Store, limits: dict[str, float], headroom: int
) -> None:
    spend(store, [500, 200])
    assert loaded(store, budgets(**limits), lambda keeper: keeper.headroom(START)) == headroom


def test_without_an_overall_budget_there_is_no_bound(store: Store) -> None:
    assert budgets() is None
    assert loaded(store, None, lambda keeper: keeper.headroom(START)) is None


def test_a_killed_process_is_booked_up_to_the_headroom_only(store: Store) -> None:
    async def reserve(_: object) -> None:
        with keeper_over(store) as (keeper, _):
            await keeper.reserve(placement(900))

    run_virtually(reserve)
    assert owed_by_the_killed(store, uncertain_at_most=250) == 250


def test_a_threshold_that_was_passed_before_a_restart_is_not_reported_again(store: Store) -> None:
    spend(store, [int(0.9 * NANOS_PER_USD)])
    assert loaded(store, budgets(daily_usd=1.0), lambda keeper: keeper.take_events(START)) == []
