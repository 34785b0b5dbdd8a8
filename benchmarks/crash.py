"""A long run that is killed, interrupted and killed again: every row in the results once, in little memory.

`python real_agent_orchestrator.py run` on a generated CSV file, with a template for its prompts, against one
simulator that outlives it and counts the calls. Its limits are so high that none binds. The same command is
started four times, and ended as `LIVES` says. Time is that of all lives, starts and ends included.

Then the documented start, a server with pages and `submit` beside it, is killed many times; see `torture.py`.
"""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from src.simulator import SimulatorProcess

from .child import ROOT, ClientFailed
from .child import environment as clean_environment
from .memory import MOST_MB, SECONDS_PER_ROW, end_child, peak_kb
from .night import KEYS
from .table import NOT_JUDGED, Table, verdict
from .torture import KILLS, QUICK_KILLS, torture
from .work import PROVIDERS, folder, prompts, simulator

ROWS, QUICK_ROWS = 200_000, 5_000
LOOK_S = 0.2
TEMPLATE = "{number}: {text}"

Row = tuple[str, str, int]  # id, status, attempts


@dataclass(frozen=True, slots=True)
class End:
    """How a life ends, and at which share of the rows."""

    name: str
    share: float
    signal: int | None


LIVES = (
    End("kill -9", 0.15, signal.SIGKILL),
    End("Ctrl-C", 0.4, signal.SIGINT),
    End("kill -9", 0.7, signal.SIGKILL),
    End("to its end", 1.0, None),
)


@dataclass(frozen=True, slots=True)
class Life:
    """One process: until when it lived, and what it took."""

    end: End
    seconds: float
    rows: int  # that it added
    first_row_s: float  # from its start
    peak_mb: float
    code: int

    def text(self) -> str:
        rate = self.rows / max(self.seconds - self.first_row_s, 1e-9)
        return (
            f"{self.end.name}: {self.rows:,} rows in {self.seconds:.0f} s "
            f"({rate:,.0f}/s from the first one, which came after {self.first_row_s:.1f} s)"
        )


def run(*, quick: bool = False, runs: int | None = None) -> list[Table]:
    """Two tables: a run, and the documented start. `runs` is not used: it is long enough by itself."""
    count = QUICK_ROWS if quick else ROWS
    with folder() as path:
        _write_files(path, count)
        with SimulatorProcess.start(simulator(latency_s=0.02)) as providers:
            lives = _live(path, _environment(providers.base_urls), count)
            calls = sum(int(stats["calls"]) for stats in providers.stats().values())
        rows = _rows(path / "results.jsonl")
    with folder() as path:
        _write_settings(path)
        with SimulatorProcess.start(simulator(latency_s=0.2)) as providers:
            environ = _environment(providers.base_urls)
            served = torture(environ, providers, path, kills=QUICK_KILLS if quick else KILLS)
    return [_table(count, lives, calls, rows), served]


def _table(count: int, lives: list[Life], calls: int, rows: list[Row]) -> Table:
    table = Table(
        f"A run of {count:,} CSV rows, killed twice and interrupted once between",
        ("what", "target", "figure", "verdict"),
    )
    ids = {task_id for task_id, _, _ in rows}
    answered = sum(status == "succeeded" for _, status, _ in rows)
    attempts = sum(number for _, _, number in rows)
    once = len(rows) == len(ids) == count == answered
    table.add("result rows, each id once, all answered", f"{count:,}", f"{len(rows):,}", verdict(once))
    peak = max(life.peak_mb for life in lives)
    memory = f"{peak:.0f} MB" if peak else "not known on this system"
    table.add(
        "peak memory of any of its lives", f"<= {MOST_MB:g} MB", memory,
        verdict(peak <= MOST_MB) if peak else NOT_JUDGED,
    )  # fmt: skip
    table.add("calls of which nothing is known", "", f"{calls - attempts:,}", NOT_JUDGED)
    table.add("calls in the results", "", f"{attempts:,}", NOT_JUDGED)
    codes = [life.code for life in lives]
    table.add("exit codes", "-9, 1, -9, 0", ", ".join(map(str, codes)), verdict(codes == [-9, 1, -9, 0]))
    took = sum(life.seconds for life in lives)
    table.add("time of all lives", "", f"{took:.0f} s, {count / took:,.0f} rows/s", NOT_JUDGED)
    table.notes.append("; ".join(life.text() for life in lives) + ".")
    table.notes.append(
        "Nothing is known of the calls that a kill cut off: 112 are in flight, and the answers of the last "
        "moment are on their way to the disk. Their rows were run again."
    )
    return table


def _live(path: Path, environ: Mapping[str, str], count: int) -> list[Life]:
    lives: list[Life] = []
    for end in LIVES:
        before = sum(life.rows for life in lives)
        life = _life(path, environ, end, before, count)
        print(f"   {life.text()}; {life.peak_mb:.0f} MB", flush=True)
        lives.append(life)
    return lives


def _life(path: Path, environ: Mapping[str, str], end: End, before: int, count: int) -> Life:
    """Start the command, and end it as `end` says. Raises ClientFailed where it ends by itself, or never."""
    results, until = _Growing(path / "results.jsonl"), int(count * end.share)
    began, first_row_s, peak = time.monotonic(), 0.0, 0
    give_up_at = began + 120 + count * SECONDS_PER_ROW
    with (path / "output.txt").open("a", encoding="utf-8") as output:
        child = subprocess.Popen(
            _command(path), cwd=ROOT, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environ
        )
        try:
            while child.poll() is None:
                peak = max(peak, peak_kb(child.pid))
                rows = results.rows()
                if rows > before and not first_row_s:
                    first_row_s = time.monotonic() - began
                if end.signal is not None and rows >= until:
                    child.send_signal(end.signal)
                    break
                if time.monotonic() > give_up_at:
                    raise ClientFailed(f"not at {until:,} rows in time; {_last_words(path)}")
                time.sleep(LOOK_S)
            code = child.wait(60)
        finally:
            end_child(child)
    seconds = time.monotonic() - began
    if end.signal is None and code:
        raise ClientFailed(f"it ended with {code}; {_last_words(path)}")
    return Life(end, seconds, results.rows() - before, first_row_s, peak / 1024, code)


class _Growing:
    """Counts the lines of a file that grows, reading what is new only. One that was cut is read anew."""

    def __init__(self, path: Path) -> None:
        self._path, self._at, self._lines = path, 0, 0

    def rows(self) -> int:
        if not self._path.exists():
            return 0
        if self._path.stat().st_size < self._at:
            self._at = self._lines = 0
        with self._path.open("rb") as file:
            file.seek(self._at)
            while chunk := file.read(1 << 20):
                self._at += len(chunk)
                self._lines += chunk.count(b"\n")
        return self._lines


def _command(path: Path) -> list[str]:
    return [
        sys.executable, "real_agent_orchestrator.py", "run", str(path / "tasks.csv"),
        "--prompt-file", str(path / "template.txt"), "-o", str(path / "results.jsonl"), "--yes", "--quiet",
        "--config", str(path / "settings.toml"), "--state-dir", str(path / "state"),
    ]  # fmt: skip


def _environment(base_urls: Mapping[str, str]) -> dict[str, str]:
    """Keys and addresses that make the simulator the real thing."""
    environ = clean_environment()
    for name in PROVIDERS:
        key, url = KEYS[name]
        environ |= {key: f"key-of-{name}", url: base_urls[name]}
    return environ


def _write_files(path: Path, count: int) -> None:
    inputs = prompts(1_000, median_chars=400)
    with (path / "tasks.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "number", "text", "max_tokens"])
        for number in range(count):
            prompt = inputs[number % len(inputs)]
            writer.writerow([f"row-{number}", number, prompt.text, prompt.max_tokens])
    (path / "template.txt").write_text(TEMPLATE, encoding="utf-8")
    _write_settings(path)


def _write_settings(path: Path) -> None:
    limits = [f"[providers.{name}.limits]\nrequests_per_minute = 60_000_000\n" for name in PROVIDERS]
    (path / "settings.toml").write_text("".join(limits), encoding="utf-8")


def _rows(results: Path) -> list[Row]:
    with results.open(encoding="utf-8") as file:
        found = (json.loads(line) for line in file)
        return [(row["id"], row["status"], len(row["attempts"])) for row in found]


def _last_words(path: Path) -> str:
    return "its output: " + (path / "output.txt").read_text(encoding="utf-8")[-2_000:]
