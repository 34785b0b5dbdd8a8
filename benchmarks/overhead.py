"""What a row costs: processor time of the whole command `run`, beside a bare loop over the three SDKs.

Providers answer at once and limit nothing, and 100 calls are in flight. Every client is a process, measured
from its start to its end: imports, reading the rows, the plan, calls, storing, results. What the start alone
costs is measured with one row. The clients take turns, so that a slow moment of the machine falls on all.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from src.simulator import SimulatorProcess

from . import peers
from .child import ClientFailed, lost, run_client
from .child import median as middle
from .command import Command
from .table import NOT_JUDGED, Table, verdict
from .work import NO_LIMITS, PROVIDERS, Prompt, folder, prompts, simulator

ROWS, QUICK_ROWS = 4_000, 1_000
IN_FLIGHT = 100
RATIO = 0.8
OURS, BARE = "this project: `run`, whole command", "the three SDKs in a loop, as they come"
LITELLM_RUNS = 1  # enough: it is far away

Client = Callable[[Sequence[Prompt]], float]
"""Answers the prompts in a process; returns its processor time in seconds."""


@dataclass(slots=True)
class _Cost:
    """Of one client, run by run. `start_s`: processor time with one row."""

    ms_per_row: list[float] = field(default_factory=list)
    start_s: list[float] = field(default_factory=list)


def run(*, quick: bool = False, runs: int | None = None) -> list[Table]:
    """One table: a row per client, with the target in ours."""
    inputs = prompts(QUICK_ROWS if quick else ROWS, median_chars=400)
    repeats = runs or (3 if quick else 5)
    costs: dict[str, _Cost] = {}
    for number in range(repeats):
        print(f"   run {number + 1} of {repeats} ...", flush=True)
        for name, client in _clients(with_litellm=number < LITELLM_RUNS).items():
            cost = costs.setdefault(name, _Cost())
            cost.start_s.append(client(inputs[:1]))
            cost.ms_per_row.append(client(inputs) / len(inputs) * 1e3)
    return [_table(costs, len(inputs), repeats)]


def _clients(*, with_litellm: bool) -> dict[str, Client]:
    found: dict[str, Client] = {OURS: _ours}
    if peers.SDKS.python:
        found[BARE] = partial(_peer, peers.SDKS)
    if with_litellm and peers.LITELLM.python:
        found[f"LiteLLM {peers.LITELLM.version}: Router, simple-shuffle"] = partial(_peer, peers.LITELLM)
    return found


def _ours(inputs: Sequence[Prompt]) -> float:
    even = {f"providers.{name}": {"weight": 1 / len(PROVIDERS)} for name in PROVIDERS}
    ample = {f"providers.{name}.limits": NO_LIMITS["providers"][name]["limits"] for name in PROVIDERS}
    with SimulatorProcess.start(simulator(latency_s=0.0)) as sim, folder() as path:
        command = Command(path, sim.base_urls, {**even, **ample})
        options = ("--tier", "standard", "--concurrency", str(IN_FLIGHT), "--yes", "--json")
        said = command("run", _write(path / "rows.csv", inputs), "-o", path / "results.csv", *options)
    if said["summary"]["answered"] != len(inputs):
        raise ClientFailed(f"{said['summary']['answered']} of {len(inputs)} rows were answered")
    return command.cpu_s


def _write(path: Path, inputs: Sequence[Prompt]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("id", "prompt", "max_tokens"))
        rows.writerows((number, prompt.text, prompt.max_tokens) for number, prompt in enumerate(inputs))
    return path


def _peer(peer: peers.Peer, inputs: Sequence[Prompt]) -> float:
    with SimulatorProcess.start(simulator(latency_s=0.0)) as sim:
        spec = {
            "base_urls": sim.base_urls, "control_url": sim.control_url, "in_flight": IN_FLIGHT, "retries": 0,
            "timeout_s": 60, "strategy": "simple-shuffle",
        }  # fmt: skip
        found = run_client(peer.script, spec, inputs, timeout_s=60 + len(inputs) / 10, python=peer.python)
    if missing := lost(found):
        raise ClientFailed(f"{peer.script}: {missing} rows without an answer: {found.get('problems')}")
    return float(found["cpu_s"])


def _table(costs: Mapping[str, _Cost], count: int, repeats: int) -> Table:
    table = Table(
        f"CPU of the whole process: {count:,} rows, {IN_FLIGHT} in flight, providers without latency",
        ("client", "CPU per row", "of it the start", "CPU / bare loop", "target", "verdict"),
    )
    for name, cost in costs.items():
        start_ms = middle(cost.start_s) / count * 1e3
        ratio = _ratio(cost, costs.get(BARE))
        reached = verdict(ratio <= RATIO) if ratio is not None and name == OURS else NOT_JUDGED
        table.add(
            name, f"{middle(cost.ms_per_row):.2f} ms", f"{start_ms:.2f} ms ({middle(cost.start_s):.2f} s)",
            "" if ratio is None else f"{ratio:.2f}", f"<= {RATIO:g}" if name == OURS else "", reached,
        )  # fmt: skip
    table.notes.append(
        f"Medians of {repeats} runs (LiteLLM: {LITELLM_RUNS}), the ratio run by run. CPU: user and system "
        "time from the start of the process to its end. `run` reads a CSV file, plans it, stores each row, "
        "answer and attempt in SQLite with synchronous=FULL, and writes a CSV file; the others keep nothing. "
        "The SDKs (google-genai for Gemini) and LiteLLM have environments of their own."
    )
    if not peers.all_installed():
        table.notes.append(peers.MISSING)
    return table


def _ratio(cost: _Cost, bare: _Cost | None) -> float | None:
    if bare is None:
        return None
    return middle([ours / theirs for ours, theirs in zip(cost.ms_per_row, bare.ms_per_row, strict=False)])
