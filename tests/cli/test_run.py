"""`run` as a process against the simulator: every task is answered, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from src.core.store import Store
from src.simulator.process import SimulatorProcess
from tests.helpers import (
    ORCHESTRATOR,
    Script,
    child_environment,
    live_environment,
    read_rows,
    run_script,
    write_rows,
)

SLOW = {"latency": {"first_token_s": 0.3, "per_token_s": 0.0, "jitter": 0.0}}


def prompts(count: int) -> list[dict[str, Any]]:
    return [{"id": f"t{number}", "prompt": f"Question {number}?"} for number in range(count)]


@pytest.fixture
def live(simulator: SimulatorProcess) -> dict[str, str]:
    """Only the simulated OpenAI has a key: a process that imports one SDK starts in a second."""
    return live_environment(simulator.base_urls, only=["openai"])


@pytest.fixture
def slow() -> Iterator[SimulatorProcess]:
    with SimulatorProcess.start({"providers": {"openai": SLOW}}) as simulator:
        yield simulator


@pytest.fixture
def hangup_is_heard() -> Iterator[None]:
    """SIGHUP as in a terminal, also if `nohup` runs the tests: a child would inherit that it is ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def ids(path: Path) -> list[str]:
    return [row["id"] for row in read_rows(path)]


def test_without_a_key_every_task_is_answered_by_the_simulator_and_says_so(tmp_path: Path) -> None:
    write_rows(tmp_path / "tasks.jsonl", prompts(12))
    done = run_script("run", "tasks.jsonl", cwd=tmp_path)
    rows = read_rows(tmp_path / "tasks.results.jsonl")
    assert done.process.returncode == 0, done.err
    assert {row["id"] for row in rows} == {f"t{n}" for n in range(12)} and len(rows) == 12
    assert all(row["status"] == "succeeded" and row["simulated"] and row["output"] for row in rows)
    assert {row["provider"] for row in rows} == {"anthropic", "openai", "gemini"}
    assert done.err.splitlines()[0].startswith("simulated: no API key was found")
    assert "12 of 12 tasks answered" in done.out and "(simulated: nothing was spent)" in done.out
    assert "results: tasks.results.jsonl" in done.out


def test_with_a_key_the_provider_is_called_and_the_key_is_never_written(
    tmp_path: Path, live: dict[str, str], simulator: SimulatorProcess
) -> None:
    write_rows(
        tmp_path / "tasks.jsonl", [*prompts(3), {"id": "meta", "prompt": "Hi", "metadata": {"row": 7}}]
    )
    done = run_script("run", "tasks.jsonl", "-o", "out.jsonl", "--log-level", "debug", cwd=tmp_path, env=live)
    rows = {row["id"]: row for row in read_rows(tmp_path / "out.jsonl")}
    assert done.process.returncode == 0, done.err
    assert done.err.splitlines()[0] == "live: openai (key from OPENAI_API_KEY (environment))"
    assert rows["meta"]["metadata"] == {"row": 7} and rows["meta"]["simulated"] is False
    assert rows["t0"]["cost_usd"] > 0 and rows["t0"]["attempts"][0]["reasons"][0]["provider"] == "openai"
    assert simulator.stats()["openai"]["calls"] == 4
    said = done.out + done.err
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert "test-key-of" not in said and b"test-key-of" not in kept
    logs = b"".join(path.read_bytes() for path in (tmp_path / "state" / "logs").iterdir())
    assert b"Question" not in logs
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state" / "live.db").stat().st_mode & 0o777 == 0o600


def test_rows_that_are_cancelled_meanwhile_are_in_the_results(
    tmp_path: Path, live: dict[str, str], simulator: SimulatorProcess
) -> None:
    """The pages cancel in the database what the run has not claimed yet."""
    write_rows(tmp_path / "tasks.jsonl", prompts(2_400))
    words = ("run", "tasks.jsonl", "-o", "out.jsonl", "--yes")
    with Script(*words, cwd=tmp_path, env=live) as script:
        while not simulator.stats()["openai"]["calls"]:
            script.pause()
        with Store.open(tmp_path / "state" / "live.db", simulated=False) as store:
            [batch] = store.reports.batches()
            cancelled = store.admin.cancel(batch.name, now=time.time())
        assert script.wait() == 1, script.err
    statuses = Counter(row["status"] for row in read_rows(tmp_path / "out.jsonl"))
    assert cancelled and statuses == {"succeeded": 2_400 - cancelled, "cancelled": cancelled}
    assert "incomplete" not in script.out


def test_a_bad_line_is_reported_with_its_number_and_the_others_are_answered(
    tmp_path: Path, live: dict[str, str]
) -> None:
    (tmp_path / "tasks.jsonl").write_text(
        '{"id": "a", "prompt": "Hi"}\n{"promt": "x"}\nnonsense\n{"prompt": "b"}\n'
    )
    done = run_script("run", "tasks.jsonl", "-o", "out.jsonl", cwd=tmp_path, env=live)
    assert done.process.returncode == 1
    assert "tasks.jsonl, line 2: unknown key 'promt'; did you mean 'prompt'?; skipped" in done.err
    assert "tasks.jsonl, line 3: not JSON" in done.err
    assert [row["line"] for row in sorted(read_rows(tmp_path / "out.jsonl"), key=lambda r: r["line"])] == [
        1,
        4,
    ]


def test_an_unknown_task_type_is_answered_with_one_warning(tmp_path: Path, live: dict[str, str]) -> None:
    write_rows(tmp_path / "tasks.jsonl", [{"prompt": f"{n}", "task_type": "poetry"} for n in range(3)])
    done = run_script("run", "tasks.jsonl", "-o", "out.jsonl", cwd=tmp_path, env=live)
    assert done.process.returncode == 0
    assert done.err.count("unknown task type 'poetry' is served as 'general'") == 1
    assert {row["task_type"] for row in read_rows(tmp_path / "out.jsonl")} == {"poetry"}


def test_with_a_dash_standard_output_holds_rows_only(tmp_path: Path, live: dict[str, str]) -> None:
    done = run_script("run", "-", "-o", "-", cwd=tmp_path, env=live, stdin="What is up?\nWhat is down?\n")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert done.process.returncode == 0, done.err
    assert len(rows) == 2 and all(row["status"] == "succeeded" for row in rows)
    assert "2 of 2 tasks answered" in done.err


def test_a_quiet_run_prints_its_totals_only(tmp_path: Path, live: dict[str, str]) -> None:
    done = run_script("run", "-", "-o", "-", "--quiet", cwd=tmp_path, env=live, stdin="What is up?\n")
    assert len(done.out.splitlines()) == 1, done.err
    assert "1 of 1 task answered" in done.err and "cost: " in done.err
    assert "providers" not in done.err and "agents" not in done.err


def test_an_explicit_log_level_wins_over_quiet(tmp_path: Path, live: dict[str, str]) -> None:
    command = ("run", "-", "-o", "-", "--quiet", "--log-level", "debug")
    done = run_script(*command, cwd=tmp_path, env=live, stdin="What is up?\n")
    assert " info: run begins" in done.err and " info: run ends" in done.err
    assert len(done.out.splitlines()) == 1 and "providers" not in done.err


WRONG_INPUT = {
    "no such file": (["absent.jsonl"], "absent.jsonl: no such file"),
    "a pipe": (["pipe"], "pipe: is a device or a pipe, and tasks are read twice; use - for standard input"),
    "a file below a file": (["good.txt/x", "-o", "-"], "good.txt/x: cannot be read (Not a directory)"),
    "a folder": (["folder"], "folder: is a folder, not a file"),
    "an empty file": (["empty.txt"], "empty.txt: no usable tasks: it has no rows"),
    "nothing but a header": (["header.csv"], "header.csv: no usable tasks: it has no rows"),
    "nothing but bad lines": (["bad.jsonl"], "bad.jsonl: no usable tasks: all 2 lines were rejected"),
    "a JSON array": (["array.json"], "the file is a JSON array"),
    "UTF-16": (["utf16.txt"], "error: utf16.txt, line 1: the file is UTF-16; save it as UTF-8"),
    "output is input": (["good.txt", "-o", "good.txt"], "is the file of tasks; choose another output"),
    "output of another kind": (
        ["good.txt", "-o", "bad.jsonl"],
        "does not hold results; choose another output",
    ),
    "output in a file": (["good.txt", "-o", "good.txt/out.jsonl"], "cannot be written"),
    "unknown option": (["good.txt", "--simulat"], "No such option"),
    "no source": ([], "Missing argument 'TASKS'"),
    "no such configuration": (["good.txt", "--config", "absent.toml"], "absent.toml: no such file"),
    "unknown setting": (["good.txt", "--config", "unknown.toml"], "did you mean 'server'?"),
    "broken configuration": (["good.txt", "--config", "broken.toml"], "is not valid TOML"),
    "wrong value": (["good.txt", "--config", "wrong.toml"], "pool.max_attempts = 0"),
    "state folder is a file": (["good.txt", "--state-dir", "good.txt/state"], "cannot be written"),
    "empty path of tasks": ([""], "the path of the tasks is empty"),
    "empty path of results": (["good.txt", "-o", ""], "the path of the results is empty"),
    "empty path of a folder": (["good.txt", "--state-dir", ""], "'--state-dir': the path is empty."),
    "empty path of a schema": (
        ["good.txt", "--response-schema", ""],
        "'--response-schema': the path is empty.",
    ),
    "schema that is a list": (
        ["good.txt", "--response-schema", "array.json"],
        'array.json: must be an object like {"type": "object"}, not a list',
    ),
    "seed beyond all": (
        ["good.txt", "--seed", "9" * 20],
        "--seed must be at most 9,223,372,036,854,775,807, not 99999999999999999999",
    ),
    "cap beyond all": (["good.txt", "--max-cost", "1e300"], "1e+300 is not in the range 0.0<x<=1000000000"),
    "simulator that is a list": (
        ["good.txt", "--simulator-config", "array.json"],
        'array.json: must be an object like {"providers": {"openai": {}}}, not a list',
    ),
    "simulator without objects": (
        ["good.txt", "--simulator-config", "number.json"],
        "number.json: 'providers' must be an object with an object for each provider",
    ),
    "settings without end": (
        ["good.txt", "--config", "/dev/zero"],
        "/dev/zero: cannot be read (longer than 16 MiB)",
    ),
    "schema without end": (
        ["good.txt", "--response-schema", "/dev/zero"],
        "/dev/zero: cannot be read (longer than 16 MiB)",
    ),
    "prompt without end": (
        ["good.txt", "--system", "@/dev/zero"],
        "--system: /dev/zero: cannot be read (longer than 16 MiB)",
    ),
    "no such simulator": (["good.txt", "--simulator-config", "absent.json"], "absent.json: no such file"),
    "broken simulator": (["good.txt", "--simulator-config", "wrong.json"], "unknown fault"),
}


@pytest.mark.parametrize(("arguments", "line"), WRONG_INPUT.values(), ids=WRONG_INPUT.keys())
def test_wrong_input_is_one_clear_line_and_exit_code_2(
    tmp_path: Path, arguments: list[str], line: str
) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "good.txt").write_text("Hi\n")
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "header.csv").write_text("id,prompt\n")
    (tmp_path / "bad.jsonl").write_text("{}\n[]\n")
    (tmp_path / "array.json").write_text('[{"prompt": "a"}]')
    (tmp_path / "utf16.txt").write_text("Hi", encoding="utf-16")
    (tmp_path / "number.json").write_text('{"providers": {"openai": 5}}')
    (tmp_path / "unknown.toml").write_text("[sever]\nport = 1\n")
    (tmp_path / "broken.toml").write_text("port = = 1\n")
    (tmp_path / "wrong.toml").write_text("[pool]\nmax_attempts = 0\n")
    (tmp_path / "wrong.json").write_text('{"providers": {"openai": {"faults": {"gremlins": 1}}}}')
    done = run_script("run", *arguments, cwd=tmp_path)
    assert done.process.returncode == 2, done.err
    assert line in done.err and "Traceback" not in done.err
    assert (tmp_path / "good.txt").read_text() == "Hi\n"
    assert not list(tmp_path.glob("*.results.jsonl")), "what was refused has no results"


def test_the_same_command_repeats_no_call_and_completes_the_file(
    tmp_path: Path, live: dict[str, str], simulator: SimulatorProcess
) -> None:
    write_rows(tmp_path / "tasks.jsonl", prompts(5))
    command = ("run", "tasks.jsonl", "-o", "out.jsonl")
    run_script(*command, cwd=tmp_path, env=live)
    whole = (tmp_path / "out.jsonl").read_text()
    (tmp_path / "out.jsonl").write_text(whole[: whole.rindex('"usage"')])
    with (tmp_path / "tasks.jsonl").open("a") as file:
        file.write('{"id": "new", "prompt": "One more"}\n')
    rerun = run_script(*command, cwd=tmp_path, env=live)
    assert rerun.process.returncode == 0, rerun.err
    assert "5 of 6 tasks already done; 1 left" in rerun.err
    costs = [row["cost_usd"] for row in read_rows(tmp_path / "out.jsonl")]
    line = re.search(r"cost: \$([\d.]+), \$([\d.]+) of it in this run;", rerun.out)
    assert line, rerun.out
    assert [float(part) for part in line.groups()] == pytest.approx([sum(costs), costs[-1]], abs=1e-4)
    assert sorted(ids(tmp_path / "out.jsonl")) == ["new", "t0", "t1", "t2", "t3", "t4"]
    assert simulator.stats()["openai"]["calls"] == 6


def test_simulated_results_are_set_aside_when_there_is_a_key(tmp_path: Path, live: dict[str, str]) -> None:
    write_rows(tmp_path / "tasks.jsonl", prompts(2))
    run_script("run", "tasks.jsonl", "-o", "out.jsonl", "--simulate", cwd=tmp_path, env=live)
    real = run_script("run", "tasks.jsonl", "-o", "out.jsonl", cwd=tmp_path, env=live)
    assert real.process.returncode == 0, real.err
    assert "held simulated results, which are now in out.simulated.jsonl" in real.err
    assert [row["simulated"] for row in read_rows(tmp_path / "out.jsonl")] == [False, False]
    mixed = run_script("run", "tasks.jsonl", "-o", "out.jsonl", "--simulate", cwd=tmp_path, env=live)
    assert mixed.process.returncode == 2 and "holds answers of real providers" in mixed.err


@pytest.mark.parametrize("stop", ["interrupt", "terminate", "hang_up"])
@pytest.mark.usefixtures("hangup_is_heard")
def test_the_first_signal_lets_calls_finish_and_the_same_command_resumes(
    tmp_path: Path, slow: SimulatorProcess, stop: str
) -> None:
    env = live_environment(slow.base_urls)
    write_rows(tmp_path / "tasks.jsonl", prompts(100))
    command = ("run", "tasks.jsonl", "-o", "out.jsonl", "--log-level", "info")
    with Script(*command, cwd=tmp_path, env=env) as first:
        wait_for_rows(first, tmp_path / "out.jsonl")
        getattr(first, stop)()
        code = first.wait()
    calls = slow.stats()["openai"]["calls"]
    assert code == 1 and "Traceback" not in first.err
    assert len(ids(tmp_path / "out.jsonl")) == calls < 100, "each call that was made was stored"
    assert "incomplete: run the same command again to continue" in first.out
    done = run_script(*command, cwd=tmp_path, env=env)
    assert done.process.returncode == 0, done.err
    assert sorted(ids(tmp_path / "out.jsonl")) == sorted(f"t{n}" for n in range(100))
    assert slow.stats()["openai"]["calls"] == 100


@pytest.mark.usefixtures("hangup_is_heard")
def test_a_closed_terminal_lets_calls_finish_and_the_same_command_resumes(
    tmp_path: Path, slow: SimulatorProcess
) -> None:
    env = live_environment(slow.base_urls)
    write_rows(tmp_path / "tasks.jsonl", prompts(100))
    command = (sys.executable, str(ORCHESTRATOR), "run", "tasks.jsonl", "-o", "out.jsonl")
    terminal, slave = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", *command],
        cwd=tmp_path,
        env=child_environment({**env, "TERM": "xterm"}),
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    while not (tmp_path / "out.jsonl").exists() or not ids(tmp_path / "out.jsonl"):
        assert process.poll() is None and os.read(terminal, 65536)
    os.close(terminal)
    assert process.wait(60) == 1
    calls = slow.stats()["openai"]["calls"]
    assert len(ids(tmp_path / "out.jsonl")) == calls < 100, "each call that was made was stored"
    done = run_script(*command[2:], cwd=tmp_path, env=env)
    assert done.process.returncode == 0, done.err
    assert slow.stats()["openai"]["calls"] == 100


def test_under_nohup_a_closed_terminal_has_no_effect(tmp_path: Path, slow: SimulatorProcess) -> None:
    env = live_environment(slow.base_urls)
    write_rows(tmp_path / "tasks.jsonl", prompts(40))
    line = shlex.join([sys.executable, str(ORCHESTRATOR), "run", "tasks.jsonl", "-o", "out.jsonl"])
    with Script(cwd=tmp_path, env=env, command=f"exec nohup {line}") as script:
        wait_for_rows(script, tmp_path / "out.jsonl")
        script.hang_up()
        assert script.wait() == 0, script.err
    assert len(ids(tmp_path / "out.jsonl")) == 40


def test_the_second_signal_stops_now(tmp_path: Path) -> None:
    stuck = {"providers": {"openai": {"faults": {"silence": 1.0}}}}
    with SimulatorProcess.start(stuck) as simulator:
        env = live_environment(simulator.base_urls)
        write_rows(tmp_path / "tasks.jsonl", prompts(3))
        with Script("run", "tasks.jsonl", "-o", "out.jsonl", cwd=tmp_path, env=env) as script:
            while not simulator.stats()["openai"]["calls"]:
                assert script.process.poll() is None, script.err
                script.pause()
            script.interrupt()
            script.wait_for("for running calls; press Ctrl-C again to stop now")
            script.interrupt()
            assert script.wait(15) == 1
    assert "stopping now" in script.err and "Traceback" not in script.err
    assert (tmp_path / "out.jsonl").read_bytes() == b""


def test_after_kill_9_every_task_is_answered_once(tmp_path: Path, slow: SimulatorProcess) -> None:
    env = live_environment(slow.base_urls)
    write_rows(tmp_path / "tasks.jsonl", prompts(80))
    for _ in range(2):
        with Script("run", "tasks.jsonl", "-o", "out.jsonl", cwd=tmp_path, env=env) as script:
            wait_for_rows(script, tmp_path / "out.jsonl")
            script.kill()
            script.wait()
    done = run_script("run", "tasks.jsonl", "-o", "out.jsonl", cwd=tmp_path, env=env)
    assert done.process.returncode == 0, done.err
    assert sorted(ids(tmp_path / "out.jsonl")) == sorted(f"t{n}" for n in range(80))
    database = sqlite3.connect(tmp_path / "state" / "live.db")
    assert database.execute("SELECT status, COUNT(*) FROM tasks GROUP BY 1").fetchall() == [("succeeded", 80)]
    database.close()


def test_rejected_keys_are_one_line(tmp_path: Path) -> None:
    picky = {"providers": {"openai": {"keys": ["the-right-one"]}}}
    with SimulatorProcess.start(picky) as simulator:
        write_rows(tmp_path / "tasks.jsonl", prompts(3))
        env = live_environment(simulator.base_urls)
        done = run_script("run", "tasks.jsonl", cwd=tmp_path, env=env)
    assert done.process.returncode == 2
    assert "error: openai" in done.err and "401" in done.err and "Traceback" not in done.err
    assert "test-key-of" not in done.err


def test_an_unknown_price_is_reported_once_without_a_call(tmp_path: Path, live: dict[str, str]) -> None:
    nameless = [{"prompt": f"Question {n}?", "models": ["gpt-nobody-knows"]} for n in range(3)]
    write_rows(tmp_path / "tasks.jsonl", [*nameless, *prompts(1)])
    done = run_script("run", "tasks.jsonl", "--max-cost", "1", "--yes", cwd=tmp_path, env=live)
    assert done.process.returncode == 1 and "its price is unknown, and a budget is set" in done.out, done.err
    database = sqlite3.connect(tmp_path / "state" / "live.db")
    query = "SELECT level, COUNT(*) FROM events WHERE kind = 'unknown_price' GROUP BY 1"
    assert database.execute(query).fetchall() == [("alert", 1)]
    database.close()
    shown = run_script("status", cwd=tmp_path, env=live)
    assert '(add [models."gpt-nobody-knows".price])' in shown.out


def test_a_cap_that_would_block_every_call_is_refused_before_a_task_is_stored(
    tmp_path: Path, live: dict[str, str], simulator: SimulatorProcess
) -> None:
    write_rows(tmp_path / "tasks.jsonl", [{"prompt": "Hi", "models": ["gpt-nobody-knows"]}] * 2)
    command = ("run", "tasks.jsonl", "--max-cost", "1", "--yes")
    refused = run_script(*command, cwd=tmp_path, env=live)
    assert refused.process.returncode == 2
    assert "no price for gpt-nobody-knows, so --max-cost" in refused.err
    shown = json.loads(run_script("status", "--json", cwd=tmp_path, env=live).out)
    assert not any(shown["tasks"].values()) and simulator.stats()["openai"]["calls"] == 0
    remedy = (
        'set one in [models."gpt-nobody-knows"] (api_format = "openai", price = { input = ..., output = ... }'
    )
    assert remedy in refused.err
    row = '[models."gpt-nobody-knows"]\napi_format = "openai"\nprice = { input = 1.0, output = 2.0 }\n'
    (tmp_path / "mine.toml").write_text(row)
    done = run_script(*command, "--config", "mine.toml", cwd=tmp_path, env=live)
    assert done.process.returncode == 0, done.err


def test_a_run_beside_another_run_stores_nothing_and_prints_what_to_do(
    tmp_path: Path, slow: SimulatorProcess
) -> None:
    env = live_environment(slow.base_urls, only=["openai"])
    write_rows(tmp_path / "first.jsonl", prompts(500))
    write_rows(tmp_path / "second.jsonl", prompts(3))
    with Script("run", "first.jsonl", "--yes", cwd=tmp_path, env=env) as first:
        wait_until_running(tmp_path, env)
        second = run_script("run", "second.jsonl", cwd=tmp_path, env=env)
        shown = json.loads(run_script("status", "--json", cwd=tmp_path, env=env).out)
        first.interrupt()
        first.wait()
    assert second.process.returncode == 3 and "another run is active here" in second.err
    assert "nothing was stored; run the same command again when it has ended" in second.err
    assert sum(shown["tasks"].values()) == 500


def test_a_run_beside_a_server_passes_its_rows_on(tmp_path: Path, live: dict[str, str]) -> None:
    write_rows(tmp_path / "tasks.jsonl", prompts(20))
    with Script(cwd=tmp_path, env=live) as server:
        server.wait_for("serving the queue")
        wait_until_running(tmp_path, live)
        done = run_script("run", "tasks.jsonl", "-o", "out.jsonl", cwd=tmp_path, env=live)
        assert done.process.returncode == 0, done.err
        assert "a running server (process" in done.err
        assert len(ids(tmp_path / "out.jsonl")) == 20
        server.interrupt()
        assert server.wait() == 0, server.err


def test_a_cap_beside_a_server_is_refused_before_a_task_is_stored(
    tmp_path: Path, live: dict[str, str]
) -> None:
    write_rows(tmp_path / "tasks.jsonl", prompts(3))
    with Script(cwd=tmp_path, env=live) as server:
        server.wait_for("serving the queue")
        wait_until_running(tmp_path, live)
        done = run_script("run", "tasks.jsonl", "--max-cost", "1", cwd=tmp_path, env=live)
        assert done.process.returncode == 2
        assert "--max-cost does not apply to the running server" in done.err
        shown = json.loads(run_script("status", "--json", cwd=tmp_path, env=live).out)
        assert not any(shown["tasks"].values())


def test_ctrl_c_in_a_program_ends_the_calls_too(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from real_agent_orchestrator import answer\n"
        "answer((f'Question {n}' for n in range(2_000)), state_dir='state')\n"
    )
    slow = {"providers": {"openai": {"latency": {"first_token_s": 3.0, "per_token_s": 0.0}}}}
    with SimulatorProcess.start(slow) as simulator:
        live = live_environment(simulator.base_urls, only=["openai"])
        env = {**live, "PYTHONPATH": str(ORCHESTRATOR.parent)}
        with Script(cwd=tmp_path, script=program, env=env) as script:
            while not simulator.stats()["openai"]["in_flight"]:
                assert script.process.poll() is None, script.err
                script.pause()
            script.interrupt()
            assert script.wait() != 0
            assert "KeyboardInterrupt" in script.err
    shown = json.loads(run_script("status", "--json", cwd=tmp_path, env=live).out)
    assert shown["tasks"]["cancelled"] > 0 and not shown["tasks"]["queued"], (
        "no command knows that batch's name"
    )


def wait_for_rows(script: Script, output: Path) -> None:
    """Until the first rows have been written."""
    while not (output.exists() and output.stat().st_size):
        assert script.process.poll() is None, script.err
        script.pause()


def wait_until_running(folder: Path, env: dict[str, str]) -> None:
    """Until the orchestrator has signed on: from then on its state is taken."""
    while True:
        shown = run_script("status", "--json", cwd=folder, env=env)
        if json.loads(shown.out)["running"]:
            return
