"""A batch that fills the limits of all providers, and a person who asks five times a second beside it.

The simulator enforces the limits; the product serves the batch from its queue, and the requests through its
gateway, until the batch has ended. The bound is the shortest time in which the rows and the requests could
pass the limits together, however they are scheduled (see bound.py), plus a median latency.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import NamedTuple

from src.simulator import SimulatorProcess

from .bound import Bucket, shortest_s
from .child import ClientFailed, quantile
from .child import median as middle
from .lanes_client import STEADY_MAX_TOKENS, steady_text
from .load import CHAT, Load, Seen
from .product import add_batch, answered, batch_span_s, product, wait_for_batch
from .table import Table, verdict
from .work import PROVIDERS, SEED, Prompt, as_task, charges, folder, prompts, simulator

PER_SECOND, LATENCY_S = 5.0, 0.3
WAIT_P95_S, RATIO = 1.0, 1.05
LANE, BATCH = "requests", "rows"
# Per second and 200 rows: at each provider another limit is the tighter one.
LIMITS: Mapping[str, Mapping[str, float]] = {
    "anthropic": {"requests_per_minute": 3_600.0, "output_tokens_per_minute": 900e3},
    "openai": {"requests_per_minute": 6_000.0, "tokens_per_minute": 2_400e3},
    "gemini": {"requests_per_minute": 4_200.0, "tokens_per_minute": 900e3},
}
TOKEN_BURST_S = 5.0


class Size(NamedTuple):
    """`share` of the limits above."""

    rows: int
    share: float


FULL, QUICK = Size(20_000, 1.0), Size(1_500, 0.6)


class Outcome(NamedTuple):
    """What one run came to."""

    makespan_s: float
    bound_s: float
    seen: Seen
    answers_429: int

    def wait_s(self, q: float) -> float:
        """A quantile of the seconds that requests waited beyond the provider's latency."""
        return quantile(self.seen.added_ms, q) / 1e3


def run(*, quick: bool = False, runs: int | None = None) -> list[Table]:
    """One table with a row per run, or with the medians of several."""
    size = QUICK if quick else FULL
    found = []
    for number in range(runs or 1):
        print(f"   run {number + 1} ...", flush=True)
        found.append(_once(size))
    table = Table(
        f"{size.rows:,} rows at the limits of three providers, {PER_SECOND:g} gateway requests/s beside them",
        ("requests", "waited p50", "p95", "p99", "failed", "answers 429", "batch", "batch / bound", "target",
         "verdict"),
    )  # fmt: skip
    p50, p95, p99 = (middle([each.wait_s(q) for each in found]) for q in (0.5, 0.95, 0.99))
    ratio = middle([each.makespan_s / each.bound_s for each in found])
    failed, refused = max(each.seen.failed for each in found), max(each.answers_429 for each in found)
    table.add(
        f"{found[0].seen.count:,}", f"{p50:.2f} s", f"{p95:.2f} s", f"{p99:.2f} s", failed, refused,
        f"{middle([each.makespan_s for each in found]):.1f} s, bound {found[0].bound_s:.1f} s",
        f"{ratio:.3f}", f"p95 <= {WAIT_P95_S:g} s, <= {RATIO:g}, no 429, 0 failed",
        verdict(p95 <= WAIT_P95_S, ratio <= RATIO, not failed, not refused),
    )  # fmt: skip
    table.notes.append(
        "Waited: at the client, beyond the provider's constant latency of 0.3 s. Batch: from its first "
        "call to the end of its last task."
    )
    return [table]


def _once(size: Size) -> Outcome:
    limits = {name: _scaled(own, size.share) for name, own in LIMITS.items()}
    latency = {"first_token_s": LATENCY_S, "per_token_s": 0.0, "jitter": 0.0}
    rows = {name: {"limits": own, "latency": latency} for name, own in limits.items()}
    inputs = prompts(size.rows, seed=SEED + 1, median_chars=400)
    lane = {
        "name": LANE, "kind": "steady", "path": CHAT, "model": "standard", "per_second": PER_SECOND,
        "latency_s": LATENCY_S,
    }  # fmt: skip
    with ExitStack() as stack:
        sim = stack.enter_context(SimulatorProcess.start(simulator(rows)))
        path = stack.enter_context(folder())
        tables = {f"providers.{name}.limits": own for name, own in limits.items()}
        ours = stack.enter_context(product(path, sim.base_urls, tables))
        store = stack.enter_context(ours.store())
        add_batch(store, BATCH, [as_task(n, each, BATCH) for n, each in enumerate(inputs)])
        load = Load([{**lane, "port": ours.port}])
        wait_for_batch(store, BATCH, timeout_s=900)
        seen = load.end()[LANE]
        if answered(store, BATCH) != size.rows:
            raise ClientFailed(f"{answered(store, BATCH):,} of {size.rows:,} rows were answered")
        refused = sum(row["by_status"].get("429", 0) for row in sim.stats().values())
        span_s = batch_span_s(store, BATCH)
    asked = [Prompt(steady_text(n), STEADY_MAX_TOKENS) for n in range(1, seen.count + 1)]
    return Outcome(span_s, _bound_s([*inputs, *asked], limits), seen, refused)


def _scaled(limits: Mapping[str, float], share: float) -> dict[str, float]:
    return {kind: limit * share for kind, limit in limits.items()} | {
        "burst_s": 1.0,
        "token_burst_s": TOKEN_BURST_S,
    }


def _bound_s(inputs: list[Prompt], limits: Mapping[str, Mapping[str, float]]) -> float:
    kinds = {name: [kind for kind in limits[name] if kind.endswith("_per_minute")] for name in PROVIDERS}
    dimensions = {name: [kind.removesuffix("_per_minute") for kind in own] for name, own in kinds.items()}
    buckets = {name: [_bucket(kind, limits[name][kind] / 60) for kind in kinds[name]] for name in PROVIDERS}
    return shortest_s(charges(inputs, dimensions), buckets) + LATENCY_S


def _bucket(kind: str, per_second: float) -> Bucket:
    """As the simulator fills it."""
    return Bucket(per_second, per_second * (1.0 if kind == "requests_per_minute" else TOKEN_BURST_S))
