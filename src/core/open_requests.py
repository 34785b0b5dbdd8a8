"""Direct tasks that have not ended, with the futures of their answers.

    opened --> waiting <--> called --> ended         each end resolves `answer` once

For the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from ..errors import BudgetSpent, Expired, InternalError, NoRoute, NotServing, ProviderError, Withdrawn
from ..records import Completion, Placement, Result, Task, TaskStatus
from ..stream_events import StreamEvent

Key = tuple[str, str]  # batch, id
RATE_WINDOW_S = 10  # in which calls are counted


class Delivery(Protocol):
    """Where the events of an answer go while it is made. `begin` and `send` wait as long as the reader does.

    An exception that one of them raises ends the request like a submitter that has left.
    """

    async def begin(self, placement: Placement) -> None:
        """The first event with content has come: from now on an error ends the request."""

    async def send(self, event: StreamEvent) -> None:
        """The next event; the last one is `Finished`."""

    def offer(self, events: Sequence[StreamEvent]) -> bool:
        """The next events, unless that means to wait for the reader: then False, and none is taken."""
        ...


class DirectAnswer(NamedTuple):
    """The answer of a direct task. `waited_s`: until its first call; `cost_nanos` None: price unknown."""

    completion: Completion
    placement: Placement
    cost_nanos: int | None
    attempts: int
    waited_s: float
    task_id: str


@dataclass(slots=True, eq=False)
class OpenRequest:
    """One direct task. Times are UTC epoch seconds."""

    task: Task
    answer: asyncio.Future[DirectAnswer]
    asked_at: float
    delivery: Delivery | None = None
    placement: Placement | None = None  # of its last call
    cancel_call: Callable[[], None] | None = None  # None: no call is in flight
    error: ProviderError | None = None  # of its last failed call
    is_final: bool = False  # some of its answer was delivered, or its submitter has left
    releases: list[Callable[[], None]] = field(default_factory=list)  # of what its calls have reserved

    @property
    def key(self) -> Key:
        """(batch, id)."""
        return self.task.batch, self.task.id

    def end_with_call(self) -> None:
        """The request ends with the call in flight, whatever comes of it."""
        self.is_final = True

    def resolve(self, result: Result, completion: Completion | None) -> None:
        """The task has ended as `result`, with what its last call has brought. No effect the second time."""
        if self.answer.done():
            return
        if completion is None or self.placement is None:
            self.fail(_why(result, self.error))
            return
        waited_s = result.attempts[0].started_at - self.asked_at
        self.answer.set_result(
            DirectAnswer(
                completion,
                self.placement,
                result.cost_nanos,
                len(result.attempts),
                max(0.0, waited_s),
                self.task.id,
            )
        )

    def fail(self, error: BaseException) -> None:
        """The request ends with this error. No effect on one that has ended."""
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # a submitter that has left does not fetch it


def _why(result: Result, error: ProviderError | None) -> BaseException:
    """The end of a task without an answer as what its submitter gets."""
    declined = result.declined
    if result.status is TaskStatus.EXPIRED:
        return Expired(result.error)
    if result.status is TaskStatus.CANCELLED:
        return Withdrawn(result.error)
    if declined is not None and not result.attempts:
        if declined.budget:
            return BudgetSpent(f"{declined.budget}: exhausted", declined.until)
        return NoRoute(result.error, declined.reasons)
    return error or InternalError(result.error)


class _CallRate:
    """How many requests a second have come to their call lately."""

    def __init__(self) -> None:
        self._by_second: dict[int, int] = {}  # the oldest first

    def note(self, at: float) -> None:
        """A call began at `at`, epoch seconds."""
        second = int(at)
        self._by_second[second] = self._by_second.get(second, 0) + 1
        if len(self._by_second) > RATE_WINDOW_S:
            del self._by_second[next(iter(self._by_second))]

    def per_s(self, now: float) -> float:
        """Calls a second since the first one in the window; 0 without any."""
        recent = {at: number for at, number in self._by_second.items() if at > now - RATE_WINDOW_S}
        return sum(recent.values()) / max(1.0, now - min(recent)) if recent else 0.0


class OpenRequests:
    """The open requests by (batch, id), and how many of them wait."""

    def __init__(self) -> None:
        self._open: dict[Key, OpenRequest] = {}
        self._waiting: Counter[str] = Counter()  # by submitter
        self._rate = _CallRate()
        self.waiting = 0

    def __len__(self) -> int:
        return len(self._open)

    def get(self, task: Task) -> OpenRequest | None:
        """The request of a task; None: it is a claimed task."""
        return self._open.get((task.batch, task.id)) if self._open else None

    def all_open(self) -> list[OpenRequest]:
        """Every open request."""
        return list(self._open.values())

    def waiting_of(self, submitter: str) -> int:
        """How many requests of a submitter wait, without a call in flight."""
        return self._waiting.get(submitter, 0)

    def drained_in_s(self, now: float) -> float | None:
        """Seconds until what waits has gone, at the rate of the last calls; None without calls."""
        per_s = self._rate.per_s(now)
        return self.waiting / per_s if per_s else None

    def open(self, request: OpenRequest) -> None:
        """The request begins to wait."""
        self._open[request.key] = request
        self._count(request, 1)

    def called(self, request: OpenRequest, placement: Placement, cancel: Callable[[], None]) -> None:
        """A call of the request is in flight; `cancel` ends it."""
        request.placement, request.cancel_call = placement, cancel
        self._rate.note(placement.at)
        self._count(request, -1)

    def call_ended(self, request: OpenRequest, error: ProviderError | None) -> None:
        """It waits again, unless it ends now."""
        request.cancel_call = None
        request.error = error or request.error
        self._count(request, 1)

    def end(self, request: OpenRequest) -> None:
        """The request has ended while it waited."""
        del self._open[request.key]
        self._count(request, -1)

    def _count(self, request: OpenRequest, by: int) -> None:
        submitter = request.task.submitter
        self.waiting += by
        self._waiting[submitter] += by
        if not self._waiting[submitter]:
            del self._waiting[submitter]


def not_serving(why: str, *, may_be_billed: bool = False) -> NotServing:
    """The error of a request that the pool does not take, or ends before its answer."""
    return NotServing(why or "the orchestrator is stopping", may_be_billed=may_be_billed)
