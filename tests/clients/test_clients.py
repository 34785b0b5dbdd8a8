"""Clients as people use them, unmodified, through the gateway: an answer, a stream and a tool call each.

Each runs the script of `examples/clients/` in an environment of its own, once with all providers well and
once while one is down and the limits of another bind. `make clients-test` runs them: they install packages.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import tomllib
import venv
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from src.simulator.process import SimulatorProcess
from tests.gateway.conftest import Served, started
from tests.helpers import child_environment, live_environment, run_script

pytestmark = pytest.mark.clients
CLAUDE_CODE = "@anthropic-ai/claude-code"
SCRIPTS = Path(__file__).resolve().parent.parent.parent / "examples" / "clients"
QUICK: Mapping[str, Any] = {"latency": {"first_token_s": 0.02, "per_token_s": 0.0}}
SCENARIOS: Mapping[str, Mapping[str, Any]] = {
    "well": dict.fromkeys(("anthropic", "openai", "gemini"), QUICK),
    # Two of the three remain, and one of them takes a request every two seconds.
    "one down, limits bind": {
        "anthropic": {**QUICK, "faults": {"unavailable": 1.0}},
        "openai": {**QUICK, "limits": {"requests_per_minute": 30, "burst_s": 2}},
        "gemini": QUICK,
    },
}
TOML = """
[gateway]
store_content = "all"
[providers.openai.limits]
requests_per_minute = 30
"""


@dataclass(frozen=True)
class Client:
    """How a script is run. `settings`: the argument of the command `env`."""

    script: str
    settings: str = "openai"

    def command(self, folder: Path) -> list[str]:
        """What runs it. Skips where the machine lacks what it needs, and fails instead in CI."""
        path = str(SCRIPTS / self.script)
        if self.script.endswith(".sh"):
            if self.settings == "claude-code" and not _claude_code(folder):
                pytest.skip("Claude Code could not be installed from npm")
            return ["sh", path]
        if self.script in ("openai_chat.py", "openai_responses.py", "anthropic_messages.py"):
            return [sys.executable, path]  # the SDKs that the product has itself
        return [str(_environment(SCRIPTS / self.script, folder)), path]


CLIENTS = (
    Client("curl.sh"),
    Client("openai_chat.py"),
    Client("openai_responses.py"),
    Client("anthropic_messages.py", "anthropic"),
    Client("openai_agents.py"),
    Client("pydantic_ai_agent.py"),
    Client("langchain_chat.py"),
    Client("smolagents_agent.py"),
    Client("crewai_crew.py"),
    Client("claude_code.sh", "claude-code"),
)


def _environment(script: Path, folder: Path) -> Path:
    """The Python of an environment with what the script says it needs, made once in a folder that lasts."""
    made = folder / script.stem
    python = made / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not (made / "installed").exists():
        venv.create(made, with_pip=True, clear=True)
        block = re.findall(r"^# (.*)$", script.read_text().partition('# ///\n"')[0], flags=re.MULTILINE)
        needs = tomllib.loads("\n".join(block[1:]))["dependencies"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *needs], check=True, timeout=600)
        (made / "installed").touch()
    return python


@cache
def _claude_code(folder: Path) -> bool:
    """Install Claude Code once into a folder that lasts; whether it is there. Not every network has npm."""
    bin_folder = folder / "node_modules" / ".bin"
    npm = shutil.which("npm")
    if not (bin_folder / "claude").exists() and npm is not None:
        command = [npm, "install", "--silent", "--fetch-retries=1", "--prefix", str(folder), CLAUDE_CODE]
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(command, check=False, timeout=60, stdin=subprocess.DEVNULL)
    return (bin_folder / "claude").exists()


@pytest.fixture(scope="session")
def tools_folder() -> Path:
    """Where Claude Code is installed."""
    cache = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(cache) if cache else Path.home() / ".cache") / "agent-orchestrator-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module", params=SCENARIOS)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Served, Path, SimulatorProcess]]:
    folder = tmp_path_factory.mktemp("gateway")
    with SimulatorProcess.start({"providers": SCENARIOS[request.param]}) as simulator:
        environ = live_environment(simulator.base_urls)
        with started(folder, environ, toml=TOML) as gateway:
            yield gateway, folder, simulator


def settings_of(client: Client, gateway: Served, folder: Path) -> dict[str, str]:
    """What `env` prints, as variables."""
    port = gateway.url.rpartition(":")[2]
    printed = run_script("env", client.settings, cwd=folder, env={"ORCHESTRATOR_GATEWAY_PORT": port})
    assert printed.process.returncode == 0, printed.err
    rows = [line.removeprefix("export ") for line in printed.out.splitlines() if line.startswith("export ")]
    return {name: value.strip("'\"") for name, _, value in (row.partition("=") for row in rows)}


def tool_calls_in(database: Path) -> int:
    """How many answers asked for a tool."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)
    try:
        query = "SELECT count(*) FROM tasks WHERE finish_reason = 'tool' AND status = 'succeeded'"
        return int(connection.execute(query).fetchone()[0])
    finally:
        connection.close()


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.script)
def test_a_client_asks_streams_and_calls_a_tool(
    served: tuple[Served, Path, SimulatorProcess], client: Client, tmp_path: Path, tools_folder: Path
) -> None:
    gateway, folder, simulator = served
    command = client.command(tools_folder)
    environ = child_environment(settings_of(client, gateway, folder))
    environ |= {
        "HOME": str(tmp_path),
        "PATH": f"{tools_folder / 'node_modules' / '.bin'}{os.pathsep}{os.environ['PATH']}",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "ANTHROPIC_MODEL": "auto",  # so that another provider may serve it
        "ANTHROPIC_SMALL_FAST_MODEL": "economy",
    }
    before = tool_calls_in(folder / "state" / "live.db")
    done = subprocess.run(
        command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=300,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    labels = ("answer:", "tool:") if client.settings == "claude-code" else ("answer:", "stream:", "tool:")
    for label, after in zip(labels, (*labels[1:], None), strict=True):
        said = done.stdout.partition(label)[2]
        assert (said.partition(after)[0] if after else said).strip(), f"{label} is empty:\n{done.stdout}"
    deadline = time.monotonic() + 10  # an answer is delivered before it is stored
    while tool_calls_in(folder / "state" / "live.db") == before:
        assert time.monotonic() < deadline, "no answer asked for the tool"
        time.sleep(0.05)
    for name, provider in simulator.stats().items():
        assert provider["by_status"].get("429", 0) == 0, f"{name} answered 429"
