"""Collects the results of batches that have ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from ...providers.batch_api import BatchApi, RemoteBatch, RowAnswer
from ..store import Collected, ProviderBatch
from ..store.loading import parts
from ..store_session import StoreSession
from .rows import BatchRowReader

AT_ONCE = 200  # results that are stored together


class Collector:
    """For one event loop."""

    def __init__(self, session: StoreSession, reader: BatchRowReader) -> None:
        self._store, self._thread, self._now = session.store, session.thread, session.clock.now
        self._reader = reader

    async def collect(
        self, api: BatchApi, batch: ProviderBatch, remote: RemoteBatch
    ) -> AsyncGenerator[Collected, None]:
        """Store the results as they come. A repetition skips those that are stored. Raises ProviderError."""
        answers: list[RowAnswer] = []
        async with aclosing(api.results(remote, batch.marker)) as results:
            async for answer in results:
                answers.append(answer)
                if len(answers) >= AT_ONCE:
                    yield await self._collect(api, batch, answers)
                    answers = []
        if answers:
            yield await self._collect(api, batch, answers)

    async def lose(self, batch: ProviderBatch) -> AsyncGenerator[Collected, None]:
        """End the rows of a batch whose results are gone, those that went on without it included."""
        for places in parts(range(1, batch.rows + 1), AT_ONCE):
            rows = await self._thread.insist(self._store.provider_batches.tasks_at, batch.id, places)
            now = self._now()
            ends = [self._reader.lost(batch, row, now) for row in rows]
            yield await self._thread.insist(self._store.batch_results.collect, batch.id, ends, now)

    async def _collect(self, api: BatchApi, batch: ProviderBatch, answers: list[RowAnswer]) -> Collected:
        by_place = {answer.number: answer for answer in answers}
        rows = await self._thread.insist(self._store.provider_batches.tasks_at, batch.id, list(by_place))
        now = self._now()
        ends = []
        for row in rows:
            ends.append(await self._reader.end(api, batch, row, by_place[row.place], now))
            await asyncio.sleep(0)  # a row takes up to 1 ms, in which no live call goes on
        return await self._thread.insist(self._store.batch_results.collect, batch.id, ends, now)
