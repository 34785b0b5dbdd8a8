"""Starts scripts as forks of a process that has imported the SDKs and this project already.

A fresh Python spends about three seconds of CPU on those imports, and the tests start hundreds. A fork is a
process of its own all the same: own environment, folder, streams, signals and exit code, which
`test_fork_server.py` compares. Simulators are such forks too, those of scripts that were forked included.
Tests that run a shell line, or call `subprocess` themselves, start a fresh Python.

The workers of a test run are forks too, of another server, which has imported the tests that they collect:
see `forked_workers.py`.

A server ends when its standard input is closed, thus with the process that started it.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import IO, Any, NoReturn, Self

ROOT = Path(__file__).resolve().parent.parent
ADDRESS = "TESTS_FORK_SERVER"  # an environment variable: the socket of a server that several workers share
AVAILABLE = sys.platform == "linux"
PACKAGES = (
    "anthropic",
    "openai",
    "google.generativeai",
    "google.ai.generativelanguage",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite",
    "alembic.config",
    "dotenv",
    "genai_prices.data",
    "google.auth.api_key",
    "rich.console",
    "rich.table",
)


# ------------------------------------------------------------------ in the tests


class ForkServer:
    """A running server. It starts at once; the first fork waits for the imports."""

    def __init__(self) -> None:
        self.address = str(Path(tempfile.mkdtemp(prefix="fork-server-")) / "socket")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.address)
        listener.listen(64)
        with listener:
            self._process = self._launch(listener.fileno())

    def _launch(self, listener: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.fork_server", str(listener)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT / "tests" / "child_site"), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            pass_fds=[listener],
            start_new_session=True,  # Ctrl-C is for the tests
        )

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class Fork:
    """A script started by a server: what the tests use of `subprocess.Popen`, with pipes for its output.

    The three streams are as in `Popen`: PIPE or a descriptor, for `stdin` also DEVNULL. `arguments` begin
    with the path of a script, or with `-m` and the name of a module.
    """

    def __init__(
        self,
        address: str,
        arguments: Sequence[str],
        cwd: Path,
        environ: Mapping[str, str],
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        start_new_session: bool = False,
    ) -> None:
        self.args = [sys.executable, *arguments]
        self.returncode: int | None = None
        self._lock = threading.Lock()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.connect(address)
        ours_in = None
        if stdin == subprocess.PIPE:
            theirs_in, ours_in = os.pipe()
        else:
            theirs_in = os.open(os.devnull, os.O_RDONLY) if stdin == subprocess.DEVNULL else os.dup(stdin)
        ours_out, theirs_out = _output(stdout)
        ours_err, theirs_err = _output(stderr)
        theirs = (theirs_in, theirs_out, theirs_err)
        request = {"arguments": list(arguments), "cwd": str(cwd), "environ": dict(environ)}
        message = json.dumps({**request, "start_new_session": start_new_session}).encode() + b"\n"
        sent = socket.send_fds(self._server, [message], theirs)
        if sent < len(message):  # else the script may have ended already, and its server closed the socket
            self._server.sendall(message[sent:])
        for descriptor in theirs:
            os.close(descriptor)
        self.stdin = None if ours_in is None else os.fdopen(ours_in, "w", encoding="utf-8")
        self.stdout = None if ours_out is None else os.fdopen(ours_out, encoding="utf-8")
        self.stderr = None if ours_err is None else os.fdopen(ours_err, encoding="utf-8")
        self.pid = self._read()

    def _read(self) -> int:
        """The next number that the server sends: the process id first, at the end the exit code."""
        line = b""
        while not line.endswith(b"\n"):
            part = self._server.recv(1)
            if not part:
                raise RuntimeError("the fork server has ended")
            line += part
        return int(line)

    def poll(self) -> int | None:
        with self._lock:
            if self.returncode is None and select.select([self._server], [], [], 0)[0]:
                self.returncode = self._read()
                self._server.close()
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            with contextlib.suppress(ValueError, OSError):  # another thread has just read the code
                select.select([self._server], [], [], left)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float) -> tuple[str, str]:
        """The rest of its output, once it has ended. It is killed after `timeout` seconds."""
        killing = threading.Timer(timeout, self.kill)
        killing.start()
        with self:
            out, err = (stream.read() if stream else "" for stream in (self.stdout, self.stderr))
        killing.cancel()
        return out, err

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self.wait()


def _output(wanted: int) -> tuple[int | None, int]:
    """Where the test reads a stream, None where it has the descriptor itself, and where the script writes."""
    return os.pipe() if wanted == subprocess.PIPE else (None, os.dup(wanted))


def can_fork(environ: Mapping[str, str]) -> bool:
    """Whether a fork in `environ` is what a fresh Python would be: its own variables act at its start."""
    own = {name for name in environ if name.startswith("PYTHON")} - {"PYTHONPATH", "PYTHONUNBUFFERED"}
    return AVAILABLE and not own


def fork_simulators(address: str) -> None:
    """Let this process start its simulators as forks of the server at `address`."""
    from src.simulator import process

    afresh = process._launch

    @wraps(afresh)
    def launch(command: list[str], errors: IO[str]) -> Any:
        environ, pipe = process._environment(), subprocess.PIPE
        if not can_fork(environ):
            return afresh(command, errors)
        streams = {"stdin": pipe, "stdout": pipe, "stderr": errors.fileno()}
        root = process.PROJECT_ROOT
        return Fork(address, command[1:], root, environ, **streams, start_new_session=True)

    process._launch = launch


# ------------------------------------------------------------------ in the server


def _import_all() -> None:
    with warnings.catch_warnings():  # the filters that packages add are those of a script that imports them
        warnings.simplefilter("ignore")
        for name in PACKAGES:
            importlib.import_module(name)
        package = importlib.import_module("src")
        for module in pkgutil.walk_packages(package.__path__, "src."):
            if not module.name.endswith(("__main__", ".migrations.env")):  # these act when they are imported
                importlib.import_module(module.name)
    _compile_statements()
    gc.collect()
    gc.freeze()  # what all forks share stays unwritten


def _compile_statements() -> None:
    """Use a store, so that the forks find an empty one to copy, and its statements compiled."""
    once, filled = (importlib.import_module(name) for name in ("tests.once", "tests.web.filled"))
    once.compile_statements_once()
    once.prepare_statements_once()
    once.copy_schema_once()
    once.make_empty_databases()
    for _ in range(2):  # engines share from the second on; the name of the folder is what the guard allows
        with tempfile.TemporaryDirectory(prefix="orchestrator-") as folder:
            filled.fill(Path(folder), time.time())


def next_fork(listener: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Serve until this process is a fork; its request and its three streams. Ends with the standard input."""
    waiting: dict[int, socket.socket] = {}
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    sources: list[int | socket.socket] = [0, woken, listener]
    while True:
        ready = select.select(sources, [], [])[0]
        if 0 in ready and not os.read(0, 1):
            sys.exit()
        if woken in ready:
            os.read(woken, 1_000)
            _report_ended(waiting)
        if listener not in ready:
            continue
        client, _ = listener.accept()
        try:
            request, streams = _receive(client)
        except ConnectionError:  # the test has ended
            client.close()
            continue
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for used in (client, listener, *waiting.values()):
                used.close()
            os.close(woken)
            os.close(wake)
            return request, streams
        for stream in streams:
            os.close(stream)
        waiting[pid] = client
        with contextlib.suppress(ConnectionError):
            client.sendall(b"%d\n" % pid)


def _receive(client: socket.socket) -> tuple[dict[str, Any], list[int]]:
    message, streams, _, _ = socket.recv_fds(client, 65_536, 3)
    while not message.endswith(b"\n"):
        part = client.recv(65_536)
        if not part:
            raise ConnectionResetError
        message += part
    return json.loads(message), streams


def _report_ended(waiting: dict[int, socket.socket]) -> None:
    while waiting:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with waiting.pop(pid) as client, contextlib.suppress(OSError):  # the test may be gone
            client.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


def take_over(request: dict[str, Any], streams: list[int]) -> None:
    """Give this process the streams, the environment and the folder that were asked for."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(request["environ"])
    time.tzset()
    os.chdir(request["cwd"])
    if request["start_new_session"]:
        os.setsid()


def _become(request: dict[str, Any], streams: list[int]) -> Callable[[], Any]:
    """Make this process what a fresh Python with these arguments would be. Returns what runs the program."""
    take_over(request, streams)
    arguments: list[str] = request["arguments"]
    sys.orig_argv = [sys.executable, *arguments]
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if arguments[0] == "-m":
        sys.argv = ["-m", *arguments[2:]]
        sys.path[:] = [request["cwd"], *paths, *_SYSTEM_PATH]
        return partial(runpy.run_module, arguments[1], run_name="__main__", alter_sys=True)
    script = arguments[0]
    sys.argv = list(arguments)
    sys.path[:] = [str(Path(script).resolve().parent), *paths, *_SYSTEM_PATH]
    if str(ROOT) not in sys.path:  # then a program does not find this project
        for name in [name for name in sys.modules if name.partition(".")[0] in {"src", "tests"}]:
            del sys.modules[name]
    return partial(runpy.run_path, script, run_name="__main__")


def _run(program: Callable[[], Any]) -> None:
    """Run a program and exit. The modules stay as they are: to clear them would copy all that is shared."""
    code = 0
    try:
        program()
    except SystemExit as exit:
        if not (exit.code is None or isinstance(exit.code, int)):
            raise
        code = exit.code or 0
    end(int(code))


def end(code: int) -> NoReturn:
    """End as a Python does, but with all modules in place."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


_SYSTEM_PATH = [path for path in sys.path if not path.startswith(str(ROOT / "tests")) and path != str(ROOT)]

if __name__ == "__main__":
    _listener = socket.socket(fileno=int(sys.argv[1]))
    _import_all()
    fork_simulators(_listener.getsockname())
    _run(_become(*next_fork(_listener)))
