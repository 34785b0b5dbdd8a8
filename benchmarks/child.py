"""Clients run as child processes: what they get on standard input and what they print is one JSON object.

    in   {"base_urls": {...}, "prompts": [[text, max_tokens], ...], "arrivals_s": [...] | null, ...}
    out  {"first_call_at": s, "finished": [[at, latency_s, ok], ...], ...}

With `arrivals_s` the tasks come at these seconds after the simulator's clock was set to 0, at `started_at`.
Moments are epoch seconds. `run_client` adds `cpu_s`, the processor time from the child's start to its end.
A child has a time limit and is killed when it is over, or when anything here goes wrong.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .work import Json, Prompt

ROOT = Path(__file__).resolve().parent.parent
_TAIL_CHARS = 2_000


class ClientFailed(RuntimeError):
    """A client broke or did not come to its end."""


def run_client(
    client: str, spec: Json, inputs: Sequence[Prompt], *, timeout_s: float, python: str | None = None
) -> Json:
    """Run `client` (a module of this package, or a script's path) to its end."""
    how = ["-P", client] if client.endswith(".py") else ["-m", client]
    command = [python or sys.executable, *how]
    before_s = children_cpu_s()
    given = json.dumps({**spec, "prompts": [[p.text, p.max_tokens] for p in inputs]})
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT,
            env=environment(),
        )  # fmt: skip
        try:
            output, _ = child.communicate(given, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise ClientFailed(f"{client}: not done within {timeout_s:.0f} s") from None
        finally:
            child.kill()
            child.wait()
        if child.returncode:
            errors.seek(0)
            raise ClientFailed(
                f"{client} ended with {child.returncode}: {errors.read()[-_TAIL_CHARS:].strip()}"
            )
    found: Json = json.loads(output.strip().splitlines()[-1])
    return found | {"cpu_s": children_cpu_s() - before_s}


def children_cpu_s() -> float:
    """Processor time, user and system, of all child processes that have ended, and of theirs."""
    used = os.times()
    return used.children_user + used.children_system


def environment() -> dict[str, str]:
    """This environment without keys, addresses and proxies: every call goes to this machine.

    Compiled modules are kept, as they are for a user: otherwise each start compiles them again.
    """
    dropped = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "PYTHONDONTWRITEBYTECODE"}
    return {
        name: value
        for name, value in os.environ.items()
        if not name.upper().endswith(("_API_KEY", "_BASE_URL")) and name.upper() not in dropped
    }


# ------------------------------------------------------------------ inside a client


class Record:
    """What a client notes of its tasks while it runs."""

    def __init__(self) -> None:
        self.finished: list[tuple[float, float, bool]] = []

    def note(self, latency_s: float, *, ok: bool) -> None:
        self.finished.append((time.time(), latency_s, ok))


def read_spec() -> Json:
    spec: Json = json.loads(sys.stdin.read())
    spec["prompts"] = [Prompt(text, max_tokens) for text, max_tokens in spec["prompts"]]
    return spec


def reset(control_url: str) -> None:
    """The simulator's clock to 0: its schedule of faults begins now."""
    request = urllib.request.Request(f"{control_url}/reset", b"{}", method="POST")  # noqa: S310 - ours
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10):
        pass


def report(record: Record, **more: Any) -> None:
    """The one line of output."""
    sys.stdout.write(json.dumps({"finished": record.finished, **more}) + "\n")
    sys.stdout.flush()


# ------------------------------------------------------------------ what a run came to


def makespan_s(run: Json) -> float:
    """From the first call to the last answer, importing left out."""
    last: float = max((at for at, _, ok in run["finished"] if ok), default=math.nan)
    return last - float(run["first_call_at"])


def lost(run: Json) -> int:
    """Tasks that got no answer."""
    return sum(not ok for _, _, ok in run["finished"])


def quantile(values: Sequence[float], q: float) -> float:
    """The value that a share `q` of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else math.nan


def median(values: Sequence[float]) -> float:
    return statistics.median(values)
