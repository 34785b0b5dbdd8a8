"""What `plan` says before a run, beside what the run then cost and took: the commands as a user types them.

Live state against the simulator, which enforces the limits of the settings: some hundred rows of the
same kind are run first, as somebody would try a file before starting all of it, since no plan can know how
long a model's answers are before it has seen some. Then `plan`, then `run` on rows that were never seen.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from pathlib import Path

from src.simulator import SimulatorProcess

from .child import ClientFailed
from .command import Command
from .limits import REQUESTS, TOKENS
from .table import Table, verdict
from .work import Json, folder, simulator

ROWS, TRIED = 1_000, 500
QUICK_ROWS, QUICK_TRIED = 250, 250
COST_WITHIN, TIME_WITHIN = 0.05, 0.10
TYPES = ("general", "code_generation", "creative_writing", "research", "analysis")
_WORDS = ("river", "winter", "engine", "letter", "market", "garden", "signal", "window", "harbour", "paper")


def run(*, quick: bool = False, runs: int | None = None) -> list[Table]:
    """A table with two rows per scenario and run: cost and time, planned and measured."""
    rows, tried = (QUICK_ROWS, QUICK_TRIED) if quick else (ROWS, TRIED)
    table = Table(
        f"`plan` on {rows:,} rows with limits set, then the run",
        ("limits", "what", "target", "planned", "measured", "off by", "verdict"),
    )
    for name, limits in _scenarios(rows).items():
        for number in range(runs or 1):
            _row(table, name, *_said_and_was(limits, rows, tried, seed=number))
    table.notes.append(
        "Rows of five task types and every tier, prompts of lognormal length, half of them with a max_tokens "
        f"of their own; {tried:,} others of that kind were answered before. Time: from the run's own "
        "summary, SDKs' imports included. The simulator's answers are lognormal in length (sigma 0.5)."
    )
    return [table]


def _scenarios(rows: int) -> dict[str, dict[str, Json]]:
    """Limits under which the rows take about half a minute."""
    share = rows / 1_500
    requests: dict[str, Json] = {
        name: {"requests_per_minute": n * share * 1.5} for name, n in REQUESTS.items()
    }
    tokens: dict[str, Json] = {
        name: {kind: limit * share for kind, limit in own.items()} for name, own in TOKENS.items()
    }
    return {"requests bind": requests, "tokens bind": tokens}


def _row(table: Table, name: str, plan: Json, was: Json) -> None:
    judged = (
        ("cost", COST_WITHIN, plan["expected_usd"], was["cost_usd"], "${:.3f}"),
        ("time", TIME_WITHIN, plan["duration_s"], was["took_s"], "{:.1f} s"),
    )
    for what, within, planned, measured, shown in judged:
        off = measured / planned - 1
        table.add(
            name, what, f"within {within:.0%}", shown.format(planned), shown.format(measured), f"{off:+.1%}",
            verdict(abs(off) <= within),
        )  # fmt: skip


# ------------------------------------------------------------------ the commands


def _said_and_was(limits: Mapping[str, Json], rows: int, tried: int, *, seed: int) -> tuple[Json, Json]:
    """(what `plan --json` says, the summary of `run --json`)."""
    config = simulator({name: {"limits": dict(own)} for name, own in limits.items()})
    with SimulatorProcess.start(config) as sim, folder() as path:
        tables = {f"providers.{name}.limits": own for name, own in limits.items()}
        command = Command(path, sim.base_urls, tables)
        before, file = (
            _write(path / "before.jsonl", tried, 2 * seed),
            _write(path / "rows.jsonl", rows, 2 * seed + 1),
        )
        command("run", before, "-o", path / "before.results.jsonl", "--yes", "--json", "--quiet")
        sim.reset()
        plan = command("plan", file, "--json")
        sim.reset()
        was = command("run", file, "-o", path / "rows.results.jsonl", "--yes", "--json", "--quiet")["summary"]
    if was["answered"] != rows:
        raise ClientFailed(f"{was['answered']} of {rows} rows were answered")
    return plan, was


def _write(path: Path, count: int, seed: int) -> Path:
    """Rows as people have them; another `seed` gives others of the same kind."""
    dice = random.Random(f"rows {seed}")
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            length = min(20_000, max(60, int(dice.lognormvariate(math.log(800.0), 0.8))))
            words = " ".join(dice.choice(_WORDS) for _ in range(length // 7))
            row: Json = {"prompt": f"Row {number} of {seed}: {words}", "task_type": dice.choice(TYPES)}
            if dice.random() < 0.5:
                row["max_tokens"] = dice.choice((256, 512, 1024))
            file.write(json.dumps(row) + "\n")
    return path
