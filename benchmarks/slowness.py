"""One slow provider beside healthy ones: the longest time without an answer, and the longest task.

A proxy (see fault_proxy.py) in front of one provider adds a fault that costs time and not errors:

    silent     its calls are never answered, its model list is
    hangs      connects to it are not answered
    slow       its answers take longer the more calls are in flight
    100 MB     it answers with 100 MB

Calls have the default time limit of 120 s. `alone`: no other provider is configured. A run in which no call
meets the fault shows nothing, and ends the benchmark.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from src.simulator import SimulatorProcess

from .child import lost, quantile, run_client
from .fault_proxy import FaultProxy
from .table import Table, verdict
from .work import NO_LIMITS, PROVIDERS, Json, prompts, simulator

SECONDS = 20.0
FAULT_FROM_S, FAULT_S = 5.0, 12.0
LATENCY_S = 0.25
CARRIES = (
    2  # calls in flight that slow nothing down: half of what the heaviest provider gets at 40 per second
)
HEALTHY_P95_S = 0.45  # lognormal, mean 0.25 s and sigma 0.3, and the way to the disk


class FaultMissed(RuntimeError):
    """No call met the fault: the row would show how healthy providers answer."""


@dataclass(frozen=True, slots=True)
class Case:
    """`gap_s`, `task_s`, `mb`: at most. None: printed only. `per_s`: how many tasks come in a second."""

    name: str
    fault: str
    gap_s: float | None = None
    task_s: float | None = None
    mb: float | None = None
    alone: bool = False
    per_s: float = 20.0


CASES = (
    Case("silent calls, list answers", "silent", gap_s=1.0, task_s=35.0),
    Case("connect hangs", "hangs", gap_s=1.0),
    Case("slow under load", "slow", gap_s=1.0, task_s=3 * HEALTHY_P95_S, per_s=40.0),
    Case("slow under load, alone", "slow", alone=True),
    Case("100 MB", "huge", gap_s=1.0, mb=400.0),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the pool; `calls` and `hits` as the slow provider counted them."""

    report: Json
    calls: int
    hits: int
    most_in_flight: int

    def latencies_s(self) -> list[float]:
        """Of the answered tasks."""
        return [latency for _, latency, ok in self.report["finished"] if ok]

    def longest_gap_s(self) -> float:
        """The longest time without an answered task while tasks come."""
        since = [at - self.report["started_at"] for at, _, ok in self.report["finished"] if ok]
        moments: list[float] = sorted([0.0, *(at for at in since if at < SECONDS), SECONDS])
        return max(b - a for a, b in itertools.pairwise(moments))


def run(*, quick: bool = False, runs: int | None = None) -> list[Table]:
    """One table: a row per fault and API format of the slow provider. Raises FaultMissed."""
    table = Table(
        f"Tasks for {SECONDS:.0f} s, one provider slow from {FAULT_FROM_S:g} s on for {FAULT_S:g} s",
        ("fault", "provider", "target", "p50", "p99", "longest task", "longest gap", "calls to it",
         "met the fault", "most in flight", "peak MB", "lost", "verdict"),
    )  # fmt: skip
    for case in CASES:
        for name in PROVIDERS[1:2] if quick else PROVIDERS:
            print(f"   {case.name}, {name} ...", flush=True)
            table.add(*_row(case, name, _once(case, name)))
    table.notes.append(
        f"20 tasks per second, 40 where a provider is slow under load beside others. Provider latency "
        f"{LATENCY_S:g} s, call timeout 120 s. Connects hang for the whole run. Slow under load: beyond "
        f"{CARRIES} calls in flight latency grows in proportion to them; a healthy p95 is "
        f"{HEALTHY_P95_S:g} s. Longest gap: the longest time without an answered task while tasks come. "
        "Met the fault: calls that did, as the provider counted them (for connects: as the pool did)."
    )
    return [table]


def _row(case: Case, name: str, found: Run) -> list[object]:
    latencies, gap_s, missing = found.latencies_s(), found.longest_gap_s(), lost(found.report)
    longest_s, mb = max(latencies, default=float("inf")), found.report["peak_mb"]
    targets = [
        ("gap", case.gap_s, gap_s, "s"),
        ("task", case.task_s, longest_s, "s"),
        ("peak", case.mb, mb, "MB"),
    ]
    limits = [f"{what} <= {most:g} {unit}" for what, most, _, unit in targets if most is not None]
    kept = [value <= most for _, most, value, _ in targets if most is not None]
    return [
        case.name, name, ", ".join([*limits, "0 lost"]), f"{quantile(latencies, 0.5):.2f} s",
        f"{quantile(latencies, 0.99):.2f} s", f"{longest_s:.2f} s", f"{gap_s:.2f} s", found.calls,
        found.hits, found.most_in_flight or "-", f"{mb:.0f}", missing, verdict(*kept, not missing),
    ]  # fmt: skip


def _once(case: Case, name: str) -> Run:
    """One run with the fault at the provider `name`. Raises FaultMissed."""
    arrivals = _arrivals(case.per_s)
    with ExitStack() as stack:
        sim = stack.enter_context(SimulatorProcess.start(simulator(latency_s=LATENCY_S)))
        proxy = FaultProxy(
            sim.base_urls[name],
            case.fault,
            from_s=FAULT_FROM_S,
            to_s=FAULT_FROM_S + FAULT_S,
            carries=CARRIES,
        )
        stack.enter_context(proxy)
        names = [name] if case.alone else list(PROVIDERS)
        spec = {
            "base_urls": {**{each: sim.base_urls[each] for each in names}, name: proxy.url},
            "control_urls": [sim.control_url, *proxy.control_urls],
            "settings": NO_LIMITS,
            "arrivals_s": arrivals,
        }
        report = run_client("benchmarks.pool", spec, prompts(len(arrivals)), timeout_s=400)
        hits = proxy.hits
        if case.fault == "hangs":  # no connect arrives at the proxy
            hits = sum(at == name and bool(error) for at, _, _, error in report["attempts"])
        if not hits:
            raise FaultMissed(f"{case.name}, {name}: none of {len(proxy.calls)} calls met the fault")
        return Run(report, len(proxy.calls), hits, proxy.most_in_flight)


def _arrivals(per_s: float) -> Sequence[float]:
    return [i / per_s for i in range(int(per_s * SECONDS))]
