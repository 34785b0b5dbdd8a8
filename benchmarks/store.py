"""The store on a real disk: tasks per second in and out, and what a claim and a page cost as it fills.

in and out   add (500 a transaction), claim (500), finish (100 a commit, as the result writer gathers them)
claim        100 of 1,000 and of 1,000,000 queued tasks
pages        what the web reads, with 1,000 and with 1,000,000 tasks stored, a tenth of them finished
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from src.core.store import Registrant, Store, TaskSelection
from src.records import Attempt, Candidate, Outcome, PoolSnapshot, Result, Task, TaskStatus, Usage

from .child import median as middle
from .table import NOT_JUDGED, Table, verdict
from .work import BATCH, PROVIDERS, as_task, folder, prompts

PER_SECOND = 2_000.0
FLAT = 1.5  # how much dearer it may be at a thousand times the rows and still be called flat
TASKS, QUICK_TASKS = 20_000, 4_000
SMALL, LARGE, QUICK_LARGE = 1_000, 1_000_000, 100_000
ADD, CLAIM, FINISH = 500, 500, 100
CALLS = 50
NOW = 1_795_000_000.0
CLAIM_100 = "claim 100"
ME = "bench"
_REASONS = tuple(Candidate(name, f"{name}-model", 0.3) for name in PROVIDERS)
_ANSWER = "The short version is that two of the three assumptions hold. " * 10


def run(*, quick: bool = False, runs: int | None = None) -> list[Table]:
    """Two tables: throughput, and cost by size."""
    repeats = runs or (3 if quick else 5)
    return [_throughput(QUICK_TASKS if quick else TASKS, repeats), _by_size(QUICK_LARGE if quick else LARGE)]


def _tasks(count: int, first: int = 0) -> Iterator[Task]:
    """A thousand different prompts, over and over, each under an id of its own."""
    inputs = prompts(1_000, median_chars=600)
    return (as_task(i, inputs[i % len(inputs)]) for i in range(first, first + count))


def _open(path: Path) -> Store:
    store = Store.open(path, simulated=True)
    store.intake.create_batch(BATCH, now=NOW)
    store.orchestrators.register(Registrant(ME, 1, "bench", "simulated"), now=NOW)
    return store


def _result(task: Task) -> Result:
    provider = PROVIDERS[task.row % len(PROVIDERS)]
    attempt = Attempt(
        1, provider, f"{provider}-model", "gpt-engineer", Outcome.OK, NOW + task.row * 0.01, 0.5, "weighted",
        _REASONS, usage=Usage(300, 0, 0, 150), cost_nanos=1_500_000, max_tokens=512,
    )  # fmt: skip
    return Result(
        task, TaskStatus.SUCCEEDED, NOW + 1, (attempt,), output=_ANSWER, finish_reason="stop",
        tier="standard", baseline_nanos=4_000_000,
    )  # fmt: skip


# ------------------------------------------------------------------ throughput


def _throughput(count: int, repeats: int) -> Table:
    table = Table(
        f"Through the store: {count:,} tasks on SQLite, synchronous=FULL",
        ("what", "target", "tasks/s", "CPU per task", "verdict"),
    )
    steps: dict[str, list[tuple[float, float]]] = {"add": [], "claim": [], "finish": []}
    for number in range(repeats):
        print(f"   in and out, run {number + 1} of {repeats} ...", flush=True)
        with folder() as path, _open(path / "bench.db") as store:
            for step, took in _in_and_out(store, count):
                steps[step].append(took)
    for step, taken in steps.items():
        wall, cpu = middle([w for w, _ in taken]), middle([c for _, c in taken])
        table.add(step, "", f"{count / wall:,.0f}", f"{cpu / count * 1e3:.3f} ms", NOT_JUDGED)
    wall = middle([sum(w for w, _ in each) for each in zip(*steps.values(), strict=True)])
    cpu = middle([sum(c for _, c in each) for each in zip(*steps.values(), strict=True)])
    rate = count / wall
    table.add(
        "in and out: all three", f">= {PER_SECOND:,.0f}", f"{rate:,.0f}", f"{cpu / count * 1e3:.3f} ms",
        verdict(rate >= PER_SECOND),
    )  # fmt: skip
    table.notes.append(
        f"Medians of {repeats} runs. {ADD} tasks a transaction in, {CLAIM} a claim, {FINISH} results a "
        "commit, each with an attempt, an answer of 600 characters and all sums. One thread."
    )
    return table


def _in_and_out(store: Store, count: int) -> list[tuple[str, tuple[float, float]]]:
    """(step, (seconds, processor seconds)) of adding, claiming and finishing so many tasks."""
    submitted = list(_tasks(count))
    claimed: list[Task] = []

    def claim() -> None:
        while tasks := store.queue.claim(ME, CLAIM, now=NOW):
            claimed.extend(tasks)

    def finish() -> None:
        for results in _by(FINISH, map(_result, claimed)):
            assert len(store.queue.finish(ME, results)) == len(results)

    taken = [("add", _timed(lambda: store.intake.add_tasks(submitted, now=NOW))), ("claim", _timed(claim))]
    taken.append(("finish", _timed(finish)))
    assert len(claimed) == count
    return taken


def _by(size: int, results: Iterator[Result]) -> Iterator[list[Result]]:
    while chunk := list(itertools.islice(results, size)):
        yield chunk


def _timed(step: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    step()
    return time.perf_counter() - wall, time.process_time() - cpu


# ------------------------------------------------------------------ by size


def _by_size(large: int) -> Table:
    table = Table(
        f"A claim and a page, with {SMALL:,} and with {large:,} tasks stored",
        ("what", "target", f"at {SMALL:,}", f"at {large:,}", "times", "verdict"),
    )
    found: dict[str, list[float]] = {}
    sizes = []
    for count in (SMALL, large):
        print(f"   filling with {count:,} tasks ...", flush=True)
        with folder() as path, _open(path / "bench.db") as store:
            _fill(store, count)
            if hasattr(os, "sync"):
                os.sync()  # what filling has left to be written would slow down whatever comes next
            sizes.append((path / "bench.db").stat().st_size / count)
            for what, call in _operations(store):
                found.setdefault(what, []).append(_median_ms(call, store if what == CLAIM_100 else None))
    for what, (small_ms, large_ms) in found.items():
        times = large_ms / small_ms
        table.add(
            what, f"<= {FLAT:g} times", f"{small_ms:.2f} ms", f"{large_ms:.2f} ms", f"{times:.2f}",
            verdict(times <= FLAT or large_ms < 1.0),
        )  # fmt: skip
    table.notes.append(
        f"Medians of {CALLS} calls, processor and disk. A tenth of the tasks are finished, the others "
        "queued. What takes less than a millisecond counts as flat. The database takes "
        f"{sizes[-1] / 1024:.1f} KiB a task."
    )
    return table


def _fill(store: Store, count: int) -> None:
    store.intake.add_tasks(_tasks(count), now=NOW)
    left = count // 10
    while left and (tasks := store.queue.claim(ME, min(CLAIM, left), now=NOW)):
        store.queue.finish(ME, [_result(task) for task in tasks])
        left -= len(tasks)
    snapshot = PoolSnapshot(NOW, (), (), waiting=count, in_flight=0)
    store.orchestrators.heartbeat(ME, now=NOW, snapshot=snapshot)


def _operations(store: Store) -> list[tuple[str, Callable[[], object]]]:
    """A claim, and what the pages read."""
    page: list[int | None] = [None]

    def next_page() -> None:
        page[0] = store.tasks.page(50, before=page[0]).next_before

    done = [TaskStatus.SUCCEEDED]
    return [
        (CLAIM_100, lambda: store.queue.claim(ME, 100, now=NOW)),
        ("news (polled 20 times a second)", lambda: store.queue.poll(BATCH)),
        ("tasks by status, all", lambda: store.reports.task_counts()),
        ("page of the newest tasks", lambda: store.tasks.page(50)),
        ("page after page", next_page),
        ("page of finished tasks", lambda: store.tasks.page(50, TaskSelection(done))),
        ("batches", lambda: store.reports.batches()),
        ("summary", lambda: store.reports.summary(BATCH)),
        ("usage of a day by provider", lambda: store.reports.usage(NOW - 3600, NOW + 82_800)),
        ("50 results for export", lambda: store.result_sync.results_at(range(1, 51))),
        ("one task", lambda: store.tasks.find(BATCH, "t0000042")),
    ]


def _median_ms(call: Callable[[], Any], claiming: Store | None) -> float:
    """In the median. What is claimed is given back after each, outside the time."""
    taken = []
    for _ in range(CALLS + 1):
        began = time.perf_counter()
        found = call()
        taken.append((time.perf_counter() - began) * 1e3)
        if claiming:
            assert len(found) == 100
            claiming.queue.release(ME, found, now=NOW)
    return middle(taken[1:])  # the first compiles its statements
