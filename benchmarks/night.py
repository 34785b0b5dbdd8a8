"""A night in small: a long run through everything that goes wrong in one, and what it says of it.

The command line as a user starts it, in a process of its own, its screen and its log read. The simulator
follows a schedule that begins when the run has its first answers:

    one provider silent        calls are accepted and never answered, its free list of models neither
    the network gone           no provider accepts a connection
    a quota spent, renewed     every call to one provider is answered by 429, "insufficient_quota"

Limits are configured and make the run as long as the night. The providers' time limit is the usual two
minutes, so that a task that waits for it shows. A second run, through a dead network only, gives a task one
attempt: any that is spent on the network ends as failed.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from src.simulator import SimulatorProcess

from .child import ROOT, ClientFailed
from .child import environment as clean_environment
from .table import NOT_JUDGED, Table, verdict
from .work import PROVIDERS, Json, folder, prompts, simulator

SILENT, SPENT = "gemini", "openai"
PER_MINUTE = 480.0  # requests of each provider: 24 tasks a second together
SUSPECT_S = 5.0  # after the last answer of a provider that has fallen silent
LATENCY_S = 0.25
KNOWN_S = SUSPECT_S + 4 * LATENCY_S  # of the silence's begin: the last answer comes a latency later
BACK_S = 5.0
KEYS = {
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
    "openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL"),
    "gemini": ("GOOGLE_API_KEY", "GEMINI_BASE_URL"),
}
SETTINGS = """\
[pool]
max_attempts = {attempts}
[routing]
quota_probe_s = {quota_probe_s}
"""
LIMITS = "[providers.{name}.limits]\nrequests_per_minute = {per_minute}\n"

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens when: seconds after the first answers. None: it does not."""

    rows: int
    network: Span
    silence: Span | None = None
    quota: Span | None = None
    quota_probe_s: float = 20.0
    attempts: int = 6

    def schedule(self, name: str) -> list[Json]:
        found = [(self.network, "down")]
        if name == SILENT and self.silence:
            found.append((self.silence, "silence"))
        if name == SPENT and self.quota:
            found.append((self.quota, "spend_cap"))
        return [{"from_s": start, "to_s": end, "fault": fault} for (start, end), fault in sorted(found)]

    @property
    def lasts_s(self) -> float:
        """More than it can take: the time limit of the run."""
        return 120.0 + self.rows / 8.0 + self.network[1]


NIGHT = Plan(2_000, network=(30.0, 90.0), silence=(5.0, 20.0), quota=(100.0, 130.0))
QUICK = Plan(850, network=(15.0, 35.0), silence=(3.0, 11.0), quota=(40.0, 52.0), quota_probe_s=8.0)
ONE_ATTEMPT = Plan(300, network=(3.0, 23.0), attempts=1)


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt, as the results show it. Seconds after the first answers."""

    task: str
    provider: str
    at: float
    took: float
    error: str


@dataclass(frozen=True, slots=True)
class Night:
    """What a run left behind: its results, its screen and its log."""

    rows: Sequence[Json]
    calls: Sequence[Call]
    screen: Sequence[str]
    log: Sequence[tuple[float, str, str]]  # (moment, action, message)
    stats: Mapping[str, Json]
    took_s: float

    @property
    def answered(self) -> int:
        return len({row["id"] for row in self.rows if row["status"] == "succeeded"})

    def to(self, name: str, start: float, end: float = float("inf")) -> list[Call]:
        return [c for c in self.calls if c.provider == name and start <= c.at < end]

    def first_answer(self, name: str, after: float) -> float:
        return min((c.at + c.took for c in self.to(name, after) if not c.error), default=float("inf"))

    def logged(self, action: str, after: float = 0.0) -> float:
        """When the log first mentioned it, from then on."""
        return min((at for at, kind, _ in self.log if kind == action and at >= after), default=float("inf"))

    def line_with(self, words: str) -> str:
        """The first line of the screen with these words in it."""
        return next((line for line in self.screen if words in line), "nothing")

    def longest_gap_s(self, without: Span) -> float:
        """The longest time without a finished task, a span left out."""
        ends = sorted(max(c.at + c.took for c in calls) for _, calls in self._by_task())
        pairs = itertools.pairwise(ends)
        return max((b - a for a, b in pairs if not (a < without[1] + BACK_S and b > without[0])), default=0.0)

    def longest_task_s(self, begun: Span) -> float:
        """From the first call to the last answer, of tasks whose first call fell into that span."""
        spans = [(calls[0].at, calls[-1].at + calls[-1].took) for _, calls in self._by_task()]
        return max((end - at for at, end in spans if begun[0] <= at < begun[1]), default=0.0)

    def _by_task(self) -> Iterator[tuple[str, list[Call]]]:
        for task, calls in itertools.groupby(self.calls, lambda call: call.task):
            yield task, list(calls)


def run(*, quick: bool = False, runs: int | None = None) -> list[Table]:
    """Three tables: the figures, the screen's lines and when they came, and the run with one attempt a task.

    `runs` is not used: it is one night.
    """
    plan = QUICK if quick else NIGHT
    print(f"   {plan.rows:,} rows through a night ...", flush=True)
    night = _through(plan)
    print("   one attempt a task, and no network ...", flush=True)
    single = _through(ONE_ATTEMPT)
    return [_figures(plan, night), _lines(plan, night), _one_attempt(single)]


# ------------------------------------------------------------------ what came of it


def _figures(plan: Plan, night: Night) -> Table:
    assert plan.silence is not None
    assert plan.quota is not None
    table = Table(f"{plan.rows:,} rows through a night in small", ("what", "target", "figure", "verdict"))
    ids = [row["id"] for row in night.rows]
    table.add(
        "rows answered, each id once", f"{plan.rows:,}", f"{night.answered:,} of {len(ids):,}",
        verdict(night.answered == len(ids) == len(set(ids)) == plan.rows),
    )  # fmt: skip
    _silence(table, night, plan.silence)
    _network(table, night, plan.network)
    _quota(table, night, plan.quota, plan.quota_probe_s)
    gap_s = night.longest_gap_s(plan.network)
    table.add("longest time without an answer, the dead network left out", "", f"{gap_s:.1f} s", NOT_JUDGED)
    twice = sum(row["answered_duplicates"] for row in night.stats.values())
    table.add("answers paid twice", "", str(twice), NOT_JUDGED)
    table.add("the whole run", "", f"{night.took_s:.0f} s", NOT_JUDGED)
    spans = (plan.silence, plan.network, plan.quota)
    silence, network, quota = (f"{start:g} to {end:g} s" for start, end in spans)
    table.notes.append(
        f"Seconds are counted from the first answers. {SILENT} is silent from {silence}, the network gone "
        f"from {network}, {SPENT}'s quota spent from {quota} and tried every {plan.quota_probe_s:g} s. "
        f"{PER_MINUTE:g} requests a minute each, time limit of a call 120 s."
    )
    return table


def _silence(table: Table, night: Night, span: Span) -> None:
    swallowed = [c for c in night.to(SILENT, *span) if c.error]
    last_s = max((c.at for c in swallowed if c.at < span[1] - 0.5), default=span[0]) - span[0]
    waited_s = night.longest_task_s((span[0] - 1.0, span[1]))
    back_s = night.first_answer(SILENT, span[1]) - span[1]
    table.add(
        f"{SILENT} silent: calls swallowed, the last one after", f"<= {KNOWN_S:g} s",
        f"{len(swallowed)}, {last_s:.1f} s", verdict(last_s <= KNOWN_S),
    )  # fmt: skip
    limit_s = KNOWN_S + 4 * LATENCY_S
    table.add(
        "... the longest that a task took meanwhile", f"<= {limit_s:g} s", f"{waited_s:.1f} s",
        verdict(waited_s <= limit_s),
    )  # fmt: skip
    table.add(
        "... answers again after its end", f"<= {BACK_S:g} s", f"{back_s:.1f} s", verdict(back_s <= BACK_S)
    )


def _network(table: Table, night: Night, span: Span) -> None:
    noticed = night.logged("offline", span[0] - 1.0)
    begun = [c for c in night.calls if span[0] <= c.at < span[1]]
    cut = [c for c in night.calls if c.at < span[0] < c.at + c.took and c.error]
    late = [c for c in begun if c.at > noticed]
    table.add(
        "network gone: noticed after", "", f"{noticed - span[0]:.1f} s", NOT_JUDGED
    )  # fmt: skip
    table.add(
        "... calls cut off; begun before it was noticed; begun afterwards", "0 afterwards",
        f"{len(cut)}; {len(begun) - len(late)}; {len(late)}", verdict(not late),
    )  # fmt: skip
    back_s = min((c.at for c in night.calls if c.at >= span[1]), default=float("inf")) - span[1]
    limit_s = BACK_S + 1.0  # one probe every 5 s, and what it takes
    table.add(
        "... calls again after its end", f"<= {limit_s:g} s", f"{back_s:.1f} s", verdict(back_s <= limit_s)
    )


def _quota(table: Table, night: Night, span: Span, probe_s: float) -> None:
    spent = [c for c in night.calls if c.error == "QuotaExhausted"]
    first = min((c.at + c.took for c in spent), default=span[0])
    tries = [c for c in spent if c.at > first]
    back_s = night.first_answer(SPENT, span[1]) - span[1]
    table.add(
        f"{SPENT}'s quota spent: calls refused at once; tries afterwards",
        f"one in {probe_s:g} s",
        f"{len(spent) - len(tries)}; {len(tries)}",
        verdict(len(tries) <= (span[1] - span[0]) / probe_s),
    )
    table.add(
        "... answers again after its renewal", f"<= {probe_s + 1.0:g} s", f"{back_s:.1f} s",
        verdict(back_s <= probe_s + 1.0),
    )  # fmt: skip


# ------------------------------------------------------------------ lines of screen and log


def _lines(plan: Plan, night: Night) -> Table:
    """What happened, when the log had it, and the line of the screen. Missing lines are a missed target."""
    assert plan.silence is not None
    assert plan.quota is not None
    table = Table("Lines on the screen and in the log", ("at", "what happened", "log", "screen", "verdict"))
    silence, network, quota = plan.silence, plan.network, plan.quota
    known_s, back_s, late_s = KNOWN_S + 1.0, BACK_S + 1.0, plan.quota_probe_s + 2.0
    for at, what, within_s, action, words in (
        (silence[0], f"{SILENT} falls silent", known_s, "provider_open", f"{SILENT} gets no tasks: silent"),
        (silence[0], "its calls are given up", known_s, "calls_lost", "in flight are given up"),
        (silence[1], "it is back", back_s, "provider_degraded", f"{SILENT} is back: "),
        (network[0], "the network goes", 2.0, "offline", "waiting for the network, since "),
        (network[0], "... as a line of progress", 2.0, "offline", "offline since "),
        (network[1], "it is back", back_s, "online", "online again after "),
        (quota[0], f"{SPENT}'s quota is spent", 2.0, "provider_exhausted", f"{SPENT} is exhausted: quota"),
        (quota[1], "it is renewed", late_s, "provider_healthy", f"{SPENT} is back: "),
    ):
        logged = night.logged(action, at - 1.0)
        line = night.line_with(words)
        heard = verdict(logged - at <= within_s, line != "nothing")
        table.add(f"{at:g} s", what, f"{logged:.1f} s", line, heard)
    return table


def _one_attempt(single: Night) -> Table:
    plan = ONE_ATTEMPT
    table = Table(
        f"{plan.rows} rows, one attempt each, the network gone for {plan.network[1] - plan.network[0]:g} s",
        ("what", "target", "figure", "verdict"),
    )
    failed = [c for c in single.calls if c.error == "Unreachable"]
    table.add("calls that failed with the network", "", len(failed), NOT_JUDGED)
    table.add(
        "attempts spent on it: rows that failed", "0", plan.rows - single.answered,
        verdict(single.answered == plan.rows, bool(failed)),
    )  # fmt: skip
    return table


# ------------------------------------------------------------------ one run


def _through(plan: Plan) -> Night:
    with folder() as path, SimulatorProcess.start(simulator(latency_s=LATENCY_S)) as simulated:
        _write(path, plan)
        began = time.monotonic()
        with (path / "screen.txt").open("w+", encoding="utf-8") as screen:
            child = _start(path, simulated.base_urls, screen)
            try:
                _wait_for_answers(child, path / "results.jsonl")
                for name in PROVIDERS:
                    simulated.patch(name, {"schedule": plan.schedule(name)})
                simulated.reset()
                zero = time.time()
                code = child.wait(plan.lasts_s)
            except subprocess.TimeoutExpired:
                raise ClientFailed(f"the night was not over within {plan.lasts_s:.0f} s") from None
            finally:
                _end(child)
            screen.seek(0)
            lines = screen.read().splitlines()
        if code:
            raise ClientFailed(f"the run ended with {code}: " + " / ".join(lines[-5:]))
        stats = simulated.stats()
        return _read(path, lines, stats, zero, time.monotonic() - began)


def _write(path: Path, plan: Plan) -> None:
    with (path / "tasks.jsonl").open("w", encoding="utf-8") as file:
        for number, prompt in enumerate(prompts(plan.rows, median_chars=400)):
            row = {
                "id": f"row-{number}",
                "prompt": prompt.text,
                "max_tokens": prompt.max_tokens,
                "tier": "economy",
            }
            file.write(json.dumps(row) + "\n")
    settings = SETTINGS.format(attempts=plan.attempts, quota_probe_s=plan.quota_probe_s)
    settings += "".join(LIMITS.format(name=name, per_minute=PER_MINUTE) for name in PROVIDERS)
    (path / "settings.toml").write_text(settings, encoding="utf-8")


def _start(path: Path, base_urls: Mapping[str, str], screen: IO[str]) -> subprocess.Popen[bytes]:
    """The command as with real keys, which no server here looks at."""
    environ = clean_environment()
    for name, (key, url) in KEYS.items():
        environ |= {key: f"night-key-of-{name}", url: base_urls[name]}
    command = [
        sys.executable, str(ROOT / "real_agent_orchestrator.py"), "run", "tasks.jsonl", "-o", "results.jsonl",
        "--config", "settings.toml", "--state-dir", "state",
    ]  # fmt: skip
    return subprocess.Popen(
        command, cwd=path, env=environ, stdin=subprocess.DEVNULL, stdout=screen, stderr=screen
    )


def _wait_for_answers(child: subprocess.Popen[bytes], results: Path) -> None:
    end = time.monotonic() + 60.0
    while not results.exists() or not results.stat().st_size:
        if child.poll() is not None or time.monotonic() > end:
            raise ClientFailed("the run gave no answer within a minute")
        time.sleep(0.02)


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.kill()
    child.wait()


def _read(path: Path, screen: Sequence[str], stats: Mapping[str, Json], zero: float, took_s: float) -> Night:
    rows = _json_lines(path / "results.jsonl")
    calls = [
        Call(row["id"], a["provider"], a["started_at"] - zero, a["latency_s"], a["error_kind"] or "")
        for row in rows
        for a in row["attempts"]
    ]
    log = [
        (datetime.fromisoformat(line["time"]).timestamp() - zero, line.get("action", ""), line["message"])
        for line in _json_lines(path / "state" / "logs" / "orchestrator.log")
    ]
    return Night(rows, calls, screen, log, stats, took_s)


def _json_lines(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
