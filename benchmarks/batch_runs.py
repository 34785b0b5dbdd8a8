"""Runs that may wait for the providers' batch APIs: rows, the simulator, the command, and the bill.

The command `run` is a child process. The simulator's clock of batches runs `SPEED` times as fast, so that a
batch of half an hour takes seconds; deadlines run in real time.
"""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.config import DEFAULTS_FILE, load_settings
from src.records import Usage
from src.routing.cost.price_table import PriceTable
from src.simulator import SimulatorProcess

from .child import ROOT, ClientFailed
from .command import keyed_environment, write_settings
from .work import PROVIDERS, Json, prompts

SPEED = 300.0
TYPES = ("general", "code_generation", "creative_writing", "research", "analysis")
GIVE_UP_S = 1_500.0
LIVE_LATENCY = {"first_token_s": 0.2, "per_token_s": 0.0, "jitter": 0.3}
LIMITS = {"requests_per_minute": 6_000}


def simulator(
    providers: Mapping[str, Json] | None = None, *, speed: float = SPEED, seed: int = 1, **batches: Any
) -> Json:
    """The simulator's configuration: `batches` of each provider, and what `providers` add."""
    rows = {
        name: {"latency": LIVE_LATENCY, "batches": {**batches, **(providers or {}).get(name, {})}}
        for name in PROVIDERS
    }
    return {"seed": seed, "batch_clock_factor": speed, "providers": rows}


def rows(count: int, *, seed: int = 1, spread: bool = False, **fields: Any) -> list[Json]:
    """Rows of five task types. `spread`: a third pinned to each provider, so that all have batches."""
    dice = random.Random(seed)
    found = []
    for number, prompt in enumerate(prompts(count, seed=seed, median_chars=500.0)):
        row: Json = {
            "id": f"r{number}", "prompt": prompt.text, "max_tokens": prompt.max_tokens,
            "task_type": dice.choice(TYPES), **fields,
        }  # fmt: skip
        if spread:
            row["providers"] = [PROVIDERS[number % len(PROVIDERS)]]
        found.append(row)
    return found


class Run:
    """The command `run` on a file of rows, in a folder with a state; started as often as it is killed."""

    def __init__(
        self,
        path: Path,
        base_urls: Mapping[str, str],
        tasks: Sequence[Json],
        within: str,
        name: str = "tasks",
        settings: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """`settings`: tables of the configuration, by their name."""
        path.mkdir(exist_ok=True)
        self.path, self.tasks, self._within, self._name = path, tasks, within, name
        text = "".join(json.dumps(task) + "\n" for task in tasks)
        (path / f"{name}.jsonl").write_text(text, encoding="utf-8")
        limits = {f"providers.{name}.limits": LIMITS for name in PROVIDERS}
        tables = {"budgets": {"daily_usd": 1e6}, **limits, **(settings or {})}
        self._settings = write_settings(path / "settings.toml", tables)
        self._environ = keyed_environment(base_urls)
        self.took_s = 0.0
        self.output = ""

    def command(self, *arguments: str) -> list[str]:
        """The command line of a verb on the file."""
        within = ("--within", self._within) if self._within else ()
        verb, *rest = arguments
        return [
            sys.executable, str(ROOT / "real_agent_orchestrator.py"), "--config", str(self._settings),
            "--state-dir", str(self.path / "state"), verb, f"{self._name}.jsonl", *within, *rest,
        ]  # fmt: skip

    @contextmanager
    def started(self) -> Iterator[subprocess.Popen[bytes]]:
        """The command while it runs; killed at the end of the block if it still does."""
        with (self.path / "output.txt").open("ab") as output:
            child = subprocess.Popen(
                self.command("run", "-o", f"{self._name}.out.jsonl", "--yes"), cwd=self.path,
                env=self._environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
            try:
                yield child
            finally:
                child.kill()
                child.wait()

    def to_its_end(self, timeout_s: float = GIVE_UP_S) -> Json:
        """Run it until it ends; its summary. Raises ClientFailed where it fails."""
        began = time.monotonic()
        arguments = self.command("run", "-o", f"{self._name}.out.jsonl", "--yes", "--json")
        done = subprocess.run(
            arguments, cwd=self.path, env=self._environ, capture_output=True, text=True, timeout=timeout_s,
            check=False,
        )  # fmt: skip
        self.took_s, self.output = time.monotonic() - began, done.stderr
        if done.returncode:
            raise ClientFailed(f"run ended with {done.returncode}: {done.stderr[-2_000:]}")
        summary: Json = json.loads(done.stdout)["summary"]
        return summary

    def plan(self) -> Json:
        """What `plan --json` says of the file."""
        done = subprocess.run(
            self.command("plan", "--json"), cwd=self.path, env=self._environ, capture_output=True, text=True,
            timeout=120, check=True,
        )  # fmt: skip
        found: Json = json.loads(done.stdout)
        return found

    # ------------------------------------------------------------ what came of it

    def query(self, text: str) -> list[tuple[Any, ...]]:
        """What a query finds in its database; nothing before its tables are there."""
        file = self.path / "state" / "live.db"
        if not file.exists():
            return []
        try:
            with closing(sqlite3.connect(file, timeout=30)) as database:
                return database.execute(text).fetchall()
        except sqlite3.OperationalError:
            return []

    def results(self) -> list[Json]:
        """The rows of its results file."""
        with (self.path / f"{self._name}.out.jsonl").open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def check(self) -> Outcome:
        """Each row once and answered, and the money in the books. Raises ClientFailed."""
        found = self.results()
        ids = sorted(row["id"] for row in found)
        wanted = sorted(task["id"] for task in self.tasks)
        if ids != wanted:
            raise ClientFailed(f"{len(wanted)} rows, {len(ids)} results, {len(set(ids))} ids")
        answered = sum(row["status"] == "succeeded" for row in found)
        certain, uncertain = self.query(
            "SELECT coalesce(sum(cost_nanos) FILTER (WHERE outcome <> 'uncertain'), 0), "
            "coalesce(sum(cost_nanos) FILTER (WHERE outcome = 'uncertain'), 0) FROM attempts"
        )[0]
        last = self.query("SELECT max(since) FROM tasks")[0][0]
        first = self.query("SELECT min(created_at) FROM tasks")[0][0]
        by_batch = sum(row["attempts"][-1]["choice"] == "batch" for row in found if row["attempts"])
        return Outcome(answered, by_batch, certain, uncertain, last - first)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to. Money in nano-dollars, `uncertain` apart; `span_s` until the last answer."""

    answered: int
    by_batch: int
    certain: int
    uncertain: int
    span_s: float


@dataclass(frozen=True, slots=True)
class Bill:
    """What the simulator has answered in batches, in nano-dollars, and how often it was called live."""

    batch_nanos: int
    batch_answers: int
    created: int
    paid_twice: int
    live_calls: int
    live_answers: int
    rows_by_end: dict[str, int]


def bill(simulated: SimulatorProcess) -> Bill:
    """The bill of all providers so far, at the prices of the configuration."""
    prices = PriceTable(load_settings(DEFAULTS_FILE, {}), None, None)
    stats, now = simulated.stats(), time.time()
    nanos = answers = created = twice = calls = live = 0
    ends: Counter[str] = Counter()
    for name in PROVIDERS:
        own = stats[name]["batches"]
        for model, sums in own["billed"].items():
            price = prices.price(name, model, now)
            if price is None:
                raise ClientFailed(f"{model} has no price")
            fresh = sums["input_tokens"] - sums["cached_tokens"]
            usage = Usage(fresh, sums["cached_tokens"], 0, sums["output_tokens"])
            nanos += round(price.cost_nanos(usage) * own["price_factor"])
            answers += sums["answers"]
        created += own["created"]
        twice += own["paid_twice"]
        ends.update(own["rows_by_end"])
        calls += stats[name]["calls"]
        live += stats[name]["by_status"].get("200", 0)
    return Bill(nanos, answers, created, twice, calls, live, dict(ends))
