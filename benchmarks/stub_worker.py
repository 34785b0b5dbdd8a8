"""Workers of a Ray cluster whose calls are stubs: what is left is the leader, the messages and the database.

python -m benchmarks.stub_worker HOST:PORT DATABASE_URL WORKERS     starts them for the leader over a database
"""

from __future__ import annotations

import asyncio
import os
import sys

from src.bootstrap import workers_namespace
from src.config import load_settings, provider_access
from src.core.store import Store
from src.records import Completion, CompletionRequest, FinishReason, Usage
from src.workers.identity import describe
from src.workers.ray import RayWorker, open_fleet
from src.workers.worker import Worker

CALL_S = 0.02


class StubWorker(RayWorker):
    """An actor that answers every call after CALL_S."""

    async def _build(self) -> None:
        if self._worker is None:
            settings = load_settings(environ=os.environ)
            description = describe(self._name, settings, provider_access(settings, os.environ))
            self._worker = Worker(description, _answer)


async def _answer(_provider: str, request: CompletionRequest) -> Completion:
    await asyncio.sleep(CALL_S)
    return Completion("An answer.", FinishReason.STOP, Usage(20, 0, 0, 5, 0), request.model)


async def start(address: str, database: str, workers: int) -> None:
    """Start them, and return when all can be called. They stay when this process ends."""
    with Store.open(database, simulated=False) as store:
        namespace = workers_namespace(store)
    fleet = await open_fleet(address, namespace, StubWorker)
    while len(await fleet.find()) < workers:
        await asyncio.sleep(0.1)
    await fleet.close()


if __name__ == "__main__":
    from benchmarks import stub_worker  # actors are found by the name of their module, and `__main__` is none

    asyncio.run(stub_worker.start(sys.argv[1], sys.argv[2], int(sys.argv[3])))
