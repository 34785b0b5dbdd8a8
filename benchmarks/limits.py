"""At the providers' limits: how close to the bound, how many answers 429, how many tasks lost.

The simulator enforces each provider's true limits and counts its own answers; the pool runs as it does for a
user: store, dispatch, agents, the real SDKs. The bound is the shortest time in which any scheduler could pass
the same tasks through the same buckets (see bound.py), plus one median latency.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from src.simulator import SimulatorProcess

from . import peers
from .bound import Bucket, shortest_s
from .child import ClientFailed, lost, makespan_s, run_client
from .child import median as middle
from .table import NOT_JUDGED, Table, verdict
from .work import PROVIDERS, Json, Prompt, charges, limit_settings, median_latency_s, prompts, simulator

TASKS, QUICK_TASKS = 1_500, 500
IN_FLIGHT = 64  # of the peers; the pool has its default of 112 slots
REQUESTS = {"anthropic": 600.0, "openai": 900.0, "gemini": 600.0}  # per minute: 10, 15 and 10 per second
# Chosen so that 1,500 tasks take about 40 s: per minute, with a minute's worth at once.
TOKENS: Mapping[str, Mapping[str, float]] = {
    "anthropic": {"input_tokens_per_minute": 110e3, "output_tokens_per_minute": 36e3},
    "openai": {"tokens_per_minute": 170e3},
    "gemini": {"tokens_per_minute": 85e3},
}
DAY = "requests_per_day"


@dataclass(frozen=True, slots=True)
class Event:
    """A limit that changes once a third of the tasks has been sent."""

    provider: str
    limits: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Scenario:
    """`enforced` by the simulator, `configured` in the pool."""

    name: str
    enforced: Mapping[str, Mapping[str, float]]
    configured: Mapping[str, Mapping[str, float]]
    at_most: float | None  # times the bound; None: printed only
    most_429s: int  # of each provider
    event: Event | None = None
    with_peers: bool = False


class Client(NamedTuple):
    """`module` runs it; `more` stands in its specification."""

    name: str
    module: str
    more: Json | None = None


OURS = Client("this project", "benchmarks.pool")


def scenarios(count: int) -> list[Scenario]:
    """Token limits and the daily quota shrink with the number of tasks, so that they bind all the same."""
    requests = {name: {"requests_per_minute": limit, "burst_s": 1.0} for name, limit in REQUESTS.items()}
    share = count / TASKS
    tokens = {name: {kind: limit * share for kind, limit in own.items()} for name, own in TOKENS.items()}
    with_quota = {**requests, "gemini": {**requests["gemini"], DAY: float(count // 10)}}
    halved = {"requests_per_minute": REQUESTS["openai"] / 2}
    unseen = {"requests_per_minute": REQUESTS["gemini"] / 2}
    return [
        Scenario("requests bind, limits configured", requests, requests, 1.05, 0, with_peers=True),
        Scenario("tokens bind, limits configured", tokens, tokens, 1.05, 0, with_peers=True),
        Scenario("requests bind, nothing configured", requests, {}, 1.2, 5),
        Scenario(
            "openai's limit halved, headers show it", requests, requests, None, 5, Event("openai", halved)
        ),
        Scenario(
            "gemini's limit halved, no header shows it", requests, requests, None, 5, Event("gemini", unseen)
        ),
        Scenario("gemini's daily quota spent", with_quota, requests, None, 5),
    ]


def run(*, quick: bool = False, runs: int | None = None) -> list[Table]:
    """One table: a row per scenario and client."""
    count = QUICK_TASKS if quick else TASKS
    inputs = prompts(count)
    table = Table(
        f"{count:,} untyped tasks of lognormal size at the providers' limits",
        ("limits", "client", "target", "makespan / bound", "makespan", "429 a / o / g", "lost", "verdict"),
    )
    for scenario in scenarios(count):
        _row(table, scenario, OURS, inputs, runs or 1)
        if scenario.with_peers:
            for peer in _peers():
                _row(table, scenario, peer, inputs, 1)
    table.notes += _notes()
    return [table]


def _peers() -> list[Client]:
    found = []
    if peers.SDKS.python:
        found.append(Client("bare SDKs, 2 retries", peers.SDKS.script))
    if peers.LITELLM.python:
        name = f"LiteLLM {peers.LITELLM.version}"
        found.append(Client(name, peers.LITELLM.script))
        found.append(Client(f"{name}, retried until answered", peers.LITELLM.script, {"again": True}))
    return found


def _notes() -> list[str]:
    found = [
        "429 a / o / g: answers 429 of anthropic, openai and gemini, as the simulator counted them. "
        "Makespan: from the first call to the last answer (for this project: to its commit). Bound: see "
        "bound.py, plus a median latency. Where a limit changes in mid-run the bound knows the moment. "
        "Peers: round-robin over the bare SDKs, and litellm.Router (usage-based-routing-v2, with rpm and "
        "tpm), 64 in flight.",
    ]
    if not peers.all_installed():
        found.append(peers.MISSING)
    return found


# ------------------------------------------------------------------ one scenario, one client


@dataclass(slots=True)
class _Outcome:
    makespan_s: float
    bound_s: float
    answers_429: dict[str, int]
    lost: int

    @property
    def ratio(self) -> float:
        return self.makespan_s / self.bound_s


def _row(table: Table, scenario: Scenario, client: Client, inputs: Sequence[Prompt], runs: int) -> None:
    print(f"   {scenario.name}: {client.name} ...", flush=True)
    try:
        outcomes = [_once(scenario, client, inputs) for _ in range(runs)]
    except ClientFailed as failed:
        if client is OURS:
            raise
        table.add(scenario.name, client.name, "", "-", str(failed)[:60], "-", "-", "gave up")
        return
    worst = {name: max(o.answers_429[name] for o in outcomes) for name in PROVIDERS}
    ratio, lost_tasks = middle([o.ratio for o in outcomes]), max(o.lost for o in outcomes)
    took = f"{middle([o.makespan_s for o in outcomes]):.1f} s, bound {outcomes[0].bound_s:.1f} s"
    target, word = "", NOT_JUDGED
    if client is OURS:
        held = ratio <= (scenario.at_most or math.inf)
        target = _target(scenario)
        word = verdict(held, max(worst.values()) <= scenario.most_429s, not lost_tasks)
    table.add(
        scenario.name, client.name, target,
        "-" if lost_tasks else f"{ratio:.3f}",  # a client that answers only some is not faster
        took, " / ".join(map(str, worst.values())),
        f"{lost_tasks} ({lost_tasks / len(inputs):.0%})", word,
    )  # fmt: skip


def _target(scenario: Scenario) -> str:
    ratio = f"<= {scenario.at_most:g}, " if scenario.at_most else ""
    return f"{ratio}<= {scenario.most_429s} each, 0 lost"


def _once(scenario: Scenario, client: Client, inputs: Sequence[Prompt]) -> _Outcome:
    rows = {name: {"limits": dict(limits)} for name, limits in scenario.enforced.items()}
    with SimulatorProcess.start(simulator(rows)) as sim:
        event = _Watch(sim, scenario.event, len(inputs) // 3) if scenario.event else None
        spec = {
            "base_urls": sim.base_urls,
            "settings": limit_settings(
                {name: _without_day(own) for name, own in scenario.configured.items()}
            ),
            "limits": scenario.configured,
            "in_flight": IN_FLIGHT,
            "retries": 2,
            "timeout_s": 60,
            **(client.more or {}),
        }
        python = peers.python_for(client.module)
        try:
            found = run_client(client.module, spec, inputs, timeout_s=60 + len(inputs) / 2, python=python)
        finally:
            moment = event.close() if event else None
        stats = sim.stats()
    changed_after_s = None if moment is None else moment - found["first_call_at"]
    bound_s = _bound_s(scenario, inputs, changed_after_s)
    answers = {name: stats[name]["by_status"].get("429", 0) for name in PROVIDERS}
    return _Outcome(makespan_s(found), bound_s, answers, lost(found))


def _without_day(limits: Mapping[str, float]) -> dict[str, float]:
    """The limits that the settings know: all but the daily quota."""
    return {name: value for name, value in limits.items() if name != DAY}


# ------------------------------------------------------------------ the bound


def _bound_s(scenario: Scenario, inputs: Sequence[Prompt], changed_after_s: float | None) -> float:
    """The shortest time for these tasks under what is enforced, and one median latency."""
    kinds = {name: [k for k in own if not k.endswith("burst_s")] for name, own in scenario.enforced.items()}
    dimensions = {name: [k.removesuffix("_per_minute") for k in own] for name, own in kinds.items()}
    buckets = {
        name: [_bucket(kind, scenario.enforced[name]) for kind in kinds[name]] for name in scenario.enforced
    }
    event = scenario.event
    if event and changed_after_s is not None:
        own = buckets[event.provider]
        for i, kind in enumerate(kinds[event.provider]):
            if kind in event.limits:
                later = event.limits[kind] / 60
                own[i] = Bucket(later, own[i].burst + (own[i].rate - later) * changed_after_s)
    return shortest_s(charges(inputs, dimensions), buckets) + median_latency_s()


def _bucket(kind: str, limits: Mapping[str, float]) -> Bucket:
    """As the simulator fills it: a second of requests, a minute of tokens, a day without refill."""
    limit = limits[kind]
    if kind == DAY:
        return Bucket(0.0, limit)
    seconds = limits.get("burst_s", 1.0) if kind == "requests_per_minute" else 60.0
    return Bucket(limit / 60, max(1.0, limit / 60 * seconds))


# ------------------------------------------------------------------ what changes in mid-run


class _Watch:
    """Applies an event once so many calls have come in; `close` returns the moment, None if it never came."""

    def __init__(self, sim: SimulatorProcess, event: Event, after_calls: int) -> None:
        self._sim, self._event, self._after = sim, event, after_calls
        self._moment: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        calls: Callable[[], int] = lambda: sum(row["calls"] for row in self._sim.stats().values())  # noqa: E731
        while not self._ended.wait(0.1):
            if calls() >= self._after:
                self._moment = time.time()
                self._sim.patch(self._event.provider, {"limits": dict(self._event.limits)})
                return

    def close(self) -> float | None:
        self._ended.set()
        self._thread.join(15)
        return self._moment
