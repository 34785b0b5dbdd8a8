"""This project as a client: the real orchestrator over SQLite, through the real SDKs. See child.py."""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

from src.config import simulated_access
from src.core.clock import Clock
from src.core.orchestrator import Orchestrator, OrchestratorOptions
from src.core.store import Store
from src.records import Result, TaskStatus

from .child import Record, read_spec, report, reset
from .work import BATCH, Json, as_task, folder, settings_with


class Client:
    """One run. `arrivals_s` None: all tasks are there at the start."""

    def __init__(self, spec: Json, path: Path) -> None:
        self._spec, self._clock = spec, Clock()
        self._settings = settings_with(spec["settings"])
        self._store = Store.open(path / "simulated.db", simulated=True)
        self._submitted_at: dict[str, float] = {}
        self._record = Record()
        self._attempts: list[tuple[str, float, float, str]] = []
        self._problems: list[str] = []
        self._started_at = 0.0

    async def run(self) -> None:
        self._store.intake.create_batch(BATCH, now=self._clock.now())
        access = simulated_access(self._settings, self._spec["base_urls"])
        self._pool = Orchestrator(
            self._settings, access, self._store, self._clock,
            OrchestratorOptions(batch=BATCH, on_result=self._note),
        )  # fmt: skip
        arrivals = self._spec.get("arrivals_s")
        if arrivals is None:
            now = self._clock.now()
            tasks = (as_task(i, prompt) for i, prompt in enumerate(self._spec["prompts"]))
            self._store.intake.add_tasks(tasks, now=now)
            self._submitted_at = dict.fromkeys((as_id(i) for i in range(len(self._spec["prompts"]))), now)
            await self._pool.run(until_done=True)
        else:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pool.run(until_done=False))
                group.create_task(self._submit(arrivals))
        self._store.close()
        report(
            self._record,
            first_call_at=min((at for _, at, _, _ in self._attempts), default=0.0),
            attempts=self._attempts,
            started_at=self._started_at,
            peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            problems=self._problems[:5],
        )

    async def _submit(self, arrivals: Sequence[float]) -> None:
        """Each task at its moment after the pool is warm, as a page would submit it."""
        while not self._store.orchestrators.latest_snapshot()[0]:
            await asyncio.sleep(0.1)
        for url in self._spec.get("control_urls") or [self._spec["control_url"]]:
            await asyncio.to_thread(reset, url)
        start, self._started_at = time.monotonic(), time.time()
        for number, at_s in enumerate(arrivals):
            await asyncio.sleep(max(0.0, start + at_s - time.monotonic()))
            self._submitted_at[as_id(number)] = self._clock.now()
            task = as_task(number, self._spec["prompts"][number])
            await asyncio.to_thread(self._store.intake.add_tasks, [task], now=self._clock.now())

    def _note(self, results: Sequence[Result]) -> None:
        now = self._clock.now()
        for result in results:
            ok = result.status is TaskStatus.SUCCEEDED
            self._record.note(now - self._submitted_at[result.task.id], ok=ok)
            self._attempts += self._calls_of(result)
            if not ok:
                self._problems.append(f"{result.task.id}: {result.status}: {result.error}"[:500])
        if self._spec.get("arrivals_s") is not None and len(self._record.finished) == len(
            self._spec["prompts"]
        ):
            self._pool.drain()

    @staticmethod
    def _calls_of(result: Result) -> Iterator[tuple[str, float, float, str]]:
        for attempt in result.attempts:
            yield attempt.provider, attempt.started_at, attempt.latency_s, attempt.error_kind


def as_id(number: int) -> str:
    return f"t{number:07}"


def main() -> None:
    logging.getLogger("src").setLevel(logging.ERROR)
    spec = read_spec()
    with nullcontext(Path(spec["folder"])) if "folder" in spec else folder() as path:
        asyncio.run(Client(spec, path).run())


if __name__ == "__main__":
    main()
