"""What the pool costs on top of the SDKs: the client's own processor time per finished task.

Providers answer at once and limit nothing, 100 calls are in flight, and each client is a process of its own
whose time counts from its first finished task to its last begun one: neither imports nor the simulator are
in it. The clients take turns, so that a slow moment of the machine falls on all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from src.simulator import SimulatorProcess

from . import peers
from .child import ClientFailed, cpu_ms_per_task, lost, run_client
from .child import median as middle
from .table import NOT_JUDGED, Table, verdict
from .work import NO_LIMITS, PROVIDERS, Json, Prompt, agents, prompts, simulator

TASKS, QUICK_TASKS = 3_000, 600
IN_FLIGHT = 100
RATIO, MORE_MS = 0.9, 0.4
OURS, BARE, SAME = "this project, storing included", "bare SDKs as they come", "bare SDKs over aiohttp"


def run(*, quick: bool = False, runs: int | None = None) -> list[Table]:
    """One table: a row per client, and two for the targets."""
    inputs = prompts(QUICK_TASKS if quick else TASKS, median_chars=400)
    repeats = runs or (3 if quick else 5)
    times: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    intake_ms: list[float] = []
    split: Counter[str] = Counter()
    for number in range(repeats):
        print(f"   run {number + 1} of {repeats} ...", flush=True)
        for name, module, more in _clients(first=number == 0):
            try:
                found = _once(module, more, inputs)
            except ClientFailed:
                if name == OURS:
                    raise
                continue
            times.setdefault(name, []).append(cpu_ms_per_task(found, IN_FLIGHT))
            rates.setdefault(name, []).append(_per_second(found))
            if name == OURS:
                intake_ms.append(found["intake_cpu_s"] / len(inputs) * 1e3)
                split.update(provider for provider, *_ in found["attempts"])
    return [_table(times, rates, intake_ms, split, len(inputs), repeats)]


def _clients(*, first: bool) -> list[tuple[str, str, Json]]:
    even = {name: {**NO_LIMITS["providers"][name], "weight": 1 / 3} for name in PROVIDERS}
    ours = {"settings": {"providers": even, "agents": agents(IN_FLIGHT)}}
    found: list[tuple[str, str, Json]] = [
        (OURS, "benchmarks.pool", ours),
        (BARE, "benchmarks.bare", {"transport": "default"}),
        (SAME, "benchmarks.bare", {"transport": "aiohttp"}),
    ]
    if first and peers.litellm_python():  # once is enough: it is an order of magnitude away
        name = f"LiteLLM {peers.litellm_version()}, simple-shuffle"
        found.append((name, peers.SCRIPT, {"strategy": "simple-shuffle"}))
    return found


def _once(module: str, more: Json, inputs: Sequence[Prompt]) -> Json:
    with SimulatorProcess.start(simulator(latency_s=0.0)) as sim:
        spec = {
            "base_urls": sim.base_urls, "control_url": sim.control_url, "in_flight": IN_FLIGHT, "retries": 0,
            "timeout_s": 60, **more,
        }  # fmt: skip
        python = peers.litellm_python() if module == peers.SCRIPT else None
        found = run_client(module, spec, inputs, timeout_s=60 + len(inputs) / 10, python=python)
    if missing := lost(found):
        raise ClientFailed(f"{module}: {missing} tasks without an answer: {found.get('problems')}")
    return found


def _per_second(found: Json) -> float:
    moments = sorted(at for at, _, _ in found["finished"])
    return (len(moments) - 1) / float(moments[-1] - moments[0])


def _table(
    times: dict[str, list[float]], rates: dict[str, list[float]], intake_ms: list[float], split: Counter[str],
    count: int, repeats: int,
) -> Table:  # fmt: skip
    table = Table(
        f"Client CPU per finished task: {count:,} tasks, {IN_FLIGHT} in flight, providers without latency",
        ("what", "target", "figure", "tasks/s", "verdict"),
    )
    for name, found in times.items():
        table.add(name, "", f"{middle(found):.2f} ms", f"{middle(rates[name]):.0f}", NOT_JUDGED)
    ratio = middle([ours / bare for ours, bare in zip(times[OURS], times[BARE], strict=True)])
    more_ms = middle([ours - same for ours, same in zip(times[OURS], times[SAME], strict=True)])
    table.add(
        "this project / bare as they come", f"<= {RATIO:g}", f"{ratio:.2f}", "", verdict(ratio <= RATIO)
    )
    table.add(
        "this project - bare over aiohttp",
        f"<= {MORE_MS:g} ms",
        f"{more_ms:.2f} ms",
        "",
        verdict(more_ms <= MORE_MS),
    )
    table.add("this project: adding a task", "", f"{middle(intake_ms):.2f} ms", "", NOT_JUDGED)
    shares = ", ".join(f"{name} {split[name] / split.total():.0%}" for name in PROVIDERS)
    table.notes.append(
        f"Medians of {repeats} runs, the ratio and the difference too, run by run. Storing: claim, result, "
        "attempt and sums in SQLite with synchronous=FULL; adding a task happens before its run and is "
        f"shown apart. The SDKs go round-robin, ours with equal weights ({shares}). aiohttp: the transport "
        "that the SDKs offer and this project uses, for anthropic and openai; google-generativeai in "
        "threads everywhere. Both targets can be reached because our adapters read the SDKs' raw answers "
        "instead of their typed ones."
    )
    return table
