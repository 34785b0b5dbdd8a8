"""`submit` with a running orchestrator, with one of its own, without one, and with one that dies."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from src.cli.submit import ALONE
from src.simulator.process import SimulatorProcess
from tests.helpers import ORCHESTRATOR, PROGRAM, Script, live_environment, run_script, write_rows


@pytest.fixture
def live(simulator: SimulatorProcess) -> dict[str, str]:
    return live_environment(simulator.base_urls, only=["openai"])


@pytest.fixture
def stuck() -> Iterator[SimulatorProcess]:
    """A provider that takes calls and never answers."""
    with SimulatorProcess.start({"providers": {"openai": {"faults": {"silence": 1.0}}}}) as simulator:
        yield simulator


def status(folder: Path, env: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run_script("status", "--json", cwd=folder, env=env).out)
    found["tasks"] = {name: number for name, number in found["tasks"].items() if number}
    return found


def calls(simulator: SimulatorProcess) -> int:
    return int(simulator.stats()["openai"]["calls"])


def wait_for_call(simulator: SimulatorProcess, script: Script) -> None:
    while not calls(simulator):
        assert script.process.poll() is None, script.err
        script.pause()


@pytest.mark.parametrize("with_keys", [True, False], ids=["live", "simulated"])
def test_waiting_without_an_orchestrator_is_refused_in_one_line_before_anything_is_queued(
    tmp_path: Path, live: dict[str, str], with_keys: bool
) -> None:
    env = live if with_keys else {}
    refused = run_script("submit", "Hello?", "--wait", cwd=tmp_path, env=env)
    assert refused.process.returncode == 2 and refused.out == ""
    assert refused.err == (
        "error: not queued: no orchestrator is running "
        f"(start one with: {PROGRAM}; or add --serve to answer it here)\n"
    )
    assert status(tmp_path, env)["tasks"] == {}


def test_waiting_beside_a_run_is_refused(tmp_path: Path, stuck: SimulatorProcess) -> None:
    env = live_environment(stuck.base_urls, only=["openai"])
    write_rows(tmp_path / "tasks.jsonl", [{"prompt": "Hi"}])
    with Script("run", "tasks.jsonl", cwd=tmp_path, env=env) as run:
        wait_for_call(stuck, run)
        for option in ("--wait", "--serve"):
            refused = run_script("submit", "Hello?", option, cwd=tmp_path, env=env)
            busy = f"a run is active (process {run.process.pid}), which does not serve the queue"
            assert refused.process.returncode == 2 and f"not queued: {busy}" in refused.err
        queued = run_script("submit", "Hello?", "--id", "mine", cwd=tmp_path, env=env)
        assert (queued.process.returncode, queued.out) == (0, "mine\n")
        assert f"live: queued; {busy}" in queued.err


def test_status_counts_tasks_in_flight_apart_from_those_that_wait(
    tmp_path: Path, stuck: SimulatorProcess
) -> None:
    """A run claims more tasks than it sends at once."""
    env = live_environment(stuck.base_urls, only=["openai"])
    write_rows(tmp_path / "tasks.jsonl", [{"prompt": "Hi"}, {"prompt": "Ho"}])
    with Script("run", "tasks.jsonl", "--concurrency", "1", cwd=tmp_path, env=env) as run:
        wait_for_call(stuck, run)
        run_script("submit", "Hello?", cwd=tmp_path, env=env)
        while "tasks: 2 waiting, 1 in flight\n" not in run_script("status", cwd=tmp_path, env=env).out:
            assert run.process.poll() is None, run.err
            run.pause()


def test_with_serve_only_its_own_task_is_answered(
    tmp_path: Path, live: dict[str, str], simulator: SimulatorProcess
) -> None:
    run_script("submit", "Not now.", "--id", "earlier", cwd=tmp_path, env=live)
    answer = run_script("submit", "Why?", "--serve", "--id", "mine", "--json", cwd=tmp_path, env=live)
    assert answer.process.returncode == 0, answer.err
    row = json.loads(answer.out)
    assert (row["id"], row["status"], row["simulated"]) == ("mine", "succeeded", False) and row["output"]
    assert calls(simulator) == 1
    assert status(tmp_path, live)["tasks"] == {"queued": 1, "succeeded": 1}
    for taken, options in {"earlier": ["--serve"], "mine": []}.items():
        rerun = run_script("submit", "Why?", "--id", taken, *options, cwd=tmp_path, env=live)
        assert rerun.process.returncode == 2 and f"id '{taken}' is taken" in rerun.err
    assert calls(simulator) == 1


def test_with_serve_and_without_keys_the_simulator_answers(tmp_path: Path) -> None:
    answer = run_script("submit", "Why?", "--serve", "--wait", cwd=tmp_path)
    assert answer.process.returncode == 0 and answer.out.strip(), answer.err
    assert answer.err.startswith("simulated: no API key was found")


def test_with_serve_beside_a_server_the_server_answers(
    tmp_path: Path, live: dict[str, str], simulator: SimulatorProcess
) -> None:
    with Script(cwd=tmp_path, env=live) as server:
        server.wait_for("serving the queue")  # it has not signed on yet: it is waited for
        answer = run_script("submit", "Why?", "--serve", cwd=tmp_path, env=live)
        server.interrupt()
        assert server.wait() == 0, server.err
    assert answer.process.returncode == 0 and answer.out.strip(), answer.err
    assert "served 1 task" in server.err and calls(simulator) == 1


def test_with_serve_a_task_that_is_interrupted_stays_queued(tmp_path: Path, stuck: SimulatorProcess) -> None:
    env = live_environment(stuck.base_urls, only=["openai"])
    with Script("submit", "Why?", "--serve", "--id", "mine", cwd=tmp_path, env=env) as script:
        wait_for_call(stuck, script)
        script.interrupt()
        script.wait_for("for running calls; press Ctrl-C again to stop now")
        script.interrupt()
        assert script.wait() == 1, script.err
    assert "task mine stays queued" in script.err and script.out == ""
    shown = status(tmp_path, env)
    assert shown["tasks"] == {"queued": 1} and not shown["running"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (signal.SIGKILL, "no orchestrator serves the queue any more"),
        (signal.SIGSTOP, "has shown no sign of life for 4 s"),
    ],
    ids=["killed", "stopped"],
)
def test_waiting_ends_when_the_server_does_and_the_task_stays_queued(
    number: signal.Signals, shown: str, tmp_path: Path, stuck: SimulatorProcess
) -> None:
    env = live_environment(stuck.base_urls, only=["openai"])
    program = tmp_path / "impatient.py"
    program.write_text(
        "import src.cli.submit\nfrom src.cli.app import main\nsrc.cli.submit.GONE_AFTER_S = 4.0\nmain()\n"
    )
    impatient = {**env, "PYTHONPATH": str(ORCHESTRATOR.parent)}
    with Script(cwd=tmp_path, env=env) as server:
        server.wait_for("serving the queue")
        while not status(tmp_path, env)["running"]:
            assert server.process.poll() is None, server.err
        command = ("submit", "Why?", "--wait", "--id", "mine")
        with Script(*command, cwd=tmp_path, env=impatient, script=program) as waiting:
            wait_for_call(stuck, waiting)
            server.process.send_signal(number)
            assert waiting.wait(60) == 1, waiting.err
        server.process.kill()
    assert shown in waiting.err, waiting.err
    assert f"task mine stays queued (start one with: {PROGRAM})" in waiting.err
    assert waiting.out == "" and sum(status(tmp_path, env)["tasks"].values()) == 1
    assert ALONE not in waiting.err
