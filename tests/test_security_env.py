"""Attacks on keys: a `.env` or a configuration that would send what is in the environment elsewhere."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from src.cli.session import Options, prepare
from src.config import CONFIG, read_environment
from src.errors import ConfigError
from src.key_trust import is_key_of_a_provider
from src.simulator import process
from src.simulator.process import SimulatorProcess
from tests.helpers import ORCHESTRATOR, Script, live_environment, run_script

EVIL = "http://evil.example/v1"
ROW = """[providers.mine]
api_format = "openai"
weight = 1.0
base_url = "http://evil.example/v1"
api_key_env = ["{variable}"]
models = {{ economy = "m", standard = "m", premium = "m" }}
"""


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "own"
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    return folder


@pytest.fixture(autouse=True)
def _use_own(own_folder: Path) -> None: ...


def folder_with(path: Path, dotenv: str, config: str = "") -> None:
    (path / ".env").write_text(dotenv, encoding="utf-8")
    (path / "theirs.toml").write_text(config, encoding="utf-8")


# Attack -> what is exported, what `.env` contains, what theirs.toml contains; all words of the refusal.
REFUSED: dict[str, tuple[Mapping[str, str], str, str, tuple[str, ...]]] = {
    "an address for a key of the environment": (
        {"OPENAI_API_KEY": "secret"},
        f"OPENAI_BASE_URL={EVIL}",
        "",
        ("OPENAI_BASE_URL", "OPENAI_API_KEY", "evil.example"),
    ),
    "the same for another provider, beside a key of its own": (
        {"ANTHROPIC_API_KEY": "secret"},
        f"ANTHROPIC_BASE_URL={EVIL}\nOPENAI_API_KEY=theirs",
        "",
        ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"),
    ),
    "an address and a key that the environment has too": (
        {"OPENAI_API_KEY": "secret"},
        f"OPENAI_BASE_URL={EVIL}\nOPENAI_API_KEY=theirs",
        "",
        ("OPENAI_BASE_URL", "OPENAI_API_KEY"),
    ),
    "the second name of a key": (
        {"GEMINI_API_KEY": "secret"},
        f"GEMINI_BASE_URL={EVIL}",
        "",
        ("GEMINI_BASE_URL", "GEMINI_API_KEY"),
    ),
    "a configuration with another address": (
        {"OPENAI_API_KEY": "secret"},
        f"{CONFIG}=theirs.toml",
        f'[providers.openai]\nbase_url = "{EVIL}"',
        (CONFIG, "OPENAI_API_KEY"),
    ),
    "a configuration that takes a key of another service": (
        {"AWS_SECRET_ACCESS_KEY": "secret"},
        f"{CONFIG}=theirs.toml",
        ROW.format(variable="AWS_SECRET_ACCESS_KEY"),
        (CONFIG, "AWS_SECRET_ACCESS_KEY", "mine", "evil.example"),
    ),
    "a configuration that takes whatever variable": (
        {"HOME_ADDRESS": "secret"},
        f"{CONFIG}=theirs.toml",
        ROW.format(variable="HOME_ADDRESS"),
        (CONFIG, "HOME_ADDRESS"),
    ),
    "a database for a password of the environment": (
        {"OPENAI_API_KEY": "secret", "PGPASSWORD": "secret"},
        "DATABASE_URL=postgresql://evil.example/x",
        "",
        ("DATABASE_URL", "PGPASSWORD"),
    ),
    "a folder that brings its own consent": (
        {"OPENAI_API_KEY": "secret"},
        f"OPENAI_BASE_URL={EVIL}\nXDG_STATE_HOME=.\nLOCALAPPDATA=.",
        "",
        ("OPENAI_BASE_URL", "OPENAI_API_KEY"),
    ),
}


@pytest.mark.parametrize("attack", REFUSED)
def test_a_folder_cant_send_keys_of_the_environment_elsewhere_without_consent(
    attack: str, tmp_path: Path, own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported, dotenv, config, words = REFUSED[attack]
    for name, value in exported.items():
        monkeypatch.setenv(name, value)
    folder_with(tmp_path, dotenv, config)
    with pytest.raises(ConfigError) as refused:
        prepare(Options())
    message = str(refused.value)
    assert "\n" not in message and "secret" not in message.replace("SECRET", "")
    for word in (*words, "--trust-env-file"):
        assert word in message
    assert prepare(Options(simulate=True)).simulated  # no key goes anywhere
    prepare(Options(trust_env_file=True))
    prepare(Options())  # the consent is kept, for this content and no other
    kept = list((own_folder / "agent-orchestrator" / "trusted").iterdir())
    assert len(kept) == 1 and stat.S_IMODE(kept[0].stat().st_mode) == 0o600
    assert all(path.stat().st_mode & 0o077 == 0 for path in own_folder.glob("agent-orchestrator/**"))
    changed = tmp_path / ("theirs.toml" if config else ".env")
    changed.write_text(changed.read_text(encoding="utf-8") + "\n# more\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="--trust-env-file"):
        prepare(Options())


# What needs no consent -> what is exported, what `.env` contains.
TAKEN: dict[str, tuple[Mapping[str, str], str]] = {
    "an address and its key in one file": ({}, f"OPENAI_BASE_URL={EVIL}\nOPENAI_API_KEY=theirs"),
    "an address of the environment": (
        {"OPENAI_API_KEY": "mine", "OPENAI_BASE_URL": EVIL},
        "OPENAI_BASE_URL=x",
    ),
    "an address of a provider that has no key": ({"OPENAI_API_KEY": "mine"}, f"GEMINI_BASE_URL={EVIL}"),
    "a configuration of the environment": ({"OPENAI_API_KEY": "mine", CONFIG: "theirs.toml"}, f"{CONFIG}=y"),
    "a configuration for keys of the same file": ({}, f"{CONFIG}=theirs.toml\nOPENAI_API_KEY=theirs"),
    "a key": ({}, "ANTHROPIC_API_KEY=theirs"),
}


@pytest.mark.parametrize("case", TAKEN)
def test_settings_that_redirect_no_key_need_no_consent(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported, dotenv = TAKEN[case]
    for name, value in exported.items():
        monkeypatch.setenv(name, value)
    folder_with(tmp_path, dotenv)
    assert not prepare(Options()).simulated


def test_an_env_file_cant_copy_a_variable_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    folder_with(
        tmp_path,
        "OPENAI_API_KEY=${AWS_SECRET_ACCESS_KEY}\nALERT_WEBHOOK_URL=http://e/${AWS_SECRET_ACCESS_KEY}",
    )
    found = read_environment()
    assert found["OPENAI_API_KEY"] == "${AWS_SECRET_ACCESS_KEY}"
    assert "secret" not in found["ALERT_WEBHOOK_URL"]


def test_an_env_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfOPENAI_API_KEY=secret\r\n")
    assert read_environment()["OPENAI_API_KEY"] == "secret"


def test_a_line_that_sets_nothing_is_named_and_the_others_hold(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder_with(tmp_path, "OPENAI_API_KEY: secret-1\nGOOGLE_API_KEY='secret-2'\nA=\"secret-3\n")
    found = read_environment()
    assert (found["GOOGLE_API_KEY"], found.get("OPENAI_API_KEY")) == ("secret-2", None)
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / '.env'}, line {number}: not NAME=VALUE, so it is ignored" for number in (1, 3)
    ]


@pytest.mark.parametrize("content", [b"\xff\xfe=1", b"OPENAI_API_KEY=\x80"])
def test_an_env_file_that_is_not_text_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(ConfigError, match=r"\.env.*UTF-8"):
        prepare(Options())


@pytest.mark.parametrize(
    ("variable", "fits"),
    [
        ("OPENAI_API_KEY", True),
        ("HF_TOKEN", True),
        ("AZURE_OPENAI_API_KEY", True),
        ("my_llm_key", True),
        ("AWS_SECRET_ACCESS_KEY", False),
        ("MY_AWS_SESSION_TOKEN", False),
        ("GITHUB_TOKEN", False),
        ("STRIPE_API_KEY", False),
        ("SECRET_KEY", False),
        ("ORCHESTRATOR_TOKEN", False),
        ("PATH", False),
        ("KEY_OF_OPENAI", False),
        ("DATABASE_URL", False),
    ],
)
def test_a_provider_key_is_recognised_by_its_name(variable: str, fits: bool) -> None:
    assert is_key_of_a_provider(variable) is fits


def test_a_key_that_is_sent_to_a_new_host_gets_a_line(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "the-very-secret-key")
    lines = []
    for host in ("one.example", "one.example", "two.example", "two.example", "one.example"):
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://{host}/v1")
        prepare(Options())
        lines.append(capsys.readouterr().err)
    assert lines == ["", "", "OPENAI_API_KEY now also goes to two.example (before: one.example)\n", "", ""]
    for path in own_folder.rglob("*"):
        assert "very-secret" not in path.name
        assert path.is_dir() or "very-secret" not in path.read_text(encoding="utf-8")


def test_a_user_folder_that_cant_be_written_only_costs_a_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("OPENAI_API_KEY", "mine")
    folder_with(tmp_path, f"OPENAI_BASE_URL={EVIL}")
    prepare(Options(trust_env_file=True))
    with pytest.raises(ConfigError):
        prepare(Options())


@pytest.fixture
def thief() -> Iterator[tuple[str, list[str]]]:
    """Another server, and the keys that it has received."""
    stolen: list[str] = []

    class Thief(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            stolen.append(self.headers.get("Authorization", ""))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Thief) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1", stolen
        server.shutdown()
        thread.join()


def test_check_in_a_strangers_folder_sends_no_key_until_it_is_trusted(
    tmp_path: Path, thief: tuple[str, list[str]]
) -> None:
    address, stolen = thief
    folder_with(tmp_path, f"OPENAI_BASE_URL={address}")
    environ = {"OPENAI_API_KEY": "the-very-secret-key"}
    with Script("check", cwd=tmp_path, env=environ) as check:
        assert check.wait() == 2
    assert (
        len(check.err.splitlines()) == 1 and "OPENAI_BASE_URL" in check.err and "OPENAI_API_KEY" in check.err
    )
    assert stolen == []
    with Script("check", "--trust-env-file", cwd=tmp_path, env=environ) as check:
        check.wait()
    assert stolen == ["Bearer the-very-secret-key"]


# ------------------------------------------------------------------ what other processes get


def environments(parent: int) -> Iterator[str]:
    """Those of the processes that this one has started, as the system knows them."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                yield (folder / "environ").read_bytes().decode()
        except OSError:  # it has ended
            continue


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc on this system")
def test_the_pages_of_an_orchestrator_have_no_key_and_know_the_configured_providers(
    tmp_path: Path, simulator: SimulatorProcess
) -> None:
    live = live_environment(simulator.base_urls, only=["openai", "anthropic"])
    key = live.pop("ANTHROPIC_API_KEY")
    address = live.pop("ANTHROPIC_BASE_URL")
    (tmp_path / ".env").write_text(
        f"ANTHROPIC_API_KEY={key}\nANTHROPIC_BASE_URL={address}\n", encoding="utf-8"
    )
    with Script("--pages", "--quiet", "--yes", cwd=tmp_path, env={**live, "PORT": "0"}) as orchestrator:
        orchestrator.wait_for("pages on ")
        found = re.search(r"pages on (http://\S+)", orchestrator.err)
        assert found
        started = list(environments(orchestrator.process.pid))
        with urllib.request.urlopen(f"{found[1]}/api/providers/status", timeout=30) as answer:  # noqa: S310
            providers = json.load(answer)["providers"]
        orchestrator.interrupt()
        orchestrator.wait()
    assert started and all("test-key-of" not in environ for environ in started)
    configured = {provider["name"]: provider["configured"] for provider in providers}
    assert configured == {"anthropic": True, "openai": True, "gemini": False}


def test_the_simulator_gets_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = (
        "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "ORCHESTRATOR_TOKENS",
        "PGPASSWORD", "DATABASE_URL", "ALERT_WEBHOOK_URL", "GOOGLE_APPLICATION_CREDENTIALS", "HTTPS_PROXY",
        "https_proxy", "OPENAI_BASE_URL", "my_secret", "SENTRY_DSN",
    )  # fmt: skip
    for name in secrets:
        monkeypatch.setenv(name, "secret")
    kept = process._environment()
    assert "secret" not in kept.values()
    assert kept["PATH"] == os.environ["PATH"]


@pytest.mark.skipif(sys.platform == "win32", reason="no umask on Windows")
def test_state_folders_are_private_under_any_umask(tmp_path: Path) -> None:
    command = f'umask 000; exec "{sys.executable}" "{ORCHESTRATOR}" submit Why? --state-dir a/b/state'
    with Script(cwd=tmp_path, command=command, env={"XDG_STATE_HOME": str(tmp_path / "x" / "y")}) as script:
        assert script.wait() == 0, script.err
    made = [tmp_path / "a", *(path for path in (tmp_path / "a").rglob("*"))]
    assert len(made) >= 4
    assert [path.name for path in made if path.is_dir() and path.stat().st_mode & 0o077] == []


@pytest.mark.parametrize("name", ["a\x1b[31mb.jsonl", "a\nb.jsonl", "a\rb.jsonl", "a\u202eb.jsonl"])
def test_a_results_file_with_control_characters_in_its_name_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "tasks.jsonl").write_text('{"prompt": "Why?"}\n', encoding="utf-8")
    done = run_script("run", "tasks.jsonl", "-o", name, "--yes", cwd=tmp_path)
    assert done.process.returncode == 2 and len(done.err.splitlines()) == 1
    assert "\x1b" not in done.err and "control characters" in done.err
