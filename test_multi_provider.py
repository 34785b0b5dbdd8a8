"""The whole story, from top to bottom, against the built-in simulator: nothing leaves this machine.

    python test_multi_provider.py            runs the story step by step, then every other test
    pytest test_multi_provider.py            the story alone, as tests

The first line of each step is what it shows.
"""

from __future__ import annotations

import inspect
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from real_agent_orchestrator import ProviderLoadBalancer, RealAgent
from src.agents.agent_factory import create_balanced_agent_pool
from src.config import load_settings
from src.messages import Message
from src.records import Outcome, Placement, Task, Usage
from src.routing.outcomes import CallEnd
from src.settings import Settings
from src.simulator.process import SimulatorProcess
from tests import no_network
from tests.fork_server import AVAILABLE
from tests.helpers import Script, clean_environment, live_environment, read_rows, run_script, write_rows

ROOT = Path(__file__).resolve().parent
PROVIDERS = ("anthropic", "openai", "gemini")
NOW = 1_800_000_000.0
Say = Callable[[str], None]

clean_environment(os.environ)


# ------------------------------------------------------------------ what the steps share


@pytest.fixture
def say(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Say:
    """Prints a line of the story where there is a narrator."""

    narrator = request.config.pluginmanager.get_plugin(Narrator.NAME)

    def speak(text: str) -> None:
        if narrator is not None:
            with capsys.disabled():
                narrator.print_line(request.config, f"   {text}")

    return speak


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The defaults, with generous configured limits, so that none has to be learned first."""
    limits = "".join(f"[providers.{name}.limits]\nrequests_per_minute = 6000000\n" for name in PROVIDERS)
    (tmp_path / "generous.toml").write_text(limits)
    return load_settings(tmp_path / "generous.toml", environ={})


@pytest.fixture
def balancer(settings: Settings) -> ProviderLoadBalancer:
    return ProviderLoadBalancer(settings, now=NOW, configured=PROVIDERS)


def place_many(balancer: ProviderLoadBalancer, count: int, task_type: str = "general") -> Counter[str]:
    """Place and answer `count` tasks, a tenth of a second apart, each in one second; calls by provider."""
    task = Task("t", "b", (Message("user", "Why?"),), task_type=task_type)
    calls: Counter[str] = Counter()
    for step in range(count):
        now = NOW + step * 0.1
        placement = balancer.place(task, now)
        assert isinstance(placement, Placement), placement
        usage = Usage(input_tokens=10, output_tokens=20)
        balancer.settle(placement.permit, CallEnd(Outcome.OK, 1.0, usage), now + 0.01)
        calls[placement.provider] += 1
    return calls


def numbered(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"id": f"t{number}", "prompt": f"Question {number}: why?", **fields} for number in range(count)]


def providers_of(row: dict[str, Any]) -> list[str]:
    """Where a task was tried, in order."""
    return [attempt["provider"] for attempt in row["attempts"]]


def assert_each_answered_once(rows: list[dict[str, Any]], count: int) -> None:
    assert sorted(row["id"] for row in rows) == sorted(f"t{number}" for number in range(count))
    failed = [(row["id"], row["status"], row["error"]) for row in rows if row["status"] != "succeeded"]
    assert failed == []
    assert all(row["output"] for row in rows)


def longest_pause_s(rows: list[dict[str, Any]]) -> float:
    """Seconds between two answers that followed each other."""
    ends: list[float] = sorted(
        row["attempts"][-1]["started_at"] + row["attempts"][-1]["latency_s"] for row in rows
    )
    return max(later - earlier for earlier, later in pairwise(ends))


# ------------------------------------------------------------------ the pool and its choices


def test_1_seven_agents_share_three_providers(settings: Settings, say: Say) -> None:
    """The pool has seven agents: two at home with Claude, three with GPT, two with Gemini."""
    pool = create_balanced_agent_pool(settings, {})
    homes = Counter(agent.home for agent in pool.values())
    for agent in pool.values():
        assert isinstance(agent, RealAgent)
        say(f"{agent.name:<18} at home with {agent.home:<10} for {', '.join(agent.task_types)}")
    assert homes == {"anthropic": 2, "openai": 3, "gemini": 2}


def test_2_untyped_tasks_follow_the_weights(balancer: ProviderLoadBalancer, say: Say) -> None:
    """Of 10,000 untyped tasks each provider gets its weight of 0.3, 0.4 and 0.3, within 1 %."""
    calls = place_many(balancer, 10_000)
    for name, weight in (("anthropic", 0.3), ("openai", 0.4), ("gemini", 0.3)):
        say(f"{name:<10} {calls[name]:>5,} calls, {calls[name] / 10_000:.1%}")
        assert calls[name] == pytest.approx(10_000 * weight, rel=0.01)


def test_3_a_task_type_has_its_preferred_provider(settings: Settings, say: Say) -> None:
    """Code goes to GPT, writing and analysis to Claude, research to Gemini, while they are well."""
    wanted = {
        "code_generation": "openai",
        "creative_writing": "anthropic",
        "research": "gemini",
        "analysis": "anthropic",
    }
    for task_type, provider in wanted.items():
        balancer = ProviderLoadBalancer(settings, now=NOW, configured=PROVIDERS)
        assert place_many(balancer, 20, task_type) == {provider: 20}
        say(f"{task_type:<16} 20 of 20 to {provider}")


def test_4_new_weights_count_from_the_next_task_on(balancer: ProviderLoadBalancer, say: Say) -> None:
    """Rebalancing to 0.6, 0.2 and 0.2 moves the shares without a restart."""
    before = place_many(balancer, 1_000)
    balancer.set_weights({"anthropic": 0.6, "openai": 0.2, "gemini": 0.2}, NOW)
    after = place_many(balancer, 1_000)
    say(f"before: {dict(before)}, after: {dict(after)}")
    assert after["anthropic"] == pytest.approx(600, abs=10)
    assert after["openai"] == pytest.approx(200, abs=10)


# ------------------------------------------------------------------ the script, as a process


def test_5_a_file_of_tasks_comes_back_answered_with_its_cost(tmp_path: Path, say: Say) -> None:
    """Without any key the examples are answered over real HTTP by the simulator, and the cost is printed."""
    done = run_script("run", ROOT / "examples" / "tasks.jsonl", "-o", "out.jsonl", cwd=tmp_path)
    assert done.process.returncode == 0, done.err
    rows = read_rows(tmp_path / "out.jsonl")
    assert len(rows) == len({row["id"] for row in rows}) == 60
    assert all(row["status"] == "succeeded" and row["simulated"] for row in rows)
    assert {row["provider"] for row in rows} == set(PROVIDERS)
    assert sum(row["cost_usd"] for row in rows) > 0
    for line in done.out.splitlines():
        say(line)


def test_6_what_models_refuse_or_cut_off_harms_no_provider(tmp_path: Path, say: Say) -> None:
    """A tiny max_tokens, a refused temperature, an unknown type, an unknown key: each ends as it should."""
    tasks: list[dict[str, Any]] = [
        {"id": f"short-{name}", "prompt": "Tell me a story", "max_tokens": 5, "providers": [name]}
        for name in PROVIDERS
    ]
    tasks += [
        {"id": f"warm-{name}", "prompt": "Tell me a story", "temperature": 0.7, "providers": [name]}
        for name in PROVIDERS
    ]
    tasks += [
        {"id": "odd-type", "prompt": "Hello", "task_type": "limericks"},
        {"id": "odd-key", "promt": "x"},
    ]
    write_rows(tmp_path / "tasks.jsonl", tasks)
    done = run_script("run", "tasks.jsonl", "-o", "out.jsonl", cwd=tmp_path)
    rows = {row["id"]: row for row in read_rows(tmp_path / "out.jsonl")}
    assert done.process.returncode == 1, "one line was no task"
    assert "line 8: unknown key 'promt'; did you mean 'prompt'?" in done.err
    assert "unknown task type 'limericks' is served as 'general'" in done.err
    assert set(rows) == {task["id"] for task in tasks} - {"odd-key"}
    for row in rows.values():
        say(f"{row['id']:<16} {row['status']:<10} {row['finish_reason']:<7} {'; '.join(row['warnings'])}")
        assert row["status"] == "succeeded", row
    assert all(rows[f"short-{name}"]["truncated"] for name in PROVIDERS)
    assert any("temperature" in warning for warning in rows["warm-anthropic"]["warnings"])
    assert not events_of(done, "breaker")


# ------------------------------------------------------------------ outages


OUTAGE_S, SILENCE_S = 4.0, 4.0
# Trouble of seconds instead of minutes, so patience of seconds too.
SHORT = "[breaker]\nrecovery_timeout_s = 4\nrecovery_timeout_max_s = 8\n" + "".join(
    f"[providers.{name}]\ntimeout_s = 6\n" for name in PROVIDERS
)


@pytest.fixture
def live_providers() -> Iterator[SimulatorProcess]:
    """Three providers that take about two seconds for an answer and fail one call in twenty somehow."""
    kinds = ("rate_limit", "server_error", "overloaded", "reset", "malformed", "empty", "timeout_status")
    each = {
        "latency": {"first_token_s": 2.0, "per_token_s": 0.0},
        "faults": {kind: 0.05 / len(kinds) for kind in kinds},
    }
    with SimulatorProcess.start({"providers": dict.fromkeys(PROVIDERS, each)}) as simulator:
        yield simulator


def in_turn(simulator: SimulatorProcess) -> None:
    """From now on each provider is out for a while, one after the other, then silent in the same order."""
    for place, name in enumerate(PROVIDERS):
        out, silent = place * OUTAGE_S, len(PROVIDERS) * OUTAGE_S + place * SILENCE_S
        windows = [
            {"from_s": out, "to_s": out + OUTAGE_S, "fault": "outage"},
            {"from_s": silent, "to_s": silent + SILENCE_S, "fault": "silence"},
        ]
        simulator.patch(name, {"schedule": windows})
    simulator.reset()


def test_7_each_provider_fails_in_turn_and_every_task_is_answered_once(
    tmp_path: Path, live_providers: SimulatorProcess, say: Say
) -> None:
    """Errors, an outage and a silence of each provider in turn: no task is lost, none answered twice."""
    count = 600
    (tmp_path / "short.toml").write_text(SHORT)
    write_rows(tmp_path / "tasks.jsonl", numbered(count))
    command = ("run", "tasks.jsonl", "-o", "out.jsonl", "--yes", "--config", "short.toml")
    env = live_environment(live_providers.base_urls)
    with Script(*command, cwd=tmp_path, env=env) as script:
        while not sum(live_providers.stats()[name]["calls"] for name in PROVIDERS):
            assert script.process.poll() is None, script.err
            script.pause()
        in_turn(live_providers)
        code = script.wait(180)
    assert code == 0, script.err
    rows = read_rows(tmp_path / "out.jsonl")
    assert_each_answered_once(rows, count)
    moved = [row for row in rows if len(set(providers_of(row))) > 1]
    assert {providers_of(row)[0] for row in moved} == set(PROVIDERS), (
        "each of them failed, and tasks moved on"
    )
    assert all(row["cost_usd"] is not None and not row["simulated"] for row in rows)
    say(f"{len(rows)} answered once each; {len(moved)} of them after moving to another provider")
    say(f"the longest time without an answer was {longest_pause_s(rows):.1f} s")
    assert longest_pause_s(rows) <= 6
    for line in script.err.splitlines()[1:] + script.out.splitlines():
        say(line)


def test_8_while_nothing_can_be_reached_tasks_wait_and_none_fails(tmp_path: Path, say: Say) -> None:
    """All three unreachable for 30 s: no attempt is spent on it, and every task is answered afterwards."""
    quick = {"latency": {"first_token_s": 0.05, "per_token_s": 0.0}, "faults": {"down": 1.0}}
    write_rows(tmp_path / "tasks.jsonl", numbered(60))
    (tmp_path / "once.toml").write_text(
        "[pool]\nmax_attempts = 1\n", encoding="utf-8"
    )  # one spent, and it fails
    with ExitStack() as stack:
        simulator = stack.enter_context(
            SimulatorProcess.start({"providers": dict.fromkeys(PROVIDERS, quick)})
        )
        env = live_environment(simulator.base_urls)
        command = ("run", "tasks.jsonl", "--config", "once.toml")
        script = stack.enter_context(Script(*command, cwd=tmp_path, env=env))
        script.wait_for("waiting for the network, since", 30)
        for name in PROVIDERS:
            window = {"from_s": 0, "to_s": 30, "fault": "down"}
            simulator.patch(name, {"faults": {"down": None}, "schedule": [window]})
        simulator.reset()
        code = script.wait(90)
    assert code == 0, script.err
    rows = read_rows(tmp_path / "tasks.results.jsonl")
    assert_each_answered_once(rows, 60)
    calls = sum(len(row["attempts"]) for row in rows)
    say(f"60 of 60 answered after 30 s without a network, with {calls} calls in all and no attempt spent")
    for line in (*events_of(script, "offline:"), *events_of(script, "online again")):
        say(line)
    assert "online again after" in script.err


def events_of(script: Script, word: str) -> list[str]:
    """The lines of the script's output that contain `word`."""
    return [line for line in script.err.splitlines() if word in line]


# ------------------------------------------------------------------ as a script


class Narrator:
    """Prints before each step what it shows; `say` prints only where there is one."""

    NAME = "narrator"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        if item.path == Path(__file__) and isinstance(item, pytest.Function):
            self.print_line(item.config, f"{item.name.split('_')[1]}. {inspect.getdoc(item.function)}")

    def print_line(self, config: pytest.Config, line: str) -> None:
        terminal = config.pluginmanager.get_plugin("terminalreporter")
        assert terminal is not None
        terminal.ensure_newline()
        terminal.write_line(line)


class Stage:
    """Brings the narrator in under a name by which it can be found."""

    def pytest_configure(self, config: pytest.Config) -> None:
        config.pluginmanager.register(Narrator(), Narrator.NAME)


PYTEST = (sys.executable, "-m", "pytest", "-q")
WORKERS_PER_CORE = 3  # most of the longer tests wait: for a lease, a time limit, a process
ROOM_BYTES = 4 << 30


class Others:
    """Every other test, in processes that let the story go first. `finish` prints their output."""

    def __init__(self, arguments: list[str]) -> None:
        workers = str(WORKERS_PER_CORE * (os.cpu_count() or 1))
        first = ["nice", "-n", "5"] if shutil.which("nice") else []
        self._command = [*first, *PYTEST, *arguments, "-n", workers, "--dist", "loadscope", "tests"]
        self._output: queue.SimpleQueue[bytes | int] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        compiled = AVAILABLE or (ROOT / "tests" / "__pycache__").exists()
        if not compiled:  # all once, or each worker would, where none is a fork
            subprocess.call([*PYTEST, "--collect-only", "tests"], cwd=ROOT, stdout=subprocess.DEVNULL)
        with subprocess.Popen(
            self._command,
            cwd=ROOT,  # the steps of the story change this process's own folder
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | quick_disk(),
        ) as process:
            assert process.stdout is not None
            while part := os.read(process.stdout.fileno(), 65_536):
                self._output.put(part)
        self._output.put(process.returncode)

    def finish(self) -> int:
        """Print their output, from the beginning and as it comes. Returns their exit code."""
        while isinstance(part := self._output.get(), bytes):
            sys.stdout.buffer.write(part)
            sys.stdout.buffer.flush()
        return part


def quick_disk() -> dict[str, str]:
    """Temporary files in memory where there is room: the tests commit thousands of times."""
    memory = Path("/dev/shm")  # noqa: S108 - pytest makes folders of its own there
    roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOM_BYTES
    return {"TMPDIR": str(memory)} if roomy and "TMPDIR" not in os.environ else {}


def main() -> int:
    """Run the story, and beside it every other test. The exit code is pytest's.

    Arguments such as `-k` may select tests of one of the two alone. Without them, both have some.
    """
    os.chdir(ROOT)
    beside = Others(sys.argv[1:])
    story = int(pytest.main(["-q", *sys.argv[1:], str(Path(__file__))], plugins=[Stage()]))
    codes = [story, beside.finish()]
    empty = int(pytest.ExitCode.NO_TESTS_COLLECTED)
    found = [code for code in codes if code != empty or not sys.argv[1:]]
    return max(found, default=empty)


no_network.install()

if __name__ == "__main__":
    sys.exit(main())
