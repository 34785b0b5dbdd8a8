"""Workers on a local Ray cluster over PostgreSQL: kills at random, the leader's processor time, the limits.

`run FILE --workers ray:...` with three workers, against the simulator, which counts the calls. Limits are
told by headers. Ray is installed into an environment of its own, see `tests/cluster/ray_cluster.py`.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.simulator import SimulatorProcess
from tests.cluster.ray_cluster import RayCluster
from tests.cluster.stage import LONG, QUICK, Counts, Stage
from tests.databases import own_database
from tests.helpers import Script, live_environment

from .child import ClientFailed
from .table import Table, verdict
from .work import PROVIDERS, simulator

WORKERS, SEED = 3, 17
ROWS, QUICK_ROWS = 20_000, 1_500
KILLS, QUICK_KILLS = 10, 3
RATE_ROWS, QUICK_RATE_ROWS = 12_000, 3_000
PATIENCE_S = 1_800.0
CPU_US, OF_BOUND = 400.0, 1.03
CPU_PER_S, BOUND_PER_S, BURST_S = 500.0, 100.0, 1.0
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def run(*, quick: bool = False, runs: int | None = None) -> list[Table]:
    """Two tables: kills, and rates. `runs` is not used: they are long enough by themselves."""
    rows, kills = (QUICK_ROWS, QUICK_KILLS) if quick else (ROWS, KILLS)
    killing = Table(
        f"Kills: {rows:,} tasks, {WORKERS} workers, calls of 2 s, {kills} kills -9 at random",
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
    rates = Table(
        "Rates", ["tasks/s", "what", "figure", "target", ""],
        notes=["The rate is that of the limits. Workers make real calls, to the simulator on this machine."],
    )  # fmt: skip
    for name, of_workers in (("the leader", 0.0), ("leader and workers", 0.5)):
        with _stage(rows) as stage:
            counts = _with_kills(stage, kills, of_workers)
            held = stage.lost
            good = counts.missing == counts.doubled == counts.refused == 0 and counts.extra_calls <= held
            cells = (counts.missing, counts.doubled, counts.refused, counts.extra_calls, held)
            killing.add(name, *cells, verdict(good, of_workers > 0 or counts.extra_calls == 0))
    with _stage(QUICK_RATE_ROWS if quick else RATE_ROWS) as stage:
        used_us = _leader_us(stage, CPU_PER_S)
        cpu = (f"{used_us:.0f} us", f"<= {CPU_US:.0f} us", verdict(used_us <= CPU_US))
        rates.add(f"{CPU_PER_S:.0f}", "the leader's processor time a task", *cpu)
    with _stage((QUICK_RATE_ROWS if quick else RATE_ROWS) // 2) as stage:
        share = _of_bound(stage, BOUND_PER_S)
        rates.add(
            f"{BOUND_PER_S:.0f}",
            "makespan / bound",
            f"{share:.3f}",
            f"<= {OF_BOUND}",
            verdict(share <= OF_BOUND),
        )
    return [killing, rates]


@contextmanager
def _stage(rows: int) -> Iterator[Stage]:
    with (
        tempfile.TemporaryDirectory() as folder,
        SimulatorProcess.start(simulator()) as providers,
        own_database() as database,
        RayCluster(live_environment(providers.base_urls), workers=WORKERS) as cluster,
    ):
        yield Stage(cluster, providers, Path(folder), database, rows)


# ------------------------------------------------------------------ kills


def _with_kills(stage: Stage, kills: int, of_workers: float) -> Counts:
    """Kill at random moments, evenly over the tasks; a killed leader is followed by the next one."""
    chance = random.Random(SEED)
    per_minute = 60.0 * len(stage.ids) / (kills * 12.0) / len(PROVIDERS)
    stage.provide({**LONG, "limits": {"requests_per_minute": per_minute, "burst_s": BURST_S}})
    moments = [len(stage.ids) * (n + chance.random()) / (kills + 1) for n in range(kills)]
    left = PATIENCE_S
    while True:
        with stage.leader() as leader:
            while moments and leader.process.poll() is None and left > 0:
                left -= 0.1
                time.sleep(0.1)
                if stage.calls < moments[0]:
                    continue
                moments.pop(0)
                if chance.random() >= of_workers:
                    leader.kill()
                    break
                os.kill(chance.choice(stage.cluster.worker_pids()), signal.SIGKILL)
            if leader.wait(PATIENCE_S) == 0:
                return stage.counts()
            if leader.process.poll() != -signal.SIGKILL:
                raise ClientFailed(leader.err[-2_000:])


# ------------------------------------------------------------------ rates


def _limits(per_s: float) -> dict[str, object]:
    return {**QUICK, "limits": {"requests_per_minute": 60.0 * per_s / len(PROVIDERS), "burst_s": BURST_S}}


def _leader_us(stage: Stage, per_s: float) -> float:
    """Processor time of the leader for each task, from the first fifth of them to the last."""
    stage.provide(_limits(per_s))
    first, last = len(stage.ids) // 5, len(stage.ids) * 4 // 5
    with stage.leader() as leader:
        stage.wait_for_calls(first, PATIENCE_S)
        calls, used_s = stage.calls, _cpu_s(leader)
        stage.wait_for_calls(last, PATIENCE_S)
        found = (_cpu_s(leader) - used_s) / (stage.calls - calls)
        if leader.wait(PATIENCE_S):
            raise ClientFailed(leader.err[-2_000:])
    return found * 1e6


def _cpu_s(script: Script) -> float:
    """Processor time of a process so far, user and system."""
    fields = Path(f"/proc/{script.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _of_bound(stage: Stage, per_s: float) -> float:
    """From the first call to the end of the last one, over the least that the limits allow."""
    stage.provide(_limits(per_s))
    with stage.leader() as leader:
        if leader.wait(PATIENCE_S):
            raise ClientFailed(leader.err[-2_000:])
    [(span_s,)] = stage.rows("SELECT max(started_at + latency_s) - min(started_at) FROM attempts")
    return float(span_s) / (len(stage.ids) / per_s - BURST_S)
