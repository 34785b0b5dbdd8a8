"""The pages' server under steady requests for the state of the providers, while a run goes on beside it.

The run is the pool as a user has it, in a process of its own; `web_server.py` is another, on the same
database; a third requests /api/providers/status at a steady rate (see steady_client.py). Each run is made
twice, with and without these requests: how much longer does it take with them?
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from src.simulator import SimulatorProcess

from .child import ROOT, environment, lost, makespan_s, quantile, run_client
from .child import median as middle
from .table import Table, verdict
from .work import NO_LIMITS, PROVIDERS, Json, Prompt, folder, limit_settings, prompts, simulator

PER_SECOND, PATH = 200.0, "/api/providers/status"
SLOWER = 0.10
TASKS, QUICK_TASKS = 1_000, 200
SECONDS, QUICK_SECONDS = 60.0, 12.0
LONGEST_S = 600.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """A run of `tasks` under these settings, `pairs` times with requests and without."""

    name: str
    tasks: int
    settings: Json
    pairs: int


@dataclass(slots=True)
class ClientReport:
    """What the client saw in one run, and processor time per request, where the system reports it."""

    count: int
    errors: int
    latencies_ms: list[float]
    server_cpu_ms: float | None
    client_cpu_ms: float


def run(*, quick: bool = False, runs: int | None = None) -> list[Table]:
    """One table: a row per scenario."""
    count, seconds = (QUICK_TASKS, QUICK_SECONDS) if quick else (TASKS, SECONDS)
    per_minute = count / seconds * 60 / len(PROVIDERS)
    limits = limit_settings({name: {"requests_per_minute": per_minute} for name in PROVIDERS})
    pairs = runs or (3 if quick else 5)
    scenarios = [
        Scenario(f"limits that make it last {seconds:.0f} s", count, limits, runs or 1),
        Scenario("as fast as the processors allow", count, NO_LIMITS, pairs),
    ]
    table = Table(
        f"{PER_SECOND:.0f} status requests per second beside a run of {count:,} tasks",
        ("run", "alone", "beside requests", "slower", "target", "requests", "errors", "p50", "p99",
         "CPU per request", "verdict"),
    )  # fmt: skip
    inputs = prompts(count, median_chars=400)
    for scenario in scenarios:
        _row(table, scenario, inputs)
    table.notes.append(
        "Slower: the run's makespan beside requests over that of the one before or after it, in which "
        f"the server got none; medians of pairs ({pairs} of the fast run). Latencies count from the moment a "
        "request was due. CPU per request: the server's, and behind it the client's, which shares the "
        "processors with the run and the simulator too."
    )
    return [table]


def _row(table: Table, scenario: Scenario, inputs: Sequence[Prompt]) -> None:
    alone_s: list[float] = []
    loaded_s: list[float] = []
    seen = []
    for number in range(scenario.pairs):
        print(f"   {scenario.name}: pair {number + 1} of {scenario.pairs} ...", flush=True)
        for loaded in (True, False) if number % 2 else (False, True):
            took_s, found = _once(scenario, inputs, loaded=loaded)
            (loaded_s if loaded else alone_s).append(took_s)
            seen += [found] if found else []
    slower = middle([a / b - 1 for a, b in zip(loaded_s, alone_s, strict=True)])
    errors = sum(each.errors for each in seen)
    latencies_ms = [ms for each in seen for ms in each.latencies_ms]
    table.add(
        scenario.name, f"{middle(alone_s):.1f} s", f"{middle(loaded_s):.1f} s", f"{slower:+.1%}",
        f"< {SLOWER:.0%}, 0 errors", f"{sum(each.count for each in seen):,}", errors,
        f"{middle(latencies_ms):.1f} ms", f"{quantile(latencies_ms, 0.99):.1f} ms", _cpu(seen),
        verdict(slower < SLOWER, not errors),
    )  # fmt: skip


def _cpu(seen: Sequence[ClientReport]) -> str:
    server = [each.server_cpu_ms for each in seen if each.server_cpu_ms is not None]
    client = middle([each.client_cpu_ms for each in seen])
    return f"{middle(server):.2f} + {client:.2f} ms" if server else f"- + {client:.2f} ms"


def _once(scenario: Scenario, inputs: Sequence[Prompt], *, loaded: bool) -> tuple[float, ClientReport | None]:
    """How long the run took, from its first call to its last commit; and what the client saw of it."""
    with SimulatorProcess.start(simulator()) as sim, folder() as path, pages(path) as server:
        spec = {"base_urls": sim.base_urls, "settings": scenario.settings, "folder": str(path)}
        client = SteadyClient(server) if loaded else None
        try:
            found = run_client("benchmarks.pool", spec, inputs, timeout_s=LONGEST_S)
        finally:
            seen = client.end() if client else None
    assert not lost(found), found["problems"]
    return makespan_s(found), seen


# ------------------------------------------------------------------ the other processes


@dataclass(frozen=True, slots=True)
class Server:
    port: int
    pid: int

    def cpu_s(self) -> float | None:
        """Processor time since its start, of all its threads. None where /proc does not show it."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / 100  # USER_HZ is 100 on every Linux


@contextmanager
def pages(path: Path, extra: Mapping[str, str] | None = None) -> Iterator[Server]:
    """The server on this state; `extra` are variables of its own."""
    command = [
        sys.executable, str(ROOT / "web_server.py"), "--simulate", "--port", "0", "--state-dir", str(path),
    ]  # fmt: skip
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**environment(), **(extra or {})}
    )
    try:
        assert child.stdout is not None
        output = ""
        while not (found := re.search(r"^pages on \S+:(\d+) ", output, re.M)):
            line = child.stdout.readline()  # before it there may be one that no orchestrator is running
            assert line, f"the server output {output!r}"
            output += line
        yield Server(int(found[1]), child.pid)
    finally:
        child.terminate()
        child.communicate()


class SteadyClient:
    """Sends requests from now on until `end`."""

    def __init__(self, server: Server, path: str = PATH, per_second: float = PER_SECOND) -> None:
        self._server, self._cpu_before = server, server.cpu_s()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.steady_client"], cwd=ROOT, text=True, env=environment(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._child.stdin is not None
        spec = {"host": "127.0.0.1", "port": server.port, "path": path, "per_second": per_second}
        self._child.stdin.write(json.dumps(spec) + "\n")
        self._child.stdin.flush()

    def end(self) -> ClientReport:
        output, _ = self._child.communicate(timeout=60)  # closes its input, which ends it
        found = json.loads(output)
        count = found["sent"]
        cpu_s = self._server.cpu_s()
        server_ms = None if cpu_s is None or self._cpu_before is None else (cpu_s - self._cpu_before) * 1e3
        return ClientReport(
            count, found["errors"], found["latencies_ms"],
            None if server_ms is None else server_ms / count, found["cpu_s"] * 1e3 / count,
        )  # fmt: skip
