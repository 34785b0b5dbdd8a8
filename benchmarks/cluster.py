"""Workers on a local Ray cluster over PostgreSQL: kills at random, the leader's processor time, the limits.

`run FILE --workers ray:...` with three workers. Kills and makespan: against the simulator, which counts the
calls and tells its limits in headers. The leader's own figures: with workers whose calls are stubs
(`stub_worker.py`), so that the leader has the machine. Ray is installed into an environment of its own, see
`tests/cluster/ray_cluster.py`.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.cli.exit_codes import ALL_ANSWERED, SOME_UNANSWERED
from src.simulator import SimulatorProcess
from tests.cluster.ray_cluster import RayCluster
from tests.cluster.stage import LONG, QUICK, Counts, Stage, limited
from tests.databases import own_database
from tests.helpers import Script, live_environment

from .child import ClientFailed
from .table import Table, verdict
from .work import PROVIDERS, simulator

WORKERS, SEED = 3, 17
ROWS, QUICK_ROWS = 20_000, 1_500
KILLS, QUICK_KILLS = 10, 3
KILLS_PER_S, KILLS_IN_FLIGHT = 200.0, 700
CPU_ROWS, RATE_ROWS, MAKESPAN_ROWS = 10_000, 30_000, 5_000
QUICK_SHARE = 5  # of these rows with --quick
PATIENCE_S = 900.0
CPU_US, OF_BOUND, RATE_PER_S = 400.0, 1.03, 2_000.0
CPU_PER_S, CPU_IN_FLIGHT, BOUND_PER_S, BURST_S = 500.0, 400, 100.0, 1.0
RATE_IN_FLIGHT = 3_000
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def run(*, quick: bool = False, runs: int | None = None) -> list[Table]:
    """Two tables: kills, and rates. `runs` is not used: they are long enough by themselves."""
    share = QUICK_SHARE if quick else 1
    return [_rates(share), _kills(*(QUICK_ROWS, QUICK_KILLS) if quick else (ROWS, KILLS))]


@contextmanager
def _stage(rows: int, toml: str = "", *, stubs: bool = False) -> Iterator[Stage]:
    with (
        tempfile.TemporaryDirectory() as folder,
        SimulatorProcess.start(simulator()) as providers,
        own_database() as database,
        RayCluster(live_environment(providers.base_urls), workers=WORKERS) as cluster,
    ):
        if stubs:
            stub = [str(cluster.python), "-m", "benchmarks.stub_worker"]
            command = [*stub, cluster.address, database, str(WORKERS)]
            subprocess.run(command, env=cluster.environ, check=True, timeout=120)
        yield Stage(cluster, providers, Path(folder), database, rows, toml)


# ------------------------------------------------------------------ kills


def _kills(rows: int, kills: int) -> Table:
    table = Table(
        f"Kills: {rows:,} tasks at {KILLS_PER_S:.0f}/s, {WORKERS} workers, calls of 2 s, {kills} kills -9",
        [
            "killed",
            "tasks lost",
            "rows doubled",
            "answers 429",
            "calls beyond one a task",
            "held by killed workers",
            "",
        ],
    )
    for name, of_workers in (("the leader", 0.0), ("leader and workers", 0.5)):
        with _stage(rows, _untold(KILLS_PER_S)) as stage:
            counts, held = _with_kills(stage, kills, of_workers), stage.lost
            lost = counts.missing + counts.unanswered
            good = lost == counts.doubled == counts.refused == 0 and counts.extra_calls <= held
            cells = (lost, counts.doubled, counts.refused, counts.extra_calls, held)
            table.add(name, *cells, verdict(good, of_workers > 0 or counts.extra_calls == 0))
    return table


def _with_kills(stage: Stage, kills: int, of_workers: float) -> Counts:
    """Kill at random moments, evenly over the tasks; a killed leader is followed by the next one."""
    chance = random.Random(SEED)
    stage.provide({**LONG, "limits": _limits(KILLS_PER_S)})
    moments = [len(stage.ids) * (n + chance.random()) / (kills + 1) for n in range(kills)]
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with stage.leader("--concurrency", str(KILLS_IN_FLIGHT)) as leader:
            while moments and leader.process.poll() is None and time.monotonic() < end:
                time.sleep(0.1)
                if stage.calls < moments[0]:
                    continue
                moments.pop(0)
                if chance.random() >= of_workers:
                    leader.kill()
                    break
                os.kill(chance.choice(stage.cluster.worker_pids()), signal.SIGKILL)
            code = leader.wait(PATIENCE_S)
        if code in (ALL_ANSWERED, SOME_UNANSWERED):
            return stage.counts()
        if code != -signal.SIGKILL:
            raise ClientFailed(leader.err[-2_000:])
    raise ClientFailed("the tasks were not done in time")


# ------------------------------------------------------------------ rates


def _rates(share: int) -> Table:
    table = Table(
        "Rates", ["tasks/s", "what", "figure", "target", ""],
        notes=[
            "Workers make stub calls, but for the makespan: there they call the simulator, whose limits are "
            "the rate. Processor time is all that the leader uses: reading, deciding, messages, storing.",
        ],
    )  # fmt: skip
    with _stage(CPU_ROWS // share, limited(_per_minute(CPU_PER_S)), stubs=True) as stage:
        per_s, used_us = _leader_at_work(stage, CPU_IN_FLIGHT)
        cpu = (f"{used_us:.0f} us", f"<= {CPU_US:.0f} us", verdict(used_us <= CPU_US))
        table.add(f"{per_s:.0f}", "the leader's processor time a task", *cpu)
    with _stage(RATE_ROWS // share, limited(1e7), stubs=True) as stage:
        per_s, used_us = _leader_at_work(stage, RATE_IN_FLIGHT)
        rate = (f"{per_s:.0f}/s", f">= {RATE_PER_S:.0f}/s", verdict(per_s >= RATE_PER_S))
        table.add("all it can", f"tasks/s; {used_us:.0f} us a task", *rate)
    with _stage(MAKESPAN_ROWS // share, _untold(BOUND_PER_S)) as stage:
        of_bound = _of_bound(stage, BOUND_PER_S)
        bound = (f"{of_bound:.3f}", f"<= {OF_BOUND}", verdict(of_bound <= OF_BOUND))
        table.add(f"{BOUND_PER_S:.0f}", "makespan / bound", *bound)
    return table


def _limits(per_s: float) -> dict[str, float]:
    return {"requests_per_minute": _per_minute(per_s), "burst_s": BURST_S}


def _per_minute(per_s: float) -> float:
    return 60.0 * per_s / len(PROVIDERS)


def _untold(per_s: float) -> str:
    """Settings for the limits that their provider does not tell."""
    return limited(_per_minute(per_s), ["gemini"])


def _leader_at_work(stage: Stage, in_flight: int) -> tuple[float, float]:
    """Tasks a second, and microseconds of the leader's processor time a task, from the first fifth of the
    answered tasks to the fourth.
    """
    first, last = len(stage.ids) // 5, len(stage.ids) * 4 // 5
    with stage.leader("--concurrency", str(in_flight)) as leader:
        began = _until_answered(stage, leader, first)
        used_s = _cpu_s(leader)
        ended = _until_answered(stage, leader, last)
        used_s = _cpu_s(leader) - used_s
        if leader.wait(PATIENCE_S):
            raise ClientFailed(leader.err[-2_000:])
    count = ended[1] - began[1]
    return count / (ended[0] - began[0]), used_s * 1e6 / count


def _until_answered(stage: Stage, leader: Script, at_least: int) -> tuple[float, int]:
    """The time, and how many rows the results file has, when it has so many."""
    results, found, seen = stage.folder / "results.jsonl", 0, 0
    end = time.monotonic() + PATIENCE_S
    while found < at_least:
        if leader.process.poll() is not None or time.monotonic() > end:
            raise ClientFailed(leader.err[-2_000:])
        time.sleep(0.05)
        if results.exists() and results.stat().st_size > seen:
            with results.open("rb") as file:
                file.seek(seen)
                content = file.read()
            found, seen = found + content.count(b"\n"), seen + len(content)
    return time.monotonic(), found


def _cpu_s(script: Script) -> float:
    """Processor time of a process so far, user and system."""
    fields = Path(f"/proc/{script.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _of_bound(stage: Stage, per_s: float) -> float:
    """From the first call to the end of the last one, over the least that the limits allow."""
    stage.provide({**QUICK, "limits": _limits(per_s)})
    with stage.leader() as leader:
        if leader.wait(PATIENCE_S):
            raise ClientFailed(leader.err[-2_000:])
    [(span_s,)] = stage.rows("SELECT max(started_at + latency_s) - min(started_at) FROM attempts")
    return float(span_s) / (len(stage.ids) / per_s - BURST_S)
