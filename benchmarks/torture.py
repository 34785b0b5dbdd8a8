"""The documented start under `kill -9`: a server with its pages, more pages, and `submit`, on one state.

The server is what `make run ARGS=--yes` starts, the pages beside it are what `make web` starts. While tasks
come in through both and through `submit`, one of the two is killed at a random moment and started again. In
the end every task that was acknowledged is answered once, and the store knows of every call that the
providers have served, but for those that a kill of the server cut off.
"""

from __future__ import annotations

import json
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from src.simulator import SimulatorProcess

from .child import ROOT, ClientFailed
from .memory import end_child
from .table import NOT_JUDGED, Table, verdict

KILLS, QUICK_KILLS = 40, 6
AT_ONCE = 40  # tasks in one POST
POST_EVERY_S, SUBMIT_EVERY_S = 0.4, 3.0
CUT_OFF_AT_MOST = 3 * 112  # by one kill: the calls in flight, and the answers on their way to a busy disk
PATIENCE_S = 240.0
BROKEN = ("disk I/O error", "malformed", "Traceback")


class Process:
    """One of our programs, started again after each kill. `output` is all that it has printed."""

    def __init__(self, path: Path, environ: Mapping[str, str], *command: str) -> None:
        self._path, self._environ, self._command = path, environ, command
        self.output = ""
        self.pages = ""
        self.child = self._start()

    def _start(self) -> subprocess.Popen[str]:
        self.pages = ""
        self._ready = threading.Event()
        child = subprocess.Popen(
            [sys.executable, *self._command], cwd=self._path, env=self._environ, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        threading.Thread(target=self._read, args=(child.stdout, self._ready), daemon=True).start()
        return child

    def _read(self, lines: IO[str], ready: threading.Event) -> None:
        for line in lines:
            self.output += line
            if found := re.search(r"pages on (http://\S+)", line):
                self.pages = found[1]
                ready.set()

    def wait_until_ready(self) -> None:
        if not self._ready.wait(PATIENCE_S):
            raise ClientFailed(f"{self._command[0]} did not start; its output: {self.output[-2_000:]}")

    def kill_and_start(self) -> None:
        self.child.kill()
        self.child.wait()
        self.child = self._start()
        self.wait_until_ready()

    def end(self) -> int:
        """Ctrl-C; the exit code."""
        self.child.send_signal(signal.SIGINT)
        return self.child.wait(PATIENCE_S)


class End(NamedTuple):
    """How often the server and its pages were killed, the server's exit code at last, and the whole time."""

    killed: Counter[str]
    code: int
    took_s: float


class Load:
    """Tasks that come in while it runs. `acknowledged`: the ids that a process acknowledged."""

    def __init__(self, path: Path, environ: Mapping[str, str], processes: list[Process]) -> None:
        self.acknowledged: set[str] = set()
        self.failures: Counter[str] = Counter()
        self._path, self._environ, self._processes = path, environ, processes
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._post_all, self._submit_all)]

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._ending.set()
            for thread in self._threads:
                thread.join()

    def _post_all(self) -> None:
        number = 0
        while not self._ending.wait(POST_EVERY_S):
            ids = [f"posted-{number}-{n}" for n in range(AT_ONCE)]
            number += 1
            pages = self._processes[number % len(self._processes)].pages
            if not pages:  # it is being started
                continue
            try:
                self._post(pages, ids)
                self.acknowledged.update(ids)
            except OSError as error:  # killed: whether they came in is not known
                self.failures[type(error).__name__] += 1

    def _post(self, pages: str, ids: list[str]) -> None:
        tasks = [{"id": each, "prompt": f"Question {each}?"} for each in ids]
        body = json.dumps({"tasks": tasks}).encode()
        request = urllib.request.Request(  # noqa: S310 - our own pages
            f"{pages}/api/tasks", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            answer.read()

    def _submit_all(self) -> None:
        number = 0
        while not self._ending.wait(SUBMIT_EVERY_S):
            number += 1
            task = f"submitted-{number}"
            command = [
                sys.executable, str(ROOT / "real_agent_orchestrator.py"), "submit", "Why?", "--id", task
            ]  # fmt: skip
            done = subprocess.run(command, cwd=self._path, env=self._environ, capture_output=True, text=True)
            if done.returncode == 0:
                self.acknowledged.add(task)
            else:
                self.failures[f"submit {done.returncode}: {done.stderr[-200:]}"] += 1


def torture(environ: Mapping[str, str], providers: SimulatorProcess, path: Path, *, kills: int) -> Table:
    """One table of what is left after so many kills. `path` holds settings.toml."""
    chance, began = random.Random(1), time.monotonic()
    environ = {**environ, "ORCHESTRATOR_CONFIG": str(path / "settings.toml"), "PORT": "0"}
    server = Process(
        path, environ, str(ROOT / "real_agent_orchestrator.py"), "--examples", "--pages", "--yes"
    )
    server.wait_until_ready()  # alone: a third process that has the database open would hide a lost lock
    pages = Process(path, environ, str(ROOT / "web_server.py"))
    killed: Counter[str] = Counter()
    try:
        for each in (server, pages):
            each.wait_until_ready()
        load = Load(path, environ, [server, pages])
        with load.running():
            for _ in range(kills):
                time.sleep(chance.uniform(0.1, 2.5))
                name, victim = chance.choice([("server", server), ("pages", pages)])
                victim.kill_and_start()
                killed[name] += 1
            time.sleep(2.0)
        _wait_until_answered(path, server)
        code = server.end()
    finally:
        for each in (server, pages):
            with suppress(ProcessLookupError):
                end_child(each.child)
    end = End(killed, code, time.monotonic() - began)
    return _table(path, providers, load, [server, pages], end)


def _wait_until_answered(path: Path, server: Process) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while _query(path, "SELECT count(*) FROM tasks WHERE status IN ('queued', 'running')")[0][0]:
        if server.child.poll() is not None or time.monotonic() > give_up_at:
            raise ClientFailed(f"tasks are left open; the server's output: {server.output[-2_000:]}")
        time.sleep(0.2)


def _query(path: Path, query: str) -> list[tuple[str | int, ...]]:
    with closing(sqlite3.connect(f"file:{path}/state/live.db?mode=ro", uri=True)) as database:
        return list(database.execute(query))


def _table(path: Path, providers: SimulatorProcess, load: Load, processes: list[Process], end: End) -> Table:
    ended = {str(task): str(status) for task, status in _query(path, "SELECT id, status FROM tasks")}
    attempts = int(_query(path, "SELECT count(*) FROM attempts")[0][0])
    sound = _query(path, "PRAGMA integrity_check") == [("ok",)]
    calls = sum(int(stats["calls"]) for stats in providers.stats().values())
    count = end.killed.total()
    table = Table(
        f"The documented start with keys, pages and `submit` beside it, through {count} x `kill -9`",
        ("what", "target", "figure", "verdict"),
    )
    table.add(
        "kills of the server, of the pages", "", f"{end.killed['server']}, {end.killed['pages']}", NOT_JUDGED
    )
    answered = sum(ended.get(task) == "succeeded" for task in load.acknowledged)
    lost = len(load.acknowledged) - answered
    table.add(
        "acknowledged tasks, answered", f"{len(load.acknowledged):,}", f"{answered:,}", verdict(not lost)
    )
    each_once = attempts == len(ended) and set(ended.values()) == {"succeeded"}
    table.add("tasks, calls stored", "the same", f"{len(ended):,}, {attempts:,}", verdict(each_once))
    unknown, at_most = calls - attempts, CUT_OFF_AT_MOST * end.killed["server"]
    within = 0 <= unknown <= at_most
    table.add("calls of which nothing is stored", f"<= {at_most:,}", f"{unknown:,}", verdict(within))
    output = "".join(each.output for each in processes)
    broken = sum(output.count(word) for word in BROKEN)
    table.add("database sound; disk errors, tracebacks", "0", f"{broken}", verdict(sound and not broken))
    table.add("exit code of the server at Ctrl-C", "0", str(end.code), verdict(end.code == 0))
    table.add("time", "", f"{end.took_s:.0f} s", NOT_JUDGED)
    if load.failures:
        reasons = "; ".join(f"{what} ({number})" for what, number in load.failures.items())
        table.notes.append(f"Not acknowledged, since a process was killed meanwhile: {reasons}.")
    return table
