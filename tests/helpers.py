"""What tests share: a clean environment, the scripts as child processes, a clock that stands still."""

from __future__ import annotations

import atexit
import codecs
import json
import os
import queue
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Self

import pytest

from src.core.clock import Clock

from .fork_server import ADDRESS, Fork, ForkServer, can_fork

ROOT = Path(__file__).resolve().parent.parent
ORCHESTRATOR = ROOT / "real_agent_orchestrator.py"
PROGRAM = shlex.join([sys.executable, str(ORCHESTRATOR)])  # as messages name it to another folder
KEYS = {
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
    "openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL"),
    "gemini": ("GOOGLE_API_KEY", "GEMINI_BASE_URL"),
}


def clean_environment(environ: MutableMapping[str, str]) -> None:
    """Drop what would make a test depend on the machine: keys, base URLs, proxies, settings, databases.

    PYTHONDONTWRITEBYTECODE too, or hundreds of processes would each compile this project and every worker
    rewrite all tests.
    """
    for name in list(environ):
        upper = name.upper()
        if (
            upper.endswith(("_API_KEY", "_BASE_URL", "_PROXY"))
            or upper.startswith("ORCHESTRATOR_")
            or upper in {"DATABASE_URL", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "PYTHONDONTWRITEBYTECODE"}
        ):
            del environ[name]


def skip_without(what: str) -> None:
    """Skip a test for want of `what`; in CI, which has to bring it, that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}; CI runs these tests too")
    pytest.skip(what)


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This environment, cleaned, with the network guard in front of every Python that is started in it."""
    environ = dict(os.environ)
    clean_environment(environ)
    environ["PYTHONPATH"] = str(ROOT / "tests" / "child_site")
    environ["PYTHONUNBUFFERED"] = "1"
    environ["ORCHESTRATOR_GATEWAY_PORT"] = "0"  # any: tests run side by side
    environ.pop(ADDRESS, None)
    return {**environ, **(extra or {})}


def live_environment(base_urls: Mapping[str, str], *, only: Iterable[str] = ()) -> dict[str, str]:
    """Keys and base URLs that make the simulator the real thing to a script; `only` these, or all."""
    wanted = set(only) or set(KEYS)
    environ = {}
    for name in wanted & set(base_urls):
        key, url = KEYS[name]
        environ[key] = f"test-key-of-{name}"
        environ[url] = base_urls[name]
    return environ


class VirtualClock(Clock):
    """Time that stands still until it is set."""

    def __init__(self, now: float = 0.0) -> None:
        self._time = now
        super().__init__(wall=lambda: self._time, monotonic=lambda: self._time)

    def now(self) -> float:
        return self._time

    def set(self, now: float) -> None:
        """Move to `now`. Raises ValueError if that lies in the past."""
        if now < self._time:
            raise ValueError(f"time does not go back: {now} < {self._time}")
        self._time = now

    def advance(self, seconds: float) -> None:
        self.set(self._time + seconds)

    def jump(self, seconds: float) -> None:
        """Advance as a sleeping laptop does: `take_jump` returns it."""
        self.set(self._time + seconds)
        self._jump_s += seconds
        self.jumped_at = self._time


class Script:
    """A script as a process, in a folder of its own. Ends with the `with` block at the latest.

    `out` and `err` hold its output so far. `command` is a line for the shell in the script's place: its
    processes are a group of their own, and all of it ends.
    """

    def __init__(
        self,
        *arguments: str | Path,
        cwd: Path,
        script: Path = ORCHESTRATOR,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        command: str | None = None,
    ) -> None:
        self.out = self.err = ""
        self._is_group = command is not None
        self._begin(
            _start(
                [str(script), *map(str, arguments)],
                command,
                cwd,
                env,
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            )
        )
        if stdin is not None and self.process.stdin is not None:
            self.process.stdin.write(stdin)
            self.process.stdin.close()

    def _begin(self, process: subprocess.Popen[str] | Fork) -> None:
        self.process = process
        self._changed: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._readers = [
            threading.Thread(target=self._read, args=(name,), daemon=True) for name in ("out", "err")
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str) -> None:
        for part in self._parts(name):
            setattr(self, name, getattr(self, name) + part)
            self._changed.put(None)
        self._changed.put(None)

    def _parts(self, name: str) -> Iterator[str]:
        """What it prints, as it comes."""
        stream = self.process.stdout if name == "out" else self.process.stderr
        if stream is not None:
            with stream:
                yield from stream

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join(60)

    def wait(self, timeout_s: float = 120.0) -> int:
        """Its exit code, once all its output is in `out` and `err`."""
        code = self.process.wait(timeout_s)
        for reader in self._readers:
            reader.join(60)
        return code

    def wait_for(self, text: str, timeout_s: float = 120.0) -> None:
        """Wait until it prints `text`. Fails with its output if it ends, or the time is over, before that."""
        end = time.monotonic() + timeout_s
        while text not in self.out and text not in self.err:
            left = end - time.monotonic()
            alive = any(reader.is_alive() for reader in self._readers)
            assert left > 0 and alive, f"never printed {text!r}; out: {self.out!r}; err: {self.err!r}"
            with suppress(queue.Empty):
                self._changed.get(timeout=min(left, 1.0))

    def pause(self) -> None:
        """Wait a moment, or until it prints something, before its files are read again."""
        with suppress(queue.Empty):
            self._changed.get(timeout=0.05)

    def interrupt(self) -> None:
        self.send(signal.SIGINT)

    def terminate(self) -> None:
        self.send(signal.SIGTERM)

    def hang_up(self) -> None:
        self.send(signal.SIGHUP)

    def kill(self) -> None:
        self.send(signal.SIGKILL)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it, and where it is a `command` to all that it has started."""
        if self._is_group:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)


class Terminal(Script):
    """A script on a terminal: `err` holds its screen, `out` its standard output if that is a pipe."""

    def __init__(
        self,
        *arguments: str | Path,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        columns: int = 300,
        has_keyboard: bool = True,
        prints_to_pipe: bool = True,
    ) -> None:
        import fcntl
        import pty
        import struct
        import termios

        self.out = self.err = ""
        self._is_group = False
        self._screen, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        stdin = theirs if has_keyboard else subprocess.DEVNULL
        stdout = subprocess.PIPE if prints_to_pipe else theirs
        environ = {"TERM": "xterm-256color", **(env or {})}
        command = [str(ORCHESTRATOR), *map(str, arguments)]
        self._begin(_start(command, None, cwd, environ, stdin=stdin, stdout=stdout, stderr=theirs))
        os.close(theirs)

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode())

    def _parts(self, name: str) -> Iterator[str]:
        if name == "out":
            yield from super()._parts(name)
            return
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with suppress(OSError):  # how a terminal says that the other side is closed
            while part := os.read(self._screen, 65_536):
                yield decoder.decode(part)
        os.close(self._screen)


def without_control_sequences(drawn: str) -> str:
    """The lines of a terminal, without colours and moves of the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn).replace("\r", "")


def _start(
    arguments: list[str],
    command: str | None,
    cwd: Path,
    env: Mapping[str, str] | None,
    *,
    stdin: int,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
) -> subprocess.Popen[str] | Fork:
    environ = child_environment(env)
    if command is None and can_fork(environ):
        return Fork(fork_server_address(), arguments, cwd, environ, stdin=stdin, stdout=stdout, stderr=stderr)
    return subprocess.Popen(
        [sys.executable, *arguments] if command is None else ["sh", "-c", command],
        cwd=cwd,
        env=environ,
        start_new_session=command is not None,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        text=True,
        encoding="utf-8",
    )


def start_module(name: str, *arguments: str, env: Mapping[str, str] | None = None) -> Any:
    """A module of the tests as a process of its own, as `subprocess.Popen`, with pipes but for its errors."""
    return _start(["-m", name, *arguments], None, ROOT, env, stdin=subprocess.PIPE, stderr=2)


@cache
def fork_server_address() -> str:
    """The address of the server that all workers share, or of one for this process alone."""
    if shared := os.environ.get(ADDRESS):
        return shared
    server = ForkServer()
    atexit.register(server.close)
    return server.address


def run_script(*arguments: str | Path, cwd: Path, timeout_s: float = 120.0, **options: Any) -> Script:
    """Run a script to its end; `process.returncode`, `out` and `err` show how it went."""
    with Script(*arguments, cwd=cwd, **options) as script:
        script.wait(timeout_s)
        return script


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
