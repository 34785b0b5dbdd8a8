"""A server whose output a program collects: one JSON object a line, and nothing else."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from src.simulator.process import SimulatorProcess
from tests.gateway.http_client import send
from tests.helpers import Script, live_environment

PROMPT = "a prompt that no log may repeat"


def rows_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def messages(rows: list[dict[str, Any]]) -> str:
    return "\n".join(row["message"] for row in rows)


@pytest.mark.parametrize("source", ["option", "setting"])
def test_a_server_and_its_pages_print_objects_only(
    tmp_path: Path, simulator: SimulatorProcess, source: str
) -> None:
    (tmp_path / "own.toml").write_text('log_format = "json"\n' if source == "setting" else "")
    options = ["--log-format", "json"] if source == "option" else []
    environ = {
        **live_environment(simulator.base_urls, only=["openai"]),
        "ORCHESTRATOR_GATEWAY_PORT": "0",
        "PORT": "0",
    }
    arguments = ("--yes", "--pages", "--config", "own.toml", *options)
    with Script(*arguments, cwd=tmp_path, env=environ) as script:
        script.wait_for("pages on")
        script.wait_for("ready after")
        url = script.out.split("base URL ")[1].split("/v1")[0]
        body = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": PROMPT}]}
        assert send(url, "/v1/chat/completions", method="POST", body=body).status == 200
        script.hang_up()
        script.wait_for("no key has changed")
        script.interrupt()
        assert script.wait() == 0, script.err
    rows = rows_of(script.out)
    assert script.err == ""
    assert all({"time", "level", "logger", "message"} <= row.keys() for row in rows)
    said = messages(rows)
    assert "serving the queue" in said and "served 1 task" in said and "pages on http" in said
    ready = next(row for row in rows if row["message"].startswith("ready after"))
    assert ready["action"] == "started", "events keep their fields"
    assert PROMPT not in script.out and "test-key-of" not in script.out


def test_what_ends_a_server_is_an_object_too(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        with Script("--log-format", "json", "--gateway-port", port, cwd=tmp_path) as script:
            assert script.wait() == 2
    rows = rows_of(script.out)
    assert script.err == "" and rows[-1]["level"] == "error" and "is taken" in rows[-1]["message"]
    assert all(row.get("simulated") for row in rows), "without a key"


def test_the_examples_print_no_table_into_a_log(tmp_path: Path) -> None:
    environ = {"ORCHESTRATOR_GATEWAY_PORT": "0"}
    with Script("--examples", "--once", "--log-format", "json", cwd=tmp_path, env=environ) as script:
        assert script.wait() == 0, script.err
    assert "served 60 tasks" in messages(rows_of(script.out)) and script.err == ""


def test_quiet_leaves_warnings_and_what_the_server_says_about_itself(tmp_path: Path) -> None:
    with Script("--once", "--quiet", "--log-format", "json", cwd=tmp_path) as script:
        assert script.wait() == 0, script.err
    assert not [row for row in rows_of(script.out) if row.get("action") == "started"]
