"""Calls to providers, from placement to settlement.

    placed --reserve its cost--> reserved --leading?--> sent --answer or error--> settled --stored--> released
                                     |
                                     +--late--> placed anew

Every call passes a `CallGate`, those of tasks and canary calls alike: it leaves only after its cost is on the
disk and while this orchestrator leads, and it is settled once. A call that was sent and has no answer may
have been billed, so it is settled as uncertain.

Limits count a call when it is placed. Where the database is away for some seconds, calls wait for their
reservations meanwhile, and all together they would exceed the limits when it is back. So a call that has
waited for LATE_S is not sent but placed anew, once: where reservations always take so long it goes at last.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..errors import InternalError, LeadershipLost, ProviderError, TimedOut
from ..records import Completion, Placement, Result
from ..routing.scheduler import Scheduler, Settled
from ..workers.connection import Made
from ..workers.local import LocalWorker
from .budget_keeper import BudgetKeeper
from .leadership import Leadership
from .open_requests import Delivery, OpenRequest, not_serving
from .relay import ReaderGone, Relay
from .remote_calls import RemoteCall, RemoteCalls
from .run_end import RunEnd
from .supervisor import Supervisor
from .task_ends import TaskEnds

log = logging.getLogger(__name__)
LATE_S = 1.0
GIVEN_UP = "abandoned: no reply within the expected time"


@dataclass(slots=True)
class Call:
    """One call; its fields are filled in during the call."""

    placement: Placement
    started_at: float  # epoch seconds; when it was placed, until it is sent
    sent: bool = False  # it may have reached the provider
    given_up: bool = False  # cancelled because it was lost in a network outage
    completion: Completion | None = None
    error: ProviderError | None = None
    running: asyncio.Task[None] | None = None
    request: OpenRequest | None = None  # of a direct task
    remote: RemoteCall | None = None  # where it is made; None: in this process

    @property
    def worker(self) -> str:
        """The worker that makes it; empty: this process."""
        return "" if self.remote is None else self.remote.worker

    @property
    def is_last(self) -> bool:
        """Whether its task ends with this call, whatever comes of it."""
        return self.request is not None and self.request.is_final


class CallGate:
    """The steps before and after every call."""

    def __init__(
        self,
        scheduler: Scheduler,
        budget_keeper: BudgetKeeper,
        leadership: Leadership,
        now: Callable[[], float],
    ) -> None:
        self._scheduler, self._budget_keeper, self._leadership = scheduler, budget_keeper, leadership
        self._now = now
        self._placed_anew: set[tuple[str, str]] = set()  # batch and id of tasks whose last call was late

    def open(self, placement: Placement) -> Call:
        """A call that is about to be made."""
        return Call(placement, self._now())

    async def make(self, call: Call, answer: Callable[[Placement], Awaitable[Completion | None]]) -> None:
        """Make the call with `answer` and note how it ends.

        Raises LeadershipLost where another orchestrator leads, and any error of `answer` but ProviderError.
        """
        try:
            await self._budget_keeper.reserve(call.placement, call.worker)
            await self._leadership.permission()
            if self._is_late(call):
                return
            call.sent, call.started_at = True, self._now()
            call.completion = await answer(call.placement)
        except ProviderError as error:
            call.error = error

    def _is_late(self, call: Call) -> bool:
        """Whether it has waited too long, and its task's last call has not: then it is placed anew."""
        task = (call.placement.task.batch, call.placement.task.id)
        if task in self._placed_anew or self._now() - call.started_at < LATE_S:
            self._placed_anew.discard(task)
            return False
        self._placed_anew.add(task)
        return True

    def adopt(self, call: Call, age_s: float) -> None:
        """An earlier leader has sent this call, and reserved its cost, `age_s` ago."""
        call.sent, call.started_at = True, self._now() - age_s
        self._budget_keeper.adopt(call.placement, call.worker)

    async def receive(self, call: Call, answer: Awaitable[Completion | None]) -> None:
        """Note how a call ends that was adopted."""
        try:
            call.completion = await answer
        except ProviderError as error:
            call.error = error

    def made(self, call: Call, made: Made) -> Completion | None:
        """A worker has told how the call ended; None: it was not sent. Raises its error."""
        if made.latency_s is not None:  # its start by the worker's measure, without the time of messages
            call.started_at = self._now() - made.latency_s
        if made.error is not None:
            raise made.error
        call.sent = made.completion is not None
        return made.completion

    def heard(self, call: Call) -> None:
        """Events of its stream have come."""
        self._scheduler.balancer.stream_heard(call.placement.permit, self._now())

    def begin(self, call: Call) -> None:
        """The first event of its stream is about to be delivered, so no other call can replace this one."""
        if call.request is not None:
            call.request.end_with_call()
        self._scheduler.balancer.keep_call(call.placement.permit)

    def settle(self, call: Call) -> Settled:
        """Book the attempt with the balancer."""
        if call.is_last:
            self._scheduler.end_with_call(call.placement.permit)
        return self._scheduler.settle(
            call.placement,
            self._now(),
            completion=call.completion,
            error=call.error,
            started_at=call.started_at,
            sent=call.sent,
        )

    def abandon(self, call: Call, why: str) -> Result:
        """End the task of a call that could not be settled, or it would stay in flight forever."""
        return self._scheduler.abandon(call.placement.task, self._now(), why, call.placement)

    def release(self, call: Call) -> None:
        """Release what `make` reserved. What the call cost must be on the disk by now."""
        self._budget_keeper.release(call.placement, call.worker)


class CallRunner:
    """The calls of tasks in flight. `on_end` is called with each after it has been settled.

    `local` makes those of direct tasks, and all where `remote` is None.
    """

    def __init__(
        self,
        gate: CallGate,
        local: LocalWorker,
        ends: TaskEnds,
        end: RunEnd,
        supervisor: Supervisor,
        on_end: Callable[[Call], None],
    ) -> None:
        self._gate, self._local, self._ends = gate, local, ends
        self.remote: RemoteCalls | None = None
        self._end, self._supervisor, self._on_end = end, supervisor, on_end
        self._calls: dict[int, Call] = {}  # by permit

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def sent(self) -> int:
        """Calls that may have reached a provider; one whose cost is being reserved has not."""
        return sum(call.sent for call in self._calls.values())

    @property
    def rows(self) -> tuple[int, ...]:
        """The rows in the store of tasks whose call has been sent."""
        return tuple(call.placement.task.row for call in self._calls.values() if call.sent)

    @property
    def unseen(self) -> frozenset[int]:
        """Permits of calls at workers that do not answer."""
        silent = self.remote.workers.silent() if self.remote is not None else frozenset()
        if not silent:
            return frozenset()
        return frozenset(permit for permit, call in self._calls.items() if call.worker in silent)

    def start(self, placement: Placement) -> None:
        """Begin a call on the running loop. It always settles itself."""
        call = self._calls[placement.permit] = self._gate.open(placement)
        call.request = self._ends.requests.get(placement.task)
        if self.remote is not None and call.request is None:
            call.remote = self.remote.choose(placement)
        call.running = asyncio.create_task(self._run(call))
        if call.request is not None:
            self._ends.requests.called(call.request, placement, partial(self._cancel_soon, placement.permit))

    def adopt(self, placement: Placement, remote: RemoteCall, age_s: float) -> None:
        """Go on with a call that an earlier leader has sent, under a placement of this one."""
        call = self._calls[placement.permit] = self._gate.open(placement)
        call.remote = remote
        self._gate.adopt(call, age_s)
        call.running = asyncio.create_task(self._run(call))

    def give_up(self, permits: Iterable[int]) -> None:
        """Cancel calls lost to a silence or a network outage; their tasks go elsewhere."""
        for permit in permits:
            call = self._calls.get(permit)
            if call is not None:  # else a canary, which has a time limit of its own
                call.given_up = True
                self._cancel_soon(permit)

    def _cancel_soon(self, permit: int) -> None:
        """Cancel a call. One that was placed just now must begin first, to be settled."""
        asyncio.get_running_loop().call_soon(self._cancel, permit)

    def _cancel(self, permit: int) -> None:
        if (call := self._calls.get(permit)) is not None and call.running is not None:
            call.running.cancel()

    async def cancel_all(self) -> None:
        """Cancel every call and wait until each is settled."""
        await asyncio.sleep(0)  # those that were placed just now must begin, to be settled
        running = [call.running for call in self._calls.values() if call.running is not None]
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _run(self, call: Call) -> None:
        """One call from start to settlement. Never raises: this is the worker loop."""
        placement = call.placement
        try:
            if call.sent:  # adopted
                await self._gate.receive(call, self._adopted(call))
            else:
                await self._gate.make(call, self._answering(call))
        except asyncio.CancelledError:
            self._cut_off(call)
        except LeadershipLost as lost:
            self._end.supersede(lost)
        except Exception as error:
            log.exception("unexpected internal error during a call", extra=_fields(placement))
            call.error = InternalError(
                internal_error(error), provider=placement.provider, model=placement.model, sent=call.sent
            )
        del self._calls[placement.permit]
        if call.request is not None:
            self._ends.requests.call_ended(call.request, call.error)
        self._settle(call)
        self._ends.release_once_stored(call.request, partial(self._stored, call))
        with self._supervisor.guarding("the follow-up of a call"):
            if call.error is not None:
                fields = {**_fields(placement), "error": call.error.kind, "status": call.error.status}
                log.info("attempt failed", extra=fields)
            self._on_end(call)
        if self._end.draining and not self._calls:
            self._end.finish()

    def _cut_off(self, call: Call) -> None:
        """A call was cancelled: by its submitter, since no answer was expected, or at the end of the run."""
        placement = call.placement
        if call.completion is not None:
            return  # the answer was there, and its last event not delivered
        if call.given_up and call.sent:
            call.error = TimedOut(GIVEN_UP, provider=placement.provider, model=placement.model)
        elif call.request is not None and not call.given_up:
            call.request.end_with_call()
            refusal = not_serving(self._end.why, may_be_billed=call.sent)
            call.request.fail(refusal)  # unless its submitter has left

    def _stored(self, call: Call) -> None:
        self._gate.release(call)
        if self.remote is not None and call.remote is not None:
            self.remote.stored(call.remote)

    def _answering(self, call: Call) -> Callable[[Placement], Awaitable[Completion | None]]:
        """What makes the call: for a direct task whose answer is streamed, event by event."""
        request = call.request
        if self.remote is not None and call.remote is not None:
            return partial(self._make_remotely, call, self.remote, call.remote)
        if request is None or request.delivery is None:
            return self._local.attempt
        return partial(self._deliver, call, request, request.delivery)

    async def _make_remotely(
        self, call: Call, calls: RemoteCalls, where: RemoteCall, placement: Placement
    ) -> Completion | None:
        return self._gate.made(call, await calls.make(where, placement))

    async def _adopted(self, call: Call) -> Completion | None:
        if self.remote is None or call.remote is None:
            raise RuntimeError("a call is adopted from a worker")
        return self._gate.made(call, await self.remote.end_of(call.remote))

    async def _deliver(
        self, call: Call, request: OpenRequest, delivery: Delivery, placement: Placement
    ) -> Completion | None:
        """Make the call and hand its events over; None where their reader has gone before the end."""
        relay = Relay(delivery, placement, partial(self._cancel, placement.permit))
        try:
            heard = partial(self._gate.heard, call)
            events = self._local.stream(placement, heard, relay.offer)
            await relay.relay(events, partial(self._gate.begin, call))
        except ReaderGone:
            request.end_with_call()
        finally:
            call.completion = relay.completion
            if relay.failure is not None:
                request.fail(relay.failure)
        return relay.completion

    def _settle(self, call: Call) -> None:
        """Book the attempt, and the task's end if it is one."""
        with self._supervisor.guarding("settling a call") as guarded:
            settled = self._gate.settle(call)
            if settled.result is not None:
                kept = call.remote is not None and call.completion is not None
                self._ends.ended(settled.result, call.completion, kept=kept)
            else:
                self._ends.attempt(call.placement.task, settled.attempt)
        if guarded.error is not None:
            with self._supervisor.guarding("ending a task"):
                self._ends.ended(self._gate.abandon(call, internal_error(guarded.error)))


def internal_error(error: Exception) -> str:
    """What a task's row says of an internal error: its class alone, since its message may quote keys."""
    return f"internal error of the orchestrator: {type(error).__name__} (its log has the traceback)"


def _fields(placement: Placement) -> dict[str, Any]:
    return {
        "action": "attempt",
        "task_id": placement.task.id,
        "provider": placement.provider,
        "model": placement.model,
        "agent": placement.agent,
    }
