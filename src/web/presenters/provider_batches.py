"""Batches at providers: a page of them, those of a batch of tasks, and the one that a task is in."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.batching.listing import ProviderBatchView, views_of
from ...core.store import ProviderBatch
from ..bodies import ProviderBatchQuery
from ..context import AppContext


@dataclass(frozen=True, slots=True)
class ProviderBatchList:
    """Batches at providers, newest first; `next_before` is None on the last page."""

    rows: tuple[ProviderBatchView, ...]
    next_before: int | None


def provider_batch_list(context: AppContext, wanted: ProviderBatchQuery) -> ProviderBatchList:
    """A page of the batches that match."""
    page = context.store.provider_batch_lists.page(
        wanted.limit, provider=wanted.provider, is_open=wanted.state == "open", before=wanted.before
    )
    return ProviderBatchList(views_of(context.store, page.rows, context.now()), page.next_before)


def of_batch(context: AppContext, name: str) -> tuple[ProviderBatchView, ...]:
    """The batches at providers with tasks of a batch, the newest first."""
    return views_of(context.store, context.store.provider_batch_lists.of_batch(name), context.now())


def of_task(context: AppContext, task_row: int) -> ProviderBatchView | None:
    """The batch at a provider that a task waits for."""
    found = context.store.provider_batch_lists.of_task(task_row)
    return None if found is None else view_of(context, found)


def view_of(context: AppContext, batch: ProviderBatch) -> ProviderBatchView:
    """The view of one batch."""
    return views_of(context.store, [batch], context.now())[0]
