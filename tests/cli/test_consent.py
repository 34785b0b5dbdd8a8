"""With keys, a server spends nothing on tasks that are queued already without consent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from src.simulator.process import SimulatorProcess
from tests.helpers import (
    Script,
    Terminal,
    live_environment,
    run_script,
)

STARTS = ((), ("--once", "--quiet"), ("--examples", "--pages"))


@pytest.fixture
def live(simulator: SimulatorProcess) -> dict[str, str]:
    return live_environment(simulator.base_urls, only=["openai"]) | {"PORT": "0"}


def queue(folder: Path, live: dict[str, str], *options: str, number: int = 2) -> None:
    for _ in range(number):
        queued = run_script("submit", "Why is the sky blue?", *options, cwd=folder, env=live)
        assert queued.process.returncode == 0, queued.err


def status(folder: Path, live: dict[str, str]) -> dict[str, Any]:
    tasks = json.loads(run_script("status", "--json", cwd=folder, env=live).out)["tasks"]
    return {name: number for name, number in tasks.items() if number}


def calls(simulator: SimulatorProcess) -> int:
    return int(simulator.stats()["openai"]["calls"])


def test_without_a_terminal_queued_tasks_need_yes(
    tmp_path: Path, live: dict[str, str], simulator: SimulatorProcess
) -> None:
    queue(tmp_path, live)
    for start in STARTS:
        refused = run_script(*start, cwd=tmp_path, env=live)
        assert refused.process.returncode == 2, (start, refused.err)
        assert "error: 2 tasks queued before this start: expected to cost $0." in refused.err
        assert "at most $" in refused.err and "--yes answers them" in refused.err
        assert "serving the queue" not in refused.err and "pages on" not in refused.err
        assert calls(simulator) == 0
    done = run_script("--once", "--yes", cwd=tmp_path, env=live)
    assert done.process.returncode == 0, done.err
    assert "answering 2 tasks queued before this start (--yes)" in done.err
    assert (calls(simulator), status(tmp_path, live)) == (2, {"succeeded": 2})


@pytest.mark.parametrize(
    ("typed", "code", "made", "left"),
    [("y", 0, 1, {"succeeded": 1}), ("n", 1, 0, {"queued": 1}), ("", 1, 0, {"queued": 1})],
    ids=["yes", "no", "return alone"],
)
def test_on_a_terminal_it_asks(
    typed: str,
    code: int,
    made: int,
    left: dict[str, int],
    tmp_path: Path,
    live: dict[str, str],
    simulator: SimulatorProcess,
) -> None:
    queue(tmp_path, live, number=1)
    found, shown = on_a_terminal(typed, "--once", cwd=tmp_path, env=live)
    assert "1 task queued before this start: expected to cost $0." in shown and "Go on? [y/N]" in shown
    assert (found, calls(simulator), status(tmp_path, live)) == (code, made, left)


def on_a_terminal(typed: str, *arguments: str, cwd: Path, env: dict[str, str]) -> tuple[int, str]:
    """The exit code, and what a person has seen who answers the first question."""
    with Terminal(*arguments, cwd=cwd, env={**env, "TERM": "dumb"}) as terminal:
        terminal.wait_for("[y/N]")
        terminal.type(f"{typed}\n")
        return terminal.wait(), terminal.err


def test_an_unknown_price_is_named_in_the_question(tmp_path: Path, live: dict[str, str]) -> None:
    (tmp_path / "own.toml").write_text('[models."gpt-99"]\napi_format = "openai"\n', encoding="utf-8")
    own = ("--config", "own.toml")
    queue(tmp_path, live, "--model", "gpt-99", *own, number=1)
    refused = run_script(*own, cwd=tmp_path, env=live)
    assert refused.process.returncode == 2
    assert "1 task queued before this start: no price for gpt-99" in refused.err


def test_without_keys_there_is_no_question(tmp_path: Path) -> None:
    queue(tmp_path, {}, number=1)
    done = run_script("--once", cwd=tmp_path)
    assert done.process.returncode == 0 and "served 1 task" in done.err, done.err


def test_with_an_empty_queue_there_is_no_question_and_later_tasks_are_answered(
    tmp_path: Path, live: dict[str, str], simulator: SimulatorProcess
) -> None:
    with Script(cwd=tmp_path, env=live) as server:
        server.wait_for("serving the queue")
        answer = run_script("submit", "Why?", "--wait", cwd=tmp_path, env=live)
        server.interrupt()
        assert server.wait() == 0, server.err
    assert answer.process.returncode == 0 and answer.out.strip(), answer.err
    assert (calls(simulator), status(tmp_path, live)) == (1, {"succeeded": 1})
    assert "before this start" not in server.err
