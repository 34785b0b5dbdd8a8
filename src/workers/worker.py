"""A worker: the calls that it holds for its leader. See `port.py` for the messages and what they promise.

It makes calls and decides nothing: which provider, which model and when is the leader's business. It knows no
transport either; `ray.py` carries its three methods over a network, and tests call them as they are.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import secrets
import socket
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from ..errors import InternalError, ProviderError, TimedOut
from ..fence import NotSent, may_send
from ..records import Completion, CompletionRequest
from ..steady import steady
from .plain import decode_request, encode_completion, encode_error
from .port import (
    ACCEPTED,
    PROTOCOL,
    Attach,
    CallMessage,
    Description,
    Give,
    Header,
    HeldCall,
    Inventory,
    Key,
    Outcome,
    Plain,
    Refusal,
    Reply,
    Status,
    Take,
    Taken,
)
from .standstill import Standstill

log = logging.getLogger(__name__)
MOST_OUTCOMES = 200  # in one reply: a message must not hold up the next one
FORGOTTEN_KEPT = 20_000  # keys that are known after their call was forgotten, for a `give` that is repeated

# Makes the one call of a request to a provider. Raises ProviderError.
MakeCall = Callable[[str, CompletionRequest], Awaitable[Completion]]


@dataclass(slots=True)
class _Held:
    """A call from its arrival until its outcome is acknowledged. Times are of the worker's clock."""

    facts: Plain
    started_at: float
    running: asyncio.Task[None] | None = None
    ended_at: float = 0.0
    outcome: Outcome | None = None


@dataclass(slots=True)
class _Lead:
    """The leader that is attached."""

    epoch: int = 0
    attached: int = 0  # how often a leader has attached
    news: asyncio.Event = field(default_factory=asyncio.Event)  # an outcome is there, or a new leader


class Worker:
    """Holds calls in flight and outcomes. For one event loop; its three coroutines make it a `Port`."""

    def __init__(
        self, description: Description, make_call: MakeCall, clock: Callable[[], float] = steady
    ) -> None:
        self._description, self._make_call, self._clock = description, make_call, clock
        self.life = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._held: dict[Key, _Held] = {}
        self._ready: OrderedDict[Key, _Held] = OrderedDict()  # ended, and not sent to the leader yet
        self._forgotten: OrderedDict[Key, None] = OrderedDict()
        self._lead = _Lead()
        self._done = 0
        self._sent_at = -math.inf  # when the last outcomes were sent
        self._standstill = Standstill(lambda: self.in_flight > 0)
        self.draining = False

    def __repr__(self) -> str:
        name = self._description["name"]
        return f"<Worker {name} epoch={self._lead.epoch} in_flight={self.in_flight} held={len(self._held)}>"

    @property
    def holds(self) -> int:
        """Calls whose outcome is not acknowledged."""
        return len(self._held)

    @property
    def in_flight(self) -> int:
        """Calls that have not ended."""
        return sum(each.outcome is None for each in self._held.values())

    # ------------------------------------------------------------------ the three requests

    async def attach(self, message: Attach) -> Inventory:
        """Take this leader, unless one of a higher epoch was here; tell it what is held."""
        refused: Refusal = "protocol" if message["protocol"] not in ACCEPTED else ""
        if not refused and message["epoch"] < self._lead.epoch:
            refused = "epoch"
        calls: list[HeldCall] = []
        if not refused:
            self._follow(message["epoch"], message["leader"])
            calls = [self._as_held(key, each) for key, each in self._held.items()]
        return {
            **self._reply(refused),
            "life": self.life,
            "session": self._session,
            "description": self._description,
            "calls": calls,
        }

    async def give(self, message: Give) -> Reply:
        """Begin these calls, each at once, and cancel others."""
        refused = self._refusal(message)
        if not refused:
            start_before = message["stamp"] + message["lease_left_s"]
            for call in message["calls"]:
                self._take_in(call, start_before)
            for key in message["cancel"]:
                self._cancel(key)
        return self._reply(refused)

    async def take(self, message: Take) -> Taken:
        """Forget what is acknowledged, and return outcomes: at once, or when there are some."""
        refused = self._refusal(message)
        outcomes: list[Outcome] = []
        if not refused:
            self._forget(message["acknowledged"])
            await self._wait_for_outcomes(message["wait_s"], message["linger_s"])
            refused = self._refusal(message)  # a leader may have attached meanwhile
            if not refused:
                outcomes = list(self._take_ready())
        return {
            **self._reply(refused),
            "outcomes": outcomes,
            "load": {"in_flight": self.in_flight, "done": self._done, "cpu_s": time.process_time()},
            "draining": self.draining,
        }

    # ------------------------------------------------------------------ leaders

    @property
    def _session(self) -> str:
        return f"{self.life}/{self._lead.attached}"

    def _refusal(self, message: Header) -> Refusal:
        """Why a message has no effect; empty: it has."""
        if message["protocol"] not in ACCEPTED:
            return "protocol"
        if message["epoch"] < self._lead.epoch:
            return "epoch"
        return "" if message["session"] == self._session else "session"

    def _reply(self, refused: Refusal) -> Reply:
        return {
            "protocol": PROTOCOL,
            "clock": self._clock(),
            "epoch": self._lead.epoch,
            "refused": refused,
        }

    def _follow(self, epoch: int, name: str) -> None:
        if epoch != self._lead.epoch:
            log.info("follows %s", name, extra={"action": "attach", "epoch": epoch, "held": len(self._held)})
        self._lead.epoch, self._lead.attached = epoch, self._lead.attached + 1
        self._ready = OrderedDict((key, each) for key, each in self._held.items() if each.outcome is not None)
        self._lead.news.set()  # a take of the leader before must not wait for its time to end

    def _as_held(self, key: Key, held: _Held) -> HeldCall:
        age_s = self._clock() - held.started_at
        return {"key": key, "facts": held.facts, "age_s": age_s, "ended": held.outcome is not None}

    # ------------------------------------------------------------------ calls

    def _take_in(self, call: CallMessage, start_before: float) -> None:
        key = call["key"]
        if key not in self._held and key not in self._forgotten:
            held = self._held[key] = _Held(call["facts"], self._clock())
            held.running = asyncio.create_task(self._run(held, call, start_before))
            self._standstill.watch()

    async def _run(self, held: _Held, call: CallMessage, start_before: float) -> None:
        """Make one call and keep its outcome. Never raises."""
        key, provider = call["key"], call["provider"]
        held.started_at = self._clock()
        if self.draining or held.started_at >= start_before:
            self._end(key, held, "not_started")
            return
        may_send.set(lambda: self._clock() < start_before)  # it may take a connection until it is sent
        try:
            completion = await self._make_call(provider, decode_request(call["request"]))
        except asyncio.CancelledError:
            self._end(key, held, "cut_off")
        except NotSent:
            self._end(key, held, "not_started")
        except ProviderError as error:
            if isinstance(error, TimedOut) and self._standstill.has_just_ended:
                self._end(key, held, "cut_off")  # the provider may have answered in time
            else:
                self._end(key, held, "failed", error=encode_error(error, time.time()))
        except Exception as error:
            log.exception("unexpected internal error during a call", extra={"action": "attempt", "key": key})
            text = f"internal error of a worker: {type(error).__name__} (its log has the traceback)"
            failure = InternalError(text, provider=provider, model=call["model"])
            self._end(key, held, "failed", error=encode_error(failure, time.time()))
        else:
            self._end(key, held, "answered", completion=encode_completion(completion))

    def _end(
        self,
        key: Key,
        held: _Held,
        status: Status,
        *,
        completion: Plain | None = None,
        error: Plain | None = None,
    ) -> None:
        held.ended_at, held.running = self._clock(), None
        held.outcome = {
            "key": key,
            "status": status,
            "completion": completion,
            "error": error,
            "latency_s": held.ended_at - held.started_at,
            "ended_ago_s": 0.0,
        }
        self._done += 1
        if self._held.get(key) is held:
            self._ready[key] = held
            self._lead.news.set()

    def _cancel(self, key: Key) -> None:
        """End a call early. One that has ended keeps its outcome."""
        held = self._held.get(key)
        if held is not None:
            _cut_off(held)

    def _forget(self, keys: Iterable[Key]) -> None:
        """The leader needs nothing more of these calls; one that still runs is cut off."""
        for key in keys:
            held = self._held.pop(key, None)
            self._ready.pop(key, None)
            if held is not None:
                _cut_off(held)
            self._forgotten[key] = None
        while len(self._forgotten) > FORGOTTEN_KEPT:
            self._forgotten.popitem(last=False)

    # ------------------------------------------------------------------ outcomes

    async def _wait_for_outcomes(self, wait_s: float, linger_s: float) -> None:
        """Return when there are outcomes, and those that come right behind them, or a new leader."""
        news = self._lead.news
        news.clear()
        if not self._ready:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await news.wait()
        if self._ready and (early_s := self._sent_at + linger_s - self._clock()) > 0.0:
            await asyncio.sleep(early_s)  # the last reply has just gone: wait for more to go together

    def _take_ready(self) -> Iterator[Outcome]:
        now = self._clock()
        for _ in range(min(len(self._ready), MOST_OUTCOMES)):
            _, held = self._ready.popitem(last=False)
            if held.outcome is not None:
                self._sent_at = now
                yield {**held.outcome, "ended_ago_s": now - held.ended_at}

    # ------------------------------------------------------------------ ends

    def drain(self) -> None:
        """Take no further calls: those in flight end, and the leader is told with the next reply."""
        self.draining = True
        self._lead.news.set()

    async def stop(self) -> None:
        """Cut off all calls and wait for them. Their outcomes may still be taken."""
        await asyncio.sleep(0)  # those that were given just now must begin, to end
        running = [each.running for each in self._held.values() if each.running is not None]
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _cut_off(held: _Held) -> None:
    """Cancel a call. One that was given just now must begin first, to end."""
    if held.running is not None:
        asyncio.get_running_loop().call_soon(held.running.cancel)
