"""Puts deferred tasks into batches, and creates these at their providers."""

from __future__ import annotations

import math
import secrets

from ...errors import ProviderError
from ...messages import media_in
from ...providers.batch_api import BatchApi, RemoteBatch
from ...records import Event, Task
from ...routing.cost.budgets import BudgetRefusal
from ...routing.routes import Option
from ..batch_budgets import BatchBudgets
from ..event_reporter import EventReporter
from ..store import DeferredGroup, NewBatch, PlannedRow, ProviderBatch
from ..store_session import StoreSession
from .offers import PRICE_FACTOR
from .rows import BatchRowReader

MOST_ROWS = 5_000  # of one batch: one that stands still holds up no more
ROW_BYTES = 4_000  # that a row has beside its prompt: parameters and schema
AT_ONCE = 500  # tasks that are read together
MESSAGE_TOKENS = 16


class Submitter:
    """For one event loop."""

    def __init__(
        self, session: StoreSession, reader: BatchRowReader, budgets: BatchBudgets, reporter: EventReporter
    ) -> None:
        self._store, self._thread, self._now = session.store, session.thread, session.clock.now
        self._reader, self._budgets, self._report = reader, budgets, reporter.report

    async def submit(
        self, api: BatchApi, group: DeferredGroup, option: Option, rows: int, live_s: float
    ) -> None:
        """Put the oldest `rows` tasks of a group into batches and create them, as far as budgets allow it.

        Raises ProviderError where a creation failed; what has been put into a batch stays there.
        """
        while rows > 0:
            tasks = await self._oldest(api, group, min(rows, MOST_ROWS, api.limits.rows))
            if not tasks:
                return
            rows -= len(tasks)
            new = NewBatch(option.provider.name, option.model.name, f"ao{secrets.token_hex(8)}", live_s)
            planned = [self._planned(task, group, option) for task in tasks]
            batch = await self._budgets.intend(new, planned, self._now())
            if isinstance(batch, BudgetRefusal):
                text = f"{len(tasks):,} tasks stay deferred: {batch}"
                self._report([Event(self._now(), "batch_over_budget", text, new.provider, level="warning")])
                return
            if batch is not None:
                await self.create(api, batch)

    async def _oldest(self, api: BatchApi, group: DeferredGroup, most: int) -> list[Task]:
        """As many tasks as one batch takes, by number and by bytes."""
        found: list[Task] = []
        size, after = 0, 0
        while len(found) < most:
            limit = min(AT_ONCE, most - len(found))
            page = await self._thread.insist(self._store.deferrals.oldest, group.id, limit, after)
            for task in page:
                size += ROW_BYTES + _bytes_of(task)
                if found and size > api.limits.bytes:
                    return found
                found.append(task)
            if len(page) < limit:
                break
            after = page[-1].row
        return found

    def _planned(self, task: Task, group: DeferredGroup, option: Option) -> PlannedRow:
        """What the row may cost at most: half of what a live call may."""
        max_tokens = task.max_tokens or option.max_tokens
        price = option.model.price
        media = sum(map(option.provider.config.api.media_tokens, task.media))
        bound = (
            0
            if price is None
            else price.upper_bound_nanos(task.prompt_bytes + 2 * media, len(task.messages), max_tokens)
        )
        return PlannedRow(task, math.ceil(bound * PRICE_FACTOR), max_tokens, group.tier, task.agent)

    async def create(self, api: BatchApi, batch: ProviderBatch) -> None:
        """Create a batch that is intended. Raises ProviderError; without an answer it is looked for later."""
        rows = await self._rendered(api, batch)
        store = self._store.provider_batches
        await self._thread.insist(store.creating, batch.id, self._now())
        try:
            remote = await api.create(batch.marker, batch.model, rows)
        except ProviderError as error:
            if not error.sent or (error.status is not None and 400 <= error.status < 500):
                await self._thread.insist(store.not_created, batch.id, error.message, self._now())
            raise
        await self.created(batch, remote)

    async def _rendered(self, api: BatchApi, batch: ProviderBatch) -> list[bytes]:
        found: list[bytes] = []
        after = 0
        while True:
            page = await self._thread.insist(self._store.provider_batches.tasks, batch.id, after)
            if not page:
                return found
            for row in page:
                request = self._reader.request(batch, row, self._now())
                found.append((await api.render(batch.marker, row.place, request)).content)
            after = page[-1].place

    async def created(self, batch: ProviderBatch, remote: RemoteBatch) -> None:
        """The provider has it."""
        now, store = self._now(), self._store.provider_batches
        await self._thread.insist(store.submitted, batch.id, remote.id, remote.files, now)
        text = f"batch {batch.marker} of {batch.rows:,} tasks: created"
        fields = {"model": batch.model, "rows": batch.rows}
        self._report([Event(now, "batch_created", text, batch.provider, fields=fields)])


def _bytes_of(task: Task) -> int:
    """JSON escapes at most double a text; images and documents are in base64 already."""
    return 2 * task.prompt_bytes + sum(len(each.data) for each in media_in(task.messages))
