"""Direct requests: tasks that the scheduler places without a detour through the database.

    ask --offer--> scheduler --placements--> calls --answer--> caller
                                                +-----------> result writer --one transaction--> store

A request waits its turn, fair between submitters and beside the batches. Its answer is delivered before its
commit; until then what it cost is in the reservation that is on the disk before each call. A request that is
cancelled while it waits costs nothing; one whose call is in flight is booked as uncertain.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from uuid import uuid4

from ..errors import InputError, NoRoute, WaitingLimit
from ..records import RUNS, Task, TaskStatus
from ..refusal_text import exclusions_text
from ..routing.scheduler import Scheduler
from ..storable import is_clean
from .idempotency import IdempotencyKeys
from .open_requests import Delivery, DirectAnswer, OpenRequest, not_serving
from .placing import Placer
from .run_caps import RunCaps
from .run_end import RunEnd
from .task_ends import TaskEnds

__all__ = ["Delivery", "DirectAnswer", "DirectRequests", "Run"]

STARTING_AT_MOST_S = 60.0  # how long a request waits for a pool that is starting
LEAST_RETRY_S, MOST_RETRY_S = 1.0, 60.0  # when a request that may not wait may come again
EXPIRE_LATE_S = 0.05  # the scheduler ends what has expired; this is for when nothing may be placed


@dataclass(frozen=True, slots=True)
class Run:
    """The run that a request belongs to. `id` is its submitter's; `max_cost_usd` None: its cap so far."""

    id: str
    max_cost_usd: float | None = None


def run_batch(submitter: str, run_id: str) -> str:
    """The name of the batch that holds the requests of a run."""
    return f"{RUNS}{submitter}/{run_id}"


class DirectRequests:
    """Takes requests while the pool serves and leads. For the event loop's thread."""

    def __init__(
        self,
        scheduler: Scheduler,
        placer: Placer,
        ends: TaskEnds,
        end: RunEnd,
        caps: RunCaps,
        keys: IdempotencyKeys,
    ) -> None:
        self._scheduler, self._placer, self._ends, self._end = scheduler, placer, ends, end
        self._requests, self._settings, self._now = ends.requests, scheduler.settings.gateway, placer.now
        self._caps, self._keys = caps, keys
        self._serves = False
        self._started = asyncio.Event()  # or has ended before
        end.when_draining(self.fail_waiting)

    def __len__(self) -> int:
        """Requests that have not ended."""
        return len(self._requests)

    @property
    def waiting(self) -> int:
        """Requests that wait, without a call in flight."""
        return self._requests.waiting

    @property
    def is_open(self) -> bool:
        """Whether requests are taken now."""
        return self._serves and not self._end.draining

    def open(self) -> None:
        """Take requests from now on."""
        self._serves = True
        self._started.set()

    async def ask(
        self,
        task: Task,
        delivery: Delivery | None = None,
        *,
        run: Run | None = None,
        idempotency_key: str = "",
    ) -> DirectAnswer:
        """The answer of `task`. It gets an id and a time where it has none, as a turn of a `run` its batch.

        With a `delivery` the answer is streamed to it as well. A request with the `idempotency_key` of an
        earlier one gets the answer of that one. Raises the RequestDeclined or ProviderError that ended the
        request, InputError for a name that no database takes, and what `delivery` raises.
        """
        batch = task.batch if run is None else run_batch(task.submitter, run.id)
        if not is_clean(f"{batch}{task.submitter}{task.id}{task.task_type}"):
            raise InputError("names and ids must be text without NUL")
        await self._until_started()
        self._check_room(task.submitter)
        capped = run is not None and await self._caps.hold(batch, task.submitter, run.max_cost_usd)
        try:
            task = self._complete(task, batch)
            ask = partial(self._ask, delivery=delivery, is_turn=run is not None)
            if idempotency_key:
                return await self._keys.ask(idempotency_key, task, delivery, ask)
            return await ask(task)
        finally:
            if capped:
                self._caps.release(batch)

    def _complete(self, task: Task, batch: str) -> Task:
        """The task in its batch, with an id and a time. A copy measures its texts again."""
        if task.batch == batch and task.id and task.created_at:
            return task
        at = task.created_at or self._now()
        return replace(task, batch=batch, id=task.id or uuid4().hex, created_at=at)

    async def _ask(self, task: Task, delivery: Delivery | None, *, is_turn: bool) -> DirectAnswer:
        self._check_serving()  # the store may have been asked meanwhile
        now = self._now()
        self._check_route(task, now)
        answer: asyncio.Future[DirectAnswer] = asyncio.get_running_loop().create_future()
        request = OpenRequest(task, answer, now, delivery)
        self._scheduler.offer(task, now, direct=True, is_turn=is_turn)
        self._requests.open(request)
        expiry = self._expire_at(request)
        self._placer.place_soon()
        try:
            return await answer
        except asyncio.CancelledError:
            self._leave(request)
            raise
        finally:
            if expiry is not None:
                expiry.cancel()

    # ------------------------------------------------------------------ who may wait

    async def _until_started(self) -> None:
        if not self._started.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(STARTING_AT_MOST_S):
                    await self._started.wait()
        self._check_serving()

    def _check_serving(self) -> None:
        if not self.is_open:
            raise not_serving(self._end.why if self._end.draining else "the orchestrator is starting")

    def _check_room(self, submitter: str) -> None:
        most, most_each = self._settings.max_waiting, self._settings.max_waiting_per_submitter
        waiting = self._requests.waiting_of(submitter)
        if waiting < most_each and self._requests.waiting < most:
            return
        if waiting >= most_each:
            text = f"{waiting:,} requests of {submitter!r} are waiting (gateway.max_waiting_per_submitter)"
        else:
            text = f"{self._requests.waiting:,} requests are waiting (gateway.max_waiting)"
        raise WaitingLimit(text, self._retry_after_s())

    def _retry_after_s(self) -> float:
        """When those that wait have probably gone; without a rate to tell, when the next one goes."""
        drained_s = self._requests.drained_in_s(self._now())
        wait_s = self._placer.next_in_s() if drained_s is None else drained_s
        return min(max(wait_s, LEAST_RETRY_S), MOST_RETRY_S)

    def _check_route(self, task: Task, now: float) -> None:
        """Tell at once that no provider can serve it, while no slot is free for a decision."""
        balancer = self._scheduler.balancer
        if balancer.registry.free_slots > 0:
            return
        route = balancer.route(task, now)
        if not route.options:
            why = exclusions_text(route.excluded)
            raise NoRoute(f"no provider can serve it ({why or 'none is configured'})", route.excluded)

    # ------------------------------------------------------------------ placing and ends

    def _expire_at(self, request: OpenRequest) -> asyncio.TimerHandle | None:
        deadline_at = request.task.deadline_at
        if deadline_at is None:
            return None
        delay_s = max(0.0, deadline_at - self._now()) + EXPIRE_LATE_S
        return asyncio.get_running_loop().call_later(delay_s, self._expire, request)

    def _expire(self, request: OpenRequest) -> None:
        self._end_waiting(request, TaskStatus.EXPIRED, "the deadline has passed")

    def _end_waiting(self, request: OpenRequest, status: TaskStatus, why: str) -> None:
        """End the request unless its call is in flight."""
        result = self._scheduler.end_waiting(*request.key, status, why, self._now())
        if result is not None:
            self._ends.ended(result)

    def _leave(self, request: OpenRequest) -> None:
        """Its submitter has left. A waiting request costs nothing; a call in flight may have been billed."""
        request.end_with_call()
        if request.cancel_call is not None:
            request.cancel_call()
        else:
            self._end_waiting(request, TaskStatus.CANCELLED, "its submitter closed the connection")

    def fail_waiting(self) -> None:
        """The run is ending: requests whose call is in flight may still be answered."""
        self._started.set()
        for request in self._requests.all_open():
            if request.cancel_call is None:
                self._fail(request)

    def _fail(self, request: OpenRequest) -> None:
        """End a waiting request, since the pool makes no further calls."""
        request.fail(not_serving(self._end.why))
        self._end_waiting(request, TaskStatus.FAILED, str(not_serving(self._end.why)))

    def close(self) -> None:
        """End every request that is left, after all calls were cancelled."""
        self._serves = False
        self._started.set()
        for request in self._requests.all_open():
            self._fail(request)
