"""Fifty agents of six turns at one provider's limits, through the gateway and through LiteLLM's proxy.

The simulator enforces ten requests a second and a limit of tokens that binds too, and counts its answers. The
bound is the shortest time in which the turns could pass both limits, however they are scheduled (see
bound.py), plus a median latency; that a turn waits for the one before it is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

from src.simulator import SimulatorProcess

from . import peers
from .bound import Bucket, shortest_s
from .child import median as middle
from .child import run_client
from .product import product
from .proxies import Kind, installed
from .table import NOT_JUDGED, Table, verdict
from .work import Json, folder, median_latency_s, simulator

RATIO = 1.05
REQUESTS_PER_S, BURST_S, TOKEN_BURST_S = 10.0, 1.0, 5.0
MAX_TOKENS = 400
LONGEST_S = 600.0


class Size(NamedTuple):
    """`tokens_per_minute` is chosen so that they bind as long as the requests do, or longer."""

    agents: int
    turns: int
    tokens_per_minute: float


FULL, QUICK = Size(50, 6, 330e3), Size(30, 4, 300e3)


class Client(NamedTuple):
    """`proxy` None: this project's gateway."""

    name: str
    proxy: Kind | None = None
    run_ids: bool = False
    again: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run came to. `provider_429s`: as the simulator counted them."""

    makespan_s: float
    bound_s: float
    provider_429s: int
    report: Json

    @property
    def ratio(self) -> float:
        return self.makespan_s / self.bound_s


def run(*, quick: bool = False, runs: int | None = None) -> list[Table]:
    """One table: a row per client."""
    size = QUICK if quick else FULL
    turns = size.agents * size.turns
    table = Table(
        f"{size.agents} agents of {size.turns} turns, {REQUESTS_PER_S:g} requests/s and "
        f"{size.tokens_per_minute:,.0f} tokens/min",
        ("client", "makespan / bound", "makespan", "an agent's mean finish", "429 by the provider",
         "seen by agents", "turns lost", "target", "verdict"),
    )  # fmt: skip
    ours: dict[bool, float] = {}
    for client in _clients():
        print(f"   {client.name} ...", flush=True)
        repeats = (runs or 1) if client.proxy is None else 1
        found = [_once(client, size) for _ in range(repeats)]
        mean_s = middle([_mean(each.report["finished_s"]) for each in found])
        if client.proxy is None:
            ours[client.run_ids] = mean_s
        _row(table, client, found, mean_s, turns)
    if ours.get(True) and ours.get(False):
        saved = 1 - ours[True] / ours[False]
        table.notes.append(f"With run ids an agent finishes {saved:.0%} earlier on average.")
    table.notes.append(
        "Agents repeat a failed turn as the openai SDK does, twice; `until answered`: without end. Finish: "
        "from the start of all to the agent's last answer, of the agents that finished."
    )
    if not installed():
        table.notes.append(peers.MISSING)
    return [table]


def _clients() -> list[Client]:
    found = [Client("this project, run ids", run_ids=True), Client("this project, no run ids")]
    for kind in installed():
        if kind.has_limits:
            found.append(Client(f"{kind.name}, its own limits", kind))
            found.append(Client(f"{kind.name}, its own limits, until answered", kind, again=True))
    return found


def _row(table: Table, client: Client, found: Sequence[Outcome], mean_s: float, turns: int) -> None:
    ratio = middle([each.ratio for each in found])
    worst = max(each.provider_429s for each in found)
    seen = max(each.report["seen_429"] for each in found)
    lost = max(each.report["turns_lost"] for each in found)
    judged = client.proxy is None
    table.add(
        client.name, "-" if lost else f"{ratio:.3f}",
        f"{middle([each.makespan_s for each in found]):.1f} s, bound {found[0].bound_s:.1f} s",
        f"{mean_s:.1f} s", worst, seen, f"{lost} ({lost / turns:.0%})",
        f"<= {RATIO:g}, no 429, 0 lost" if judged else "",
        verdict(ratio <= RATIO, not worst, not seen, not lost) if judged else NOT_JUDGED,
    )  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _once(client: Client, size: Size) -> Outcome:
    limits = {
        "requests_per_minute": REQUESTS_PER_S * 60, "tokens_per_minute": size.tokens_per_minute,
        "burst_s": BURST_S, "token_burst_s": TOKEN_BURST_S,
    }  # fmt: skip
    with ExitStack() as stack:
        sim = stack.enter_context(SimulatorProcess.start(simulator({"openai": {"limits": limits}})))
        path = stack.enter_context(folder())
        base_url, headers = sim.base_urls["openai"], dict[str, str]()
        if client.proxy is None:
            tables = {"providers.openai.limits": limits}
            port = stack.enter_context(product(path, {"openai": base_url}, tables)).port
        else:
            own = {"rpm": int(REQUESTS_PER_S * 60), "tpm": int(size.tokens_per_minute)}
            proxy = stack.enter_context(client.proxy.start(path, base_url, own))
            port, headers = proxy.port, dict(proxy.headers)
        spec = {
            "port": port, "headers": headers, "agents": size.agents, "turns": size.turns,
            "max_tokens": MAX_TOKENS, "run_ids": client.run_ids, "again": client.again,
        }  # fmt: skip
        report = run_client("benchmarks.agents_client", spec, (), timeout_s=LONGEST_S)
        stats = sim.stats()["openai"]
    makespan_s = report["last_answer_at"] - report["first_call_at"]
    return Outcome(makespan_s, _bound_s(report, limits), stats["by_status"].get("429", 0), report)


def _bound_s(report: Json, limits: Mapping[str, float]) -> float:
    requests, tokens = limits["requests_per_minute"] / 60, limits["tokens_per_minute"] / 60
    buckets = [Bucket(requests, requests * BURST_S), Bucket(tokens, tokens * TOKEN_BURST_S)]
    return (
        shortest_s([{"openai": row} for row in report["charges"]], {"openai": buckets}) + median_latency_s()
    )
