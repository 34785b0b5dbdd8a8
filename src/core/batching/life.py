"""The steps of one batch at its provider, from the intent to the last result.

A step is in the store before its request is sent, see `store/provider_batch_states.py`. So each step reads
the batch and does what its state says. A provider that fails is asked again later, with back-off.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

from ...errors import AuthFailed, BadRequest, ModelUnavailable, ProviderError
from ...providers.batch_api import RemoteBatch, RemoteState
from ...records import Result
from ...routing.cost.budgets import BudgetRefusal
from ..event_reporter import EventReporter
from ..store import BatchState, ProviderBatch, SettledRow
from ..store_session import StoreSession
from . import events
from .collector import Collector
from .means import Means
from .notes import Note
from .reachability import GONE, Reachability
from .rooms import FULL_S, Rooms, key_of
from .submitter import Submitter

log = logging.getLogger(__name__)
POLL_AT_LEAST_S, POLL_AT_MOST_S = 5.0, 120.0
LONGEST_WAIT_S = 3_600.0  # also where a provider asks for more
POLL_SHARE = 0.05  # of a batch's age: a batch of half an hour is looked at every 90 s
LOOKED_FOR_S = 600.0  # waited between looks for an unanswered creation, before the batch is sent again
CANCELLABLE = (BatchState.INTENDED, BatchState.SUBMITTED)
AT_THE_PROVIDER = (BatchState.SUBMITTED, BatchState.CANCELLING, BatchState.ENDED)
HOPELESS = (AuthFailed, BadRequest, ModelUnavailable)  # of a creation: sending it again changes nothing


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
        self.offers = means.offers
        self._submitter = Submitter(session, means, reporter)
        self._collector = Collector(session, means.reader)
        self._collecting = 0
        self.notes: dict[int, Note] = defaultdict(Note)  # by the number of the batch, while it is open
        self.rooms, self.reachability = Rooms(), Reachability(session, means, reporter, self.notes)
        self.intend = self._submitter.intend
        self.on_money: Callable[[], None] = lambda: None  # called when a batch leaves money to other tasks

    @property
    def is_collecting(self) -> bool:
        """Whether results of a batch are stored, which is closed after them."""
        return self._collecting > 0

    @staticmethod
    def is_due(batch: ProviderBatch, now: float) -> bool:
        """Whether to look at a batch. A time beyond every wait was noted before the clock was set back."""
        return not now < batch.next_poll_at <= now + LONGEST_WAIT_S

    async def advance(self, batch: ProviderBatch) -> None:
        """Do what the state of a batch asks for. A provider's error is looked at again later."""
        try:
            match batch.state:
                case BatchState.INTENDED:
                    await self._create(batch)
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

    async def _create(self, batch: ProviderBatch) -> None:
        """Nothing was sent for it so far: where its provider takes none, its tasks go elsewhere."""
        if not self.reachability.has_provider(batch) or self.rooms.refuses(key_of(batch), self._now()):
            await self._fail(batch, "its provider takes no batch here", defer=True, is_reported=True)
        else:
            await self._submitter.create(self._api(batch.provider), batch)

    async def _look_again(self, batch: ProviderBatch, error: ProviderError) -> None:
        log.info("a batch waits: %s", error.message, extra={**_fields(batch), "error": error.kind})
        if batch.state is BatchState.INTENDED and await self._goes_elsewhere(batch, error):
            return
        is_gone = error.status == GONE and batch.state in AT_THE_PROVIDER
        if is_gone and not self.reachability.is_of_other_account(batch) and self.reachability.is_lost(batch):
            await self._lose(batch, "its provider has deleted its results")
            return
        await self.reachability.report_error(batch, error)
        await self._poll_again(batch, min(max(POLL_AT_LEAST_S, error.retry_after_s or 0.0), LONGEST_WAIT_S))

    async def _goes_elsewhere(self, batch: ProviderBatch, error: ProviderError) -> bool:
        """Give the tasks of a batch back that was not created, where it would be refused again."""
        found = await self._thread.insist(self._store.provider_batches.find, batch.id)
        if found is None or found.state is not BatchState.INTENDED:
            return False  # without an answer it may be there all the same
        now = self._now()
        if isinstance(error, HOPELESS):
            self.rooms.refused(batch, now, by_key=isinstance(error, AuthFailed))
            self._report([events.refused(batch, error.message, now)])
            await self._fail(batch, error.message, defer=True, is_reported=True)
            return True
        note = self.notes[batch.id]
        if note.not_accepted_since is None:
            note.not_accepted_since = now
        if now - note.not_accepted_since < FULL_S:
            return False
        self.rooms.busy(batch, now)
        await self._fail(batch, error.message, defer=True)
        return True

    async def _poll_again(
        self, batch: ProviderBatch, least_s: float = POLL_AT_LEAST_S, age_s: float | None = None
    ) -> float:
        """Returns how long this waits. `age_s`: of the batch, where the clock does not say it."""
        now = self._now()
        share_s = POLL_SHARE * (now - batch.created_at if age_s is None else age_s)
        wait_s = min(max(share_s, least_s), max(POLL_AT_MOST_S, least_s))
        await self._thread.insist(self._store.provider_batches.poll_at, batch.id, now + wait_s)
        return wait_s

    async def _seek_again(self, batch: ProviderBatch) -> None:
        note = self.notes[batch.id]
        note.looked_for_s += await self._poll_again(batch, age_s=note.looked_for_s)

    async def _look_for(self, batch: ProviderBatch) -> None:
        """Its creation was not answered: it is there, or it never came to be.

        Lists may lag behind. What was waited counts, not the time since: the clock may have been set.
        """
        known = {
            each.remote_id for each in await self._thread.insist(self._store.provider_batches.newest, 1_000)
        }
        sent_at = batch.create_sent_at or batch.created_at
        note = self.notes[batch.id]
        found = await self._api(batch.provider).find(batch.marker, batch.rows, sent_at, known)
        if found.batch is not None:
            await self._submitter.created(batch, found.batch)
        elif found.is_undecided:
            self._tell_undecided(batch)
            await self._seek_again(batch)
        elif self.reachability.is_of_other_account(batch):  # there it may be
            await self.reachability.report_other_account(batch)
            await self._poll_again(batch)
        elif note.looked_for_s >= LOOKED_FOR_S:
            why = "the provider has no such batch"
            note.looked_for_s, note.is_undecided = 0.0, False
            await self._thread.insist(self._store.provider_batches.not_created, batch.id, why, self._now())
        else:
            await self._seek_again(batch)

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

    async def _fail(
        self, batch: ProviderBatch, why: str, *, defer: bool = False, is_reported: bool = False
    ) -> None:
        await self._give_back(batch, defer=defer)
        close = partial(self._store.batch_results.failed, batch.id, why, now=self._now(), defer=defer)
        self._settle(batch, await self._thread.insist(close))
        self._forget(batch)
        if not is_reported:
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
        if missing := await self._missing(batch, remote):
            if self.reachability.is_lost(batch):
                await self._lose(batch, f"its results lack {missing:,} of {batch.rows:,} tasks")
            else:
                await self._poll_again(batch)
            return
        await self._close(batch)
        try:
            await api.clean_up(remote)
        except ProviderError as error:
            log.info("a batch was not deleted: %s", error.message, extra=_fields(batch))

    async def _missing(self, batch: ProviderBatch, remote: RemoteBatch) -> int:
        """How many rows have no result that should have one: the provider says that it has done them."""
        found = await self._thread.insist(self._store.provider_batches.find, batch.id)
        left = 0 if found is None else found.left_rows + found.released_rows
        not_done = max(0, batch.rows - remote.done) if remote.is_cut_short else 0
        return max(0, left - not_done)

    async def _lose(self, batch: ProviderBatch, why: str) -> None:
        """Results are gone. The rows without one run live, and may have been billed."""
        now = self._now()
        if batch.state is not BatchState.ENDED:
            await self._thread.insist(self._store.provider_batches.ended, batch.id, batch.files, now)
        lost_nanos = 0
        async for collected in self._collector.lose(batch):
            self._settle(batch, collected.settled)
            lost_nanos += sum(row.cost_nanos or 0 for row in collected.settled)
        self._report([events.lost(batch, why, lost_nanos, now)])
        await self._close(batch)

    async def _close(self, batch: ProviderBatch) -> None:
        """Give the rows back that have no result. Where it expired, they may wait for another batch."""
        defer = batch.cancel_sent_at is None
        await self._give_back(batch, defer=defer)
        close = partial(self._store.batch_results.collected, batch.id, self._now(), defer=defer)
        self._settle(batch, await self._thread.insist(close))
        self._forget(batch)
        self.wake()
        after = await self._thread.insist(self._store.provider_batches.find, batch.id)
        if after is not None:
            self._report([events.ended(after, self._now())])

    async def _give_back(self, batch: ProviderBatch, *, defer: bool) -> None:
        """End the rows without a result, some at a time: other work of the store comes in between."""
        give_back = partial(self._store.batch_results.give_back, batch.id, now=self._now(), defer=defer)
        while freed := await self._thread.insist(give_back):
            self._settle(batch, freed)

    def _forget(self, batch: ProviderBatch) -> None:
        self._budgets.close(batch.id)
        self.on_money()
        self.notes.pop(batch.id, None)

    def _settle(self, batch: ProviderBatch, settled: Sequence[SettledRow]) -> None:
        self._budgets.settle(batch.id, settled)

    def over_budget(self, provider: str, rows: int, refusal: BudgetRefusal) -> None:
        """Report that tasks wait for room in a budget."""
        self._report([events.over_budget(provider, rows, refusal, self._now())])

    def pulled_back(self, batch: ProviderBatch, pulled: int) -> None:
        """So many of its tasks go live without it."""
        self._report([events.pulled_back(batch, pulled, self._now())])
        self.wake()

    def is_sought(self, batch: ProviderBatch) -> bool:
        """Whether it is looked for after a creation without an answer, other than by waiting for an end."""
        note = self.notes.get(batch.id, Note())
        return batch.state is BatchState.CREATING and not note.is_undecided

    def _tell_undecided(self, batch: ProviderBatch) -> None:
        """Report once that a batch may be one of those that are running."""
        note = self.notes[batch.id]
        if not note.is_undecided:
            note.is_undecided = True
            self._report([events.undecided(batch, self._now())])

    def _tell_if_late(self, batch: ProviderBatch) -> None:
        """Report once that a batch takes unusually long."""
        now, note = self._now(), self.notes[batch.id]
        if now - batch.created_at >= events.LATE_S and not note.is_late:
            note.is_late = True
            self._report([events.late(batch, now)])


def _fields(batch: ProviderBatch) -> dict[str, object]:
    return {"action": "batch", "provider": batch.provider, "model": batch.model, "batch": batch.marker}
