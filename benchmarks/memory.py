"""A long run as a user starts it: the peak memory of the program, and rows per second from file to file.

A CSV file becomes a table with its columns, which is put into the order of the input at the end.
`python real_agent_orchestrator.py run` on a generated file, over its own simulator with limits so high that
none binds. The peak is that of the orchestrator's process alone, as the system keeps it.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .child import ROOT, ClientFailed
from .table import NOT_JUDGED, Table, verdict
from .work import PROVIDERS, folder, prompts

ROWS, QUICK_ROWS = 200_000, 3_000
MOST_MB = 300.0
SECONDS_PER_ROW = 0.02  # far more than it takes: the time limit of the whole run
_LOOK_S = 0.2


def run(*, quick: bool = False, runs: int | None = None) -> list[Table]:
    """One table. `runs` is not used: a run of 200,000 rows is long enough by itself."""
    count = QUICK_ROWS if quick else ROWS
    with folder() as path:
        tasks, results = path / "tasks.csv", path / "results.csv"
        _write_tasks(tasks, count)
        print(f"   running {count:,} rows ...", flush=True)
        peak_mb, took_s = _run(path, tasks, results, timeout_s=120 + count * SECONDS_PER_ROW)
        ids = _ids(results)
    table = Table(
        f"A run of {count:,} rows of CSV, from file to file", ("what", "target", "figure", "verdict")
    )
    peak = f"{peak_mb:.0f} MB" if peak_mb else "not known on this system"
    table.add(
        "peak memory", f"<= {MOST_MB:g} MB", peak, verdict(peak_mb <= MOST_MB) if peak_mb else NOT_JUDGED
    )
    table.add(
        "result rows in the order of the input",
        f"{count:,}",
        f"{len(ids):,}",
        verdict(ids == [f"row-{number}" for number in range(count)]),
    )
    table.add("rows per second, start and end included", "", f"{count / took_s:,.0f}", NOT_JUDGED)
    return [table]


def _write_tasks(path: Path, count: int) -> None:
    inputs = prompts(1_000, median_chars=400)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "prompt", "max_tokens"])
        for number in range(count):
            prompt = inputs[number % len(inputs)]
            writer.writerow([f"row-{number}", f"{number}: {prompt.text}", prompt.max_tokens])


def _run(path: Path, tasks: Path, results: Path, *, timeout_s: float) -> tuple[float, float]:
    """(peak megabytes, seconds). Raises ClientFailed where it breaks or takes too long."""
    fast = {"latency": {"first_token_s": 0.02, "per_token_s": 0.0}, "output_tokens": {"mean": 80.0}}
    simulator = path / "simulator.json"
    simulator.write_text(json.dumps({"providers": dict.fromkeys(PROVIDERS, fast)}), encoding="utf-8")
    settings = path / "settings.toml"
    limits = [f"[providers.{name}.limits]\nrequests_per_minute = 60_000_000\n" for name in PROVIDERS]
    settings.write_text("".join(limits), encoding="utf-8")
    command = [
        sys.executable, "real_agent_orchestrator.py", "run", str(tasks), "-o", str(results), "--quiet",
        "--config", str(settings), "--simulator-config", str(simulator), "--state-dir", str(path / "state"),
    ]  # fmt: skip
    began, most_kb = time.monotonic(), 0
    with (path / "output.txt").open("w+", encoding="utf-8") as output:
        child = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        try:
            while child.poll() is None:
                most_kb = max(most_kb, peak_kb(child.pid))
                if time.monotonic() - began > timeout_s:
                    raise ClientFailed(f"the run was not done within {timeout_s:.0f} s")
                time.sleep(_LOOK_S)
        finally:
            end_child(child)
        took_s = time.monotonic() - began
        if child.returncode:
            output.seek(0)
            raise ClientFailed(f"the run ended with {child.returncode}: {output.read()[-2_000:]}")
    return most_kb / 1024, took_s


def end_child(child: subprocess.Popen[Any]) -> None:
    """Ask first, so that it ends its simulator; then make sure."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
    child.wait()


def peak_kb(pid: int) -> int:
    """The process's high-water mark of resident memory, 0 where the system does not report it this way."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    line = next((line for line in text.splitlines() if line.startswith("VmHWM")), "VmHWM: 0 kB")
    return int(line.split()[1])


def _ids(results: Path) -> list[str]:
    if not results.exists():
        return []
    with results.open(encoding="utf-8", newline="") as file:
        return [row["id"] for row in csv.DictReader(file)]
