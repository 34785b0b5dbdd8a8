"""Whether providers can be asked after their batches, and what is reported where they can't.

    no key here              nothing is asked
    key refused              asked again, with back-off
    unknown to this key      where another key or address has created it: asked again, with back-off
    unknown                  asked a few times more: some lists and files lag behind. Then it is lost

The tasks wait meanwhile, and go live in time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...errors import AuthFailed, ProviderError
from ..event_reporter import EventReporter
from ..store import ProviderBatch
from ..store_session import StoreSession
from . import events
from .means import Means
from .notes import Note

GONE = 404
TRIES = 5  # before what a provider does not have is taken for lost
_OTHER_ACCOUNT = "the key or the address has changed, and the present ones do not know the batch"


class Reachability:
    """For one event loop."""

    def __init__(
        self, session: StoreSession, means: Means, reporter: EventReporter, notes: Mapping[int, Note]
    ) -> None:
        self._store, self._thread, self._now = session.store, session.thread, session.clock.now
        self._means, self._report = means, reporter.report
        self._reported: set[str] = set()  # providers
        self._notes = notes  # by the number of the batch

    def has_provider(self, batch: ProviderBatch) -> bool:
        """Whether its provider has a key here."""
        return batch.provider in self._means.providers

    def is_of_other_account(self, batch: ProviderBatch) -> bool:
        """Whether it was created with another key or address than the present ones."""
        return bool(batch.account) and batch.account != self._means.account_of(batch.provider)

    def is_lost(self, batch: ProviderBatch) -> bool:
        """Whether what the provider does not have is to be taken for lost, after some tries."""
        note = self._notes[batch.id]
        note.tries += 1
        return note.tries >= TRIES

    def report_missing(self, batches: Sequence[ProviderBatch]) -> None:
        """Report providers that have no key here. `batches`: all that are open."""
        for provider in {each.provider: None for each in batches if not self.has_provider(each)}:
            self._report_for(provider, self._means.why_not(provider), batches)

    async def report_error(self, batch: ProviderBatch, error: ProviderError) -> None:
        """Report what only a person can mend."""
        if isinstance(error, AuthFailed):
            await self._report_once(batch, error.message)
        elif error.status == GONE and self.is_of_other_account(batch):
            await self.report_other_account(batch)

    async def report_other_account(self, batch: ProviderBatch) -> None:
        """Report that the present key does not know a batch."""
        await self._report_once(batch, _OTHER_ACCOUNT)

    async def _report_once(self, batch: ProviderBatch, why: str) -> None:
        """Report once for a provider why its batches can't be asked after."""
        if batch.provider not in self._reported:
            open_ones = await self._thread.insist(self._store.provider_batches.open)
            self._report_for(batch.provider, why, open_ones)

    def _report_for(self, provider: str, why: str, batches: Sequence[ProviderBatch]) -> None:
        if provider not in self._reported:
            self._reported.add(provider)
            theirs = [each for each in batches if each.provider == provider]
            tasks = sum(each.left_rows for each in theirs)
            self._report([events.unreachable(provider, why, len(theirs), tasks, self._now())])
