"""What a mixed file costs less than all-standard live calls to OpenAI, and which part of that is whose.

The command `run` on one file, each time with one more of these: the choice of tiers, the prompt cache,
the batch API. All rows stay at OpenAI, so that only these differ; a last run may use all three providers.
"""

from __future__ import annotations

import random
from pathlib import Path

from src.simulator import SimulatorProcess

from .batch_runs import Run, simulator
from .child import ClientFailed
from .table import NOT_JUDGED, Table, verdict
from .work import PROVIDERS, Json, folder

ROWS, QUICK_ROWS = 1_000, 250
TARGET = 0.40
SHORT, SHARED = 0.4, 0.3  # shares of the rows: short questions, and those with a long prompt in common
TYPES = ("general", "code_generation", "creative_writing", "research", "analysis")
_WORDS = ("river", "winter", "engine", "letter", "market", "garden", "signal", "window", "harbour", "paper")
_SHARED_PROMPT = "You answer questions about this handbook. " + " ".join(_WORDS) * 150


def run(*, quick: bool = False, runs: int | None = None) -> list[Table]:
    """One table; `runs` is not used: the simulator's answers do not vary."""
    count = QUICK_ROWS if quick else ROWS
    mixed = _rows(count)
    standard = [{**row, "tier": "standard", "providers": ["openai"]} for row in mixed]
    tiers = [{**row, "tier": "auto", "providers": ["openai"]} for row in mixed]
    steps: list[tuple[str, list[Json], str, bool]] = [
        ("all standard, live, OpenAI alone", standard, "", False),
        ("+ the choice of tiers", tiers, "", False),
        ("+ the prompt cache", tiers, "", True),
        ("+ batches", tiers, "24h", True),
        ("+ all three providers", [{**row, "tier": "auto"} for row in mixed], "24h", True),
    ]
    table = Table(
        f"A mixed file of {count:,} rows beside all-standard live calls to OpenAI",
        ("run", "cost", "saved by this step", "saved in all", "target", "verdict"),
    )
    costs: list[float] = []
    with folder() as path:
        for number, (name, rows, within, caches) in enumerate(steps):
            cost = _cost(path / str(number), rows, within, caches=caches)
            print(f"   {name}: ${cost:.4f}", flush=True)
            before, first = (costs or [cost])[-1], (costs or [cost])[0]
            costs.append(cost)
            saved = 1.0 - cost / first
            judged = name == "+ batches"
            table.add(
                name, f"${cost:.4f}", f"{(before - cost) / first:.0%}" if number else "",
                f"{saved:.0%}" if number else "", f">= {TARGET:.0%}" if judged else "",
                verdict(saved >= TARGET) if judged else NOT_JUDGED,
            )  # fmt: skip
    table.notes.append(
        f"{SHORT:.0%} of the rows are questions of less than 200 characters, the others have 300 to 4,000; "
        f"{SHARED:.0%} share a system prompt of about 2,500 tokens. Max_tokens 256 to 1,024. The lengths of "
        "the simulator's answers do not depend on the model. Steps are in points of the first cost; a batch "
        "reads nothing from the cache, so the second step is part of the third."
    )
    return [table]


def _rows(count: int) -> list[Json]:
    dice = random.Random(1)
    found = []
    for number in range(count):
        length = dice.randint(60, 190) if dice.random() < SHORT else dice.randint(300, 4_000)
        text = f"Question {number}: " + " ".join(dice.choice(_WORDS) for _ in range(length // 7))
        row: Json = {
            "id": f"r{number}", "prompt": text[:length], "task_type": dice.choice(TYPES),
            "max_tokens": dice.choice((256, 512, 1024)),
        }  # fmt: skip
        if dice.random() < SHARED:
            row["system"] = _SHARED_PROMPT
        found.append(row)
    return found


def _cost(path: Path, rows: list[Json], within: str, *, caches: bool) -> float:
    """Dollars. Raises ClientFailed where a row was not answered."""
    config = simulator()
    for name in PROVIDERS:
        config["providers"][name]["caching"] = caches
    settings = {"caching": {"enabled": caches}}
    with SimulatorProcess.start(config) as simulated:
        this = Run(path, simulated.base_urls, rows, within, settings=settings)
        summary = this.to_its_end()
        outcome = this.check()
    if outcome.answered != len(rows):
        raise ClientFailed(f"{outcome.answered} of {len(rows)} rows were answered")
    return float(summary["cost_usd"])
