"""What `plan` says before a run, beside what the run then cost and took: the commands as a user types them.

Live state against the simulator, which enforces the limits of the settings: some hundred rows of the
same kind are run first, as somebody would try a file before starting all of it, since no plan can know how
long a model's answers are before it has seen some. Then `plan`, then `run` on rows that were never seen.
"""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.simulator import SimulatorProcess

from .child import ROOT, ClientFailed
from .limits import REQUESTS, TOKENS
from .table import Table, verdict
from .work import PROVIDERS, Json, folder, simulator

ROWS, TRIED = 1_000, 500
QUICK_ROWS, QUICK_TRIED = 250, 250
COST_WITHIN, TIME_WITHIN = 0.05, 0.10
TIMEOUT_S = 600.0
TYPES = ("general", "code_generation", "creative_writing", "research", "analysis")
KEYS = {
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
    "openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL"),
    "gemini": ("GOOGLE_API_KEY", "GEMINI_BASE_URL"),
}
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
        command = _Command(path, sim, limits)
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


class _Command:
    """The command line over a state of its own, live, with the simulator behind its base URLs."""

    def __init__(self, path: Path, sim: SimulatorProcess, limits: Mapping[str, Json]) -> None:
        self._path = path
        self._settings = path / "limits.toml"
        tables = [_toml(f"providers.{name}.limits", own) for name, own in limits.items()]
        self._settings.write_text("".join(tables), encoding="utf-8")
        self._environ = {
            k: v for k, v in os.environ.items() if not k.upper().endswith(("_PROXY", "_API_KEY"))
        }
        for name in PROVIDERS:
            key, url = KEYS[name]
            self._environ |= {key: "no-key", url: sim.base_urls[name]}

    def __call__(self, *arguments: str | Path) -> Json:
        """Its standard output as JSON. Raises ClientFailed."""
        shared: list[str | Path] = ["--config", self._settings, "--state-dir", self._path / "state"]
        done = subprocess.run(
            [sys.executable, ROOT / "real_agent_orchestrator.py", *shared, *arguments],
            cwd=self._path, env=self._environ, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
        if done.returncode:
            raise ClientFailed(f"{arguments[0]} ended with {done.returncode}: {done.stderr[-2_000:]}")
        found: Json = json.loads(done.stdout)
        return found


def _toml(name: str, values: Mapping[str, Any]) -> str:
    return f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())


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
