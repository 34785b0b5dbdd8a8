"""How long a decision takes, and a million tasks in virtual time: `routing/` has no clock, so nothing waits.

decision      one settle and the dispatch after it, with 3 providers: while slots bind (each settle frees one)
              and while limits bind (then the dispatches at a wake-up count too), with 100 and 100,000 waiting
virtual time  1,000,000 tasks over 20 providers, 2,000 slots, every provider's request limit binding
fairness      a batch of 10,000 is waiting when one of 1,000 comes: what each gets until the small one is done
"""

from __future__ import annotations

import gc
import heapq
import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from src.entry import GARBAGE_THRESHOLD
from src.messages import Message
from src.records import Completion, FinishReason, LimitReport, Placement, Task, Usage
from src.routing.balancer import ProviderLoadBalancer
from src.routing.scheduler import Scheduler
from src.routing.simulation import VirtualRun

from .child import median as middle
from .child import quantile
from .table import NOT_JUDGED, Table, verdict
from .work import PROVIDERS, Json, agents, limit_settings, settings_with

START = 1_795_000_000.0
MEDIAN_US, P99_US, MORE_WAITING, TASK_US = 40.0, 150.0, 1.2, 300.0
MANY, FEW = 100_000, 100
TURNS = 20
TYPES = ("general", "code_generation", "creative_writing", "research", "analysis")
_TEXTS = ["x" * length for length in (180, 400, 700, 1_200, 1_900, 3_200, 6_400)]  # about lognormal


def run(*, quick: bool = False, runs: int | None = None) -> list[Table]:
    """Two tables: decisions, and virtual time."""
    repeats = runs or (3 if quick else 5)
    gc.set_threshold(GARBAGE_THRESHOLD)  # as in the programs
    return [_decisions(2_000 if quick else 10_000, repeats), _virtual(100_000 if quick else 1_000_000)]


def endless_tasks(batch: str = "bench", *, typed: bool = False, seed: int = 1) -> Iterator[Task]:
    """Small and large ones in no order; `typed`: of all task types, so with preferences."""
    dice = random.Random(seed)
    for number in itertools.count():
        yield Task(
            id=str(number),
            batch=batch,
            messages=(Message("user", dice.choice(_TEXTS)),),
            task_type=dice.choice(TYPES) if typed else "general",
            max_tokens=dice.choice((256, 512, 1024)),
        )


# ------------------------------------------------------------------ one decision


@dataclass(slots=True)
class Cost:
    """Processor time of decisions, in microseconds."""

    each_us: list[float] = field(default_factory=list)  # a settle and the dispatch after it
    all_us: float = 0.0  # with the dispatches at wake-ups
    tasks: int = 0

    def add(self, other: Cost) -> None:
        self.each_us += other.each_us
        self.all_us += other.all_us
        self.tasks += other.tasks


class Desk:
    """Drives a Scheduler through time: calls end, wake-ups come, and what was placed is offered anew."""

    def __init__(self, settings: Any, waiting: int, latency_s: float, *, typed: bool = False) -> None:
        balancer = ProviderLoadBalancer(settings, now=START, jitter=random.Random(1))
        self._dispatch = Scheduler(balancer, settings)
        self._tasks = endless_tasks(typed=typed)
        self._dice = random.Random(2)
        self._latency_s = latency_s
        self._ends: list[tuple[float, int, Placement]] = []
        self._wake: float | None = None
        self._now = START
        for task in itertools.islice(self._tasks, waiting):
            self._dispatch.offer(task, self._now)
        self._decide()

    def work(self, rounds: int) -> Cost:
        """So many tasks to their end."""
        cost = Cost()
        while cost.tasks < rounds:
            if self._wake is not None and (not self._ends or self._wake < self._ends[0][0]):
                self._now = max(self._now, self._wake)
                cost.all_us += self._decide()
                continue
            self._now, _, placement = heapq.heappop(self._ends)
            us = self._decide(placement)
            cost.each_us.append(us)
            cost.all_us += us
            cost.tasks += 1
        return cost

    def _decide(self, ended: Placement | None = None) -> float:
        """Microseconds of one step: settle what ended, place what can go now."""
        answer = completion_for(ended) if ended else None
        began = time.thread_time_ns()
        if ended is not None:
            self._dispatch.settle(ended, self._now, completion=answer)
        placed = self._dispatch.dispatch(self._now)
        took = time.thread_time_ns() - began
        self._wake = placed.next_wake
        for placement in placed.placements:
            end = self._now + self._latency_s * self._dice.uniform(0.7, 1.3)
            heapq.heappush(self._ends, (end, placement.permit, placement))
        for task in itertools.islice(self._tasks, len(placed.placements)):
            self._dispatch.offer(task, self._now)
        return took / 1e3


def completion_for(placement: Placement) -> Completion:
    """An answer with usage and the headers that its provider sends."""
    usage = Usage(placement.task.text_chars // 4 + 4, 0, 0, 60 + placement.permit * 7 % 200)
    return Completion("done", FinishReason.STOP, usage, placement.model, _HEADERS.get(placement.provider, ()))


_HEADERS = {
    "anthropic": tuple(
        LimitReport(kind, 60_000_000, 59_000_000, 60.0)
        for kind in ("requests", "input_tokens", "output_tokens")
    ),
    "openai": tuple(LimitReport(kind, 60_000_000, 59_000_000, 60.0) for kind in ("requests", "tokens")),
}


def _wide() -> Any:
    """No limit binds: the slots do."""
    wide = {"requests_per_minute": 60e6, "burst_s": 1.0}
    return settings_with(
        limit_settings(
            {
                "anthropic": {**wide, "input_tokens_per_minute": 60e6, "output_tokens_per_minute": 60e6},
                "openai": {**wide, "tokens_per_minute": 60e6},
                "gemini": {**wide, "input_tokens_per_minute": 60e6},
            }
        )
    )


def _bound() -> Any:
    """Requests bind, with room in the slots."""
    return settings_with(limit_settings({name: {"requests_per_minute": 6_000.0} for name in PROVIDERS}))


def _decisions(rounds: int, repeats: int) -> Table:
    table = Table(
        "A decision: settle and dispatch, 3 providers",
        ("state", "waiting", "target", "median", "p99", "mean per task", "verdict"),
    )
    cases: list[tuple[str, Any, float, bool]] = [
        ("slots bind", _wide(), 0.5, False),
        ("limits bind", _bound(), 0.2, False),
        ("slots bind, all task types", _wide(), 0.5, True),
        ("limits bind, all task types", _bound(), 0.2, True),
    ]
    for name, settings, latency_s, typed in cases:
        print(f"   {name} ...", flush=True)
        few, many = _measured(settings, latency_s, typed, rounds, repeats)
        for waiting, costs in ((FEW, few), (MANY, many)):
            median = middle([quantile(c.each_us, 0.5) for c in costs])
            p99 = middle([quantile(c.each_us, 0.99) for c in costs])
            judged = waiting == FEW and not typed
            table.add(
                name, f"{waiting:,}", f"median <= {MEDIAN_US:g} us, p99 <= {P99_US:g} us" if judged else "",
                f"{median:.0f} us", f"{p99:.0f} us", f"{middle([c.all_us / c.tasks for c in costs]):.0f} us",
                verdict(median <= MEDIAN_US, p99 <= P99_US) if judged else NOT_JUDGED,
            )  # fmt: skip
        pairs = list(zip(few, many, strict=True))
        more = middle([quantile(b.each_us, 0.5) / quantile(a.each_us, 0.5) for a, b in pairs])
        mean_more = middle([b.all_us / b.tasks / (a.all_us / a.tasks) for a, b in pairs])
        table.add(
            name, f"{MANY:,} / {FEW}", f"<= {MORE_WAITING:g}", f"{more:.2f}", "", f"{mean_more:.2f}",
            verdict(more <= MORE_WAITING, mean_more <= MORE_WAITING),
        )  # fmt: skip
    table.notes.append(
        f"Processor time, garbage collection included; medians of {repeats} runs of {rounds:,} tasks. Mean "
        "per task: with the dispatches at wake-ups, which place what a limit has kept; a dispatch may "
        "place several. Answers carry the headers of their provider. Untyped tasks wait in 18 classes here,"
        " all types in up to 90."
    )
    return table


def _measured(
    settings: Any, latency_s: float, typed: bool, rounds: int, repeats: int
) -> tuple[list[Cost], list[Cost]]:
    """The same with few and with many waiting, in turns of a few hundred tasks: noise falls on both alike."""
    few: list[Cost] = []
    many: list[Cost] = []
    desks = [Desk(settings, waiting, latency_s, typed=typed) for waiting in (FEW, MANY)]
    for desk in desks:
        desk.work(rounds // 10)  # until slots and buckets are as they stay
    for _ in range(repeats):
        for found in (few, many):
            found.append(Cost())
        for _ in range(TURNS):
            for desk, found in zip(desks, (few, many), strict=True):
                found[-1].add(desk.work(rounds // TURNS))
    return few, many


# ------------------------------------------------------------------ virtual time

PROVIDERS_20, SLOTS, LATENCY_S = 20, 2_000, 0.9


def _twenty() -> Any:
    """20 providers whose request limits add up to 2,000 per second: with 0.9 s a call, 1,800 are out."""
    defaults = settings_with({}).model_dump()
    models = defaults["providers"]["openai"]["models"]
    rates = [40.0 + 120.0 * i / (PROVIDERS_20 - 1) for i in range(PROVIDERS_20)]
    rows: Json = {name: {"enabled": False} for name in PROVIDERS}
    for i, rate in enumerate(rates):
        rows[f"p{i:02}"] = {
            "api_format": "openai",
            "weight": rate / sum(rates),
            "base_url": "https://api.openai.com/v1",
            "models": models,
            "limits": {"requests_per_minute": rate * 60.0, "burst_s": 1.0},
        }
    homes = [{**row, "home": f"p{i:02}"} for i, row in enumerate(agents(SLOTS))]
    kinds: Json = {name: {"prefer": ""} for name in defaults["task_types"]}
    routing = {"emergency_provider": ""}
    return settings_with({"providers": rows, "agents": homes, "task_types": kinds, "routing": routing})


class _Service:
    """Stands for the providers: how long a call takes, what comes back, and how many are out."""

    def __init__(self) -> None:
        self._dice = random.Random(3)

    def __call__(self, placement: Placement, now: float) -> tuple[float, Completion]:
        return LATENCY_S * self._dice.uniform(0.8, 1.2), completion_for(placement)


def _virtual(count: int) -> Table:
    settings = _twenty()
    balancer = ProviderLoadBalancer(settings, now=START, jitter=random.Random(1))
    tasks = itertools.islice(endless_tasks(), count)
    began = time.process_time()
    report = VirtualRun(balancer, settings, _Service()).run(tasks, START)
    us = (time.process_time() - began) / count * 1e6
    used = [
        report.calls[name] / (row.limits.requests_per_minute / 60.0 * (report.makespan_s + 1.0))
        for name, row in settings.providers.items()
        if row.enabled
    ]
    table = Table(
        f"Virtual time: {count:,} tasks, {PROVIDERS_20} providers, {SLOTS:,} slots",
        ("what", "target", "figure", "verdict"),
    )
    answered = sum(report.statuses.values())
    table.add(
        "CPU per task, all of it",
        f"<= {TASK_US:g} us",
        f"{us:.0f} us",
        verdict(us <= TASK_US, answered == count),
    )
    out = count * LATENCY_S / report.makespan_s
    table.add("calls in flight, on average", "", f"{out:,.0f}", NOT_JUDGED)
    table.add("limit used, worst and best provider", "", f"{min(used):.1%}, {max(used):.1%}", NOT_JUDGED)
    table.add("fairness between two batches (Jain)", "", f"{_fairness(settings):.4f}", NOT_JUDGED)
    table.notes.append(
        f"{report.makespan_s:.0f} s of virtual time. CPU includes making the tasks and their answers. Limit"
        " used: calls by what burst and rate allow until the end. Fairness: see the top of decision.py; 1 "
        "is even."
    )
    return table


def _fairness(settings: Any) -> float:
    """Jain's index of what two batches get while both wait: 10,000 were there before 1,000 come."""
    dispatch = Scheduler(ProviderLoadBalancer(settings, now=START, jitter=random.Random(1)), settings)
    large, small = endless_tasks("large", seed=5), endless_tasks("small", seed=6)
    for task in itertools.islice(large, 10_000):
        dispatch.offer(task, START)
    now, ends = START, list[tuple[float, int, Placement]]()
    served: Counter[str] = Counter()
    service = _Service()
    left = 1_000
    for step in range(200_000):
        placed = dispatch.dispatch(now)
        for placement in placed.placements:
            heapq.heappush(ends, (now + service(placement, now)[0], placement.permit, placement))
            if left < 1_000 or step:
                served[placement.task.batch] += 1
                left -= placement.task.batch == "small"
        if step == 0:
            for task in itertools.islice(small, 1_000):
                dispatch.offer(task, now)
        if not left:
            break
        now = max(now, _next_moment(ends, placed.next_wake))
        while ends and ends[0][0] <= now:
            _, _, placement = heapq.heappop(ends)
            dispatch.settle(placement, now, completion=completion_for(placement))
    x, y = served["large"], served["small"]
    return (x + y) ** 2 / (2 * (x * x + y * y))


def _next_moment(ends: Sequence[tuple[float, int, Placement]], next_wake: float | None) -> float:
    """When a call ends or the scheduler wakes next."""
    return min(at for at in (ends[0][0] if ends else None, next_wake) if at is not None)
