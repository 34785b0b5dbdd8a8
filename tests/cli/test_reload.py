"""SIGHUP: tokens and keys are read again while a server serves."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from src.simulator.process import SimulatorProcess
from src.tokens import file_section
from tests.gateway.conftest import started
from tests.gateway.http_client import Answer, send
from tests.helpers import ORCHESTRATOR, Script, child_environment, live_environment

ALICE, BOB = "a-token-of-alice-0123", "a-token-of-bob-012345"
OLD, NEW = "the-old-key-of-openai-1", "the-new-key-of-openai-2"
ASK = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Why?"}]}


@pytest.fixture
def openai() -> Iterator[SimulatorProcess]:
    with SimulatorProcess.start({"providers": {"openai": {"keys": [OLD]}}}) as simulator:
        yield simulator


def private(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


def live_with(simulator: SimulatorProcess, **variables: str) -> dict[str, str]:
    environ = live_environment(simulator.base_urls, only=["openai"])
    del environ["OPENAI_API_KEY"]
    return {**environ, "ORCHESTRATOR_GATEWAY_PORT": "0", **variables}


def ask(url: str, token: str = "", **more: Any) -> Answer:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return send(url, "/v1/chat/completions", method="POST", headers=headers, body={**ASK, **more})


def reload(script: Script, says: str) -> None:
    script.hang_up()
    script.wait_for(says)


def until(condition: Callable[[], bool], script: Script) -> None:
    while not condition():
        assert script.process.poll() is None, script.err
        script.pause()


def test_tokens_are_read_again_by_the_gateway_and_by_the_pages(
    tmp_path: Path, openai: SimulatorProcess
) -> None:
    file = private(tmp_path / "tokens.toml", file_section("alice", ALICE, "operate", None))
    environ = live_with(openai, OPENAI_API_KEY=OLD, ORCHESTRATOR_TOKENS_FILE=str(file), PORT="0")
    with started(tmp_path, environ, "--pages") as served:
        script = served.script
        script.wait_for("pages on")
        pages = script.err.split("pages on ")[1].split()[0]

        def pages_take(token: str) -> int:
            return send(pages, "/api/tasks", headers={"authorization": f"Bearer {token}"}).status

        assert (ask(served.url, ALICE).status, ask(served.url, BOB).status) == (200, 401)
        assert (pages_take(ALICE), pages_take(BOB)) == (200, 401)
        private(file, file_section("bob", BOB, "operate", None))
        reload(script, "1 token for the gateway")
        script.wait_for("1 token for the pages")
        assert (ask(served.url, ALICE).status, ask(served.url, BOB).status) == (401, 200)
        assert (pages_take(ALICE), pages_take(BOB)) == (401, 200)
        file.write_text("[bob", encoding="utf-8")
        reload(script, "is not valid TOML")
        script.wait_for("what was in use stays")
        assert ask(served.url, BOB).status == 200 and pages_take(BOB) == 200
        assert ALICE not in script.err and BOB not in script.err


@pytest.mark.parametrize("source", ["file", ".env"])
def test_new_calls_use_the_new_key_and_calls_in_flight_end_with_the_old_one(
    tmp_path: Path, openai: SimulatorProcess, source: str
) -> None:
    if source == "file":
        file, text = tmp_path / "key", "{}\n"
        environ = live_with(openai, OPENAI_API_KEY_FILE=str(file))
    else:
        file, text = tmp_path / ".env", f"OPENAI_API_KEY={{}}\nOPENAI_BASE_URL={openai.base_urls['openai']}\n"
        environ = {"ORCHESTRATOR_GATEWAY_PORT": "0"}
    private(file, text.format(OLD))
    openai.patch("openai", {"latency": {"first_token_s": 1.5, "per_token_s": 0.0, "jitter": 0.0}})
    with started(tmp_path, environ) as served:
        script, answers = served.script, []
        thread = threading.Thread(target=lambda: answers.append(ask(served.url)))
        thread.start()
        until(lambda: openai.stats()["openai"]["calls"] == 1, script)
        openai.patch("openai", {"keys": [NEW], "latency": None})
        private(file, text.format(NEW))
        reload(script, "new key for openai")
        assert ask(served.url).status == 200, "the new key"
        thread.join(30)
        assert [answer.status for answer in answers] == [200], "the old one, in a call that had begun"
        reload(script, "no key has changed")
        assert OLD not in script.err + script.out and NEW not in script.err + script.out
    kept = b"".join(path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file())
    assert OLD.encode() not in kept and NEW.encode() not in kept


def test_a_refused_key_is_tried_again_after_a_reload(tmp_path: Path, openai: SimulatorProcess) -> None:
    file = private(tmp_path / "key", "a-key-that-nobody-gave-out")
    with started(tmp_path, live_with(openai, OPENAI_API_KEY_FILE=str(file))) as served:
        answers: list[Answer] = []
        thread = threading.Thread(target=lambda: answers.append(ask(served.url)))
        thread.start()
        served.script.wait_for("openai rejected OPENAI_API_KEY")
        private(file, OLD)
        reload(served.script, "new key for openai")
        thread.join(30)
        assert [answer.status for answer in answers] == [200], "the request has waited for a key that works"


# What happens to the file with the key, and what the log says then.
BROKEN = {
    "emptied": (lambda file: file.write_text(""), "must hold a key on one line"),
    "two lines": (lambda file: file.write_text(f"{OLD}\n{NEW}\n"), "must hold a key on one line"),
    "deleted": (lambda file: file.unlink(), "no such file"),
    "opened to others": (lambda file: file.chmod(0o644), "mode 0644"),
}


def test_a_broken_key_file_leaves_the_old_key_in_use(tmp_path: Path, openai: SimulatorProcess) -> None:
    file = private(tmp_path / "key", OLD)
    with started(tmp_path, live_with(openai, OPENAI_API_KEY_FILE=str(file))) as served:
        for damage, why in BROKEN.values():
            damage(file)
            reload(served.script, why)
            assert ask(served.url).status == 200
            private(file, OLD)
    assert OLD not in served.script.err


@pytest.mark.parametrize(("damage", "why"), BROKEN.values(), ids=BROKEN)
def test_a_broken_key_file_is_an_error_at_the_start(
    tmp_path: Path, damage: Callable[[Path], object], why: str
) -> None:
    file = private(tmp_path / "key", OLD)
    damage(file)
    with Script("status", cwd=tmp_path, env={"OPENAI_API_KEY_FILE": str(file)}) as script:
        assert script.wait() == 2 and why in script.err and OLD not in script.err


@pytest.mark.parametrize(
    ("dotenv", "exported", "why"),
    [
        ("OPENAI_API_KEY_FILE=/etc/hostname", {}, ".env may hold the key itself"),
        ("", {"OPENAI_API_KEY": OLD, "OPENAI_API_KEY_FILE": "key"}, "are both set"),
        (f"OPENAI_API_KEY={OLD}", {"OPENAI_API_KEY_FILE": "key"}, "are both set"),
    ],
)
def test_one_place_names_the_key_and_no_env_file_names_a_file(
    tmp_path: Path, dotenv: str, exported: dict[str, str], why: str
) -> None:
    private(tmp_path / "key", OLD)
    (tmp_path / ".env").write_text(dotenv)
    with Script("status", cwd=tmp_path, env=exported) as script:
        assert script.wait() == 2 and why in script.err and OLD not in script.err


def test_a_standby_reads_keys_again_and_leads_with_the_new_one(
    tmp_path: Path, openai: SimulatorProcess
) -> None:
    file = private(tmp_path / "key", OLD)
    environ = live_with(openai, OPENAI_API_KEY_FILE=str(file))
    with started(tmp_path, environ) as leader:
        options = ("--yes", "--standby", "--config", "own.toml")
        with Script(*options, cwd=tmp_path, env=environ) as standby:
            standby.wait_for("gateway: base URL")
            url = standby.err.split("base URL ")[1].split("/v1")[0]
            openai.patch("openai", {"keys": [NEW]})
            private(file, NEW)
            reload(standby, "new key for openai")
            leader.script.interrupt()
            assert leader.script.wait() == 0
            while send(url, "/readyz").status != 200:
                standby.pause()
            assert ask(url).status == 200
            standby.interrupt()
            assert standby.wait() == 0, standby.err


def test_a_server_ends_when_its_terminal_is_closed(tmp_path: Path, openai: SimulatorProcess) -> None:
    environ = live_with(openai, OPENAI_API_KEY=OLD, TERM="xterm")
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", sys.executable, str(ORCHESTRATOR), "--yes"],
        cwd=tmp_path,
        env=child_environment(environ),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while b"serving the queue" not in shown:
        shown += os.read(terminal, 65536)
    process.send_signal(signal.SIGHUP)
    while b"no key has changed" not in shown:
        shown += os.read(terminal, 65536)
    assert process.poll() is None, "its terminal is open: a reload"
    os.close(terminal)
    assert process.wait(60) == 0


def test_reloads_are_logged_with_their_action(tmp_path: Path, openai: SimulatorProcess) -> None:
    with started(tmp_path, live_with(openai, OPENAI_API_KEY=OLD)) as served:
        reload(served.script, "no key has changed")
    logs = (tmp_path / "state" / "logs" / "orchestrator.log").read_text().splitlines()
    actions = [row["action"] for row in map(json.loads, logs) if "reload" in row["message"]]
    assert set(actions) == {"reloaded"}
