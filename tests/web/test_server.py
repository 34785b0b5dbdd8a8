"""`python web_server.py` as a process: its port, its state, its messages."""

from __future__ import annotations

import errno
import json
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from src.web.listening import listen_error
from tests.helpers import PROGRAM, ROOT, Script, child_environment, run_script

SERVER = ROOT / "web_server.py"
KEY = {"OPENAI_API_KEY": "sk-test-not-a-real-key-0123456789"}


def url_of(script: Script) -> str:
    script.wait_for("pages on ")
    found = re.search(r"pages on (http://\S+)", script.out)
    assert found
    return found[1]


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=60) as response:  # noqa: S310
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_servers_that_start_together_each_find_a_port(tmp_path: Path, taken: int) -> None:
    """Between finding a free port and listening on it, another server may take it."""
    (tmp_path / "own.toml").write_text(f"[server]\nport = {taken}\n")
    with ExitStack() as stack:
        together = [
            stack.enter_context(Script("--config", "own.toml", cwd=tmp_path, script=SERVER)) for _ in range(3)
        ]
        assert len({url_of(server) for server in together}) == 3


def test_ten_ports_after_a_taken_one_are_left_to_neighbours(tmp_path: Path, taken: int) -> None:
    (tmp_path / "own.toml").write_text(f"[server]\nport = {taken}\n")
    with Script("--config", "own.toml", cwd=tmp_path, script=SERVER) as server:
        assert int(url_of(server).rpartition(":")[2]) >= taken + 10


def test_it_serves_the_simulated_state_on_a_free_port_until_sigterm(tmp_path: Path) -> None:
    with Script("--port", "0", cwd=tmp_path, script=SERVER) as server:
        url = url_of(server)
        assert "simulated state in" in server.out
        assert f"no orchestrator is running, so tasks will wait; start one with: {PROGRAM}\n" in server.out
        assert get(f"{url}/healthz")[0] == 200
        assert json.loads(get(f"{url}/readyz")[1])["orchestrator_running"] is False
        assert get(url.replace("localhost", "127.0.0.1") + "/provider-status")[0] == 200
        server.terminate()
        assert server.wait() == 0
    assert (tmp_path / "state" / "simulated.db").stat().st_mode & 0o077 == 0
    assert "Traceback" not in server.err


@pytest.mark.parametrize(
    ("environ", "options", "mode"),
    [
        (KEY, [], "live"),
        (KEY, ["--simulate"], "simulated"),
        ({}, ["--live"], "live"),
        ({"PORT": "0"}, ["--port", "0"], "simulated"),
    ],
    ids=["a key", "a key and --simulate", "--live", "PORT"],
)
def test_it_shows_the_state_that_the_orchestrator_would_use(
    tmp_path: Path, environ: dict[str, str], options: list[str], mode: str
) -> None:
    given = options if "--port" in options else [*options, "--port", "0"]
    with Script(*given, cwd=tmp_path, script=SERVER, env=environ) as server:
        page = json.loads(get(f"{url_of(server)}/healthz")[1])
        assert page["simulated"] is (mode == "simulated")
        assert f"{mode} state in" in server.out
        assert "sk-test" not in server.out + server.err
        assert "sk-test" not in get(f"{url_of(server)}/provider-status")[1]


def test_a_busy_port_is_one_line_that_says_what_to_do(tmp_path: Path, taken: int) -> None:
    for options, environ in ((["--port", str(taken)], {}), ([], {"PORT": str(taken)})):
        script = run_script(*options, cwd=tmp_path, script=SERVER, env=environ)
        assert script.process.returncode == 2
        assert script.err.count("\n") == 1
        assert f"port {taken} is taken" in script.err
        assert f"--port {taken + 10}" in script.err


def test_a_busy_port_is_one_line_beside_an_orchestrator_too(tmp_path: Path, taken: int) -> None:
    command = [
        sys.executable,
        str(SERVER),
        "--parent",
        '{"orchestrator": "nobody", "identities": {}}',
        "--port",
        str(taken),
    ]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=child_environment(),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.wait(60) == 2
        assert child.stderr is not None
        assert child.stderr.read().count("\n") == 1


def test_a_busy_default_port_is_reported_and_the_next_one_serves(tmp_path: Path, taken: int) -> None:
    (tmp_path / "own.toml").write_text(f"[server]\nport = {taken}\n")
    with Script("--config", "own.toml", cwd=tmp_path, script=SERVER) as server:
        url = url_of(server)
        assert f"port {taken} is taken; the pages are on {url.rsplit(':', 1)[1]}" in server.out
        assert get(f"{url}/healthz")[0] == 200


def test_on_a_mac_the_message_names_airplay(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = OSError(errno.EADDRINUSE, "in use")
    for platform, named in (("darwin", True), ("linux", False)):
        monkeypatch.setattr("sys.platform", platform)
        said = listen_error("127.0.0.1", 5000, busy)
        assert ("AirPlay Receiver" in said) is named
        assert "http://localhost:5010" in said


@pytest.mark.parametrize(
    ("options", "environ", "says"),
    [
        (["--host", "0.0.0.0"], {}, "ORCHESTRATOR_TOKEN"),
        (["--host", "203.0.113.7"], {"ORCHESTRATOR_TOKEN": "x" * 20}, "can't listen on 203.0.113.7"),
        ([], {"PORT": "http"}, "PORT"),
        (["--config", "missing.toml"], {}, "missing.toml"),
        (["--config", "zone.toml"], {}, "did you mean 'Europe/Berlin'?"),
        ([], {"ORCHESTRATOR_TOKENS": "alice"}, "name:token"),
    ],
    ids=["open to all", "no such address", "no port", "no configuration", "no such time zone", "no tokens"],
)
def test_a_wrong_configuration_is_one_line(
    tmp_path: Path, options: list[str], environ: dict[str, str], says: str
) -> None:
    (tmp_path / "zone.toml").write_text('[budgets]\ntime_zone = "Europe/Berlni"\n')
    script = run_script(*options, cwd=tmp_path, script=SERVER, env=environ)
    assert script.process.returncode == 2
    assert script.err.count("\n") == 1
    assert says in script.err


def test_with_a_token_set_requests_need_it(tmp_path: Path) -> None:
    environ = {"ORCHESTRATOR_TOKEN": "a-long-enough-token"}
    with Script("--port", "0", cwd=tmp_path, script=SERVER, env=environ) as server:
        url = url_of(server)
        assert get(f"{url}/api/providers/status")[0] == 401
        assert "Sign in" in get(f"{url}/")[1]
        assert "a-long-enough-token" not in server.out + server.err
