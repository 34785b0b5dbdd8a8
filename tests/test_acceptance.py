"""Every command of the documents, started as they write it, with keys and without, through kills.

Keys point at a simulator, a process of its own that outlives the kills and counts the calls. In the end the
store, the results files and the simulator agree to the last call.

ACCEPTANCE_ROUNDS=20 repeats the kill and the restart that often, each time at another moment.
"""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from src.simulator.process import SimulatorProcess
from tests.documents import EVERYTHING, blocks
from tests.helpers import ROOT, Script, live_environment, read_rows, write_rows

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or shutil.which("make") is None, reason="needs make and POSIX signals"
)
ROUNDS = int(os.environ.get("ACCEPTANCE_ROUNDS", "1"))
EXAMPLES, BATCH = 60, 400
CUT_OFF_AT_MOST = 3 * 112  # the calls in flight, and the answers on their way to a busy disk
FOLDERS = {"src", "templates", "static", "examples", "scripts", "requirements", "Makefile"}
PROGRAM = "python real_agent_orchestrator.py"
RUN_EXAMPLES = f"{PROGRAM} run examples/tasks.jsonl -o results/examples.jsonl"
RUN_FIRST_EXAMPLES = f"{RUN_EXAMPLES} --limit 3"
REVIEWS = "examples/reviews.csv --prompt-file examples/review-prompt.txt -o results/reviews.csv"
RUN_REVIEWS = f"{PROGRAM} run {REVIEWS}"
RUN_FIRST_REVIEWS = f"{RUN_REVIEWS} --limit 3"
RUN_BATCH = f"{PROGRAM} run tasks.jsonl -o results/tasks.jsonl"
SUBMIT = f'{PROGRAM} submit "Why is the sky blue?" --type research --wait'
# The first needs a token and is tried with the pages' tests; `make test` is this.
ELSEWHERE = {"python web_server.py --host 0.0.0.0", "make test"}


@dataclass(frozen=True, slots=True)
class Row:
    """A command, its exit code (of make: 2 for every failure), and what it must say."""

    command: str
    code: int
    output: str = ""


# ------------------------------------------------------------------ the tables

WITHOUT_KEYS = (
    Row(SUBMIT, 2, "not queued: no orchestrator is running"),
    Row("make run ONCE=1", 0, "60 of 60 tasks answered"),
    Row("make run ONCE=1", 0, "all 60 tasks are already done"),
    Row(f"{PROGRAM} check", 0, "simulated: no API key was found"),
    Row(f"{PROGRAM} plan examples/tasks.jsonl", 0, "60 tasks"),
    Row(RUN_FIRST_EXAMPLES, 0, "3 of 3 tasks answered"),
    Row(RUN_EXAMPLES, 0, "60 of 60 tasks answered"),
    Row(RUN_FIRST_REVIEWS, 0, "3 of 3 tasks answered"),
    Row(RUN_REVIEWS, 0, "8 of 8 tasks answered"),
    Row(f"{PROGRAM} status", 0, "128 succeeded"),
    Row(f"{PROGRAM} config", 0, "state_dir"),
    Row(f"{PROGRAM} env openai", 2, "any free one"),
    Row(f"{PROGRAM} env anthropic", 2, "any free one"),
    Row(f"{PROGRAM} env claude-code", 2, "any free one"),
    Row(f"{PROGRAM} token alice --role operate --expires-in 90d >> tokens.toml", 0, "the token of alice"),
    Row(f'{PROGRAM} backup "$(date +%F-%H%M).db"', 0, "backed up"),
    Row(f"{PROGRAM} batches", 0, "no batch at a provider"),
    Row(f"{PROGRAM} drain-workers", 2, "Ray is not installed"),
    Row(f"{PROGRAM} suggest-weights", 0, "proposed: "),
    Row(f"{PROGRAM} alert-test", 2, "ALERT_WEBHOOK_URL is not set"),
    Row(f"{PROGRAM} purge --older-than 30d --dry-run", 0, "nothing to purge"),
    Row(f"{PROGRAM} purge --older-than 30d", 0, "nothing to purge"),
    Row(f"{PROGRAM} purge --batch results/reviews.csv", 2, "prompts and answers of 8 tasks"),
)
WITHOUT_KEYS_BESIDE = (
    Row(SUBMIT, 0),
    Row(f'{PROGRAM} submit "Review this: ..." --agent gpt-reviewer --wait', 0),
    Row(f"{PROGRAM} status", 0, "serves the queue"),
)
WITH_KEYS = (
    Row("make run ONCE=1", 0, "not running the 60 examples"),
    Row(SUBMIT, 2, "not queued: no orchestrator is running"),
    Row(f"{PROGRAM} check", 0, "live: "),
    Row(f"{PROGRAM} plan examples/tasks.jsonl", 0, "60 tasks"),
    Row(f"{PROGRAM} config", 0, "state_dir"),
    Row(f"{PROGRAM} suggest-weights", 1, "fewer than 5 answers in the last 24 h"),
    Row(f"{PROGRAM} alert-test", 2, "ALERT_WEBHOOK_URL is not set"),
    Row(f"{PROGRAM} status", 0, "tasks: none yet"),
    Row(f"{PROGRAM} batches", 0, "no batch at a provider"),
)
WITH_KEYS_BESIDE = (
    Row(SUBMIT, 0),
    Row(RUN_FIRST_EXAMPLES, 0, "3 of 3 tasks answered"),
    Row(RUN_EXAMPLES, 0, "60 of 60 tasks answered"),
    Row(RUN_FIRST_REVIEWS, 0, "3 of 3 tasks answered"),
    Row(RUN_REVIEWS, 0, "8 of 8 tasks answered"),
    Row(f"{PROGRAM} status", 0, "serves the queue"),
    Row(f"{PROGRAM} suggest-weights", 0, "proposed: "),
)
AFTER_THE_KILL = (
    Row("make run ONCE=1", 2, "queued before this start: expected to cost $"),
    Row(SUBMIT, 2, "not queued: no orchestrator is running"),
)
AT_THE_END = (
    Row(RUN_BATCH, 0, f"{BATCH} of {BATCH} tasks answered"),
    Row(RUN_EXAMPLES, 0, "all 60 tasks are already done"),
    Row("make run ONCE=1", 0, "not running the 60 examples"),
)
SERVERS = ("make run", "make run ARGS=--yes", f"{PROGRAM} --pages")
PAGES = "make web"
TABLES = (WITHOUT_KEYS, WITHOUT_KEYS_BESIDE, WITH_KEYS, WITH_KEYS_BESIDE, AFTER_THE_KILL, AT_THE_END)


def test_the_tables_hold_every_documented_command() -> None:
    lines = "\n".join(blocks("sh")).splitlines()
    typed = {line.partition("   #")[0].strip() for line in lines}
    typed |= set(re.findall(r"`(make (?:run|web)[^`]*|python web_server.py[^`]*)`", EVERYTHING))
    wanted = {line for line in typed if line.startswith(("make ", "python "))}
    assert len(wanted) > 12
    tried = {row.command for table in TABLES for row in table} | {*SERVERS, PAGES}
    assert {line for line in wanted - tried - ELSEWHERE if "PYTHON=" not in line} == set()


# ------------------------------------------------------------------ the project


class Project:
    """A folder with all that a checkout has, whose .venv runs the Python of these tests."""

    def __init__(self, path: Path, environ: dict[str, str]) -> None:
        self.path = path
        path.mkdir()
        for each in ROOT.iterdir():
            if each.name in FOLDERS or each.suffix in {".py", ".txt", ".lock", ".toml"}:
                (path / each.name).symlink_to(each)
        python = path / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        # As scripts/setup.sh leaves it, so that `make` installs nothing.
        checksum = "cat requirements/*.txt requirements/*.lock | cksum"
        stamp = subprocess.run(["sh", "-c", checksum], cwd=path, capture_output=True, check=True).stdout
        (path / ".venv" / ".installed-runtime").write_bytes(stamp)
        (path / "configured.toml").write_text(
            "".join(f"[providers.{name}.limits]\nrequests_per_minute = 6_000_000\n" for name in
                    ("anthropic", "openai", "gemini"))
        )  # fmt: skip
        self._with_keys = bool(environ)
        self._started: set[str] = set()
        self._seen = 0  # the last orchestrator
        self.environ = {
            "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
            "ORCHESTRATOR_CONFIG": str(path / "configured.toml"),
            "ORCHESTRATOR_GATEWAY_PORT": "0",  # other tests run beside this one
            **environ,
        }

    def start(self, command: str) -> Script:
        """With keys each command is once a line for a shell. From then on and without keys those of Python
        are forks, except for servers and for what only a shell understands.
        """
        python, program, *arguments = shlex.split(command)
        is_fork = python == "python" and (not self._with_keys or arguments[0] in self._started)
        if is_fork and command not in SERVERS and not set(command) & set(">$"):
            return Script(*arguments, cwd=self.path, env=self.environ, script=self.path / program)
        if python == "python":
            self._started.add(arguments[0])
        return Script(cwd=self.path, env=self.environ, command=command)

    def try_all(self, rows: Sequence[Row]) -> None:
        for row in rows:
            with self.start(row.command) as script:
                code = script.wait(120)
            printed = script.out + script.err
            assert code == row.code and row.output in printed, f"{row}\nended with {code}: {printed}"
            assert "Traceback" not in printed, printed

    def status(self) -> dict[str, Any]:
        with self.start(f"{PROGRAM} status --json") as script:
            assert script.wait() == 0, script.err
        found: dict[str, Any] = json.loads(script.out)
        return found

    def wait_until_served(self, server: Script) -> int:
        """The process number of the orchestrator that has signed on since this was last called, or will."""
        while (newest := self._query("SELECT max(id) FROM orchestrators")) <= self._seen:
            assert server.process.poll() is None, server.err
            server.pause()
        self._seen = newest
        return self._query("SELECT pid FROM orchestrators WHERE id = ?", newest)

    def note_orchestrators(self) -> None:
        """Those that have been: the next one is awaited by `wait_until_served`."""
        self._seen = self._query("SELECT max(id) FROM orchestrators")

    def open_tasks(self) -> int:
        return self._query("SELECT count(*) FROM tasks WHERE status IN ('queued', 'running')")

    def attempts(self) -> int:
        """Calls that are on the disk. One that waited too long before it was sent is cancelled."""
        return self._query("SELECT count(*) FROM attempts WHERE outcome != 'cancelled'")

    def _query(self, query: str, *values: int) -> int:
        """Read through SQLite, which takes no lock that keeps others from writing."""
        path = self.path / "state" / ("live.db" if self._with_keys else "simulated.db")
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
                return int(database.execute(query, values).fetchone()[0] or 0)
        except sqlite3.OperationalError:  # it is being made
            return 0


def pages_of(script: Script) -> str:
    script.wait_for("pages on ")
    found = re.search(r"pages on (http://\S+)", script.out + script.err)
    assert found is not None
    return found[1]


def post(pages: str, task: dict[str, Any]) -> dict[str, Any]:
    """Submit through the pages' API and wait for the answer."""
    body = json.dumps({**task, "wait_s": 60}).encode()
    request = urllib.request.Request(  # noqa: S310 - our own pages
        f"{pages}/api/tasks", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=90) as response:  # noqa: S310
        assert response.status == 200
        found: dict[str, Any] = json.load(response)["task"]
        return found


# ------------------------------------------------------------------ without keys


def test_without_keys_every_command_does_what_the_readme_says(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", {})
    project.try_all(WITHOUT_KEYS)
    project.note_orchestrators()
    with project.start("make run") as server:
        pages = pages_of(server)
        project.wait_until_served(server)
        project.try_all(WITHOUT_KEYS_BESIDE)
        assert post(pages, {"id": "sky", "prompt": "Why?"})["status"] == "succeeded"
        server.kill()
    with project.start("make run") as server:  # nothing is spent, so nothing is asked
        pid = project.wait_until_served(server)
        os.kill(pid, signal.SIGINT)
        assert server.wait() == 0, server.err
    tasks = {name: count for name, count in project.status()["tasks"].items() if count}
    assert tasks == {"succeeded": 128 + 3}
    rows = read_rows(project.path / "state" / "results" / "examples.jsonl")
    assert len({row["id"] for row in rows}) == len(rows) == EXAMPLES
    assert all(row["simulated"] for row in rows)


# ------------------------------------------------------------------ with keys


class Bill:
    """What the providers have served, as they count it."""

    def __init__(self, simulator: SimulatorProcess) -> None:
        self._simulator = simulator

    def _sum(self, count: Callable[[dict[str, Any]], int]) -> int:
        return sum(count(each) for each in self._simulator.stats().values())

    @property
    def calls(self) -> int:
        return self._sum(lambda each: int(each["calls"]))

    @property
    def in_flight(self) -> int:
        return self._sum(lambda each: int(each["in_flight"]))

    @property
    def answered(self) -> int:
        return self._sum(lambda each: int(each["by_status"].get("200", 0)))


@pytest.fixture
def providers() -> Iterator[SimulatorProcess]:
    slow = {"latency": {"first_token_s": 0.3, "per_token_s": 0.0}}
    config = {"providers": dict.fromkeys(("anthropic", "openai", "gemini"), slow)}
    with SimulatorProcess.start(config) as simulator:
        yield simulator


@pytest.mark.parametrize("number", range(ROUNDS))
def test_with_keys_every_task_is_called_once_and_stored_through_a_kill(
    tmp_path: Path, providers: SimulatorProcess, number: int
) -> None:
    project, bill = Project(tmp_path / "project", live_environment(providers.base_urls)), Bill(providers)
    write_rows(
        project.path / "tasks.jsonl",
        [{"id": f"t-{n}", "prompt": f"Question {n}?", "tier": "economy"} for n in range(BATCH)],
    )
    if number == 0:
        project.try_all(WITH_KEYS)
        assert bill.calls == 0, "nothing was spent"
        project.note_orchestrators()
    with project.start("make run") as server:
        pages_of(server)
        project.wait_until_served(server)
        # More pages come later: a third process that has the database open would hide a lock that is lost.
        project.try_all(WITH_KEYS_BESIDE if number == 0 else WITH_KEYS_BESIDE[:3])
        with project.start(PAGES) as more_pages:
            assert post(pages_of(more_pages), {"id": "sky", "prompt": "Why?"})["status"] == "succeeded"
            assert bill.calls == bill.answered == project.attempts(), "before the kill"
            lost = kill_amid_a_batch(project, bill, server, more_pages, random.Random(number))
    if number == 0:
        before = bill.calls
        project.try_all(AFTER_THE_KILL)
        assert bill.calls == before, "what is queued is not answered unasked"
    restart(project, SERVERS[1 + number % 2])
    project.try_all(AT_THE_END)
    compare(project, bill, lost)


def kill_amid_a_batch(
    project: Project, bill: Bill, server: Script, pages: Script, chance: random.Random
) -> int:
    """Kill the server, and the pages too or before it; calls of which nothing is stored.

    The server is stopped first, so that what the providers have served and what is stored can be compared.
    """
    before = bill.calls
    with project.start(RUN_BATCH) as run:
        until = before + chance.randrange(20, BATCH - 60)
        while bill.calls < until:
            assert run.process.poll() is None, run.err
            run.pause()
        if chance.random() < 0.5:
            pages.kill()
        time.sleep(chance.random() * 0.2)  # some moment, not the one after a look at the bill
        server.send(signal.SIGSTOP)
        while bill.in_flight:
            run.pause()
        lost = bill.calls - project.attempts()
        server.kill()
        server.process.wait()
        pages.kill()
        run.wait_for("the server has ended")
        assert run.wait() == 1, run.err
    assert 0 <= lost <= CUT_OFF_AT_MOST
    return lost


def restart(project: Project, command: str) -> None:
    """Start it as the README does for a place without a terminal; it answers what is left."""
    with project.start(command if "--yes" in command else f"{command} --yes") as server:
        server.wait_for("queued before this start (--yes)")
        pid = project.wait_until_served(server)
        while project.open_tasks():
            assert server.process.poll() is None, server.err
            server.pause()
        os.kill(pid, signal.SIGINT)
        assert server.wait() == 0, server.err


def compare(project: Project, bill: Bill, lost: int) -> None:
    tasks = {name: count for name, count in project.status()["tasks"].items() if count}
    results = {
        "examples.jsonl": EXAMPLES,
        "tasks.jsonl": BATCH,
    }
    for name, count in results.items():
        rows = read_rows(project.path / "results" / name)
        assert len({row["id"] for row in rows}) == len(rows) == count
        assert all(row["status"] == "succeeded" and not row["simulated"] for row in rows)
    assert set(tasks) == {"succeeded"}
    assert bill.calls == bill.answered, "each call was answered"
    assert project.attempts() == tasks["succeeded"] == bill.calls - lost
