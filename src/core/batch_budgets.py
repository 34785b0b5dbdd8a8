"""Budgets and batches at providers: what a batch may cost is reserved with its intent, until its last row.

The reservation is in the store, in the transaction of the intent, and belongs to no orchestrator. The leader
loads it at its start, so that budgets count it. A row that has its end frees its part, and books what it cost
in the period of the intent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ..routing.cost.budgets import BudgetRefusal, Budgets
from .store import NewBatch, OpenReservation, PlannedRow, ProviderBatch, SettledRow, Store
from .store.deferrals import AT_ONCE
from .store.loading import parts
from .store_thread import StoreThread

Payer = tuple[str, str]  # batch, submitter


class BatchBudgets:
    """Reserves, holds and settles the cost of providers' batches. For the event loop's thread.

    Without `budgets` the store keeps reservations all the same.
    """

    def __init__(self, store: Store, thread: StoreThread, budgets: Budgets | None) -> None:
        self._store, self._thread = store, thread
        self.budgets = self._budgets = budgets or Budgets()
        self._held: dict[int, dict[Payer, int]] = {}  # tokens by the number of the batch

    async def load(self, now: float) -> None:
        """Count what open batches may still cost."""
        for each in await self._thread.insist(self._store.provider_batches.reservations):
            self._hold(each, now)

    async def intend(
        self, new: NewBatch, rows: Sequence[PlannedRow], now: float
    ) -> ProviderBatch | BudgetRefusal | None:
        """Put deferred tasks into a batch, as `ProviderBatches.intend` does, if the budgets allow it.

        Returns the refusal of the first budget that does not, with nothing stored.
        """
        wanted: Counter[Payer] = Counter()
        for row in rows:
            wanted[row.task.batch, row.task.submitter] += row.reserved_nanos
        tokens = self._reserve(new.provider, wanted, now)
        if isinstance(tokens, BudgetRefusal):
            return tokens
        held: list[OpenReservation] = []
        batch: ProviderBatch | None = None
        try:
            batches = self._store.provider_batches
            for part in parts(rows, AT_ONCE):  # a kill between two leaves a smaller batch
                batch = await self._thread.insist(batches.intend, new, part, now)
            if batch is not None:
                held = await self._thread.insist(batches.reservations, batch.id)
        finally:  # what is stored takes the place of what was asked for
            for token in tokens:
                self._budgets.cancel(token)
        for each in held:
            self._hold(each, now)
        return batch

    def _reserve(self, provider: str, wanted: Counter[Payer], now: float) -> list[int] | BudgetRefusal:
        tokens: list[int] = []
        for (batch, submitter), nanos in wanted.items():
            refusal = self._budgets.check(now, provider, batch, submitter, nanos)
            if refusal is not None:
                for token in tokens:
                    self._budgets.cancel(token)
                return refusal
            tokens.append(self._budgets.reserve(now, provider, batch, submitter, nanos))
        return tokens

    def _hold(self, each: OpenReservation, now: float) -> None:
        tokens = self._held.setdefault(each.provider_batch_id, {})
        payer = (each.batch, each.submitter)
        if payer not in tokens:
            tokens[payer] = self._budgets.hold(now, each.at, each.provider, *payer, each.nanos)

    def settle(self, batch_id: int, settled: Iterable[SettledRow]) -> None:
        """Rows of a batch have their end in the store: book what they cost, and free what was reserved."""
        tokens = self._held.get(batch_id, {})
        for row in settled:
            token = tokens.get((row.batch, row.submitter))
            if token is not None:
                self._budgets.settle_part(
                    token, row.reserved_nanos, row.cost_nanos, uncertain=row.is_uncertain
                )

    def close(self, batch_id: int) -> None:
        """The batch is closed. What is still held was settled by a commit that was not acknowledged.

        It is booked as uncertain, at what it had reserved.
        """
        for token in self._held.pop(batch_id, {}).values():
            self._budgets.settle(token, uncertain=True)
