"""Rows with a common prefix read it from the providers' prompt caches, which shows in usage and cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from src.simulator.process import SimulatorProcess
from tests.helpers import live_environment, read_rows, run_script, write_rows

RULES = " ".join(
    f"Rule {n}: mail that mentions case {n} is of kind {n % 7}." for n in range(160)
)  # 2,000 tokens
ROWS = [
    {"id": f"m{n}", "system": RULES, "prompt": f"Mail {n}: where is it?", "max_tokens": 60} for n in range(60)
]
SIM = {api: {"latency": {"first_token_s": 0.05, "per_token_s": 0.0}} for api in ("anthropic", "openai")}


def run(folder: Path, config: str, sim: dict[str, Any]) -> list[dict[str, Any]]:
    folder.mkdir()
    write_rows(folder / "tasks.jsonl", ROWS)
    (folder / "c.toml").write_text(config)
    with SimulatorProcess.start({"providers": sim}) as simulator:
        env = live_environment(simulator.base_urls)
        command = ("run", "tasks.jsonl", "-o", "out.jsonl", "--config", "c.toml", "--yes")
        done = run_script(*command, cwd=folder, env=env, timeout_s=180)
        limited = {name: stats["limited_by"] for name, stats in simulator.stats().items()}
    assert done.process.returncode == 0, done.err
    assert not any(limited.values()), limited
    return read_rows(folder / "out.jsonl")


def tokens(rows: list[dict[str, Any]], kind: str) -> int:
    return sum(int(row["usage"][kind]) for row in rows)


def test_rows_with_the_same_beginning_read_it_from_the_cache_and_cost_less(tmp_path: Path) -> None:
    used = run(tmp_path / "on", "", SIM)
    plain = run(tmp_path / "off", "[caching]\nenabled = false\n", SIM)
    read, written = tokens(used, "cache_read_tokens"), tokens(used, "cache_write_tokens")
    assert read > 0.8 * (read + written + tokens(used, "input_tokens"))
    assert written <= 4 * 2_500, "one call writes it at each of two providers"
    assert (tokens(plain, "cache_read_tokens"), tokens(plain, "cache_write_tokens")) == (0, 0)
    assert sum(row["cost_usd"] for row in used) < 0.5 * sum(row["cost_usd"] for row in plain)


def test_cache_reads_do_not_count_against_anthropics_limit(tmp_path: Path) -> None:
    """All rows together are five times the limit of a minute; nothing of it is learned from a 429."""
    with_limit = {**SIM["anthropic"], "limits": {"input_tokens_per_minute": 24_000}}
    rows = run(tmp_path / "limited", "[caching]\ncache_writer_wait_s = 30.0\n", {"anthropic": with_limit})
    ends = [row["attempts"][-1]["started_at"] for row in rows]
    assert sum(tokens(rows, kind) for kind in ("input_tokens", "cache_read_tokens")) > 5 * 24_000
    assert max(ends) - min(ends) < 60.0
    assert json.dumps(rows).count("RateLimited") == 0
