"""Each provider failing in turn: tasks answered, how soon, and calls to a dead provider.

Three parts, each against the simulator's schedule of faults, which begins when the first task comes:

    outages   600 tasks at 20 per second; each provider resets every connection for 10 s, one after the other
    silences  the same; each provider accepts calls and never answers for 6 s, with 4 s of peace between
    dead      15 tasks in a minute while one provider is dead, then traffic: when does it get its share again?

Every client gives a call 5 s, since answers take a quarter of a second here.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from src.simulator import SimulatorProcess

from . import peers
from .child import ClientFailed, lost, quantile, run_client
from .child import median as middle
from .table import NOT_JUDGED, Table, verdict
from .work import NO_LIMITS, PROVIDERS, Json, prompts, simulator

RATE = 20.0  # tasks per second
OUTAGE_S, SILENCE_S, STEP_S, FIRST_S = 10.0, 6.0, 10.0, 1.0
TIMEOUT_S = 5.0
LATENCY_S = 0.25
# A silence is known 5 s (stall_timeout_s) after the last answer, which may come a latency after it began.
DETECTION_S = 5.0 + 2 * LATENCY_S
FEW, DEAD_S, AFTER_S, AFTER_RATE = 15, 60.0, 15.0, 4.0
DEAD = "openai"  # the one with the highest weight


@dataclass(frozen=True, slots=True)
class Run:
    """What a client made of one part. Moments are seconds since the first task."""

    finished: Sequence[tuple[float, float, bool]]  # (moment, latency, answered)
    attempts: Sequence[tuple[str, float, float, str]]  # (provider, moment, latency, error)
    stats: Json

    @property
    def lost(self) -> int:
        return sum(not ok for _, _, ok in self.finished)

    def latencies(self, outside: Sequence[tuple[float, float]] = ()) -> list[float]:
        """Of answered tasks that were not submitted within one of these spans."""
        return [
            latency
            for at, latency, ok in self.finished
            if ok and not any(start <= at - latency < end for start, end in outside)
        ]

    def longest_gap_s(self) -> float:
        """The longest time in which no task was answered."""
        moments = sorted(at for at, _, ok in self.finished if ok)
        return max((b - a for a, b in itertools.pairwise(moments)), default=float("inf"))


def run(*, quick: bool = False, runs: int | None = None) -> list[Table]:
    """Two tables: the tail through outages and silences, and how the dead one is treated."""
    failing = (DEAD,) if quick else PROVIDERS
    return [_in_turn(failing, runs or 1), _dead(0.4 if quick else 1.0, runs or 1)]


def _clients() -> list[tuple[str, str, Json]]:
    found: list[tuple[str, str, Json]] = [
        ("this project", "benchmarks.pool", {}),
    ]
    if peers.SDKS.python:
        found.append(("bare SDKs, 2 retries", peers.SDKS.script, {}))
    if peers.LITELLM.python:
        name = f"LiteLLM {peers.LITELLM.version}, simple-shuffle"
        found.append((name, peers.LITELLM.script, {"strategy": "simple-shuffle"}))
    return found


# ------------------------------------------------------------------ in turn


def _in_turn(failing: Sequence[str], runs: int) -> Table:
    arrivals = [i / RATE for i in range(int(RATE * STEP_S * len(failing)))]
    table = Table(
        f"{len(arrivals)} tasks at {RATE:g} per second, {' then '.join(failing)} failing",
        (
            "fault",
            "client",
            "target",
            "p50",
            "p99",
            "p99 outside detection",
            "longest gap",
            "lost",
            "verdict",
        ),
    )
    outages = _windows("outage", OUTAGE_S, failing)
    silences = _windows("silence", SILENCE_S, failing)
    detection = [(window["from_s"], window["from_s"] + DETECTION_S) for window in silences.values()]
    for fault, windows, left_out in (("10 s outage", outages, []), ("6 s silence", silences, detection)):
        for client, module, more in _clients():
            print(f"   {fault} in turn: {client} ...", flush=True)
            schedule = {name: [window] for name, window in windows.items()}
            try:
                found = [_once(module, more, schedule, arrivals) for _ in range(runs)]
            except ClientFailed as failed:
                if module == "benchmarks.pool":
                    raise
                table.add(fault, client, "", "-", "-", "-", "-", str(failed)[:60], "gave up")
                continue
            table.add(fault, client, *_tail(found, left_out, ours=module == "benchmarks.pool"))
    table.notes.append(
        "Times from submission to the answer (for this project: to its commit). Provider latency "
        f"{LATENCY_S:g} s, call timeout {TIMEOUT_S:g} s. Outside detection: without tasks submitted during "
        f"the first {DETECTION_S:g} s of a silence, before it can be known. Longest gap: the longest "
        "time without an answered task."
    )
    if not peers.all_installed():
        table.notes.append(peers.MISSING)
    return table


def _tail(found: Sequence[Run], left_out: Sequence[tuple[float, float]], *, ours: bool) -> list[str]:
    """The cells of one client's row; tasks submitted within `left_out` do not count for the target."""
    tail_s = middle([quantile(r.latencies(left_out), 0.99) for r in found])
    lost_tasks = max(r.lost for r in found)
    return [
        "p99 < 1 s outside detection, 0 lost" if ours else "",
        f"{middle([quantile(r.latencies(), 0.5) for r in found]):.2f} s",
        f"{middle([quantile(r.latencies(), 0.99) for r in found]):.2f} s",
        f"{tail_s:.2f} s",
        f"{middle([r.longest_gap_s() for r in found]):.2f} s",
        f"{lost_tasks} ({lost_tasks / len(found[0].finished):.0%})",
        verdict(tail_s < 1.0, not lost_tasks) if ours else NOT_JUDGED,
    ]


def _windows(fault: str, length_s: float, failing: Sequence[str]) -> dict[str, Json]:
    """One window for each provider, a step after the one before."""
    starts = {name: FIRST_S + i * STEP_S for i, name in enumerate(failing)}
    return {name: {"from_s": at, "to_s": at + length_s, "fault": fault} for name, at in starts.items()}


# ------------------------------------------------------------------ a dead provider


def _dead(scale: float, runs: int) -> Table:
    dead_s = DEAD_S * scale
    table = Table(
        f"{DEAD} dead for {dead_s:.0f} s with {FEW} tasks in that time, then {AFTER_RATE:g} tasks per second",
        ("client", "target", f"calls to {DEAD} while dead", "answered by it again after", "lost", "verdict"),
    )
    arrivals = [i * dead_s / FEW for i in range(FEW)]
    arrivals += [dead_s + i / AFTER_RATE for i in range(int(AFTER_S * AFTER_RATE))]
    schedule = {DEAD: [{"from_s": 0.0, "to_s": dead_s, "fault": "outage"}]}
    for client, module, more in _clients():
        print(f"   a dead provider: {client} ...", flush=True)
        try:
            found = [_once(module, more, schedule, arrivals) for _ in range(runs)]
        except ClientFailed as failed:
            if module == "benchmarks.pool":
                raise
            table.add(client, "", "-", "-", str(failed)[:60], "gave up")
            continue
        calls = max(_calls_until(r.stats[DEAD], dead_s) for r in found)
        back_s = middle([_first_answer_s(r, dead_s) - dead_s for r in found])
        lost_tasks = max(r.lost for r in found)
        ours = module == "benchmarks.pool"
        table.add(
            client, "<= 4 calls, back within 5 s, 0 lost" if ours else "", calls, f"{back_s:.1f} s",
            f"{lost_tasks} ({lost_tasks / len(arrivals):.0%})",
            verdict(calls <= 4, back_s <= 5.0, not lost_tasks) if ours else NOT_JUDGED,
        )  # fmt: skip
    table.notes.append(
        "Calls as the provider counted them; its free list of models, which shows that it is back, is not "
        "one. For the peers the moment of the first answer is known to the second only."
    )
    return table


def _calls_until(stats: Json, end_s: float) -> int:
    return sum(row["calls"] for row in stats["timeline"] if row["t"] < int(end_s))


def _first_answer_s(found: Run, dead_s: float) -> float:
    """When the provider first answered after it came back."""
    own = [at + took for name, at, took, error in found.attempts if name == DEAD and not error]
    seconds = [row["t"] for row in found.stats[DEAD]["timeline"] if row["ok"]]
    return min((moment for moment in own or seconds if moment >= dead_s), default=float("inf"))


# ------------------------------------------------------------------ one run of one client


def _once(module: str, more: Json, schedule: Json, arrivals: Sequence[float]) -> Run:
    rows = {name: {"schedule": windows} for name, windows in schedule.items()}
    with SimulatorProcess.start(simulator(rows, latency_s=LATENCY_S)) as sim:
        limits = {name: {**row, "timeout_s": TIMEOUT_S} for name, row in NO_LIMITS["providers"].items()}
        spec = {
            "base_urls": sim.base_urls,
            "control_url": sim.control_url,
            "settings": {"providers": limits},
            "arrivals_s": list(arrivals),
            "in_flight": 1000,
            "retries": 2,
            "timeout_s": TIMEOUT_S,
            **more,
        }
        python = peers.python_for(module)
        found = run_client(
            module, spec, prompts(len(arrivals)), timeout_s=120 + 3 * arrivals[-1], python=python
        )
        stats = sim.stats()
    zero = found["started_at"]
    assert lost(found) <= len(arrivals)
    return Run(
        [(at - zero, latency, ok) for at, latency, ok in found["finished"]],
        [(name, at - zero, took, error) for name, at, took, error in found.get("attempts", ())],
        stats,
    )
