"""Puts deferred tasks into batches, and creates these at their providers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Sequence
from itertools import accumulate

from ...errors import ProviderError
from ...messages import media_in
from ...providers.batch_api import BatchApi, BatchLimits, RemoteBatch
from ...records import Task
from ...routing.cost.budgets import BudgetRefusal
from ..event_reporter import EventReporter
from ..store import NewBatch, PlannedRow, ProviderBatch
from ..store_session import StoreSession
from . import events
from .means import Means
from .offers import MOST_ROWS, Offered

ROW_BYTES = 4_000  # that a row has beside its prompt: parameters and schema
AT_ONCE = 500  # tasks that are read together


class Submitter:
    """For one event loop."""

    def __init__(
        self,
        session: StoreSession,
        means: Means,
        reporter: EventReporter,
    ) -> None:
        self._api, self._account_of = means.api_of, means.account_of
        self._store, self._thread, self._now = session.store, session.thread, session.clock.now
        self._offers, self._reader = means.offers, means.reader
        self._budgets, self._report = means.budgets, reporter.report

    async def intend(
        self, offered: Offered, target: tuple[str, str], rows: int
    ) -> AsyncGenerator[ProviderBatch | BudgetRefusal, None]:
        """Put the oldest `rows` tasks of a group into batches, until a budget refuses: that comes last."""
        option, tier = offered.option(*target), offered.route.tier
        limits = self._api(target[0]).limits
        while rows > 0:
            most = min(rows, MOST_ROWS, limits.rows)
            tasks = await self._oldest(limits, offered.waiting.key, most)
            if not tasks:
                return
            new = NewBatch(*target, f"ao{secrets.token_hex(8)}", offered.waiting.live_s)
            planned = [self._offers.planned(task, option, tier) for task in tasks]
            batch = await self._budgets.intend(new, planned, self._now())
            if isinstance(batch, BudgetRefusal) and (fitting := _within(batch.headroom_nanos, planned)):
                planned = fitting
                batch = await self._budgets.intend(new, planned, self._now())
            rows -= len(planned)
            if batch is not None:
                yield batch
            if isinstance(batch, BudgetRefusal):
                return

    async def _oldest(self, limits: BatchLimits, group_id: int, most: int) -> list[Task]:
        """As many tasks as one batch takes, by number and by bytes."""
        found: list[Task] = []
        size, after = 0, 0
        while len(found) < most:
            limit = min(AT_ONCE, most - len(found))
            page = await self._thread.insist(self._store.deferrals.oldest, group_id, limit, after)
            for task in page:
                size += ROW_BYTES + _bytes_of(task)
                if found and size > limits.bytes:
                    return found
                found.append(task)
            if len(page) < limit:
                break
            after = page[-1].row
        return found

    async def create(self, api: BatchApi, batch: ProviderBatch) -> None:
        """Create a batch that is intended. Raises ProviderError; without an answer it is looked for later."""
        rows = await self._rendered(api, batch)
        store = self._store.provider_batches
        await self._thread.insist(store.creating, batch.id, self._now(), self._account_of(batch.provider))
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
                await asyncio.sleep(0)  # a row takes up to 0.5 ms, in which no live call goes on
            after = page[-1].place

    async def created(self, batch: ProviderBatch, remote: RemoteBatch) -> None:
        """The provider has it."""
        now, store = self._now(), self._store.provider_batches
        await self._thread.insist(store.submitted, batch.id, remote.id, remote.files, now)
        self._report([events.created(batch, now)])


def _within(nanos: int, rows: Sequence[PlannedRow]) -> list[PlannedRow]:
    """The first rows, as many as this pays for."""
    sums = accumulate(row.reserved_nanos for row in rows)
    return [row for row, total in zip(rows, sums, strict=True) if total <= nanos]


def _bytes_of(task: Task) -> int:
    """JSON escapes at most double a text; images and documents are in base64 already."""
    return 2 * task.prompt_bytes + sum(len(each.data) for each in media_in(task.messages))
