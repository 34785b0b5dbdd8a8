"""Which tasks and batches the caller may see.

The roles `read` and `operate` see everything. The role `submit` sees its own tasks and the tasks of its own
batches. The queue is everybody's batch, so in it only the caller's own tasks count.
"""

from __future__ import annotations

import re
from dataclasses import replace

from ..core.intake import QUEUE
from ..core.store import BatchPage, BatchRow, TaskDetail
from .bodies import MAX_ROW
from .context import AppContext, visible_submitter
from .problems import not_found

MAX_ROW_DIGITS = 19
_ROW = re.compile(rf"[1-9][0-9]{{0,{MAX_ROW_DIGITS - 1}}}")


def is_visible(context: AppContext, batch: str, submitter: str) -> bool:
    """Whether the caller may see a task of `submitter` in `batch`."""
    name = visible_submitter()
    return not name or submitter == name or is_own_batch(context.store.reports.batch(batch), name)


def is_own_batch(batch: BatchRow | None, name: str) -> bool:
    """Whether `name` started the batch. The queue has no owner."""
    return batch is not None and batch.name != QUEUE and batch.submitter == name


def find_batch(context: AppContext, name: str) -> BatchRow:
    """The batch. Raises Problem 404 if it does not exist or the caller may not see it."""
    batch, own = context.store.reports.batch(name), visible_submitter()
    if batch is None or (own and name != QUEUE and not is_own_batch(batch, own)):
        raise not_found(f"batch {name!r}")
    return batch


def visible_batches(context: AppContext, limit: int = 200) -> list[BatchRow]:
    """The newest batches that the caller may see."""
    name = visible_submitter()
    found = context.store.reports.batches(limit, submitter=name)
    return [batch for batch in found if is_own_batch(batch, name)] if name else found


def visible_batch_page(context: AppContext, limit: int, *, name: str, before: int | None) -> BatchPage:
    """A page of the batches that the caller may see, newest first; `name` is a part of theirs."""
    own = visible_submitter()
    page = context.store.batches.page(limit, name=name, submitter=own, before=before)
    return replace(page, rows=tuple(row for row in page.rows if is_own_batch(row, own))) if own else page


def row_number(text: str) -> int:
    """The number of a row in an address; 0 if it is none."""
    number = int(text) if _ROW.fullmatch(text) else 0
    return number if number <= MAX_ROW else 0


def find_task(context: AppContext, row: str) -> TaskDetail:
    """The task in this row of the store. Raises Problem 404."""
    number = row_number(row)
    detail = context.store.tasks.at_row(number) if number else None
    if detail is None or not is_visible(context, detail.row.batch, detail.row.submitter):
        raise not_found(f"task in row {row[:MAX_ROW_DIGITS]}")
    return detail


def find_queued_task(context: AppContext, name: str) -> TaskDetail:
    """The task of the queue with this id, else the task in the row of this number. Raises Problem 404.

    The id goes first: numbers are common ids, and a submitter does not know a task's row in advance.
    """
    detail = context.store.tasks.find(QUEUE, name)
    if detail is not None and is_visible(context, QUEUE, detail.row.submitter):
        return detail
    if _ROW.fullmatch(name):
        return find_task(context, name)
    raise not_found(f"task {name!r} in batch {QUEUE!r}")


def find_task_by_id(context: AppContext, batch: str, task_id: str) -> TaskDetail:
    """The task of this batch with this id. Raises Problem 404."""
    detail = context.store.tasks.find(batch, task_id)
    if detail is None or not is_visible(context, batch, detail.row.submitter):
        raise not_found(f"task {task_id!r} in batch {batch!r}")
    return detail
