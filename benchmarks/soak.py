"""A hundred thousand requests through one gateway, a tenth left by their clients, a tenth of calls failing.

The product runs as a user starts it, in front of the simulator, whose providers echo. All three APIs, whole
and streamed, to all three providers; half of the requests belong to runs. Requests that are broken off ask
for models of their own, so that the others' tokens can be compared exactly.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import NamedTuple

import sqlalchemy as sa

from src.core.store import Store
from src.core.store import schema as s
from src.records import Outcome
from src.simulator import SimulatorProcess

from .child import ROOT, ClientFailed, environment
from .product import Product, open_tasks, product
from .soak_client import ABORTED
from .table import NOT_JUDGED, Table, verdict
from .work import MODELS, NO_LIMITS, PROVIDERS, Json, folder, simulator

REQUESTS, QUICK_REQUESTS = 100_000, 5_000
IN_FLIGHT = 64
GROWTH = 0.10
EARLY = 0.2  # memory is compared with that after so much of the requests
REST_S, STALL_S = 30.0, 1.0
# Of all calls, together a tenth; `stream_` faults meet streams only.
FAULTS: Mapping[str, float] = {
    "server_error": 0.02, "overloaded": 0.02, "reset": 0.015, "malformed": 0.01, "bad_gateway": 0.01,
    "reset_midway": 0.01, "stream_cut": 0.01, "stream_error": 0.01, "stream_stall": 0.005,
}  # fmt: skip
LATENCY = {"first_token_s": 0.05, "per_token_s": 0.0005, "jitter": 0.3}


class Memory(NamedTuple):
    """Of the product at one moment."""

    rss_mb: float
    files: int


NO_MEMORY = Memory(0.0, 0)


@dataclass(slots=True)
class Found:
    """What one soak came to."""

    took_s: float = 0.0
    saw: Json = field(default_factory=dict)
    early: Memory = NO_MEMORY
    late: Memory = NO_MEMORY
    reserved_nanos: int = 0
    open_tasks: int = 0
    in_flight: int = 0
    stored: dict[str, tuple[int, ...]] = field(
        default_factory=dict
    )  # by model: answers, input, output tokens
    counted: dict[str, tuple[int, ...]] = field(default_factory=dict)
    calls: int = 0
    faults: int = 0
    attempts: int = 0


def run(*, quick: bool = False, runs: int | None = None) -> list[Table]:
    """One table. `runs` is not used: it is long enough by itself."""
    count = QUICK_REQUESTS if quick else REQUESTS
    return [_table(count, _soak(count))]


def _soak(count: int) -> Found:
    found = Found()
    row = {"echo": True, "latency": LATENCY, "faults": dict(FAULTS)}
    with ExitStack() as stack:
        sim = stack.enter_context(SimulatorProcess.start(simulator(dict.fromkeys(PROVIDERS, row))))
        path = stack.enter_context(folder())
        tables: Json = {
            f"providers.{name}.limits": NO_LIMITS["providers"][name]["limits"] for name in PROVIDERS
        }
        tables |= {f"providers.{name}": {"stall_timeout_s": STALL_S} for name in PROVIDERS}
        ours = stack.enter_context(product(path, sim.base_urls, tables))
        began = time.monotonic()
        _load(ours, count, found)
        found.took_s = time.monotonic() - began
        store = stack.enter_context(ours.store())
        _rest(store, sim, found)
        found.late = Memory(ours.rss_mb(), ours.open_files())
        _count(store, sim, found)
    return found


def _load(ours: Product, count: int, found: Found) -> None:
    """All requests. Raises ClientFailed where the client breaks."""
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.soak_client"], cwd=ROOT, text=True, env=environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdin is not None and child.stdout is not None
    try:
        child.stdin.write(json.dumps({"port": ours.port, "count": count, "in_flight": IN_FLIGHT}) + "\n")
        child.stdin.close()
        for line in child.stdout:
            if not line.startswith("progress"):
                found.saw = json.loads(line)
                break
            ended = int(line.split()[1])
            memory = Memory(ours.rss_mb(), ours.open_files())
            if ended <= count * EARLY:
                found.early = memory
            if ended % max(1, count // 10) == 0:
                print(f"   {ended:,} requests, {memory.rss_mb:.0f} MB, {memory.files} files", flush=True)
    finally:
        child.kill()
        child.wait()
    if not found.saw:
        raise ClientFailed("the client broke")


def _rest(store: Store, sim: SimulatorProcess, found: Found) -> None:
    """Wait until nothing is on its way, or for `REST_S`."""
    end = time.monotonic() + REST_S
    while time.monotonic() < end:
        with store.database.reading() as connection:
            reserved = sa.select(sa.func.coalesce(sa.func.sum(s.cost_reservations.c.nanos), 0))
            found.reserved_nanos = int(connection.execute(reserved).scalar_one())
        found.open_tasks = open_tasks(store)
        found.in_flight = sum(row["in_flight"] for row in sim.stats().values())
        if not (found.reserved_nanos or found.open_tasks or found.in_flight):
            break
        time.sleep(0.5)
    time.sleep(1.0)


def _count(store: Store, sim: SimulatorProcess, found: Found) -> None:
    a = s.attempts.c
    sums = (sa.func.count(), sa.func.sum(a.input_tokens), sa.func.sum(a.output_tokens))
    query = sa.select(a.model, *sums).where(a.outcome == Outcome.OK).group_by(a.model)
    with store.database.reading() as connection:
        found.stored = {model: tuple(map(int, row)) for model, *row in connection.execute(query)}
        found.attempts = connection.execute(sa.select(sa.func.count()).select_from(s.attempts)).scalar_one()
    stats = sim.stats().values()
    found.calls = sum(row["calls"] for row in stats)
    found.faults = sum(sum(row["by_fault"].values()) for row in stats)
    found.counted = {
        model: tuple(map(int, own.values())) for row in stats for model, own in row["answered"].items()
    }


# ------------------------------------------------------------------ the table


def _table(count: int, found: Found) -> Table:
    table = Table(
        f"{count:,} requests through one gateway, {IN_FLIGHT} in flight, {count / found.took_s:.0f} a second",
        ("what", "target", "figure", "verdict"),
    )
    saw = found.saw
    _add(table, "answered whole", "", f"{saw.get('answered', 0):,}")
    left, before = saw.get("broken_off", 0), saw.get("answered_before", 0)
    _add(table, "broken off by the client", "", f"{left:,}, and {before:,} answered before")
    _add(table, "calls that met a fault", "", f"{found.faults:,} of {found.calls:,}")
    _add(table, "ended by an error event after they had begun", "", f"{saw.get('error_event', 0):,}")
    _zero(table, "lost: an HTTP error or a closed connection", saw.get("error", 0))
    _zero(table, "not whole, but shown as a success", saw.get("not_whole", 0))
    early, late = found.early, found.late
    growth = late.rss_mb / early.rss_mb - 1 if early.rss_mb else 0.0
    _add(
        table, f"memory at {EARLY:.0%} and at the end", f"<= {GROWTH:+.0%}",
        f"{early.rss_mb:.0f} MB, {late.rss_mb:.0f} MB ({growth:+.1%})", growth <= GROWTH,
    )  # fmt: skip
    _add(
        table, "open files then", "not more at the end", f"{early.files}, {late.files}",
        late.files <= early.files,
    )  # fmt: skip
    _zero(table, "nano-dollars reserved at the end", found.reserved_nanos)
    _zero(table, "open tasks and calls at the end", found.open_tasks + found.in_flight)
    for model in MODELS.values():
        ours, theirs = found.stored.get(model, (0, 0, 0)), found.counted.get(model, (0, 0, 0))
        _add(
            table, f"{model}: answers, input and output tokens", "as the simulator counted",
            f"{_text(ours)}; {_text(theirs)}", ours == theirs,
        )  # fmt: skip
    booked = sum(found.stored.get(model, (0,))[0] for model in ABORTED.values())
    _add(table, "broken off, but answered and booked with its tokens", "", f"{booked:,}")
    _add(table, "calls as stored and as counted", "", f"{found.attempts:,}, {found.calls:,}")
    for problem, times in saw.get("problems", ()):
        table.notes.append(f"{times} x {problem}")
    return table


def _add(table: Table, what: str, target: str, figure: str, held: bool | None = None) -> None:
    table.add(what, target, figure, NOT_JUDGED if held is None else verdict(held))


def _zero(table: Table, what: str, figure: int) -> None:
    _add(table, what, "0", f"{figure:,}", not figure)


def _text(row: tuple[int, ...]) -> str:
    return " / ".join(f"{number:,}" for number in row)
