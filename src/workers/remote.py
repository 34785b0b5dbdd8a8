"""The workers of a leader: which are there, which one gets a call, and what each of them holds.

Workers come and go: a fleet is looked through each LOOK_S. A new one is attached, compared with the leader
(`identity.py`) and gets calls at once; one that is not listed any more, or stays silent, is lost.

After a takeover `attach_all` comes first, before the store says what becomes of the tasks of the leader
before: what workers hold goes on, and only what none of them holds is uncertain.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from ..errors import LeadershipLost
from ..formatting import plural
from ..records import WorkerSnapshot
from ..steady import steady
from .connection import ATTACH_S, NOT_STARTED, Connection, Lead, Made, Pace
from .identity import difference, mismatch
from .port import CallMessage, Description, Fleet, HeldCall, Inventory, Key, Port, WorkerUnreachable

log = logging.getLogger(__name__)
LOOK_S = 1.0  # between two looks at the fleet
FIRST_LOOK_S = 5.0  # how long a new leader waits for a cluster that does not answer
BLIND_AFTER_S = 3.0  # without an answer of the cluster no further calls are given
# A message costs a leader about a millisecond, whatever it holds: 20 a second each way for the whole fleet.
LINGER_EACH_S = 0.05
LEAST_LINGER_S, MOST_LINGER_S = 0.004, 0.5
WAIT_S = 1.0  # a worker without news replies so late, and a fifth of the lease at most
_LEASE_SHARE = 0.2


class Workers:
    """The workers of one leader. For one event loop.

    `describe`: the leader as it is now, for workers to be compared with.
    `report` gets a line for a person and the level of the event; `changed` is called when calls can go again.
    """

    def __init__(
        self,
        fleet: Fleet,
        lead: Lead,
        describe: Callable[[], Description],
        wall: Callable[[], float],
        lease_s: float,
    ) -> None:
        self._fleet, self._lead, self._wall = fleet, lead, wall
        self._describe, self._mine = describe, describe()
        self._wait_s = min(WAIT_S, _LEASE_SHARE * lease_s)
        self._connections: dict[str, Connection] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._refused: dict[str, str] = {}
        self._listed: frozenset[str] = frozenset()
        self._seen_at = steady()  # when the cluster answered last
        self._blind = ""  # why the cluster can't be seen
        self._was_available = True
        self.report: Callable[[str, str], None] = lambda _text, _level: None
        self.changed: Callable[[], None] = lambda: None

    @property
    def available(self) -> bool:
        """Whether a call can be given to any worker now."""
        return not self._blind and any(each.takes_calls for each in self._connections.values())

    def choose(self, key: Key) -> str:
        """The worker for this call: the one that holds the fewest. Empty: none takes calls."""
        taking = [each for each in self._connections.values() if each.takes_calls]
        if self._blind or not taking:
            return ""
        chosen = min(taking, key=lambda each: each.holds)
        chosen.choose(key)
        return chosen.name

    def silent(self) -> frozenset[str]:
        """Workers that do not answer now, and are not lost yet."""
        return frozenset(name for name, each in self._connections.items() if not each.answers)

    def snapshots(self) -> tuple[WorkerSnapshot, ...]:
        """Every worker that is, or was a moment ago, attached."""
        return tuple(_snapshot(each, each.description or self._mine) for each in self._connections.values())

    # ------------------------------------------------------------------ calls

    async def make(self, worker: str, call: CallMessage) -> Made:
        """Make a call on a worker that was chosen: see `Connection.make`."""
        connection = self._connections.get(worker)
        return NOT_STARTED if connection is None else await connection.make(call)

    async def end_of(self, worker: str, key: Key) -> Made:
        """The end of a call that is expected of a worker."""
        return await self._connections[worker].end_of(key)

    def acknowledge(self, worker: str, keys: Iterable[Key]) -> None:
        """These calls are stored, or nobody waits for them."""
        if (connection := self._connections.get(worker)) is not None:
            connection.acknowledge(keys)

    def expect(self, worker: str, key: Key, provider: str, model: str) -> None:
        """Adopt a call that `attach_all` found."""
        self._connections[worker].expect(key, provider, model)

    # ------------------------------------------------------------------ a new leader

    async def attach_all(self) -> Mapping[str, Sequence[HeldCall]]:
        """Attach every worker; returns what each of them holds. Raises LeadershipLost.

        A worker that does not answer in time is attached later, and what it holds then is forgotten.
        """
        ports = await self._first_look()
        names = list(ports)
        found = await asyncio.gather(*(self._attach(name, ports[name]) for name in names))
        return {name: each["calls"] for name, each in zip(names, found, strict=True) if each is not None}

    def start(self) -> None:
        """Begin to send and receive. What was found and is not expected by now is forgotten."""
        for connection in self._connections.values():
            self._run(connection)

    async def _first_look(self) -> Mapping[str, Port]:
        until = steady() + FIRST_LOOK_S
        while True:
            try:
                return await self._look()
            except WorkerUnreachable:
                if steady() >= until:
                    return {}
            await asyncio.sleep(ATTACH_S / 10)

    async def _look(self) -> Mapping[str, Port]:
        ports = await self._fleet.find()
        self._listed, self._seen_at = frozenset(ports), steady()
        return ports

    async def _attach(self, name: str, port: Port) -> Inventory | None:
        """Attach one worker; None where it does not answer or is refused."""
        connection = Connection(name, port, self._lead, self._pace, self._wall)
        connection.is_gone = lambda: name not in self._listed
        try:
            inventory = await connection.attach()
        except WorkerUnreachable as error:
            log.info("worker %s does not answer: %s", name, error, extra={"action": "attach"})
            return None
        if why := mismatch(self._mine, inventory):
            if self._refused.get(name) != why:
                self._refused[name] = why
                self.report(f"worker {name} refused: {why}", "alert")
            return None
        self._refused.pop(name, None)
        self._connections[name] = connection
        connection.begin(inventory)
        return inventory

    # ------------------------------------------------------------------ while it leads

    async def run(self) -> None:
        """Look through the fleet until cancelled. Raises LeadershipLost."""
        while True:
            await asyncio.sleep(LOOK_S)
            for name in [name for name, task in self._running.items() if task.done()]:
                self._running.pop(name).result()  # raises what ended it
            try:
                ports = await self._look()
            except WorkerUnreachable as error:
                self._note_blind(error)
            else:
                self._blind = ""
                await self._attach_new(ports)
            self._tell_availability()

    async def _attach_new(self, ports: Mapping[str, Port]) -> None:
        new = [name for name in ports if name not in self._connections]
        found = await asyncio.gather(*(self._attach(name, ports[name]) for name in new))
        for name, inventory in zip(new, found, strict=True):
            if inventory is not None:
                self.acknowledge(name, [each["key"] for each in inventory["calls"]])
                self._run(self._connections[name])
                self.report(f"worker {name} attached ({inventory['description']['host']})", "info")
        if any(each is not None for each in found):
            self.changed()

    def keys_changed(self) -> None:
        """The leader's keys may be other ones now: workers with the old ones get no further calls.

        Those that were refused before are compared anew at the next look.
        """
        self._mine = self._describe()
        for connection in self._connections.values():
            if connection.description is None:
                continue
            why = difference(self._mine, connection.description)
            if why and why != connection.refused:
                self.report(f"worker {connection.name} gets no further calls: {why}", "alert")
            connection.refused = why
        self.changed()

    def _run(self, connection: Connection) -> None:
        self._running[connection.name] = asyncio.create_task(self._keep(connection))

    async def _keep(self, connection: Connection) -> None:
        """Run a connection until it is lost, or an internal error ends it: then it is lost as well."""
        is_lost = True
        try:
            await connection.run()
        except (asyncio.CancelledError, LeadershipLost):
            is_lost = False
            raise
        finally:
            if is_lost:
                self._connections.pop(connection.name, None)
                self._report_lost(connection.name, connection.lose())

    def _report_lost(self, name: str, calls: int) -> None:
        if calls:
            self.report(f"worker {name} lost; {plural(calls, 'call')} in flight placed anew", "warning")
        else:
            self.report(f"worker {name} has left", "info")

    def _note_blind(self, error: WorkerUnreachable) -> None:
        if steady() - self._seen_at >= BLIND_AFTER_S:
            self._blind = f"the cluster does not answer: {error}"

    def _tell_availability(self) -> None:
        """Report once when no worker takes calls any more, and when one does again."""
        if self.available == self._was_available:
            return
        self._was_available = self.available
        if self.available:
            self.report("workers take calls again", "info")
            self.changed()
        else:
            self.report(f"no worker takes calls ({self._blind or 'none is attached'}); retrying", "alert")

    def _pace(self) -> Pace:
        linger_s = LINGER_EACH_S * len(self._connections)
        return Pace(min(max(linger_s, LEAST_LINGER_S), MOST_LINGER_S), self._wait_s)

    async def close(self) -> None:
        """End all connections: what is left to cancel or to acknowledge is sent while this one leads."""
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        await asyncio.gather(*(each.close() for each in self._connections.values()))
        with suppress(WorkerUnreachable):
            await self._fleet.close()


def _snapshot(connection: Connection, known: Description) -> WorkerSnapshot:
    ends = connection.draining or connection.refused
    state = "away" if not connection.attached else "draining" if ends else "attached"
    load = connection.load
    return WorkerSnapshot(
        connection.name, known["host"], known["version"], state, connection.in_flight, load["done"],
        load["cpu_s"],
    )  # fmt: skip
