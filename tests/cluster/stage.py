"""A cluster, a simulator and a database, and leaders over them, with what they come to counted."""

from __future__ import annotations

import shlex
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.records import Usage
from src.routing.cost.pricing import compile_price
from src.simulator.process import SimulatorProcess
from tests.databases import rows_of
from tests.helpers import ORCHESTRATOR, Script, read_rows, write_rows

from .ray_cluster import RayCluster

CATALOGUES = {"anthropic": "anthropic", "openai": "openai", "gemini": "google"}
PROVIDERS = tuple(CATALOGUES)
LONG = {"latency": {"first_token_s": 2.0, "per_token_s": 0.0}}  # a call is in flight when something is killed
QUICK = {"latency": {"first_token_s": 0.02, "per_token_s": 0.0}}
LEASE_S = 2.0
END_S = 120.0
RUN = ("run", "tasks.jsonl", "-o", "results.jsonl", "--yes")
TOML = f"""
[workers]
fall_back = %s
[pool]
lease_s = {LEASE_S}
"""


def limited(per_minute: float, names: Sequence[str] = PROVIDERS) -> str:
    """Settings of a leader that calls each provider so often at most, a second's worth of it at once."""
    limits = f"requests_per_minute = {per_minute}\nburst_s = 1\n"
    return "".join(f"[providers.{name}.limits]\n{limits}" for name in names)


@dataclass(frozen=True, slots=True)
class Counts:
    """What came of the tasks of a stage. `extra_calls`: beyond one for each task."""

    missing: int
    doubled: int
    unanswered: int
    refused: int  # answers 429
    extra_calls: int


class Stage:
    """So many tasks, over a database that other stages may have used. `toml`: settings of the leader."""

    def __init__(
        self,
        cluster: RayCluster,
        simulator: SimulatorProcess,
        folder: Path,
        database: str,
        tasks: int,
        toml: str = "",
    ) -> None:
        self.cluster, self.simulator, self.folder = cluster, simulator, folder
        self._toml = toml
        self.environ = {**cluster.environ, "DATABASE_URL": database}
        self.ids = [f"{folder.name}-{n}" for n in range(tasks)]
        write_rows(
            folder / "tasks.jsonl",
            ({"id": each, "prompt": f"Question {each}?", "max_tokens": 20} for each in self.ids),
        )
        self._lost_before, self._booked_before = self._lost(), self._booked()

    def limit_cost(self, nanos: int) -> None:
        """The tasks of this stage may cost so many nano-dollars."""
        self._toml += f"[budgets]\ntotal_usd = {(self._booked_before + nanos) / 1e9:.9f}\n"

    def provide(self, each: Mapping[str, Any]) -> None:
        """Configure every provider alike, with counters at zero."""
        for name in PROVIDERS:
            self.simulator.patch(name, {"limits": None, **each})
        self.simulator.reset()

    @contextmanager
    def leader(self, *options: str, fall_back: bool = False, **environ: str) -> Iterator[Script]:
        """`run` on the file of tasks, with the workers of the cluster."""
        with self._script(*RUN, *self._workers, *options, fall_back=fall_back, **environ) as script:
            yield script

    @contextmanager
    def server(self, *options: str) -> Iterator[Script]:
        """A server with the workers of the cluster."""
        with self._script("--yes", "--no-gateway", *self._workers, *options) as script:
            yield script

    @contextmanager
    def client(self) -> Iterator[Script]:
        """`run` on the file of tasks, which a server answers."""
        with self._script(*RUN) as script:
            yield script

    @contextmanager
    def stopped_leader(self) -> Iterator[Script]:
        """A server that answers the tasks is stopped past its lease, and goes on while the standby, which is
        yielded, leads.
        """
        with self.server() as old:
            old.wait_for("serving the queue")
            with self.server("--standby") as standby, self.client() as client:
                standby.wait_for("standby: waiting")
                self.wait_for_calls(20)
                old.process.send_signal(signal.SIGSTOP)
                try:
                    standby.wait_for("standby: taking over")
                    self.wait_for_calls(self.calls + 10)
                finally:
                    old.process.send_signal(signal.SIGCONT)
                old.wait(END_S)
                client.wait(END_S)  # it watched the first leader
                yield standby

    @property
    def _workers(self) -> tuple[str, str]:
        return "--workers", f"ray:{self.cluster.address}"

    @contextmanager
    def _script(self, *arguments: str, fall_back: bool = False, **environ: str) -> Iterator[Script]:
        (self.folder / "own.toml").write_text(TOML % str(fall_back).lower() + self._toml)
        words = [str(self.cluster.python), str(ORCHESTRATOR), *arguments]
        command = f"exec {shlex.join([*words, '--config', 'own.toml', '--log-level', 'info'])}"
        with Script(cwd=self.folder, env={**self.environ, **environ}, command=command) as script:
            yield script

    @property
    def calls(self) -> int:
        """Calls that the providers have seen."""
        return sum(each["calls"] for each in self.simulator.stats().values())

    def wait_for_calls(self, at_least: int, timeout_s: float = 120.0) -> None:
        """Fails when the time is over."""
        end = time.monotonic() + timeout_s
        while self.calls < at_least:
            assert time.monotonic() < end, f"{self.calls} calls"
            time.sleep(0.05)

    def counts(self) -> Counts:
        """What came of the tasks, when a leader has ended."""
        rows = read_rows(self.folder / "results.jsonl")
        found = Counter(row["id"] for row in rows)
        refused = sum(each["by_status"].get("429", 0) for each in self.simulator.stats().values())
        return Counts(
            len(set(self.ids) - set(found)),
            sum(count - 1 for count in found.values()),
            sum(row["status"] != "succeeded" for row in rows),
            refused,
            self.calls - len(self.ids),
        )

    @property
    def lost(self) -> int:
        """Calls of this stage that were lost with their worker."""
        return self._lost() - self._lost_before

    def _lost(self) -> int:
        query = "SELECT count(*) FROM attempts WHERE outcome = 'uncertain' AND error_kind = 'WorkerLost'"
        found = self.rows(query)
        return int(found[0][0]) if found else 0

    @property
    def spent_nanos(self) -> int:
        """What the providers ask for their answers: nano-dollars by the catalogue."""
        found = 0
        for provider, each in self.simulator.stats().items():
            for model, counts in each["answered"].items():
                price = compile_price(CATALOGUES[provider], model, time.time())
                assert price is not None
                found += price.cost_nanos(Usage(counts["input_tokens"], 0, 0, counts["output_tokens"]))
        return found

    @property
    def booked_nanos(self) -> int:
        """What is booked for them in this stage, certain and uncertain."""
        return self._booked() - self._booked_before

    def _booked(self) -> int:
        found = self.rows("SELECT coalesce(sum(cost_nanos + uncertain_nanos), 0) FROM usage")
        return int(found[0][0]) if found else 0

    def failures(self) -> list[tuple[Any, ...]]:
        """Attempts of all stages that no lost worker explains, as provider, outcome, kind and text.

        A cancelled one was never sent: its worker was lost before the message went.
        """
        return self.rows(
            "SELECT provider, outcome, error_kind, error FROM attempts"
            " WHERE outcome NOT IN ('ok', 'cancelled') AND error_kind <> 'WorkerLost'"
        )

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query finds in the database."""
        return rows_of(self.environ, self.folder, query)


def check(stage: Stage, *, lost: int = 0) -> None:
    """Every task is answered once, and at most so many calls were made beyond one for each."""
    counts = stage.counts()
    assert counts == Counts(0, 0, 0, 0, counts.extra_calls), counts
    assert 0 <= counts.extra_calls <= lost, counts
