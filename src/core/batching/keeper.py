"""Keeps the batches at providers: chooses, submits, polls, recalls and collects, until nothing is left to do.

A step is in the store before its request is sent, see `store/provider_batch_states.py`; so each round reads
the open batches and does what their states say. A provider that fails is asked again later, with back-off;
the choice brings rows back to live calls in time, whatever happens here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ...errors import AuthFailed, BadRequest, ModelUnavailable, ProviderError
from ...providers.batch_api import BatchApi, RemoteBatch, RemoteState
from ...records import Event, Result
from ...routing.batch_choice import WORTH_ROWS, BatchTarget, Choice, Out, Submission, Waiting, choose
from ...routing.turnaround import turnaround
from ..batch_budgets import BatchBudgets
from ..event_reporter import EventReporter
from ..store import BatchState, DeferredGroup, ProviderBatch, SettledRow
from ..store_session import StoreSession
from .collector import Collector
from .offers import Offered, Offers
from .rows import BatchRowReader
from .submitter import Submitter

log = logging.getLogger(__name__)
LOOK_S = 2.0  # between two looks at the store for deferred tasks and batches that are due
GATHER_S = 10.0  # few tasks wait so long for more of their kind
POLL_AT_LEAST_S, POLL_AT_MOST_S = 5.0, 120.0
POLL_SHARE = 0.05  # of a batch's age: a batch of half an hour is looked at every 90 s
LOOKED_FOR_S = 600.0  # after an unanswered creation, before the batch is sent again: lists may lag behind
FULL_S = 300.0  # a target that takes no more rows is left alone
GONE = 404
CANCELLABLE = (BatchState.INTENDED, BatchState.SUBMITTED)
AT_THE_PROVIDER = (BatchState.SUBMITTED, BatchState.CANCELLING)
HOPELESS = (AuthFailed, BadRequest, ModelUnavailable)  # of a creation: sending it again changes nothing


@dataclass(frozen=True, slots=True)
class Means:
    """What a keeper works with: the API of a provider by its name, and what is sized, read and reserved."""

    api_of: Callable[[str], BatchApi]
    offers: Offers
    reader: BatchRowReader
    budgets: BatchBudgets


class BatchKeeper:
    """The job beside the calls of an orchestrator. `on_results` gets results after they were stored.

    `wake` is called when tasks were queued. For one event loop.
    """

    def __init__(
        self,
        session: StoreSession,
        means: Means,
        reporter: EventReporter,
        on_results: Callable[[Sequence[Result]], None],
        wake: Callable[[], None],
    ) -> None:
        self._session, self._store, self._thread = session, session.store, session.thread
        self._now = session.clock.now
        self._api, self._offers, self._budgets = means.api_of, means.offers, means.budgets
        self._report, self._on_results, self._wake = reporter.report, on_results, wake
        self._submitter = Submitter(session, means.offers, means.reader, means.budgets, reporter)
        self._collector = Collector(session, means.reader)
        self.is_collecting = False  # results of a batch, which is closed after them
        self._seen_at: dict[int, float] = {}  # when a group was first seen
        self._full_until: dict[tuple[str, str], float] = {}
        self._most_rows: dict[tuple[str, str], int] = {}  # of targets that were full

    async def run(self) -> None:
        """Work for ever."""
        while True:
            await self.round()
            await asyncio.sleep(LOOK_S)

    async def round(self) -> None:
        """One look at all that is due."""
        batches = await self._thread.insist(self._store.provider_batches.open)
        now = self._now()
        for batch in batches:
            if batch.is_unwanted and batch.state in CANCELLABLE:
                await self._cancel(batch)
            elif batch.next_poll_at <= now:
                await self._advance(batch)
        groups = await self._thread.insist(self._store.deferrals.groups)
        if (only := self._session.batch) is not None:
            groups = [group for group in groups if group.batch == only]
        if groups or batches:
            await self._choose(groups)

    # ------------------------------------------------------------------ the choice

    async def _choose(self, groups: Sequence[DeferredGroup]) -> None:
        now = self._now()
        offered = await self._all_offered(groups, now)
        batches = await self._thread.insist(self._store.provider_batches.open)
        batches = [batch for batch in batches if batch.left_rows]
        out = [_out(batch) for batch in batches if batch.state is not BatchState.ENDED]
        waiting = [each.waiting for each in offered.values()]
        choice = choose(waiting, out, await self._targets(waiting, batches, now), now)
        await self._recall(choice, {str(batch.id): batch for batch in batches})
        await self._go_live(choice, now)
        for sent in choice.submit:
            await self._submit(sent, offered[sent.key])

    async def _submit(self, sent: Submission, offered: Offered) -> None:
        try:
            await self._submitter.submit(self._api(sent.target[0]), offered, sent.target, sent.rows)
        except ProviderError as error:  # what is in a batch stays there, and is created later
            log.info("a batch was not created: %s", error.message, extra={"action": "batch"})

    async def _go_live(self, choice: Choice, now: float) -> None:
        for key, rows in choice.live.items():
            await self._thread.insist(self._store.deferrals.go_live, key, rows, now)
        if choice.live:
            self._wake()

    async def _all_offered(self, groups: Sequence[DeferredGroup], now: float) -> dict[int, Offered]:
        """By the key of the group."""
        self._seen_at = {group.id: self._seen_at.get(group.id, now) for group in groups}
        found = {}
        for group in groups:
            if like := await self._thread.insist(self._store.deferrals.oldest, group.id, 1):
                more_until = self._seen_at[group.id] + GATHER_S
                found[group.id] = self._offers.of(group, like[0], more_until, now)
        return found

    async def _targets(
        self, waiting: Sequence[Waiting], batches: Sequence[ProviderBatch], now: float
    ) -> list[BatchTarget]:
        wanted = sorted({offer.target for each in waiting for offer in each.offers})
        return [await self._target(key, batches, now) for key in wanted]

    async def _target(
        self, key: tuple[str, str], batches: Sequence[ProviderBatch], now: float
    ) -> BatchTarget:
        done_s = await self._thread.insist(self._store.provider_batches.turnarounds, *key)
        ages_s = [now - each.submitted_at for each in batches if _key(each) == key and each.submitted_at]
        is_full = now < self._full_until.get(key, 0.0)
        room = 0.0 if is_full else float(self._most_rows.get(key, 1_000_000_000))
        return BatchTarget(*key, turnaround(done_s, ages_s), room)

    async def _recall(self, choice: Choice, batches: Mapping[str, ProviderBatch]) -> None:
        for id in choice.cancel:
            await self._cancel(batches[id])
        for id in choice.pull:
            batch = batches[id]
            pulled = await self._thread.insist(self._store.batch_results.pull, batch.id, self._now())
            if pulled:
                self._tell(
                    batch, "batch_late", f"{pulled:,} tasks go live: their deadline is near", "warning"
                )
                self._wake()

    async def _cancel(self, batch: ProviderBatch) -> None:
        """Ask the provider to end it. One that was not created needs no request."""
        if batch.state is BatchState.INTENDED:
            await self._fail(batch, "taken back before it was created")
            return
        if batch.state is not BatchState.SUBMITTED:
            return
        await self._thread.insist(self._store.provider_batches.cancelling, batch.id, self._now())
        try:
            await self._api(batch.provider).cancel(batch.remote_id)
        except ProviderError as error:
            log.info("cancelling a batch failed: %s", error.message, extra=_fields(batch))

    # ------------------------------------------------------------------ the life of a batch

    async def _advance(self, batch: ProviderBatch) -> None:
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

    async def _look_again(self, batch: ProviderBatch, error: ProviderError) -> None:
        log.info("a batch waits: %s", error.message, extra={**_fields(batch), "error": error.kind})
        if isinstance(error, HOPELESS) and batch.state is BatchState.INTENDED:
            await self._fail(batch, error.message)
            return
        if error.status == GONE and batch.state in AT_THE_PROVIDER:
            await self._fail(batch, "its provider does not have it any more", defer=True)
            return
        if error.status == GONE and batch.state is BatchState.ENDED:  # the rows that are left have no result
            await self._close(batch)
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
            await self._poll_again(batch)

    async def _failed_remotely(self, batch: ProviderBatch, remote: RemoteBatch) -> None:
        """The provider rejected it as a whole. One that found no room goes in smaller parts, later."""
        key = _key(batch)
        if remote.is_full:
            self._full_until[key] = self._now() + FULL_S
            self._most_rows[key] = max(WORTH_ROWS, batch.rows // 2)
        await self._fail(batch, remote.error or "the provider rejected it", defer=remote.is_full)

    async def _fail(self, batch: ProviderBatch, why: str, *, defer: bool = False) -> None:
        close = partial(self._store.batch_results.failed, batch.id, why, now=self._now(), defer=defer)
        self._settle(batch, await self._thread.insist(close))
        self._budgets.close(batch.id)
        self._tell(batch, "batch_failed", why, "info" if defer else "warning")
        self._wake()

    async def _collect(self, batch: ProviderBatch, remote: RemoteBatch) -> None:
        """Store all results, give the other rows back, and delete what the provider keeps."""
        self.is_collecting = True
        try:
            await self._collect_all(batch, remote)
        finally:
            self.is_collecting = False

    async def _collect_all(self, batch: ProviderBatch, remote: RemoteBatch) -> None:
        api = self._api(batch.provider)
        async for collected in self._collector.collect(api, batch, remote):
            self._settle(batch, collected.settled)
            if collected.results:
                self._on_results(collected.results)
            if collected.requeued:
                self._wake()
        await self._close(batch)
        try:
            await api.clean_up(remote)
        except ProviderError as error:
            log.info("a batch was not deleted: %s", error.message, extra=_fields(batch))

    async def _close(self, batch: ProviderBatch) -> None:
        """Give the rows back that have no result."""
        collected = self._store.batch_results.collected
        self._settle(batch, await self._thread.insist(collected, batch.id, self._now()))
        self._budgets.close(batch.id)
        self._wake()
        after = await self._thread.insist(self._store.provider_batches.find, batch.id)
        if after is not None:
            self._tell(after, "batch_ended", _outcome(after), "info")

    def _settle(self, batch: ProviderBatch, settled: Sequence[SettledRow]) -> None:
        self._budgets.settle(batch.id, settled)

    def _tell(self, batch: ProviderBatch, kind: str, text: str, level: str) -> None:
        message = f"batch {batch.marker} of {batch.rows:,} tasks: {text}"
        fields = {"model": batch.model, "rows": batch.rows, "state": str(batch.state)}
        self._report([Event(self._now(), kind, message, batch.provider, level=level, fields=fields)])


def _key(batch: ProviderBatch) -> tuple[str, str]:
    return batch.provider, batch.model


def _out(batch: ProviderBatch) -> Out:
    return Out(
        str(batch.id),
        batch.left_rows,
        batch.deadline_at,
        batch.live_s,
        batch.submitted_at or batch.created_at,
        batch.state is BatchState.CANCELLING,
    )


def _outcome(batch: ProviderBatch) -> str:
    parts = [f"{batch.answered:,} answered"]
    for number, word in ((batch.failed, "failed"), (batch.unanswered, "not done"), (batch.late, "too late")):
        if number:
            parts.append(f"{number:,} {word}")
    return ", ".join(parts)


def _fields(batch: ProviderBatch) -> dict[str, object]:
    return {"action": "batch", "provider": batch.provider, "model": batch.model, "batch": batch.marker}
