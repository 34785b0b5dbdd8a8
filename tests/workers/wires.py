"""The network between a leader and its workers, for tests: each worker is real, and so are its calls."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

from src.config import ProviderAccess
from src.settings import Settings
from src.workers.host import hosted
from src.workers.port import Attach, Give, Inventory, Reply, Take, Taken, WorkerUnreachable
from src.workers.worker import Worker

T = TypeVar("T")


class Wire:
    """The way to one worker: messages and replies may get lost, and it can be cut."""

    def __init__(self, worker: Worker, loss: float = 0.0, seed: int = 0) -> None:
        self.worker, self.loss = worker, loss
        self.is_cut = False
        self.running = asyncio.Event()  # cleared: its process is stopped, and messages wait
        self.running.set()
        self.given = 0  # calls in messages that have arrived
        self._cut = asyncio.Event()
        self._dice = random.Random(seed)

    def cut(self) -> None:
        """No message comes through any more, and whoever waits for a reply is told."""
        self.is_cut = True
        self._cut.set()

    def mend(self) -> None:
        self.is_cut = False
        self._cut = asyncio.Event()

    async def _passes(self) -> None:
        """Wait while its process is stopped. Raises WorkerUnreachable where it is cut off."""
        await self.running.wait()
        if self.is_cut:
            raise WorkerUnreachable("cut off")

    async def _send(self, reply: Awaitable[T]) -> T:
        sending = asyncio.ensure_future(reply)  # it is carried out whoever waits for it
        if self._dice.random() < self.loss:
            sending.cancel()
            raise WorkerUnreachable("the message was lost")
        cut = asyncio.ensure_future(self._cut.wait())
        await asyncio.wait({sending, cut}, return_when=asyncio.FIRST_COMPLETED)
        cut.cancel()
        await self.running.wait()
        if self.is_cut or not sending.done() or self._dice.random() < self.loss:
            raise WorkerUnreachable("the reply was lost")
        return sending.result()

    async def attach(self, message: Attach) -> Inventory:
        await self._passes()
        return await self._send(self.worker.attach(message))

    async def give(self, message: Give) -> Reply:
        await self._passes()
        self.given += len(message["calls"])
        return await self._send(self.worker.give(message))

    async def take(self, message: Take) -> Taken:
        await self._passes()
        return await self._send(self.worker.take(message))


class Network:
    """A fleet whose workers tests take away and bring back."""

    def __init__(self) -> None:
        self.wires: dict[str, Wire] = {}
        self.is_down = False

    async def find(self) -> Mapping[str, Wire]:
        if self.is_down:
            raise WorkerUnreachable("no route to the head")
        return dict(self.wires)

    async def close(self) -> None:
        return

    async def open(self) -> Network:
        return self

    @property
    def given(self) -> int:
        return sum(wire.given for wire in self.wires.values())


@asynccontextmanager
async def network_of(
    names: str, settings: Settings, access: Mapping[str, ProviderAccess], loss: float = 0.0
) -> AsyncIterator[Network]:
    """A network of workers with these names."""
    network = Network()
    async with AsyncExitStack() as stack:
        for seed, name in enumerate(names.split()):
            worker = await stack.enter_async_context(hosted(name, settings, access, 32))
            network.wires[name] = Wire(worker, loss, seed)
        yield network
