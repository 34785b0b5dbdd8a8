"""What pages and programs see of batches at providers, and the wish to cancel one."""

from __future__ import annotations

import pytest

from src.core.store import BatchState, RowEnd, Store
from src.errors import StoreError

from .makers import NOW, tasks
from .test_provider_batches import COST, DUE, RESERVED, a_call, answers, deferring, found, intended, submitted


def test_pages_of_batches_end_and_leave_none_out(store: Store) -> None:
    deferring(store, *tasks(7, deadline_at=DUE))
    numbers = [intended(store, limit=1, marker=f"m{n}").id for n in range(7)]
    seen: list[int] = []
    before = None
    while True:
        page = store.provider_batch_lists.page(3, before=before)
        seen += [batch.id for batch in page.rows]
        before = page.next_before
        if before is None:
            break
    assert seen == sorted(numbers, reverse=True)
    assert store.provider_batch_lists.page(provider="gemini").rows == ()
    store.batch_results.failed(numbers[0], "no room", now=NOW)
    assert [batch.id for batch in store.provider_batch_lists.page(is_open=True).rows] == seen[:-1]


def test_a_task_is_in_the_batch_that_it_waits_for_and_in_no_other(store: Store) -> None:
    deferring(store, *tasks(2, deadline_at=DUE))
    first = submitted(store)
    (row, *_) = [each.task.row for each in store.provider_batches.tasks(first.id)]
    lists = store.provider_batch_lists
    assert (lists.of_task(row) or first).id == first.id
    assert [batch.id for batch in lists.of_batch("b")] == [first.id]
    store.batch_results.pull(first.id, NOW + 5)
    assert lists.of_task(row) is None
    assert [batch.id for batch in lists.of_batch("b")] == [first.id], "its batch keeps the record"
    assert lists.owners([first.id])[first.id].batch == "b"
    with pytest.raises(StoreError):
        lists.of_batch("no such batch")


def test_what_came_back_and_what_it_cost_stays_known(store: Store) -> None:
    deferring(store, *tasks(4, deadline_at=DUE))
    batch = submitted(store)
    done, failed, *rest = answers(store, batch.id)
    store.provider_batches.ended(batch.id, [], NOW + 8)
    store.batch_results.collect(batch.id, [done, RowEnd(failed.place, a_call(cost_nanos=0))], NOW + 9)
    assert store.batch_results.pull(batch.id, NOW + 10) == 2
    late = rest[0]
    store.batch_results.collect(batch.id, [late], NOW + 11)
    store.batch_results.collected(batch.id, NOW + 12)
    after = found(store, batch.id)
    assert (after.answered, after.failed, after.late, after.unanswered, after.pulled_rows) == (1, 1, 1, 1, 2)
    assert (after.cost_nanos, after.reserved_nanos) == (2 * COST, 0)


def test_sums_are_by_provider_and_state_and_tell_expired_rows_from_cancelled_ones(store: Store) -> None:
    deferring(store, *tasks(6, deadline_at=DUE))
    expired = submitted(store, limit=2, marker="m1")
    cancelled = submitted(store, limit=2, marker="m2")
    waiting = intended(store, limit=2, marker="m3")
    store.provider_batches.cancelling(cancelled.id, NOW + 3)
    for batch in (expired, cancelled):
        store.provider_batches.ended(batch.id, [], NOW + 4)
        store.batch_results.collected(batch.id, NOW + 5)
    sums = {each.state: each for each in store.provider_batch_lists.sums()}
    assert sums.keys() == {BatchState.COLLECTED, BatchState.INTENDED}
    assert (sums[BatchState.COLLECTED].batches, sums[BatchState.COLLECTED].expired) == (2, 2)
    assert (sums[BatchState.INTENDED].left_rows, sums[BatchState.INTENDED].oldest_at) == (2, NOW)
    assert waiting.reserved_nanos == 2 * RESERVED


def test_a_batch_is_asked_to_end_once_and_only_while_it_works(store: Store) -> None:
    deferring(store, *tasks(2, deadline_at=DUE))
    batch = submitted(store)
    assert not batch.is_unwanted
    lists = store.provider_batch_lists
    assert lists.ask_cancel(batch.id, NOW + 5).is_unwanted
    assert lists.ask_cancel(batch.id, NOW + 9).cancel_asked_at == NOW + 5
    store.provider_batches.ended(batch.id, [], NOW + 10)
    with pytest.raises(StoreError, match="has ended"):
        lists.ask_cancel(batch.id, NOW + 11)
    with pytest.raises(StoreError, match="there is no batch number"):
        lists.ask_cancel(batch.id + 1, NOW + 11)


def test_a_batch_that_no_task_waits_for_is_not_wanted(store: Store) -> None:
    deferring(store, *tasks(2, deadline_at=DUE))
    batch = submitted(store)
    store.admin.cancel("b", now=NOW + 5)
    assert found(store, batch.id).is_unwanted and found(store, batch.id).pulled_rows == 0
