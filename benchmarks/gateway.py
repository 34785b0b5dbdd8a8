"""What the gateway adds to a call: latency, time between chunks, CPU; and what a batch beside it pays.

The product runs as a user starts it, in front of a server that answers exactly when the load generator says
(see paced_upstream.py), so what is beyond that is the way. The batch beside it goes to the simulator's other
two providers, so no limit but the machine couples the two. Proxies of others stand before the same server.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from src.simulator import SimulatorProcess

from . import peers
from .child import ClientFailed
from .child import median as middle
from .command import Command
from .load import CHAT, Load, Seen, measure
from .paced_upstream import MODEL, PacedUpstream, paced_upstream
from .product import Product, add_batch, answered, batch_span_s, product, wait_for_batch
from .proxies import Proxy, installed
from .table import NOT_JUDGED, Table, verdict
from .web import Server
from .work import NO_LIMITS, SEED, Json, agents, as_task, folder, prompts, simulator

ADDED_P99_MS = {16: 5.0, 100: 20.0}  # beside nothing; beside the batch:
BESIDE_P99_MS = 15.0
LATENCY_S = {1: 0.02, 16: 0.1, 100: 0.5}  # of the provider, by requests in flight: up to 200 requests/s
CPU_MS, GAP_P99_MS, SLOWER, CHUNK_US = 0.8, 2.0, 0.03, 25.0
STREAMS, CHUNKS_PER_S = 100, 50
SLOTS = 400
OURS, DIRECT = "this project", "no gateway"
BATCH_PROVIDERS = ("anthropic", "gemini")
WARM_S = 2.0


class Size(NamedTuple):
    """`rows` of the batch, `batch_s` that its limits make it last; `seconds` and `repeats` measured."""

    rows: int
    batch_s: float
    seconds: float
    repeats: int
    warm_s: float


FULL, QUICK = Size(20_000, 60.0, 10.0, 3, 8.0), Size(400, 4.0, 1.5, 1, 4.0)


class Way(NamedTuple):
    """How requests reach the provider. `server` None: directly."""

    name: str
    port: int
    headers: Mapping[str, str]
    server: Server | None


def run(*, quick: bool = False, runs: int | None = None) -> list[Table]:
    """Four tables: latency, streams, processor time, and what a batch pays."""
    size = QUICK if quick else FULL._replace(repeats=runs or FULL.repeats)
    latency, streams = _latency_table(), _streams_table()
    costs: dict[str, float] = {}
    with paced_upstream() as upstream:
        with folder() as path, _ours(path, upstream) as ours:
            for way in (Way(DIRECT, upstream.port, {}, None), Way(OURS, ours.port, {}, ours)):
                _idle(way, size, latency, streams, costs)
        for kind in installed():
            with folder() as path, kind.start(path, upstream.base_url, {}) as proxy:
                one = size._replace(repeats=1)
                _idle(_way(kind.name, proxy), one, latency, streams, costs)
        costs["run"] = _run_ms(upstream, 300 if quick else 3_000)
        paid = _beside(upstream, size, latency, streams)
    return [latency, streams, _cpu_table(costs), paid]


def _way(name: str, proxy: Proxy) -> Way:
    return Way(name, proxy.port, proxy.headers, proxy)


@contextmanager
def _ours(path: Path, upstream: PacedUpstream) -> Iterator[Product]:
    ample = {"providers.openai.limits": NO_LIMITS["providers"]["openai"]["limits"]}
    with product(path, {"openai": upstream.base_url}, ample) as found:
        yield found


# ------------------------------------------------------------------ the loads


def closed(way: Way, in_flight: int) -> Json:
    """So many requests at any time."""
    return {
        "name": f"closed {way.name}", "kind": "closed", "port": way.port, "path": CHAT, "model": MODEL,
        "headers": dict(way.headers), "in_flight": in_flight, "latency_s": LATENCY_S[in_flight],
    }  # fmt: skip


def streams_of(way: Way, in_flight: int, seconds: float) -> Json:
    """So many streams at any time."""
    return {
        "name": f"streams {way.name}", "kind": "streams", "port": way.port, "path": CHAT, "model": MODEL,
        "headers": dict(way.headers), "in_flight": in_flight, "per_second": CHUNKS_PER_S,
        "chunks": int(CHUNKS_PER_S * min(seconds, 4.0)),
    }  # fmt: skip


def _measured(way: Way, lane: Json, seconds: float) -> tuple[Seen, float]:
    """What the load found, and processor seconds of the server in that time."""
    before_s = way.server.cpu_s() if way.server else None
    seen = measure([lane], seconds, seconds / 5)[lane["name"]]
    after_s = way.server.cpu_s() if way.server else None
    if seen.failed:
        raise ClientFailed(f"{way.name}: {seen.failed} of {seen.count} failed: {seen.problems}")
    return seen, 0.0 if before_s is None or after_s is None else after_s - before_s


# ------------------------------------------------------------------ beside nothing


def _idle(way: Way, size: Size, latency: Table, streams: Table, costs: dict[str, float]) -> None:
    measure([closed(way, 16)], WARM_S)
    measure([closed(way, 100)], size.warm_s)
    for in_flight in LATENCY_S:
        print(f"   {way.name}: {in_flight} in flight ...", flush=True)
        found = [_measured(way, closed(way, in_flight), size.seconds) for _ in range(size.repeats)]
        cpu_ms = middle([cpu_s / seen.count * 1e3 for seen, cpu_s in found])
        costs[way.name] = cpu_ms  # in the end that of the most requests per second
        _latency_row(latency, way.name, "", in_flight, [seen for seen, _ in found], size.seconds)
    for number in (16, STREAMS):
        print(f"   {way.name}: {number} streams ...", flush=True)
        lane = streams_of(way, number, size.seconds)
        try:
            found = [_measured(way, lane, size.seconds) for _ in range(size.repeats)]
        except ClientFailed as failed:
            if way.name in (OURS, DIRECT):
                raise
            streams.notes.append(str(failed)[:200])
            return
        cpu_us = middle([cpu_s / max(1, seen.chunks) * 1e6 for seen, cpu_s in found])
        _streams_row(streams, way.name, "", number, [seen for seen, _ in found], cpu_us)


def _latency_table() -> Table:
    table = Table(
        "Latency beyond the provider's own, by requests in flight",
        ("way", "beside", "in flight", "requests/s", "p50", "p99", "held back p99", "target", "verdict"),
    )
    table.notes.append(
        "Latency at the client less that of the provider, which the client has chosen (lognormal, mean 20, "
        "100 and 500 ms). Medians of the runs. The row without a gateway is what client and machine add. "
        "Held back: by this project, until a call may be sent, by its own account. Before it measures, the "
        "client warms up, until as many calls may be in flight as it asks for."
    )
    if not installed():
        table.notes.append(peers.MISSING)
    return table


def _latency_row(
    table: Table, name: str, beside: str, in_flight: int, seen: Sequence[Seen], seconds: float
) -> None:
    p99 = middle([each.added(0.99) for each in seen])
    most = BESIDE_P99_MS if beside else ADDED_P99_MS.get(in_flight)
    judged = name == OURS and most is not None
    table.add(
        name, beside, in_flight, f"{middle([each.count / seconds for each in seen]):.0f}",
        f"{middle([each.added(0.5) for each in seen]):.1f} ms", f"{p99:.1f} ms",
        f"{middle([each.waited(0.99) for each in seen]):.0f} ms" if name == OURS else "",
        f"p99 <= {most:g} ms" if judged else "", verdict(p99 <= (most or 0.0)) if judged else NOT_JUDGED,
    )  # fmt: skip


def _streams_table() -> Table:
    table = Table(
        f"Streams of {CHUNKS_PER_S} chunks a second",
        ("way", "beside", "streams", "chunk later p50", "p99", "gap longer p99", "CPU per chunk", "target",
         "verdict"),
    )  # fmt: skip
    table.notes.append(
        "Later: from the moment the provider sent a chunk until the client had it. Gap longer: how much "
        "longer the time between two chunks was than when they were sent. CPU per chunk: all of the server, "
        "the beginnings and ends of the streams too."
    )
    return table


def _streams_row(
    table: Table, name: str, beside: str, number: int, seen: Sequence[Seen], cpu_us: float
) -> None:
    gap = middle([each.gap(0.99) for each in seen])
    judged = name == OURS and not beside
    target = f"gap <= {GAP_P99_MS:g} ms, <= {CHUNK_US:g} us"
    table.add(
        name, beside, number, f"{middle([each.added(0.5) for each in seen]):.1f} ms",
        f"{middle([each.added(0.99) for each in seen]):.1f} ms", f"{gap:.1f} ms",
        f"{cpu_us:.0f} us" if cpu_us else "-", target if judged else "",
        verdict(gap <= GAP_P99_MS, cpu_us <= CHUNK_US) if judged else NOT_JUDGED,
    )  # fmt: skip


# ------------------------------------------------------------------ processor time


def _run_ms(upstream: PacedUpstream, count: int) -> float:
    """Processor milliseconds of one such call through the command `run`, without those of its start."""
    ample = {"providers.openai.limits": NO_LIMITS["providers"]["openai"]["limits"]}
    rows = [f"@wait=500 {n}: {each.text}" for n, each in enumerate(prompts(count, median_chars=400))]
    print(f"   the same calls through run: {count} ...", flush=True)
    with folder() as path:
        command = Command(path, {"openai": upstream.base_url}, ample)
        spent = []
        for name, texts in (("one", rows[:1]), ("all", rows)):
            with (path / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
                lines = csv.writer(file)
                lines.writerow(("id", "prompt", "max_tokens", "model"))
                lines.writerows((number, text, 256, MODEL) for number, text in enumerate(texts))
            command("run", path / f"{name}.csv", "-o", path / f"{name}.out.csv", "--yes", "--json")
            spent.append(command.cpu_s)
    return (spent[1] - spent[0]) / (count - 1) * 1e3


def _cpu_table(costs: Mapping[str, float]) -> Table:
    table = Table(
        "Processor time of the server per request, 100 in flight, 200 requests a second",
        ("way", "CPU per request", "above `run`", "target", "verdict"),
    )
    run_ms = costs["run"]
    for name, ms in costs.items():
        if name == DIRECT:
            continue
        judged = name == OURS
        table.add(
            "the same calls through `run`" if name == "run" else name, f"{ms:.2f} ms",
            "" if name == "run" else f"{ms - run_ms:+.2f} ms",
            f"<= {CPU_MS:+g} ms" if judged else "", verdict(ms - run_ms <= CPU_MS) if judged else NOT_JUDGED,
        )  # fmt: skip
    return table


# ------------------------------------------------------------------ beside a batch


def _beside(upstream: PacedUpstream, size: Size, latency: Table, streams: Table) -> Table:
    table = Table(
        f"What a batch of {size.rows:,} rows pays for the gateway's traffic",
        ("batch", "alone", "beside 16 requests", "slower", f"beside {STREAMS} streams", "slower", "target",
         "verdict"),
    )  # fmt: skip
    per_minute = size.rows / size.batch_s * 60 / len(BATCH_PROVIDERS)
    limited = {"requests_per_minute": per_minute, "burst_s": 1.0}
    ample = NO_LIMITS["providers"]["anthropic"]["limits"]
    kinds = {f"limits for {size.batch_s:.0f} s": limited}
    if size is not QUICK:
        kinds["as fast as the machine allows"] = ample
    for name, limits in kinds.items():
        spans = []
        for kind in ("alone", "closed", "streams"):
            print(f"   a batch, {name}: {kind} ...", flush=True)
            span_s, seen = _batch(upstream, size, limits, kind)
            spans.append(span_s)
            if kind == "closed" and seen:
                _latency_row(latency, OURS, f"a batch, {name}", 16, [seen], span_s)
            elif seen:
                _streams_row(streams, OURS, f"a batch, {name}", STREAMS, [seen], 0.0)
        alone_s, closed_s, streams_s = spans
        judged = limits is limited
        table.add(
            name, f"{alone_s:.1f} s", f"{closed_s:.1f} s", f"{closed_s / alone_s - 1:+.1%}",
            f"{streams_s:.1f} s", f"{streams_s / alone_s - 1:+.1%}",
            f"streams <= {SLOWER:.0%}" if judged else "",
            verdict(streams_s / alone_s - 1 <= SLOWER) if judged else NOT_JUDGED,
        )  # fmt: skip
    table.notes.append(
        "From the first call of the batch to the end of its last task. A machine that is busy with the batch "
        "alone has no time to give away: that row shows what the streams take."
    )
    return table


def _batch(upstream: PacedUpstream, size: Size, limits: Json, kind: str) -> tuple[float, Seen | None]:
    """How long the batch took, and what the load beside it saw."""
    rows = {name: {"limits": limits} for name in BATCH_PROVIDERS}
    tables: dict[str, Any] = {f"providers.{name}.limits": limits for name in BATCH_PROVIDERS}
    tables["providers.openai.limits"] = NO_LIMITS["providers"]["openai"]["limits"]
    tables["agents"] = agents(SLOTS)  # the default of 112 for all would hold streams back
    inputs = prompts(size.rows, seed=SEED + 1, median_chars=400)
    with ExitStack() as stack:
        sim = stack.enter_context(SimulatorProcess.start(simulator(rows)))
        path = stack.enter_context(folder())
        urls = {name: sim.base_urls[name] for name in BATCH_PROVIDERS} | {"openai": upstream.base_url}
        ours = stack.enter_context(product(path, urls, tables))
        store = stack.enter_context(ours.store())
        way = Way(OURS, ours.port, {}, ours)
        measure([closed(way, 100 if kind == "streams" else 16)], size.warm_s)
        lane = closed(way, 16) if kind == "closed" else streams_of(way, STREAMS, size.seconds)
        load = None if kind == "alone" else Load([lane], warm_s=WARM_S)
        add_batch(
            store, "beside", [as_task(n, each, "beside", BATCH_PROVIDERS) for n, each in enumerate(inputs)]
        )
        wait_for_batch(store, "beside", timeout_s=300 + 5 * size.batch_s)
        seen = load.end()[lane["name"]] if load else None
        if answered(store, "beside") != size.rows or (seen and seen.failed):
            raise ClientFailed(f"{answered(store, 'beside')} rows were answered; {seen and seen.problems}")
        return batch_span_s(store, "beside"), seen
