"""The batches of one provider: their rows, how far they are, and what the rows were answered.

Rows are answered when a client looks at a batch (`settle`), in slices, so that live calls are not held up.
A batch is billed when it ends: for its sound answers, not for rows that failed, expired or were cancelled.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..engine import Engine
from ..shapes import Fail, Json
from .clock import BatchClock
from .faults import BatchFaultPlan, pick_row_fault
from .files import FileStore
from .stats import BatchStats
from .timeline import FINAL, Phase, Timeline, draw_timeline

_SLICE_ROWS = 16


@dataclass(slots=True)
class Row:
    """One request. `key` is what the client calls it: custom_id, key, or "" where it has no name."""

    key: str
    body: Json
    kind: str  # of page, as `ApiFormat.route` names it
    model: str
    extra: Json = field(default_factory=dict)  # what the API gives back with the answer


@dataclass(slots=True)
class RowAnswer:
    """What a row was answered, in the form of the API. Tokens are those that are billed."""

    status: int
    body: bytes
    request_id: str
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0
    digest: int = 0  # of the prompt


@dataclass(slots=True)
class Batch:
    """One batch. `answers` has a place for each row; `order` is the order in which they are answered."""

    ident: str
    number: int
    rows: list[Row]
    timeline: Timeline
    order: list[int]
    faults: list[str | None]  # of the rows, in the order of `rows`
    info: Json  # what the API shows again
    errors: list[Json]
    enqueued: Counter[str]  # input tokens by model
    answers: list[RowAnswer | None] = field(default_factory=list)
    done: int = 0
    succeeded: int = 0
    is_billed: bool = False
    keeps_expired: bool = True  # the answers of a batch that expires can be read, and are billed
    output_ids: dict[str, str] = field(default_factory=dict)
    is_deleted: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def failed(self) -> int:
        """Rows that were answered with an error."""
        return self.done - self.succeeded

    def answered(self) -> Iterator[tuple[Row, RowAnswer]]:
        """The rows with an answer, in the order in which they were answered."""
        for i in self.order[: self.done]:
            answer = self.answers[i]
            if answer is not None:
                yield self.rows[i], answer

    def unanswered(self) -> Iterator[Row]:
        """The rows without an answer, in the same order."""
        return (self.rows[i] for i in self.order[self.done :])


def dice_of(seed: int, provider: str, number: int) -> random.Random:
    """What the course of a provider's batch with this number is drawn with, from 1."""
    return random.Random(f"batch:{seed}:{provider}:{number}")


class BatchStore:
    """All batches of one provider. `paid` has the keys of rows that any provider was paid for."""

    def __init__(self, engine: Engine, clock: BatchClock, paid: set[str]) -> None:
        self.engine = engine
        self.clock = clock
        self.stats = BatchStats()
        self.fault_plan = BatchFaultPlan()
        self.files = FileStore()
        self._paid = paid
        self._seed = engine.seed
        self.reset()

    def reset(self) -> None:
        """Without batches, and counters at zero."""
        self.stats.clear()
        self.fault_plan.clear()
        self.files.clear()
        self.rng = random.Random(f"batch faults:{self._seed}:{self.engine.name}")
        self._batches: dict[str, Batch] = {}
        self._keys: set[str] = set()
        self._number = 0

    # -- life --

    def create(self, rows: list[Row], info: Json, window_s: float, errors: list[Json]) -> Batch:
        """A new batch; one with `errors` will fail its validation."""
        self._number += 1
        rng = dice_of(self._seed, self.engine.name, self._number)
        settings = self.engine.config.batches
        window_s = window_s if settings.window_s is None else settings.window_s
        timeline = draw_timeline(settings, window_s, self.clock.now(), rng, is_valid=not errors)
        order = list(range(len(rows)))
        rng.shuffle(order)
        faults: list[str | None] = [None] * len(rows)
        if settings.row_faults:
            faults = [pick_row_fault(settings.row_faults, rng) for _ in rows]
        ident = f"{self._seed:x}{rng.getrandbits(80):020x}{self._number:06x}"
        enqueued: Counter[str] = Counter()
        batch = Batch(ident, self._number, rows, timeline, order, faults, info, errors, enqueued)
        batch.answers = [None] * len(rows)
        self._batches[ident] = batch
        self._count_created(batch)
        return batch

    def _count_created(self, batch: Batch) -> None:
        self.stats.created += 1
        if batch.errors:
            return
        self.stats.rows += len(batch.rows)
        keys = [row.key for row in batch.rows if row.key]
        self.stats.repeated_keys += sum(key in self._keys for key in keys)
        self._keys.update(keys)

    def cancel(self, batch: Batch) -> None:
        """Begin the cancellation of a batch that is not over."""
        batch.timeline.cancel(self.clock.now(), self.engine.config.batches.cancel_s)

    def delete(self, batch: Batch) -> None:
        """Forget a batch. One that still runs is answered and billed to its end."""
        batch.is_deleted = True

    # -- looking --

    def get(self, ident: str) -> Batch | None:
        """The batch of that id."""
        batch = self._batches.get(ident)
        return None if batch is None or batch.is_deleted else batch

    def listed(self) -> list[Batch]:
        """All that a listing shows now, the newest first."""
        youngest = self.clock.now() - self.engine.config.batches.listing_lag_s
        found = [b for b in self._batches.values() if not b.is_deleted and b.timeline.created_at <= youngest]
        return found[::-1]

    def active(self) -> list[Batch]:
        """The batches that are not over."""
        now = self.clock.now()
        return [batch for batch in self._batches.values() if batch.timeline.phase(now) not in FINAL]

    def enqueued(self, model: str) -> int:
        """The input tokens of a model in batches that are not over."""
        return sum(batch.enqueued[model] for batch in self.active())

    async def count_tokens(self, rows: Iterable[Row]) -> Counter[str]:
        """The input tokens of rows, by model. Rows that will be refused have none."""
        found: Counter[str] = Counter()
        for number, row in enumerate(rows):
            if number % _SLICE_ROWS == 0:
                await asyncio.sleep(0)
            try:
                found[row.model] += self.engine.row_tokens(row.body, row.kind, row.model)
            except Fail:
                continue
        return found

    # -- answering --

    async def settle(self, batch: Batch) -> Phase:
        """Answer the rows that are due, and say which state the batch is in."""
        async with batch.lock:
            now = self.clock.now()
            phase = batch.timeline.phase(now)
            due = batch.timeline.rows_done(now, len(batch.rows))
            for place in range(batch.done, due):
                if place % _SLICE_ROWS == 0:
                    await asyncio.sleep(0)
                self._answer(batch, batch.order[place])
                batch.done = place + 1
            if phase in FINAL and not batch.is_billed:
                batch.is_billed = True
                self._bill(batch, phase)
        return phase

    async def settle_all(self) -> None:
        """Answer all rows that are due."""
        for batch in list(self._batches.values()):
            if not batch.is_billed:
                await self.settle(batch)

    def _bill(self, batch: Batch, phase: Phase) -> None:
        if batch.errors:
            return
        ends = self.stats.rows_by_end
        if phase is Phase.EXPIRED and not batch.keeps_expired:
            ends["expired"] += len(batch.rows)
            return
        ends["succeeded"] += batch.succeeded
        ends["errored"] += batch.failed
        if rest := len(batch.rows) - batch.done:
            ends["expired" if phase is Phase.EXPIRED else "canceled"] += rest
        for row, answer in batch.answered():
            if answer.status == 200:
                used = answer.input_tokens, answer.cached_tokens, answer.output_tokens
                self.stats.bill(row.model, *used)
                self._note_payment(row.key)
                self.stats.answered_duplicates += self.engine.note_answer(answer.digest)

    def _answer(self, batch: Batch, i: int) -> None:
        row, engine = batch.rows[i], self.engine
        fault = batch.faults[i]
        if fault is not None:
            self.stats.by_row_fault[fault] += 1
        try:
            call = engine.row(row.body, row.kind, row.model, fault)
        except Fail as fail:
            answer, headers = engine.error(fail, "POST", row.kind)
            batch.answers[i] = RowAnswer(answer.status, answer.body, next(iter(headers.values()), ""))
        else:
            ident, reply = engine.ident(), call.reply
            body = engine.api_format.answer(call.ask, reply, ident)
            used = reply.input_tokens, reply.cache_read_tokens, reply.output_tokens, reply.thinking_tokens
            batch.answers[i] = RowAnswer(200, body, f"req_{ident}", *used, call.digest)
            batch.succeeded += 1
        row.body = {}  # not needed any more

    def _note_payment(self, key: str) -> None:
        if key:
            self.stats.paid_twice += key in self._paid
            self._paid.add(key)
