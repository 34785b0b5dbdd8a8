"""One worker as its leader sees it: what was given to it, what came back, and whether it is still there.

    attached --no reply--> away --attaches again--> attached
                             +----------------> lost         gone, another life, or away for LOST_AFTER_S

While it is away nothing is sent, and its calls go on. When it attaches again, its inventory says what became
of them: a call that it does not hold was never started, or, in another life of the worker, is lost. A lost
worker's calls are uncertain, and this connection is over; the worker may come back as a new one.

Two loops send. `give` goes out when a call waits, `take` all the time; both leave time between messages
(`linger_s`), since a message costs far more than a call in it. The first one after a pause goes at once.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

from ..errors import LeadershipLost, ProviderError, WorkerLost
from ..records import Completion
from ..steady import steady
from .plain import decode_completion, decode_error
from .port import (
    PROTOCOL,
    CallMessage,
    Description,
    Header,
    HeldCall,
    Inventory,
    Key,
    Load,
    Outcome,
    Port,
    Reply,
    Taken,
    WorkerUnreachable,
)

ATTACH_S = 2.0  # for the reply to an attach
GIVE_S = 5.0  # for the reply to a give, before it is repeated
GRACE_S = 3.0  # for the reply to a take, beyond the time that it may wait
LOST_AFTER_S = 5.0  # without any reply
OVERDUE_S = 1.0  # a take that is so late says that the worker does not answer
AGAIN_S = 0.2  # between two tries
GIVE_SOON_S = 0.003  # calls that are placed together go together
_T = TypeVar("_T")


class Lead(Protocol):
    """The lead of this orchestrator: its name, its epoch and how long it lasts, by `steady()`."""

    @property
    def incarnation(self) -> str: ...
    @property
    def epoch(self) -> int: ...
    @property
    def valid_until(self) -> float: ...
    @property
    def leads(self) -> bool: ...


class Made(NamedTuple):
    """How a call ended: with an answer, or an error, after so many seconds (None: that is not known).

    Neither: the call was provably never sent to its provider.
    """

    completion: Completion | None = None
    error: ProviderError | None = None
    latency_s: float | None = None


NOT_STARTED = Made()


@dataclass(slots=True)
class _Pending:
    """A call whose end is not known, or not stored yet."""

    provider: str
    model: str
    end: asyncio.Future[Made]
    given: bool  # in a message; it may have been started


class Pace(NamedTuple):
    """How often messages go. `wait_s`: a worker without news replies so late."""

    linger_s: float
    wait_s: float


class Connection:
    """The calls that one worker has. For one event loop.

    `wall`: UTC epoch seconds, for errors that name a time. `pace` is asked before each message.
    """

    def __init__(
        self, name: str, port: Port, lead: Lead, pace: Callable[[], Pace], wall: Callable[[], float]
    ) -> None:
        self.name, self._port, self._lead = name, port, lead
        self._pace, self._wall = pace, wall
        self._chosen: set[Key] = set()  # of calls that wait for their reservation
        self._calls: dict[Key, _Pending] = {}
        self._outgoing: dict[Key, CallMessage] = {}
        self._cancelled: list[Key] = []
        self._acknowledged: list[Key] = []
        self._to_give = asyncio.Event()
        self._session = self._life = ""
        self._stamp = self._stamp_at = 0.0
        self.attached = self.draining = False
        self.refused = ""  # why it gets no further calls, although it is attached
        self.heard_at = -math.inf
        self.description: Description | None = None
        self.load: Load = {"in_flight": 0, "done": 0, "cpu_s": 0.0}
        self.is_gone: Callable[[], bool] = lambda: False  # whether the cluster does not list it any more

    def __repr__(self) -> str:
        state = "attached" if self.attached else "away"
        return f"<Connection {self.name} {state} calls={len(self._calls)}>"

    @property
    def in_flight(self) -> int:
        """Calls whose end is not known."""
        return sum(not each.end.done() for each in self._calls.values())

    @property
    def holds(self) -> int:
        """Calls that will be made here, or are not acknowledged."""
        return len(self._chosen) + len(self._calls)

    @property
    def answers(self) -> bool:
        """Whether nothing is overdue: its calls show their providers. It may still take calls if not."""
        pace = self._pace()
        return self.attached and steady() - self.heard_at <= pace.wait_s + pace.linger_s + OVERDUE_S

    @property
    def takes_calls(self) -> bool:
        """Whether calls may be given to it now."""
        return self.attached and not (self.draining or self.refused)

    # ------------------------------------------------------------------ calls

    def choose(self, key: Key) -> None:
        """The call will be made here: `make` is due, or `acknowledge`."""
        self._chosen.add(key)

    async def make(self, call: CallMessage) -> Made:
        """Give the call and wait for its end. Where that is cancelled, the worker cuts the call off.

        `acknowledge` is due in every case.
        """
        key = call["key"]
        self._chosen.discard(key)
        if not self.takes_calls:
            return NOT_STARTED
        self._calls[key] = _Pending(call["provider"], call["model"], _future(), given=False)
        self._outgoing[key] = call
        self._to_give.set()
        return await self.end_of(key)

    def expect(self, key: Key, provider: str, model: str) -> None:
        """Wait for a call that the worker holds from an earlier leader: see `end_of`."""
        self._calls[key] = _Pending(provider, model, _future(), given=True)

    async def end_of(self, key: Key) -> Made:
        """The end of a call that was given or is expected. Cancelled like `make`."""
        try:
            return await self._calls[key].end
        except asyncio.CancelledError:
            if self._outgoing.pop(key, None) is None and self._lead.leads:
                self._cancelled.append(key)
                self._to_give.set()
            raise

    def acknowledge(self, keys: Iterable[Key]) -> None:
        """These calls are stored, or nobody waits for them: the worker may forget them."""
        for key in keys:
            self._chosen.discard(key)
            self._calls.pop(key, None)
            if self._outgoing.pop(key, None) is None:
                self._acknowledged.append(key)

    # ------------------------------------------------------------------ sending

    def _header(self) -> Header:
        return {
            "protocol": PROTOCOL,
            "epoch": self._lead.epoch,
            "session": self._session,
            "stamp": self._stamp,
            "lease_left_s": min(self._lead.valid_until - self._stamp_at, LOST_AFTER_S),
        }

    def _heard(self, reply: Reply) -> None:
        """Note what every reply has. Raises LeadershipLost, or WorkerUnreachable to attach again."""
        self.heard_at = steady()
        if reply["refused"] == "epoch":
            raise LeadershipLost
        if reply["refused"]:
            raise WorkerUnreachable(f"it refused: {reply['refused']}")
        if reply["clock"] > self._stamp:
            self._stamp, self._stamp_at = reply["clock"], self.heard_at

    async def attach(self) -> Inventory:
        """Begin a session. Raises WorkerUnreachable, or LeadershipLost where it follows a later leader."""
        message = self._header()
        reply = await _within(ATTACH_S, self._port.attach({**message, "leader": self._lead.incarnation}))
        if reply["refused"] == "protocol":
            return reply
        self._stamp = -math.inf  # in another life, another clock
        self._heard(reply)
        self._session, self.description = reply["session"], reply["description"]
        return reply

    def begin(self, inventory: Inventory) -> None:
        """Take calls from now on, after an attach."""
        self._life, self.attached = inventory["life"], True
        self._to_give.set()

    async def run(self) -> None:
        """Send and receive until the worker is lost; `lose` is due then. Raises LeadershipLost."""
        giving = asyncio.create_task(self._keep_giving())
        try:
            while True:
                with suppress(WorkerUnreachable):
                    await self._keep_taking(giving)
                self.attached = False
                if not await self._comes_back():
                    break
        finally:
            giving.cancel()
            await asyncio.gather(giving, return_exceptions=True)

    async def _keep_taking(self, giving: asyncio.Task[None]) -> None:
        while True:
            if giving.done():
                giving.result()  # it never returns: this raises what ended it
            pace, acknowledged = self._pace(), self._acknowledged
            self._acknowledged = []
            message = {**self._header(), "acknowledged": acknowledged}
            try:
                reply: Taken = await _within(
                    pace.wait_s + pace.linger_s + GRACE_S,
                    self._port.take({**message, "wait_s": pace.wait_s, "linger_s": pace.linger_s}),  # type: ignore[typeddict-item]
                )
                self._heard(reply)
            except WorkerUnreachable:
                self._acknowledged[:0] = acknowledged  # harmless if it knows them
                raise
            self.load, self.draining = reply["load"], reply["draining"]
            for outcome in reply["outcomes"]:
                self._take_in(outcome)

    def _take_in(self, outcome: Outcome) -> None:
        pending = self._calls.get(outcome["key"])
        if pending is None:
            self._acknowledged.append(outcome["key"])  # nobody waits for it
        elif not pending.end.done():
            pending.end.set_result(self._made(outcome, pending))

    def _made(self, outcome: Outcome, pending: _Pending) -> Made:
        completion, error, latency_s = outcome["completion"], outcome["error"], outcome["latency_s"]
        if outcome["status"] == "not_started":
            return NOT_STARTED
        if completion is not None:
            return Made(decode_completion(completion), None, latency_s)
        if error is not None:
            return Made(None, decode_error(error, self._wall() - outcome["ended_ago_s"]), latency_s)
        return self._lost(pending)  # cut off at its worker's end

    def _lost(self, pending: _Pending) -> Made:
        text = f"the worker {self.name} was lost during the call"
        return Made(None, WorkerLost(text, provider=pending.provider, model=pending.model))

    async def _keep_giving(self) -> None:
        """Send what waits, in one message, again and again. What could not be sent waits for an attach."""
        sent_at = -math.inf
        while True:
            await self._to_give.wait()
            await asyncio.sleep(max(GIVE_SOON_S, sent_at + self._pace().linger_s - steady()))
            self._to_give.clear()
            if self.attached and (self._outgoing or self._cancelled):
                sent_at = steady()
                await self._give()

    async def _give(self) -> None:
        calls, cancelled = list(self._outgoing.values()), self._cancelled
        self._outgoing, self._cancelled = {}, []
        for call in calls:
            self._calls[call["key"]].given = True
        session = self._session
        while session == self._session:  # else an inventory has said what became of them
            message = {**self._header(), "calls": calls, "cancel": cancelled}
            with suppress(WorkerUnreachable, LeadershipLost):  # the take finds out too
                self._heard(await _within(GIVE_S, self._port.give(message)))  # type: ignore[arg-type]
                return
            await asyncio.sleep(AGAIN_S)

    # ------------------------------------------------------------------ away and lost

    async def _comes_back(self) -> bool:
        """Attach again; False: it is lost."""
        while not self.is_gone() and steady() - self.heard_at < LOST_AFTER_S:
            with suppress(WorkerUnreachable):
                inventory = await self.attach()
                if inventory["life"] != self._life:
                    return False
                self._reconcile({each["key"]: each for each in inventory["calls"]})
                self.begin(inventory)
                return True
            await asyncio.sleep(AGAIN_S)
        return False

    def _reconcile(self, held: Mapping[Key, HeldCall]) -> None:
        """Compare with what the same life of the worker holds, in a new session."""
        for key, pending in list(self._calls.items()):
            if pending.given and key not in held and not pending.end.done():
                pending.end.set_result(NOT_STARTED)
        self._acknowledged += [key for key in held if key not in self._calls]

    def lose(self) -> int:
        """The worker is lost, and all that it holds; returns how many calls were in flight."""
        self.attached, in_flight = False, 0
        for pending in self._calls.values():
            if not pending.end.done():
                in_flight += 1
                pending.end.set_result(self._lost(pending) if pending.given else NOT_STARTED)
        return in_flight

    async def close(self) -> None:
        """Send what is left to cancel and to acknowledge, once."""
        if not (self.attached and self._lead.leads):  # else they are the next leader's
            return
        with suppress(WorkerUnreachable, LeadershipLost):
            if self._cancelled:
                message = {**self._header(), "calls": [], "cancel": self._cancelled}
                self._heard(await _within(ATTACH_S, self._port.give(message)))  # type: ignore[arg-type]
            last = {"acknowledged": self._acknowledged, "wait_s": 0.0, "linger_s": 0.0}
            await _within(ATTACH_S, self._port.take({**self._header(), **last}))  # type: ignore[typeddict-item]


def _future() -> asyncio.Future[Made]:
    return asyncio.get_running_loop().create_future()


async def _within(seconds: float, reply: Awaitable[_T]) -> _T:
    """The reply. Raises WorkerUnreachable where it does not come in time."""
    try:
        async with asyncio.timeout(seconds):
            return await reply
    except TimeoutError as error:
        raise WorkerUnreachable(f"no reply within {seconds:g} s") from error
