"""Each provider out for 5 % of the time, at random moments: the share of tasks answered within a minute.

A task's turn is when it arrives, since no limit binds here. Two parts:

    virtual   100,000 tasks over the scheduler in virtual time; a provider that is out answers 503 at once
    real      5,000 tasks over HTTP to the simulator, through the SDKs and the store; a provider that is out
              resets connections, answers 500, or is silent

The outages of one provider are exponential in length and scattered evenly, independent of those of others: so
at times two are out, and for an eight-thousandth of the time all three.
"""

from __future__ import annotations

import itertools
import math
import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from src.errors import Overloaded
from src.messages import Message
from src.records import Placement, Result, Task, TaskStatus
from src.routing.balancer import ProviderLoadBalancer
from src.routing.simulation import Answer, VirtualRun
from src.simulator import SimulatorProcess

from .child import run_client
from .decision import START, completion_for
from .table import NOT_JUDGED, Table, verdict
from .work import NO_LIMITS, PROVIDERS, Json, prompts, settings_with, simulator

OUT, WITHIN_S, TARGET = 0.05, 60.0, 0.999
TASKS, QUICK_TASKS, RATE = 100_000, 10_000, 5.0
OUTAGES_S = (60.0, 600.0)  # on average
REAL_TASKS, QUICK_REAL_TASKS, REAL_RATE = 5_000, 500, 20.0
REAL_OUTAGE_S = 6.0
FAULTS = ("outage", "server_error", "silence")
LATENCY_S, ERROR_S, TIMEOUT_S = 1.0, 0.05, 10.0

Window = tuple[float, float]


def run(*, quick: bool = False, runs: int | None = None) -> list[Table]:
    """A table with a row for each part, and one for what a single provider would have answered."""
    table = Table(
        f"Each provider out {OUT:.0%} of the time, at random moments",
        ("part", "tasks", "answered", f"within {WITHIN_S:g} s", "slowest", "all out", "target", "verdict"),
    )
    for seed in range(runs or 1):
        for outage_s in OUTAGES_S:
            name = f"virtual time, outages of {outage_s / 60:g} min"
            _row(table, name, *_virtual(QUICK_TASKS if quick else TASKS, outage_s, seed))
        _row(table, "over HTTP, outages of 6 s", *_real(QUICK_REAL_TASKS if quick else REAL_TASKS, seed))
    table.notes.append(
        f"Outages: their mean length, exponential. Virtual: {RATE:g} tasks per second, an answer after "
        f"{LATENCY_S:g} s. Over HTTP: {REAL_RATE:g} per second; outages reset connections, answer 500 or are "
        f"silent, in turn; an answer after 0.3 s, calls given up after {TIMEOUT_S:g} s. All out: the time in "
        f"which no provider could answer. One provider alone would answer {1 - OUT:.0%} at once."
    )
    return [table]


def _row(table: Table, name: str, latencies: Sequence[float], count: int, all_out_s: float) -> None:
    share = sum(latency <= WITHIN_S for latency in latencies) / count
    print(f"   {name}: {len(latencies)} of {count}, {share:.4%}", flush=True)
    table.add(
        name, f"{count:,}", f"{len(latencies):,}", f"{share:.3%}", f"{max(latencies):.1f} s",
        f"{all_out_s:.1f} s", f">= {TARGET:.1%}", verdict(share >= TARGET) if count >= 5_000 else NOT_JUDGED,
    )  # fmt: skip


# ------------------------------------------------------------------ outages


def outages(length_s: float, mean_s: float, seed: str) -> list[Window]:
    """Windows of exponential length that take `OUT` of the time, with exponential times between."""
    dice = random.Random(seed)
    count = max(1, round(length_s * OUT / mean_s))
    lengths = _shared([dice.expovariate(1.0) for _ in range(count)], length_s * OUT)
    gaps = _shared([dice.expovariate(1.0) for _ in range(count + 1)], length_s * (1.0 - OUT))
    found, at = [], 0.0
    for gap, length in zip(gaps, lengths, strict=False):
        found.append((at + gap, at + gap + length))
        at += gap + length
    return found


def _shared(parts: Sequence[float], total: float) -> list[float]:
    return [part * total / sum(parts) for part in parts]


def _end_of(windows: Sequence[Window], at: float) -> float | None:
    """When the outage at this moment ends; None without one."""
    index = bisect_right(windows, (at, float("inf"))) - 1
    return windows[index][1] if index >= 0 and at < windows[index][1] else None


def _all_out_s(windows: Sequence[Sequence[Window]]) -> float:
    edges = sorted({edge for each in windows for window in each for edge in window})
    return sum(
        b - a for a, b in itertools.pairwise(edges) if all(_end_of(each, a) is not None for each in windows)
    )


# ------------------------------------------------------------------ virtual time


class _Service:
    """Stands for the providers: an answer, or an error at once, or at the beginning of an outage."""

    def __init__(self, windows: dict[str, list[Window]]) -> None:
        self._windows, self._dice = windows, random.Random(3)

    def __call__(self, placement: Placement, now: float) -> tuple[float, Answer]:
        windows, at = self._windows[placement.provider], now - START
        latency_s = LATENCY_S * self._dice.uniform(0.8, 1.2)
        if _end_of(windows, at) is not None:
            return ERROR_S, Overloaded(f"{placement.provider} is out", status=503)
        begins = next((start for start, _ in windows[bisect_right(windows, (at, 0.0)) :]), math.inf)
        if begins < at + latency_s:
            return begins - at, Overloaded(f"{placement.provider} is out", status=503)
        return latency_s, completion_for(placement)


def _virtual(count: int, outage_s: float, seed: int) -> tuple[list[float], int, float]:
    length_s = count / RATE
    windows = {name: outages(length_s, outage_s, f"{seed} {name}") for name in PROVIDERS}
    settings = settings_with(NO_LIMITS)
    balancer = ProviderLoadBalancer(settings, now=START, jitter=random.Random(1))
    latencies: list[float] = []

    def note(result: Result) -> None:
        if result.status is TaskStatus.SUCCEEDED:
            latencies.append(result.finished_at - result.task.created_at)

    run = VirtualRun(balancer, settings, _Service(windows), timed=True, on_result=note)
    run.run(_arriving(count, seed), START)
    return latencies, count, _all_out_s(list(windows.values()))


def _arriving(count: int, seed: int) -> Iterator[Task]:
    dice, at = random.Random(seed), START
    for number in range(count):
        at += dice.expovariate(RATE)
        yield Task(
            id=str(number), batch="bench", messages=(Message("user", "x" * 400),), max_tokens=256,
            created_at=at,
        )  # fmt: skip


# ------------------------------------------------------------------ over HTTP


def _real(count: int, seed: int) -> tuple[list[float], int, float]:
    length_s = count / REAL_RATE
    windows = {name: outages(length_s, REAL_OUTAGE_S, f"{seed} {name}") for name in PROVIDERS}
    schedules: Json = {}
    for own, (name, found) in enumerate(windows.items()):
        schedules[name] = {
            "schedule": [
                {"from_s": start, "to_s": end, "fault": FAULTS[(own + number) % len(FAULTS)]}
                for number, (start, end) in enumerate(found)
            ]
        }
    rows = {name: {**row, "timeout_s": TIMEOUT_S} for name, row in NO_LIMITS["providers"].items()}
    with SimulatorProcess.start(simulator(schedules)) as simulated:
        came = run_client(
            "benchmarks.pool",
            {
                "base_urls": simulated.base_urls,
                "control_url": simulated.control_url,
                "settings": {"providers": rows},
                "arrivals_s": [number / REAL_RATE for number in range(count)],
            },
            prompts(count),
            timeout_s=length_s + 300.0,
        )
    return [latency for _, latency, ok in came["finished"] if ok], count, _all_out_s(list(windows.values()))
