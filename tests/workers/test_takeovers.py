"""Leaders and workers that are killed and stopped, as processes of their own, with calls in flight."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from src.core.store import Store
from src.messages import Message
from src.records import Outcome, Task, TaskStatus
from src.simulator.process import SimulatorProcess
from tests.helpers import start_module

from .sockets import PROVIDER

NOW = 1_800_000_000.0
BATCH = "b"
LATENCY_S = 0.3


@pytest.fixture
def provider() -> Iterator[SimulatorProcess]:
    row = {"latency": {"first_token_s": LATENCY_S, "per_token_s": 0.0}}
    with SimulatorProcess.start({"providers": {PROVIDER: row}}) as started:
        yield started


class Cluster:
    """A database, a provider, workers and leaders."""

    def __init__(self, place: str | Path, provider: SimulatorProcess, stack: ExitStack) -> None:
        self.place, self.provider, self._stack = place, provider, stack
        self.store = stack.enter_context(Store.open(place, simulated=False))
        url = provider.base_urls[PROVIDER]
        self.workers = [self._start("worker", f"w{n}", url) for n in range(2)]
        self._ports = [self._line(worker) for worker in self.workers]
        self.leaders: list[Any] = []

    def _start(self, *words: str) -> Any:
        process = start_module("tests.workers.sockets", *words)
        self._stack.callback(_end, process)
        return process

    @staticmethod
    def _line(process: Any) -> str:
        return str(process.stdout.readline()).strip()

    def lead(self) -> Any:
        """Start a leader, which waits for the lead."""
        url = self.provider.base_urls[PROVIDER]
        self.leaders.append(self._start("leader", str(self.place), url, *self._ports))
        return self.leaders[-1]

    def add(self, count: int, prefix: str = "t") -> None:
        tasks = [
            Task(f"{prefix}{n}", BATCH, (Message("user", f"Q {n}"),), max_tokens=20) for n in range(count)
        ]
        self.store.intake.add_tasks(tasks, now=NOW)

    @property
    def calls(self) -> int:
        return int(self.provider.stats()[PROVIDER]["calls"])

    def ended(self, status: TaskStatus = TaskStatus.SUCCEEDED) -> int:
        return self.store.reports.task_counts(BATCH).get(status, 0)

    def made(self) -> int:
        """Attempts of tasks that have ended, but for those that were never sent."""
        rows = [row for row, _ in self.store.result_sync.ended(BATCH)]
        results = [stored.result for stored in self.store.result_sync.results_at(rows)]
        attempts = [attempt for result in results for attempt in result.attempts]
        return sum(attempt.outcome is not Outcome.CANCELLED for attempt in attempts)

    def until(self, true: Callable[[], bool], timeout_s: float = 60.0) -> None:
        began = time.monotonic()
        while not true():
            assert time.monotonic() - began < timeout_s
            time.sleep(0.02)

    def uncertain_nanos(self) -> int:
        return sum(row.sums.uncertain_nanos for row in self.store.reports.usage(0.0, 1e11, []))


def _end(process: Any) -> None:
    process.kill()
    process.communicate(timeout=60)


@contextmanager
def a_cluster(place: str | Path, provider: SimulatorProcess) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(place, provider, stack)


def test_a_leader_that_is_killed_costs_no_call(postgresql_url: str, provider: SimulatorProcess) -> None:
    """The next one goes on with every call that its workers hold."""
    with a_cluster(postgresql_url, provider) as cluster:
        cluster.add(50)
        for kill in range(3):
            leader = cluster.lead()
            assert cluster._line(leader) == "leads"
            before = cluster.ended()
            cluster.until(lambda before=before: cluster.ended() >= before + 8)
            if kill < 2:
                leader.send_signal(signal.SIGKILL)
                leader.wait()
        cluster.until(lambda: cluster.ended() == 50)
        assert cluster.calls == 50
        assert cluster.uncertain_nanos() == 0
        assert cluster.made() == 50  # a worker with a late leader sends nothing: that attempt is cancelled


def test_a_stopped_leader_that_was_taken_over_does_no_harm(
    postgresql_url: str, provider: SimulatorProcess
) -> None:
    with a_cluster(postgresql_url, provider) as cluster:
        cluster.add(50)
        old = cluster.lead()
        cluster.until(lambda: cluster.ended() >= 8)
        old.send_signal(signal.SIGSTOP)
        new = cluster.lead()
        assert cluster._line(new) == "leads"
        ended = cluster.ended()
        cluster.until(lambda: cluster.ended() >= ended + 8)
        old.send_signal(signal.SIGCONT)
        assert old.wait(30) == 0
        cluster.until(lambda: cluster.ended() == 50)
        assert cluster.calls == 50
        assert cluster.uncertain_nanos() == 0


def test_a_stopped_worker_makes_no_call_later(path: Path, provider: SimulatorProcess) -> None:
    with a_cluster(path, provider) as cluster:
        cluster.add(50)
        cluster.lead()
        cluster.until(lambda: cluster.ended() >= 8)
        cluster.workers[0].send_signal(signal.SIGSTOP)
        cluster.until(lambda: cluster.ended() == 50)
        calls, made = cluster.calls, cluster.made()
        cluster.workers[0].send_signal(signal.SIGCONT)
        cluster.add(20, "more")
        cluster.until(lambda: cluster.ended() == 70)
        time.sleep(2 * LATENCY_S)
        assert 20 <= cluster.calls - calls <= cluster.made() - made  # a slow machine may lose a worker again


def test_workers_and_leader_killed_together_lose_no_task(path: Path, provider: SimulatorProcess) -> None:
    with a_cluster(path, provider) as cluster:
        cluster.add(50)
        leader = cluster.lead()
        cluster.until(lambda: cluster.ended() >= 8)
        leader.send_signal(signal.SIGSTOP)
        cluster.workers[0].send_signal(signal.SIGSTOP)
        held = cluster.calls - cluster.ended()  # made, and not stored
        cluster.workers[0].kill()
        leader.kill()
        cluster.lead()
        cluster.until(lambda: cluster.ended() == 50)
        assert 50 <= cluster.calls <= 50 + held
