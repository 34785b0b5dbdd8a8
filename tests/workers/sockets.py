"""Workers and leaders as processes of their own, with sockets between them: what can be killed and stopped.

    python -m tests.workers.sockets worker NAME BASE_URL            prints its port
    python -m tests.workers.sockets leader DATABASE BASE_URL PORT...

Messages are pickled, for they are plain data between processes of one test.
"""

from __future__ import annotations

import asyncio
import pickle
import struct
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from src.core.clock import Clock
from src.core.leadership import Leadership
from src.core.orchestrator import Orchestrator, OrchestratorOptions
from src.core.store import Store
from src.settings import Settings
from src.workers.host import hosted
from src.workers.port import Attach, Give, Inventory, Reply, Take, Taken, WorkerUnreachable
from tests.core.direct_pool import live_access, settings_for

_LENGTH = struct.Struct("!I")
LEASE_S = 2.0
PROVIDER = "openai"


def settings() -> Settings:
    """One provider, whose price is known, so that costs are reserved and exact."""
    made = settings_for(lease_s=LEASE_S)
    workers = made.workers.model_copy(update={"fall_back": False})
    return made.model_copy(update={"workers": workers})


async def _read(reader: asyncio.StreamReader) -> Any:
    (size,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return pickle.loads(await reader.readexactly(size))  # noqa: S301 - of this test's own processes


def _write(writer: asyncio.StreamWriter, value: Any) -> None:
    body = pickle.dumps(value)
    writer.write(_LENGTH.pack(len(body)) + body)


class SocketPort:
    """One worker at a port of this machine; each message has a connection of its own."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def _ask(self, method: str, message: Any) -> Any:
        writer = None
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            _write(writer, (method, message))
            return await _read(reader)
        except (OSError, EOFError) as error:
            raise WorkerUnreachable(type(error).__name__) from error
        finally:
            if writer is not None:
                writer.close()

    async def attach(self, message: Attach) -> Inventory:
        return await self._ask("attach", message)  # type: ignore[no-any-return]

    async def give(self, message: Give) -> Reply:
        return await self._ask("give", message)  # type: ignore[no-any-return]

    async def take(self, message: Take) -> Taken:
        return await self._ask("take", message)  # type: ignore[no-any-return]


class SocketFleet:
    """Workers at these ports, listed while they listen."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = {f"w{port}": SocketPort(port) for port in ports}

    async def find(self) -> Mapping[str, SocketPort]:
        found = {}
        for name, port in self._ports.items():
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port._port)
                writer.close()
                found[name] = port
        return found

    async def close(self) -> None:
        return


async def serve_worker(name: str, base_url: str) -> None:
    own = settings()
    async with hosted(name, own, live_access(own, {PROVIDER: base_url}), 64) as worker:

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError, EOFError):
                method, message = await _read(reader)
                _write(writer, await getattr(worker, method)(message))
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
        sys.stdout.flush()
        await server.serve_forever()


async def lead(place: str, base_url: str, ports: Sequence[int]) -> None:
    """Serve the queue; waits for the lead first."""
    own = settings()

    async def open_fleet() -> SocketFleet:
        return SocketFleet(ports)

    with Store.open(place if "://" in place else Path(place), simulated=False) as store:
        leadership = Leadership(store, own.pool.lease_s)
        await asyncio.to_thread(leadership.acquire, standby=True)
        options = OrchestratorOptions(open_fleet=open_fleet, leadership=leadership)
        pool = Orchestrator(own, live_access(own, {PROVIDER: base_url}), store, Clock(), options)
        sys.stdout.write("leads\n")
        sys.stdout.flush()
        report = await pool.run(until_done=False)
        if error := report.error():
            sys.stderr.write(f"{error}\n")


if __name__ == "__main__":
    role, *words = sys.argv[1:]
    if role == "worker":
        asyncio.run(serve_worker(*words))
    else:
        asyncio.run(lead(words[0], words[1], list(map(int, words[2:]))))
