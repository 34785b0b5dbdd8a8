"""Budgets count what batches at providers may still cost, across restarts, until each row is settled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.core.budget_keeper import BudgetKeeper
from src.core.store import DEFERS, NewBatch, PlannedRow, ProviderBatch, RowEnd, Store
from src.routing.cost.budgets import BudgetRefusal, BudgetRule, Budgets
from tests.store.makers import NOW, a_result, an_attempt, register, tasks

from .pools import CountingThread, new_store

DAY_S = 86_400.0
RULE = BudgetRule("all", "", "day", 1_000)
CAP = BudgetRule("batch", "b", "total", 1_000)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path) as opened:
        opened.intake.create_batch("b", now=NOW, options={DEFERS: DAY_S})
        opened.intake.add_tasks(tasks(4, deadline_at=NOW + DAY_S), now=NOW)
        register(opened)
        yield opened


class Keeper:
    """A budget keeper of one orchestrator, on a thread of its own."""

    def __init__(self, store: Store, *rules: BudgetRule, now: float = NOW) -> None:
        self.thread = CountingThread()
        self.budgets = Budgets(rules)
        self.keeper = BudgetKeeper(store, self.thread, "me", self.budgets)
        self.store, self.now = store, now
        asyncio.run(self.keeper.load(now))

    def intend(self, n: int, nanos: int) -> ProviderBatch | BudgetRefusal | None:
        (group, *_) = self.store.deferrals.groups()
        found = self.store.deferrals.oldest(group.id, n)
        rows = [PlannedRow(task, nanos, 256, "economy") for task in found]
        new = NewBatch("openai", "gpt-x", f"marker{found[0].row:02}")
        return asyncio.run(self.keeper.batches.intend(new, rows, self.now))

    @property
    def reserved(self) -> list[int]:
        return [gauge.reserved_nanos for gauge in self.budgets.snapshot(self.now)]

    @property
    def spent(self) -> list[int]:
        return [gauge.spent_nanos for gauge in self.budgets.snapshot(self.now)]

    def close(self) -> None:
        self.thread.close()


@pytest.fixture
def keeper(store: Store) -> Iterator[Keeper]:
    found = Keeper(store, RULE, CAP)
    yield found
    found.close()


def submitted(store: Store, batch: ProviderBatch | BudgetRefusal | None) -> ProviderBatch:
    assert isinstance(batch, ProviderBatch)
    store.provider_batches.creating(batch.id, NOW)
    store.provider_batches.submitted(batch.id, "batch_1", [], NOW)
    return batch


def an_answer(store: Store, batch: ProviderBatch, place: int, cost_nanos: int | None) -> RowEnd:
    each = store.provider_batches.tasks(batch.id, after=place - 1)[0]
    call = an_attempt(1, cost_nanos=cost_nanos)
    return RowEnd(place, call, a_result(each.task, call))


def test_a_batch_is_reserved_in_every_budget_until_its_rows_are_settled(store: Store, keeper: Keeper) -> None:
    batch = submitted(store, keeper.intend(2, 300))
    assert keeper.reserved == [600, 600]
    collected = store.batch_results.collect(batch.id, [an_answer(store, batch, 1, 120)], NOW + 9)
    keeper.keeper.batches.settle(batch.id, collected.settled)
    assert (keeper.reserved, keeper.spent) == ([300, 300], [120, 120])
    store.provider_batches.ended(batch.id, [], NOW + 10)
    keeper.keeper.batches.settle(batch.id, store.batch_results.collected(batch.id, NOW + 11))
    keeper.keeper.batches.close(batch.id)
    assert (keeper.reserved, keeper.spent) == ([0, 0], [120, 120])


def test_a_batch_that_does_not_fit_is_refused_with_nothing_stored(store: Store, keeper: Keeper) -> None:
    refusal = keeper.intend(4, 300)
    assert isinstance(refusal, BudgetRefusal) and refusal.rule is CAP
    assert keeper.reserved == [0, 0]
    assert store.provider_batches.open() == []
    assert store.deferrals.groups()[0].rows == 4


def test_the_next_orchestrator_counts_what_is_reserved_and_settles_the_rest(
    store: Store, keeper: Keeper
) -> None:
    batch = submitted(store, keeper.intend(2, 300))
    store.batch_results.collect(batch.id, [an_answer(store, batch, 1, 120)], NOW + 9)
    following = Keeper(store, RULE, CAP)
    assert (following.reserved, following.spent) == ([300, 300], [120, 120])
    assert isinstance(following.intend(2, 400), BudgetRefusal)
    collected = store.batch_results.collect(batch.id, [an_answer(store, batch, 2, 100)], NOW + 10)
    following.keeper.batches.settle(batch.id, collected.settled)
    assert (following.reserved, following.spent) == ([0, 0], [220, 220])
    following.close()


def test_a_budget_that_is_set_later_counts_what_batches_hold(store: Store) -> None:
    keeper = Keeper(store, RULE)
    batch = submitted(store, keeper.intend(2, 300))
    for _ in range(2):
        keeper.budgets.set_rule(CAP)
        keeper.budgets.load(NOW, CAP, 100)
        assert (keeper.reserved, keeper.spent) == ([600, 600], [0, 100])
    collected = store.batch_results.collect(batch.id, [an_answer(store, batch, 1, 120)], NOW + 9)
    keeper.keeper.batches.settle(batch.id, collected.settled)
    assert (keeper.reserved, keeper.spent) == ([300, 300], [120, 220])
    other = BudgetRule("batch", "another", "total", 1_000)
    keeper.budgets.set_rule(other)
    keeper.budgets.load(NOW, other, 0)
    assert keeper.reserved == [300, 300, 0]
    keeper.close()


def test_a_large_batch_is_stored_in_parts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.core.batch_budgets.AT_ONCE", 3)
    keeper = Keeper(store, RULE)
    assert submitted(store, keeper.intend(4, 100)).rows == 4
    assert keeper.reserved == [400]
    keeper.close()


def test_a_reservation_counts_in_the_day_of_its_intent(store: Store, keeper: Keeper) -> None:
    submitted(store, keeper.intend(2, 300))
    tomorrow = Keeper(store, RULE, CAP, now=NOW + DAY_S)
    assert tomorrow.reserved == [0, 600]
    tomorrow.close()


def test_what_a_killed_orchestrator_may_owe_is_beside_what_its_batches_hold(
    store: Store, keeper: Keeper
) -> None:
    submitted(store, keeper.intend(2, 300))
    assert asyncio.run(keeper.keeper.headroom(NOW)) == 400
    assert asyncio.run(keeper.keeper.headroom(NOW + DAY_S)) == 1_000


def test_a_price_that_is_unknown_is_booked_as_reserved(store: Store, keeper: Keeper) -> None:
    batch = submitted(store, keeper.intend(1, 300))
    collected = store.batch_results.collect(batch.id, [an_answer(store, batch, 1, None)], NOW + 9)
    keeper.keeper.batches.settle(batch.id, collected.settled)
    assert (keeper.reserved, keeper.spent) == ([0, 0], [300, 300])


def test_rows_whose_commit_was_not_acknowledged_are_booked_when_the_batch_closes(
    store: Store, keeper: Keeper
) -> None:
    batch = submitted(store, keeper.intend(1, 300))
    store.batch_results.collect(batch.id, [an_answer(store, batch, 1, 120)], NOW + 9)
    keeper.keeper.batches.close(batch.id)
    (gauge, _) = keeper.budgets.snapshot(NOW)
    assert (gauge.reserved_nanos, gauge.uncertain_nanos) == (0, 300)
