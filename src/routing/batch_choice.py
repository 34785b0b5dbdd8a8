"""Which waiting tasks go to a provider's batch API, which go live, and which come back from a batch.

A batch costs half and may take a day. Tasks with a deadline may wait there as long as the pool could still
serve all of them live, in time, if no batch ever finished. That is a schedule backwards from the deadlines:

    latest start of a piece of work = min(its deadline, latest start of the next piece) - its time in the pool

Pieces are ordered by deadline, and batches of one deadline by age, since the one that has been out longest is
the least likely to finish soon. At its latest start a piece goes live, finished or not, and a batch is
cancelled `CANCEL_S` before, so that its rows are not paid twice. The choice follows:

    deferred    a cheaper batch exists, its median turnaround and a cancellation fit before the latest start,
                and every earlier piece keeps its own latest start
    submitted   deferred, and the batch takes it now; the cheapest batch first, the next one where it is full
    held        deferred, and more tasks are about to join it, or the batches that it may use are full
    live        everything else

Where all work could have been served live in time from the beginning, no deadline is missed, whatever the
batches do. Work without a deadline goes live. The choice works on counts and sums, and is asked again at
`next_at` and whenever something has changed. Times are UTC epoch seconds, money is in nano-dollars.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .refusals import NEVER
from .turnaround import Turnaround

CANCEL_S = 600.0  # until a cancelled batch has ended: OpenAI documents up to ten minutes
MARGIN_S = 30.0  # before each deadline: for the last call, and for the time between two choices
POOL_SHARE = 0.5  # of the live pool that work from batches may count on; near deadlines get half of a claim
LEAST_S = 10.0  # between two choices when nothing but time has changed
WORTH_ROWS = 100  # a smaller batch waits for more rows while some may come


@dataclass(frozen=True, slots=True)
class BatchTarget:
    """The batch API of one provider for one model: how long it takes, and how much it takes now."""

    provider: str
    model: str
    turnaround: Turnaround
    room_rows: float = math.inf
    room_tokens: float = math.inf  # enqueued input tokens

    @property
    def key(self) -> tuple[str, str]:
        return self.provider, self.model


@dataclass(frozen=True, slots=True)
class Offer:
    """What one task of a group costs in a target, and its input tokens there."""

    target: tuple[str, str]
    cost_nanos: float
    tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """Waiting tasks that are alike. Costs and `live_s`, its time in the whole pool, are those of one task."""

    key: int
    rows: int
    deadline_at: float  # NEVER: it has none
    live_nanos: float
    live_s: float
    offers: tuple[Offer, ...] = ()
    more_until: float = 0.0  # more of them may come until then


@dataclass(frozen=True, slots=True)
class Out:
    """A batch at its provider. `rows`: those without a result; `live_s` is that of one."""

    id: str
    rows: int
    deadline_at: float  # the soonest of its rows
    live_s: float
    submitted_at: float
    is_cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Submission:
    """Put `rows` tasks of a group into a batch of this target."""

    key: int
    target: tuple[str, str]
    rows: int


@dataclass(slots=True)
class Choice:
    """What to do now. Every waiting row is in `submit`, `held` or `live` once.

    `cancel`: batches to cancel now. `pull`: batches whose rows go live now although they have not ended.
    """

    submit: list[Submission] = field(default_factory=list)
    held: dict[int, int] = field(default_factory=dict)
    live: dict[int, int] = field(default_factory=dict)
    cancel: list[str] = field(default_factory=list)
    pull: list[str] = field(default_factory=list)
    next_at: float = NEVER

    def wake_at(self, at: float, now: float) -> None:
        """Ask again then, but not at once."""
        self.next_at = min(self.next_at, max(at, now + LEAST_S))


def choose(
    waiting: Iterable[Waiting], out: Sequence[Out], targets: Iterable[BatchTarget], now: float
) -> Choice:
    """The cheapest use of batches with which all deadlines still hold, see above."""
    choice, schedule = Choice(), _Schedule(now)
    rooms = {
        target.key: _Room(target.turnaround.p50_s, target.room_rows, target.room_tokens) for target in targets
    }
    for batch in out:
        lead_s = 0.0 if batch.is_cancelled else CANCEL_S
        place = (batch.deadline_at, _OUT, batch.submitted_at)
        schedule.add(_Piece(place, batch.rows * batch.live_s / POOL_SHARE, lead_s, batch))
    deferrable = []
    for group in waiting:
        if offers := _useful(group, rooms):
            deferrable.append((group, offers))
        else:
            _go_live(group, group.rows, schedule, choice)
    deferrable.sort(key=lambda each: _saving_per_second(*each), reverse=True)
    for group, offers in deferrable:
        _defer(group, offers, rooms, schedule, choice)
    _recall(schedule, choice)
    return choice


@dataclass(slots=True)
class _Room:
    """What a target still takes in this choice."""

    median_s: float
    rows: float
    tokens: float

    def fits(self, offer: Offer) -> int:
        """How many tasks of this offer it takes."""
        by_tokens = self.tokens / offer.tokens if offer.tokens else math.inf
        return _whole(min(self.rows, by_tokens))

    def take(self, offer: Offer, rows: int) -> None:
        self.rows -= rows
        self.tokens -= rows * offer.tokens


def _useful(group: Waiting, rooms: dict[tuple[str, str], _Room]) -> list[Offer]:
    """The offers that cost less than a live call, the cheapest first."""
    if group.deadline_at == NEVER:
        return []
    cheaper = (each for each in group.offers if each.cost_nanos < group.live_nanos and each.target in rooms)
    return sorted(cheaper, key=lambda each: (each.cost_nanos, rooms[each.target].median_s, each.target))


def _saving_per_second(group: Waiting, offers: Sequence[Offer]) -> float:
    """Of the pool's time, which is scarce where not all may be deferred."""
    saving = group.live_nanos - offers[0].cost_nanos
    return saving / group.live_s if group.live_s > 0 else math.inf


def _defer(
    group: Waiting,
    offers: Sequence[Offer],
    rooms: dict[tuple[str, str], _Room],
    schedule: _Schedule,
    choice: Choice,
) -> None:
    """Submit and hold as many tasks of the group as may be deferred; the others go live."""
    left = group.rows
    gathers = schedule.at < group.more_until and left < WORTH_ROWS
    for offer in () if gathers else offers:
        room = rooms[offer.target]
        rows = min(left, room.fits(offer), schedule.rows_that_fit(group, room.median_s + CANCEL_S))
        if rows and rows >= min(left, WORTH_ROWS):
            room.take(offer, rows)
            schedule.defer(group, rows, room.median_s + CANCEL_S)
            choice.submit.append(Submission(group.key, offer.target, rows))
            left -= rows
    lead_s = CANCEL_S + min(rooms[offer.target].median_s for offer in offers)
    if held := min(left, schedule.rows_that_fit(group, lead_s)):
        schedule.defer(group, held, lead_s)
        choice.held[group.key] = held
        if gathers:
            choice.wake_at(group.more_until, schedule.at)
    _go_live(group, left - held, schedule, choice)


def _go_live(group: Waiting, rows: int, schedule: _Schedule, choice: Choice) -> None:
    if not rows:
        return
    choice.live[group.key] = rows
    if group.deadline_at < NEVER:
        place = (group.deadline_at, _LIVE, 0.0)
        schedule.add(_Piece(place, rows * group.live_s / POOL_SHARE, 0.0))


def _recall(schedule: _Schedule, choice: Choice) -> None:
    """Cancel and pull the batches whose time has come, and see when the next one's comes."""
    for piece in schedule.pieces:
        batch = piece.batch
        if batch is None:
            if piece.place[1] == _DEFERRED:
                choice.wake_at(piece.start_at - piece.lead_s, schedule.at)
            continue
        if piece.start_at <= schedule.at:
            choice.pull.append(batch.id)
        else:
            choice.wake_at(piece.start_at, schedule.at)
        if batch.is_cancelled:
            continue
        if piece.start_at - CANCEL_S <= schedule.at:
            choice.cancel.append(batch.id)
        else:
            choice.wake_at(piece.start_at - CANCEL_S, schedule.at)


# ------------------------------------------------------------------ the schedule

_LIVE, _OUT, _DEFERRED = range(3)  # the order at one deadline


@dataclass(slots=True)
class _Piece:
    """Work that the pool would have to do by a deadline. `lead_s`: from the choice until it can begin."""

    place: tuple[float, int, float]  # deadline, rank, order
    work_s: float
    lead_s: float
    batch: Out | None = None
    start_at: float = 0.0


class _Schedule:
    """All pieces, each begun as late as its own deadline and the pieces after it allow."""

    def __init__(self, now: float) -> None:
        self.at = now
        self.pieces: list[_Piece] = []

    def add(self, piece: _Piece) -> None:
        """Insert a piece after those of the same place."""
        index = bisect_right(self.pieces, piece.place, key=_place)
        self.pieces.insert(index, piece)
        next_at = self.pieces[index + 1].start_at if index + 1 < len(self.pieces) else NEVER
        for each in reversed(self.pieces[: index + 1]):
            next_at = each.start_at = min(each.place[0] - MARGIN_S, next_at) - each.work_s

    def defer(self, group: Waiting, rows: int, lead_s: float) -> None:
        """Add tasks that wait."""
        self.add(_Piece(_deferred(group), rows * group.live_s / POOL_SHARE, lead_s))

    def rows_that_fit(self, group: Waiting, lead_s: float) -> int:
        """How many tasks of the group can begin `lead_s` from now or later, without making others late."""
        index = bisect_right(self.pieces, _deferred(group), key=_place)
        end_at = _deferred(group)[0] - MARGIN_S
        if index < len(self.pieces):
            end_at = min(end_at, self.pieces[index].start_at)
        floor_at, work_s = self.at + lead_s, 0.0
        for piece in reversed(self.pieces[:index]):
            work_s += piece.work_s
            floor_at = max(floor_at, work_s + min(self.at + piece.lead_s, piece.start_at))
        if end_at < floor_at:
            return 0
        per_row_s = group.live_s / POOL_SHARE
        return _whole((end_at - floor_at) / per_row_s) if per_row_s > 0 else group.rows


def _place(piece: _Piece) -> tuple[float, int, float]:
    return piece.place


def _deferred(group: Waiting) -> tuple[float, int, float]:
    return group.deadline_at, _DEFERRED, 0.0


def _whole(number: float) -> int:
    return int(min(max(number, 0.0), 1e15))
