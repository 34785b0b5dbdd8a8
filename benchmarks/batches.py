"""Half price: runs that may wait, through failing rows, expiring and endless batches, kills, and their plans.

See `batch_runs.py` for how a run is made. Three tables: what runs cost and whether they end in time, what
kills do to rows and money, and how near a plan comes.
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist

from src.simulator import SimulatorProcess
from src.simulator.batches.settings import Turnaround
from src.simulator.batches.store import dice_of

from .batch_runs import SPEED, TYPES, Bill, Outcome, Run, bill, rows, simulator
from .child import ClientFailed
from .table import NOT_JUDGED, Table, verdict
from .work import PROVIDERS, Json, folder

ROWS, QUICK_ROWS = 2_000, 600
DAY, ENDLESS, SHORT = "24h", "20m", "30m"
MOST_OF_LIVE = 0.60
EXPIRY_S = 1_800.0  # in place of 24 hours, so that it comes within the run
KILLS, QUICK_KILLS = 30, 3
ROWS_KILLED, KILLS_A_LIFE = 120, 3
SEEDS, QUICK_SEEDS = 20, 4
PLAN_SPEED = 40.0  # a poll each 5 s is then 200 s of a batch
CHEAPEST = "gemini"
LONGEST_S = 40_000.0  # a run with a longer batch would take hours
ROWS_PLANNED, ROWS_BEFORE = 1_000, 300
WITHIN, IN_BAND = 0.05, 0.8


def run(*, quick: bool = False, runs: int | None = None) -> list[Table]:
    """The tables. `runs` is not used: one run each is long enough."""
    with folder() as path:
        ends = _ends(path, QUICK_ROWS if quick else ROWS, quick=quick)
        kills = _kills(path, QUICK_KILLS if quick else KILLS)
        plans = _plans(path, QUICK_SEEDS if quick else SEEDS)
    return [ends, kills, plans]


# ------------------------------------------------------------------ cost and deadlines


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that has ended: what it came to, the bill, and what it said."""

    outcome: Outcome
    bill: Bill
    summary: Json
    pulled: int
    expired_batches: int
    batches: int


def _ended(path: Path, name: str, config: Json, tasks: Sequence[Json], within: str) -> Ended:
    with SimulatorProcess.start(config) as simulated:
        this = Run(path / name, simulated.base_urls, tasks, within)
        summary = this.to_its_end()
        outcome, charged = this.check(), bill(simulated)
    pulled = this.query("SELECT coalesce(sum(pulled_rows), 0) FROM provider_batches")[0][0]
    partly = "SELECT count(*) FROM provider_batches WHERE unanswered > 0"
    count = this.query("SELECT count(*) FROM provider_batches")[0][0]
    print(f"   {name}: {outcome}, {charged}, {pulled} pulled, {count} batches", flush=True)
    return Ended(outcome, charged, summary, pulled, this.query(partly)[0][0], count)


def _ends(path: Path, count: int, *, quick: bool) -> Table:
    table = Table(
        f"{count:,} rows that may wait",
        ("run", "answered", "in time", "in batches", "live", "cost", "of live", "target", "verdict"),
    )
    spread = rows(count, spread=True)
    faults: Json = {"row_faults": {"server_error": 0.1}, "expiring": 0.2, "window_s": EXPIRY_S}
    live = _ended(path, "live", simulator(), spread, "")
    failing = _ended(path, "failing", simulator(**faults), spread, DAY)
    short = _ended(path, "short", simulator(), spread, SHORT)
    found = {
        "live, no deadline": (live, live, "", 0.0),
        f"{DAY}; a tenth of the rows fail, a fifth of the batches expire": (
            failing, live, f"<= {MOST_OF_LIVE:.2f}", 86_400.0,
        ),
        f"{SHORT}": (short, live, f"<= {MOST_OF_LIVE:.2f}", 1_800.0),
    }  # fmt: skip
    if not quick:
        free = rows(count)  # not pinned: all go to the cheapest, which never ends one
        slow = simulator({"gemini": {"stuck": 1.0}})
        jobs: list[Callable[[], Ended]] = [
            lambda: _ended(path, "free", simulator(), free, ""),
            lambda: _ended(path, "endless", slow, free, ENDLESS),
        ]
        with ThreadPoolExecutor(2) as pool:
            alone, endless = [each.result() for each in [pool.submit(job) for job in jobs]]
        found["the same rows, not pinned: live"] = (alone, alone, "", 0.0)
        found[f"{ENDLESS}; Gemini's batches never end"] = (endless, alone, "all in time", 1_200.0)
    for name, (this, beside, target, due_s) in found.items():
        _end_row(table, name, this, beside, target, due_s)
    table.notes.append(
        f"The simulator's clock of batches runs {SPEED:g} times as fast; a batch takes 7 minutes in the "
        f"median and an hour at 90 %, and an expiring one {EXPIRY_S / 60:g} minutes. Deadlines run in real "
        f"time, so {ENDLESS} stands for a day: batches are cancelled ten minutes before their rows have to "
        f"go live. With failing rows {failing.expired_batches} of {failing.batches} batches expired."
    )
    return table


def _end_row(table: Table, name: str, this: Ended, beside: Ended, target: str, due_s: float) -> None:
    outcome, count = this.outcome, len(table.rows)
    cost, live = outcome.certain + outcome.uncertain, beside.outcome.certain + beside.outcome.uncertain
    in_time = not due_s or outcome.span_s <= due_s
    cheap = cost <= MOST_OF_LIVE * live or not target.startswith("<=")
    judged = verdict(in_time, cheap) if count and target else NOT_JUDGED
    table.add(
        name, f"{outcome.answered:,}", "yes" if in_time else "NO", f"{outcome.by_batch:,}",
        f"{outcome.answered - outcome.by_batch:,}", f"${cost / 1e9:.4f}", f"{cost / live:.2f}", target,
        judged,
    )  # fmt: skip


# ------------------------------------------------------------------ kills


@dataclass(slots=True)
class Killed:
    """What the kills of one provider's batches came to."""

    provider: str
    kills: int = 0
    lives: int = 0
    rows: int = 0
    wrong_rows: int = 0
    batches: int = 0
    created: int = 0
    paid_twice: int = 0
    booked: int = 0
    billed: int = 0
    unknown_calls: int = 0
    states: dict[str, int] = field(default_factory=dict)


def _kills(path: Path, kills: int) -> Table:
    table = Table(
        f"`kill -9` at {kills} random moments of a batch's life, for each provider",
        ("provider", "kills", "rows", "lost or doubled", "batches stored / created", "paid twice",
         "booked", "billed", "verdict"),
    )  # fmt: skip
    seeds = []
    for provider in PROVIDERS:
        this = Killed(provider)
        with SimulatorProcess.start(simulator()) as simulated:
            while this.kills < kills:
                seed = random.randrange(1_000_000)
                seeds.append(seed)
                _life(
                    path / f"{provider}-{this.lives}",
                    simulated,
                    this,
                    min(KILLS_A_LIFE, kills - this.kills),
                    seed,
                )
        off = abs(this.booked - this.billed)
        whole = not this.wrong_rows and not this.paid_twice and this.batches == this.created
        table.add(
            provider, this.kills, f"{this.rows:,}", this.wrong_rows, f"{this.batches} / {this.created}",
            this.paid_twice, f"${this.booked / 1e9:.6f}", f"${this.billed / 1e9:.6f}",
            verdict(whole, off <= this.rows),
        )  # fmt: skip
        print(f"   {this}", flush=True)
        states = ", ".join(f"{state}: {times}" for state, times in sorted(this.states.items()))
        table.notes.append(f"{provider}: killed in the states {states}.")
    table.notes.append(
        f"Lives of {ROWS_KILLED} rows pinned to the provider, killed up to {KILLS_A_LIFE} times each, "
        "then run to the end: half of the kills at any moment, half right after a step. Booked and "
        "billed are the batches'; they may differ by a nano-dollar a row, which is rounding. "
        f"Seeds {', '.join(map(str, seeds))}."
    )
    return table


def _life(path: Path, simulated: SimulatorProcess, this: Killed, kills: int, seed: int) -> None:
    dice = random.Random(seed)
    simulated.reset()
    tasks = rows(ROWS_KILLED, seed=seed, providers=[this.provider], task_type="general")
    life = Run(path, simulated.base_urls, tasks, DAY)
    for _ in range(kills):
        with life.started() as child:
            _wait(life, dice, child.poll)
            child.kill()
            child.wait()
        this.kills += 1
        state = life.query("SELECT state FROM provider_batches ORDER BY id DESC LIMIT 1")
        name = state[0][0] if state else "none"
        this.states[name] = this.states.get(name, 0) + 1
    life.to_its_end()
    try:
        outcome = life.check()
    except ClientFailed as failed:
        print(f"   seed {seed}: {failed}", flush=True)
        this.wrong_rows += 1
    else:
        this.wrong_rows += ROWS_KILLED - outcome.answered
    charged = bill(simulated)
    this.lives += 1
    this.rows += ROWS_KILLED
    this.batches += life.query("SELECT count(*) FROM provider_batches WHERE remote_id <> ''")[0][0]
    this.created += charged.created
    this.paid_twice += charged.paid_twice
    this.booked += life.query("SELECT coalesce(sum(cost_nanos), 0) FROM attempts WHERE choice = 'batch'")[0][
        0
    ]
    this.billed += charged.batch_nanos


def _wait(life: Run, dice: random.Random, is_over: Callable[[], int | None]) -> None:
    """Until a random moment: any after the rows are stored, or up to 50 ms after a step of a batch."""
    give_up_at = time.monotonic() + 30.0

    def until(query: str) -> None:
        while not life.query(query) and is_over() is None and time.monotonic() < give_up_at:
            time.sleep(0.002)

    until("SELECT 1 FROM tasks")
    if dice.random() < 0.5:
        time.sleep(dice.uniform(0.0, 9.0))
        return
    step = dice.choice(("create_sent_at", "submitted_at", "ended_at", "id"))
    until(f"SELECT 1 FROM provider_batches WHERE {step} IS NOT NULL")  # noqa: S608 - ours
    time.sleep(dice.uniform(0.0, 0.05))


# ------------------------------------------------------------------ plans


def _plans(path: Path, seeds: int) -> Table:
    table = Table(
        f"`plan --within {DAY}` and the run, {seeds} seeds", ("what", "target", "figure", "verdict")
    )
    chosen = _seeds_of_each_part(seeds)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: _planned(path / f"plan-{seed}", seed), chosen))
    off = [each.cost_usd / each.plan["expected_usd"] - 1 for each in found]
    worst = max(off, key=abs)
    table.add(
        "cost, median (worst)", f"within {WITHIN:.0%}", f"{statistics.median(off):+.1%} ({worst:+.1%})",
        verdict(abs(worst) <= WITHIN),
    )  # fmt: skip
    wanted = f">= {IN_BAND:.0%} of seeds"
    for what, inside in (
        ("cost", [each.plan["p10_usd"] <= each.cost_usd <= each.plan["p90_usd"] for each in found]),
        ("finish", [each.plan["p10_s"] <= each.took_s <= each.plan["p90_s"] for each in found]),
    ):
        held = verdict(sum(inside) >= IN_BAND * seeds)
        table.add(f"{what} within the stated p10 to p90", wanted, f"{sum(inside)} of {seeds}", held)
    table.notes.append(
        f"{ROWS_PLANNED:,} rows of {len(TYPES)} task types in batches of one provider, after {ROWS_BEFORE} "
        "live ones of that kind, of whose answers the expected cost is made. No batch was seen before: the "
        "times are those that are assumed, and the simulator's are drawn from the same distribution, in "
        f"its time. One seed comes from each of {seeds} equally likely parts of the times until the "
        "last batch has ended, so that chance does not decide."
    )
    return table


def _seeds_of_each_part(parts: int) -> list[int]:
    """For each of so many equally likely parts of the simulator's finish, the first seed that ends there.

    Seeds taken at random scatter: of 20, a perfect forecast of an 80 % range holds 14 to 18.
    """
    takes, found = Turnaround(), dict[int, int]()
    sigma = math.log(takes.p90_s / takes.median_s) / NormalDist().inv_cdf(0.9)
    for seed in itertools.count(1):
        drawn = [takes.draw(dice_of(seed, CHEAPEST, n).gauss(0.0, 1.0)) for n in range(1, len(TYPES) + 1)]
        if (last := max(drawn)) < LONGEST_S:
            place = NormalDist().cdf(math.log(last / takes.median_s) / sigma) ** len(TYPES)
            found.setdefault(int(place * parts), seed)
        if len(found) == parts:
            break
    return sorted(found.values())


@dataclass(frozen=True, slots=True)
class Planned:
    """What a plan says of batches, and what the run came to. `took_s`: until the last batch had ended.

    The time of batches is that of their clock. What the command itself takes is in real time.
    """

    plan: Json
    cost_usd: float
    took_s: float


def _planned(path: Path, seed: int) -> Planned:
    with SimulatorProcess.start(simulator(speed=PLAN_SPEED, seed=seed)) as simulated:
        before = rows(ROWS_BEFORE, seed=1_000 + seed)
        Run(path, simulated.base_urls, before, "", "before").to_its_end()
        this = Run(path, simulated.base_urls, rows(ROWS_PLANNED, seed=seed), DAY)
        plan = this.plan()["batches"]
        summary = this.to_its_end()
    first = "(SELECT min(created_at) FROM provider_batches)"
    took = f"submitted_at - {first} + {PLAN_SPEED} * (ended_at - submitted_at)"
    found = Planned(plan, summary["cost_usd"], this.query(f"SELECT max({took}) FROM provider_batches")[0][0])  # noqa: S608 - ours
    print(f"   seed {seed}: {found}", flush=True)
    return found
