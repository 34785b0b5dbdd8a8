"""One slow provider beside healthy ones: how long is nothing answered, and how long does a task take at most?

A front (see fronts.py) before one provider makes it ill in a way that costs time and not errors:

    silent     its calls are never answered, its model list is
    hangs      connects to it are not answered
    slow       its answers take longer the more calls it has
    100 MB     it answers with 100 MB

Tasks come at 20 per second, with the default time limit of 120 s. `alone`: no other provider is configured.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from src.simulator import SimulatorProcess

from .child import quantile, run_client
from .fronts import Front
from .table import Table, verdict
from .work import NO_LIMITS, PROVIDERS, Json, prompts, simulator

RATE, SECONDS = 20.0, 20.0
ILL_FROM_S, ILL_S = 5.0, 12.0
LATENCY_S = 0.25
HEALTHY_P95_S = 0.45  # lognormal, mean 0.25 s and sigma 0.3, and the way to the disk


@dataclass(frozen=True, slots=True)
class Case:
    """`gap_s`, `task_s`, `mb`: at most. None: printed only."""

    name: str
    kind: str
    gap_s: float | None = None
    task_s: float | None = None
    mb: float | None = None
    alone: bool = False


CASES = (
    Case("silent calls, list answers", "silent", gap_s=1.0, task_s=35.0),
    Case("connect hangs", "hangs", gap_s=1.0),
    Case("slow under load", "slow", gap_s=1.0, task_s=3 * HEALTHY_P95_S),
    Case("slow under load, alone", "slow", alone=True),
    Case("100 MB", "huge", gap_s=1.0, mb=400.0),
)


def run(*, quick: bool = False, runs: int | None = None) -> list[Table]:
    """One table: a row per condition and API format of the ill provider."""
    table = Table(
        f"{RATE * SECONDS:.0f} tasks at {RATE:g} per second, one provider slow from {ILL_FROM_S:g} s on "
        f"for {ILL_S:g} s",
        ("condition", "of", "target", "p50", "p99", "longest task", "longest gap", "its calls", "peak MB",
         "lost", "verdict"),
    )  # fmt: skip
    for case in CASES:
        for ill in PROVIDERS[1:2] if quick else PROVIDERS:
            print(f"   {case.name}, {ill} ...", flush=True)
            _row(table, case, ill)
    table.notes.append(
        f"Provider latency {LATENCY_S:g} s, call timeout 120 s. Connects hang for the whole run. Slow under "
        f"load: 8 calls at once, beyond that latency grows with the calls in flight; a healthy p95 is "
        f"{HEALTHY_P95_S:g} s. Longest gap: the longest time without an answered task. Its calls: what the "
        "ill provider got in the whole run."
    )
    return [table]


def _row(table: Table, case: Case, ill: str) -> None:
    found, calls = _once(case, ill)
    zero = found["started_at"]
    moments = sorted(at - zero for at, _, ok in found["finished"] if ok)
    gap_s = max((b - a for a, b in itertools.pairwise(moments)), default=float("inf"))
    latencies = [latency for _, latency, ok in found["finished"] if ok]
    lost = sum(not ok for _, _, ok in found["finished"])
    longest_s, mb = max(latencies, default=float("inf")), found["peak_mb"]
    targets = [
        ("gap", case.gap_s, gap_s, "s"),
        ("task", case.task_s, longest_s, "s"),
        ("peak", case.mb, mb, "MB"),
    ]
    told = [f"{name} <= {most:g} {unit}" for name, most, _, unit in targets if most is not None]
    kept = [value <= most for _, most, value, _ in targets if most is not None]
    table.add(
        case.name, ill, ", ".join([*told, "0 lost"]), f"{quantile(latencies, 0.5):.2f} s",
        f"{quantile(latencies, 0.99):.2f} s", f"{longest_s:.2f} s", f"{gap_s:.2f} s", calls, f"{mb:.0f}",
        lost, verdict(*kept, not lost),
    )  # fmt: skip


def _arrivals() -> Sequence[float]:
    return [i / RATE for i in range(int(RATE * SECONDS))]


def _once(case: Case, ill: str) -> tuple[Json, int]:
    arrivals = _arrivals()
    with ExitStack() as stack:
        sim = stack.enter_context(SimulatorProcess.start(simulator(latency_s=LATENCY_S)))
        front = stack.enter_context(
            Front(sim.base_urls[ill], case.kind, from_s=ILL_FROM_S, to_s=ILL_FROM_S + ILL_S)
        )
        names = [ill] if case.alone else list(PROVIDERS)
        spec = {
            "base_urls": {**{name: sim.base_urls[name] for name in names}, ill: front.url},
            "control_url": sim.control_url,
            "settings": NO_LIMITS,
            "arrivals_s": arrivals,
        }
        front.begin()
        found = run_client("benchmarks.pool", spec, prompts(len(arrivals)), timeout_s=400)
        ended = found["started_at"]
        calls = len(front.calls) if ended else 0
    return found, calls
