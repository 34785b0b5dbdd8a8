"""`python real_agent_orchestrator.py` as a user starts it, with keys: a process of its own, and its gateway.

Its address comes from what it prints; its processor time, memory and open files from /proc.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from src.core.store import Store
from src.core.store import schema as s
from src.records import Task, TaskStatus

from .child import ROOT, ClientFailed
from .command import keyed_environment, write_settings
from .web import Server

READY_S, END_S = 60.0, 60.0
AMPLE_USD = 1e6
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Product(Server):
    """A product that serves. `path` holds its state."""

    path: Path

    def store(self) -> Store:
        """Its database, opened by this process too."""
        return Store.open(self.path / "state" / "live.db", simulated=False)

    def rss_mb(self) -> float:
        """Its resident memory now; 0 where /proc does not show it."""
        try:
            text = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        except OSError:
            return 0.0
        return next(int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("VmRSS"))

    def open_files(self) -> int:
        """Its file descriptors; 0 where /proc does not show them."""
        try:
            return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())
        except OSError:
            return 0


@contextmanager
def product(
    path: Path, base_urls: Mapping[str, str], tables: Mapping[str, Mapping[str, Any]]
) -> Iterator[Product]:
    """The product with these providers and settings, ready; ended by Ctrl-C. Raises ClientFailed.

    Providers without an address have no key. Budgets are ample, so that costs are reserved as with live keys.
    """
    own = {"budgets": {"daily_usd": AMPLE_USD}, **tables}
    settings = write_settings(path / "settings.toml", own)
    command = [
        sys.executable, str(ROOT / "real_agent_orchestrator.py"), "--config", str(settings),
        "--state-dir", str(path / "state"), "--yes", "--gateway-port", "0",
    ]  # fmt: skip
    with (path / "output.txt").open("w+", encoding="utf-8") as output:
        child = subprocess.Popen(
            command, cwd=path, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env=keyed_environment(base_urls),
        )  # fmt: skip
        try:
            yield Product(_ready_port(child, path / "output.txt"), child.pid, path)
            _end(child, path / "output.txt")
        finally:
            child.kill()
            child.wait()


def _ready_port(child: subprocess.Popen[bytes], output: Path) -> int:
    end = time.monotonic() + READY_S
    while time.monotonic() < end and child.poll() is None:
        found = re.search(r"base URL http://\S+?:(\d+)/v1 ", output.read_text(encoding="utf-8"))
        if found and _is_ready(int(found[1])):
            return int(found[1])
        time.sleep(0.1)
    raise ClientFailed(f"the product is not ready: {output.read_text(encoding='utf-8')[-2_000:]}")


def _is_ready(port: int) -> bool:
    try:
        with _direct.open(f"http://127.0.0.1:{port}/readyz", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _end(child: subprocess.Popen[bytes], output: Path) -> None:
    child.send_signal(signal.SIGINT)
    try:
        code = child.wait(END_S)
    except subprocess.TimeoutExpired:
        raise ClientFailed("the product did not end after Ctrl-C") from None
    text = output.read_text(encoding="utf-8")
    if broke := text.find("Traceback") + 1:
        raise ClientFailed(f"the product broke: {text[max(0, broke - 500) : broke + 3_000]}")
    if code:
        raise ClientFailed(f"the product ended with {code}: {text[-2_000:]}")


# ------------------------------------------------------------------ a batch in its queue


def add_batch(store: Store, name: str, tasks: Sequence[Task]) -> None:
    """Queue a batch beside the running orchestrator, as a submitted file does."""
    now = time.time()
    store.intake.create_batch(name, now=now)
    store.intake.add_tasks(tasks, now=now)


def wait_for_batch(store: Store, name: str, *, timeout_s: float) -> None:
    """Until no task of it is open. Raises ClientFailed."""
    end = time.monotonic() + timeout_s
    while open_tasks(store, name):
        if time.monotonic() > end:
            raise ClientFailed(f"{name}: {open_tasks(store, name):,} tasks are open after {timeout_s:.0f} s")
        time.sleep(0.1)


def open_tasks(store: Store, name: str | None = None) -> int:
    """Queued and running tasks of one batch, or of all."""
    counts = store.reports.task_counts(name)
    return counts[TaskStatus.QUEUED] + counts[TaskStatus.RUNNING]


def batch_span_s(store: Store, name: str) -> float:
    """From its first call to the end of its last task."""
    a, t, b = s.attempts.c, s.tasks.c, s.batches.c
    own = sa.select(b.id).where(b.name == name).scalar_subquery()
    first = sa.select(sa.func.min(a.started_at)).join(s.tasks, t.task_row == a.task_row)
    last = sa.select(sa.func.max(t.since)).where(t.batch_id == own)
    with store.database.reading() as connection:
        begun_at = connection.execute(first.where(t.batch_id == own)).scalar_one()
        return float(connection.execute(last).scalar_one() - begun_at)


def answered(store: Store, name: str) -> int:
    """Its tasks that have an answer."""
    return store.reports.task_counts(name)[TaskStatus.SUCCEEDED]
