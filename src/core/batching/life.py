"""The steps of one batch at its provider, from the intent to the last result.

A step is in the store before its request is sent, see `store/provider_batch_states.py`. So each step reads
the batch and does what its state says. A provider that fails is asked again later, with back-off.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial

from ...errors import AuthFailed, BadRequest, ModelUnavailable, ProviderError
from ...providers.batch_api import BatchApi, RemoteBatch, RemoteState
from ...records import Result
from ...routing.batch_choice import WORTH_ROWS
from ...routing.cost.budgets import BudgetRefusal
from ..batch_budgets import BatchBudgets
from ..event_reporter import EventReporter
from ..store import BatchState, ProviderBatch, SettledRow
from ..store_session import StoreSession
from . import events
from .collector import Collector
from .offers import Offers
from .rows import BatchRowReader
from .submitter import Submitter

log = logging.getLogger(__name__)
POLL_AT_LEAST_S, POLL_AT_MOST_S = 5.0, 120.0
POLL_SHARE = 0.05  # of a batch's age: a batch of half an hour is looked at every 90 s
LOOKED_FOR_S = 600.0  # after an unanswered creation, before the batch is sent again: lists may lag behind
FULL_S = 300.0  # a target that takes no more rows is left alone
GONE = 404
CANCELLABLE = (BatchState.INTENDED, BatchState.SUBMITTED)
AT_THE_PROVIDER = (BatchState.SUBMITTED, BatchState.CANCELLING, BatchState.ENDED)
HOPELESS = (AuthFailed, BadRequest, ModelUnavailable)  # of a creation: sending it again changes nothing


@dataclass(frozen=True, slots=True)
class Means:
    """What is worked with: the API of a provider by its name, and what is sized, read and reserved.

    `providers`: those that have a key here.
    """

    providers: Collection[str]
    api_of: Callable[[str], BatchApi]
    offers: Offers
    reader: BatchRowReader
    budgets: BatchBudgets


@dataclass(slots=True)
class Rooms:
    """How many rows targets take, as far as they have refused some."""

    full_until: dict[tuple[str, str], float] = field(default_factory=dict)
    most_rows: dict[tuple[str, str], int] = field(default_factory=dict)

    def of(self, target: tuple[str, str], now: float) -> float:
        """The rows that the target takes now."""
        is_full = now < self.full_until.get(target, 0.0)
        return 0.0 if is_full else float(self.most_rows.get(target, 1_000_000_000))

    def full(self, batch: ProviderBatch, now: float) -> None:
        """A batch found no room: the next one is smaller, and comes later."""
        self.full_until[key_of(batch)] = now + FULL_S
        self.most_rows[key_of(batch)] = max(WORTH_ROWS, batch.rows // 2)


class BatchLife:
    """Advances batches, one step at a time. `on_results` gets results after they were stored.

    `wake` is called when tasks were queued. Of one batch no two steps run at once. For one event loop.
    """

    def __init__(
        self,
        session: StoreSession,
        means: Means,
        reporter: EventReporter,
        on_results: Callable[[Sequence[Result]], None],
        wake: Callable[[], None],
    ) -> None:
        self._store, self._thread, self._now = session.store, session.thread, session.clock.now
        self._api, self._budgets = means.api_of, means.budgets
        self._report, self._on_results, self.wake = reporter.report, on_results, wake
        self._providers, self.offers = means.providers, means.offers
        self._submitter = Submitter(
            session, means.api_of, means.offers, means.reader, means.budgets, reporter
        )
        self._collector = Collector(session, means.reader)
        self._collecting = 0
        self._late: set[int] = set()  # batches that were reported as late
        self._unreachable: set[int] = set()  # and as without a provider
        self.rooms = Rooms()
        self.intend = self._submitter.intend

    @property
    def is_collecting(self) -> bool:
        """Whether results of a batch are stored, which is closed after them."""
        return self._collecting > 0

    def can_reach(self, batch: ProviderBatch) -> bool:
        """Whether its provider has a key here. One without is reported once; the tasks go live in time."""
        if batch.provider in self._providers:
            return True
        if batch.id not in self._unreachable:
            self._unreachable.add(batch.id)
            self._report([events.unreachable(batch, self._now())])
        return False

    async def advance(self, batch: ProviderBatch) -> None:
        """Do what the state of a batch asks for. A provider's error is looked at again later."""
        try:
            match batch.state:
                case BatchState.INTENDED:
                    await self._submitter.create(self._api(batch.provider), batch)
                case BatchState.CREATING:
                    await self._look_for(batch)
                case BatchState.SUBMITTED | BatchState.CANCELLING:
                    await self._look_at(batch)
                case BatchState.ENDED:
                    await self._collect(batch, await self._api(batch.provider).status(batch.remote_id))
        except ProviderError as error:
            await self._look_again(batch, error)

    async def cancel(self, batch: ProviderBatch) -> None:
        """Ask the provider to end it. One that was not created needs no request."""
        if batch.state is BatchState.INTENDED:
            await self._fail(batch, "taken back before it was created")
            return
        if batch.state not in CANCELLABLE:
            return
        if not batch.is_unwanted:
            self._report([events.recalled(batch, self._now())])
        await self._thread.insist(self._store.provider_batches.cancelling, batch.id, self._now())
        try:
            await self._api(batch.provider).cancel(batch.remote_id)
        except ProviderError as error:  # asked again when it is looked at
            log.info("cancelling a batch failed: %s", error.message, extra=_fields(batch))

    async def _look_again(self, batch: ProviderBatch, error: ProviderError) -> None:
        log.info("a batch waits: %s", error.message, extra={**_fields(batch), "error": error.kind})
        if isinstance(error, HOPELESS) and batch.state is BatchState.INTENDED:
            await self._fail(batch, error.message)
            return
        if error.status == GONE and batch.state in AT_THE_PROVIDER:
            await self._lose(batch)
            return
        await self._poll_again(batch, max(POLL_AT_LEAST_S, error.retry_after_s or 0.0))

    async def _poll_again(self, batch: ProviderBatch, least_s: float = POLL_AT_LEAST_S) -> None:
        now = self._now()
        wait_s = min(max(POLL_SHARE * (now - batch.created_at), least_s), max(POLL_AT_MOST_S, least_s))
        await self._thread.insist(self._store.provider_batches.poll_at, batch.id, now + wait_s)

    async def _look_for(self, batch: ProviderBatch) -> None:
        """Its creation was not answered: it is there, or it never came to be."""
        known = {
            each.remote_id for each in await self._thread.insist(self._store.provider_batches.newest, 1_000)
        }
        sent_at = batch.create_sent_at or batch.created_at
        remote = await self._api(batch.provider).find(batch.marker, batch.rows, sent_at, known)
        if remote is not None:
            await self._submitter.created(batch, remote)
        elif self._now() - sent_at >= LOOKED_FOR_S:
            why = "the provider has no such batch"
            await self._thread.insist(self._store.provider_batches.not_created, batch.id, why, self._now())
        else:
            await self._poll_again(batch)

    async def _look_at(self, batch: ProviderBatch) -> None:
        remote = await self._api(batch.provider).status(batch.remote_id)
        if remote.state is RemoteState.FAILED:
            await self._failed_remotely(batch, remote)
        elif remote.state is RemoteState.ENDED:
            now = self._now()
            await self._thread.insist(self._store.provider_batches.ended, batch.id, remote.files, now)
            await self._collect(batch, remote)
        else:
            if batch.state is BatchState.CANCELLING and remote.state is RemoteState.IN_PROGRESS:
                await self._api(batch.provider).cancel(batch.remote_id)  # the request did not arrive
            self._tell_if_late(batch)
            await self._poll_again(batch)

    async def _failed_remotely(self, batch: ProviderBatch, remote: RemoteBatch) -> None:
        """The provider rejected it as a whole. One that found no room goes in smaller parts, later."""
        if remote.is_full:
            self.rooms.full(batch, self._now())
        await self._fail(batch, remote.error or "the provider rejected it", defer=remote.is_full)

    async def _fail(self, batch: ProviderBatch, why: str, *, defer: bool = False) -> None:
        await self._give_back(batch, defer=defer)
        close = partial(self._store.batch_results.failed, batch.id, why, now=self._now(), defer=defer)
        self._settle(batch, await self._thread.insist(close))
        self._budgets.close(batch.id)
        self._report([events.failed(batch, why, self._now(), comes_again=defer)])
        self.wake()

    async def _collect(self, batch: ProviderBatch, remote: RemoteBatch) -> None:
        """Store all results, give the other rows back, and delete what the provider keeps."""
        self._collecting += 1
        try:
            await self._collect_all(batch, remote)
        finally:
            self._collecting -= 1
            self.wake()

    async def _collect_all(self, batch: ProviderBatch, remote: RemoteBatch) -> None:
        api = self._api(batch.provider)
        async for collected in self._collector.collect(api, batch, remote):
            self._settle(batch, collected.settled)
            if collected.results:
                self._on_results(collected.results)
            if collected.requeued:
                self.wake()
        await self._close(batch)
        try:
            await api.clean_up(remote)
        except ProviderError as error:
            log.info("a batch was not deleted: %s", error.message, extra=_fields(batch))

    async def _lose(self, batch: ProviderBatch) -> None:
        """The provider has deleted it, or its results. Its rows run live, and it may have been billed."""
        now = self._now()
        if batch.state is not BatchState.ENDED:
            await self._thread.insist(self._store.provider_batches.ended, batch.id, batch.files, now)
        lost_nanos = 0
        async for collected in self._collector.lose(batch):
            self._settle(batch, collected.settled)
            lost_nanos += sum(row.cost_nanos or 0 for row in collected.settled)
        self._report([events.lost(batch, lost_nanos, now)])
        await self._close(batch)

    async def _close(self, batch: ProviderBatch) -> None:
        """Give the rows back that have no result. Where it expired, they may wait for another batch."""
        defer = batch.cancel_sent_at is None
        await self._give_back(batch, defer=defer)
        close = partial(self._store.batch_results.collected, batch.id, self._now(), defer=defer)
        self._settle(batch, await self._thread.insist(close))
        self._budgets.close(batch.id)
        self.wake()
        after = await self._thread.insist(self._store.provider_batches.find, batch.id)
        if after is not None:
            self._report([events.ended(after, self._now())])

    async def _give_back(self, batch: ProviderBatch, *, defer: bool) -> None:
        """End the rows without a result, some at a time: other work of the store comes in between."""
        give_back = partial(self._store.batch_results.give_back, batch.id, now=self._now(), defer=defer)
        while freed := await self._thread.insist(give_back):
            self._settle(batch, freed)

    def _settle(self, batch: ProviderBatch, settled: Sequence[SettledRow]) -> None:
        self._budgets.settle(batch.id, settled)

    def over_budget(self, provider: str, rows: int, refusal: BudgetRefusal) -> None:
        """Report that tasks wait for room in a budget."""
        self._report([events.over_budget(provider, rows, refusal, self._now())])

    def pulled_back(self, batch: ProviderBatch, pulled: int) -> None:
        """So many of its tasks go live without it."""
        self._report([events.pulled_back(batch, pulled, self._now())])
        self.wake()

    def _tell_if_late(self, batch: ProviderBatch) -> None:
        """Report once that a batch takes unusually long."""
        now = self._now()
        if now - batch.created_at >= events.LATE_S and batch.id not in self._late:
            self._late.add(batch.id)
            self._report([events.late(batch, now)])


def key_of(batch: ProviderBatch) -> tuple[str, str]:
    """The target that a batch is in."""
    return batch.provider, batch.model


def _fields(batch: ProviderBatch) -> dict[str, object]:
    return {"action": "batch", "provider": batch.provider, "model": batch.model, "batch": batch.marker}
