"""The pages' server under attack, beside a run: whether it answers, its memory, and what it costs the run.

The run and the server are those of `web`. `attacker.py` is a process of its own, and so is the client, which
asks /healthz ten times a second, as a load balancer does.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from src.simulator import SimulatorProcess

from .attacker import BOMBS, HALF_OPEN, UPLOADS
from .child import ROOT, environment, lost, makespan_s, quantile, run_client
from .table import Table, verdict
from .web import LONGEST_S, Server, SteadyClient, pages
from .work import PROVIDERS, folder, limit_settings, prompts, simulator

TOKEN = "a-token-for-the-benchmark-alone"
PER_SECOND, PATH = 10.0, "/healthz"
P99_MS, MEMORY_MB, SLOWER = 200.0, 400.0, 0.10
TASKS, QUICK_TASKS = 1_000, 200
SECONDS, QUICK_SECONDS = 60.0, 12.0


def run(*, quick: bool = False, runs: int | None = None) -> list[Table]:
    """One table with a row per run."""
    count, seconds = (QUICK_TASKS, QUICK_SECONDS) if quick else (TASKS, SECONDS)
    table = Table(
        f"{HALF_OPEN} half-open connections, {UPLOADS} uploads of 500 MB without a token and {BOMBS} "
        f"schema bombs beside a run of {count:,} tasks in {seconds:.0f} s",
        (
            "alone",
            "attacked",
            "slower",
            "/healthz p50",
            "p99",
            "errors",
            "memory",
            "what came",
            "target",
            "verdict",
        ),
    )
    for _ in range(runs or 1):
        alone_s, _, _ = _once(count, seconds, attacked=False)
        attacked_s, came, (latencies_ms, errors, memory_mb) = _once(count, seconds, attacked=True)
        slower, p99 = attacked_s / alone_s - 1, quantile(latencies_ms, 0.99)
        table.add(
            f"{alone_s:.1f} s", f"{attacked_s:.1f} s", f"{slower:+.1%}",
            f"{quantile(latencies_ms, 0.5):.1f} ms", f"{p99:.1f} ms", errors, f"{memory_mb:.0f} MB", came,
            f"< {SLOWER:.0%}, p99 < {P99_MS:.0f} ms, 0 errors, < {MEMORY_MB:.0f} MB",
            verdict(slower < SLOWER, p99 < P99_MS, not errors, memory_mb < MEMORY_MB),
        )  # fmt: skip
    table.notes.append(
        "Memory: the most that the server had at any time (VmHWM). What came: connections and requests of "
        "the attacker, which shares the processors with the others; each comes back when it is cut off."
    )
    return [table]


def _once(count: int, seconds: float, *, attacked: bool) -> tuple[float, str, tuple[list[float], int, float]]:
    """How long the run took, what the attacker sent, and latencies, errors and memory of the server."""
    limits = limit_settings(
        {name: {"requests_per_minute": count / seconds * 60 / len(PROVIDERS)} for name in PROVIDERS}
    )
    extra = {"ORCHESTRATOR_TOKEN": TOKEN}
    with SimulatorProcess.start(simulator()) as sim, folder() as path, pages(path, extra) as server:
        spec = {"base_urls": sim.base_urls, "settings": limits, "folder": str(path)}
        client = SteadyClient(server, PATH, PER_SECOND)
        attacker = _attack(server) if attacked else None
        try:
            found = run_client("benchmarks.pool", spec, prompts(count, median_chars=400), timeout_s=LONGEST_S)
        finally:
            came = attacker.communicate(timeout=60)[0] if attacker else ""
            seen = client.end()
        memory_mb = _most_memory_mb(server)
    assert not lost(found), found["problems"]
    text = ", ".join(f"{value:,} {name}" for name, value in json.loads(came or "{}").items())
    return makespan_s(found), text, (seen.latencies_ms, seen.errors, memory_mb)


def _attack(server: Server) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.attacker"], cwd=ROOT, text=True, env=environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdin is not None
    child.stdin.write(json.dumps({"port": server.port, "token": TOKEN}) + "\n")
    child.stdin.flush()
    return child


def _most_memory_mb(server: Server) -> float:
    """The peak of the server's resident memory; 0 where /proc does not show it."""
    try:
        lines = Path(f"/proc/{server.pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
