"""The simulator as a child process, for the application, tests and benchmarks. Standard library only."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import subprocess  # our own interpreter and module, never a shell
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

PACKAGE = __package__ or "src.simulator"
PROJECT_ROOT = Path(__file__).resolve().parents[PACKAGE.count(".") + 1]  # this package is imported from here
_CLOSE_S = 3.0
_CONTROL_S = 10.0
_TAIL_CHARS = 2_000
# Words in the names of variables that hold keys, passwords, and addresses that may hold them.
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CRED|AUTH|COOKIE|SESSION|SIGN|PRIVATE|DSN|URL|URI|WEBHOOK|PROXY")
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class SimulatorProcess:
    """A running simulator. Use it as a context manager, or call `close`; it also ends when this process does.

    `base_urls` maps a provider's name to what its SDK takes as base URL; `control_url` is the control port.
    """

    def __init__(self, child: subprocess.Popen[str], addresses: dict[str, Any]) -> None:
        self._child = child
        self.control_url: str = addresses["control"]
        self.base_urls: dict[str, str] = addresses["providers"]

    @classmethod
    def start(cls, config: dict[str, Any] | None = None, *, seed: int = 1, timeout_s: float = 20.0) -> Self:
        """Launch one and wait until it listens. Raises RuntimeError with what it said if it does not.

        A `seed` other than 1 goes before the one in `config`.
        """
        command = [sys.executable, "-m", PACKAGE]
        if config is None or "seed" not in config or seed != 1:
            command += ["--seed", str(seed)]
        if config is not None:
            command += ["--config-json", json.dumps(config)]
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
            child = _launch(command, errors)
            with contextlib.ExitStack() as undo:
                undo.callback(_end, child, 0.0)
                try:
                    found = cls(child, json.loads(_first_line(child, timeout_s)))
                except queue.Empty:
                    what = f"gave no address within {timeout_s:g} s"
                except ValueError:
                    what = "did not start"
                else:
                    undo.pop_all()
                    return found
            errors.seek(0)
            said = errors.read()[-_TAIL_CHARS:].strip() or "nothing"
            raise RuntimeError(f"the simulator {what}; it said: {said}")

    def stats(self) -> dict[str, Any]:
        """Counters by provider, see GET /stats."""
        return self._call("GET", "/stats")

    def config(self) -> dict[str, Any]:
        """The configuration in force."""
        return self._call("GET", "/config")

    def patch(self, provider: str, change: dict[str, Any]) -> dict[str, Any]:
        """Merge `change` into a provider's configuration, None removes a key. Raises RuntimeError."""
        return self._call("PATCH", f"/providers/{provider}", change)

    def batch_clock(self, *, factor: float | None = None, advance_s: float = 0.0) -> dict[str, Any]:
        """Run the clock of batches `factor` times as fast, jump forward. Its state. Raises RuntimeError."""
        return self._call("POST", "/batch-clock", {"factor": factor, "advance_s": advance_s})

    def batch_fault(self, provider: str, fault: str, *, times: int = 1) -> None:
        """The next requests to the provider's batch endpoints that can meet this fault do. RuntimeError."""
        self._call("POST", f"/providers/{provider}/batch-faults", {"fault": fault, "times": times})

    def reset(self) -> None:
        """Counters, clocks and buckets as at the start, without batches and files."""
        self._call("POST", "/reset", {})

    def close(self) -> None:
        """End the child; killed if it has not ended by itself after 3 s. May be called twice."""
        _end(self._child, _CLOSE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "running" if self._child.poll() is None else f"ended with {self._child.returncode}"
        return f"<SimulatorProcess {self.control_url} {state}>"

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.control_url + path, data, method=method)  # noqa: S310 - our own URL
        try:
            with _direct.open(request, timeout=_CONTROL_S) as response:
                found: dict[str, Any] = json.load(response)
                return found
        except urllib.error.HTTPError as error:
            with error:
                raise RuntimeError(f"{method} {path}: {error.read().decode(errors='replace')}") from None


def _environment() -> dict[str, str]:
    """Ours without what may be a secret, and without addresses: the simulator needs none of them."""
    return {name: value for name, value in os.environ.items() if not _SECRET.search(name.upper())}


def _launch(command: list[str], errors: IO[str]) -> subprocess.Popen[str]:
    # A group of its own: Ctrl-C in the terminal is for us, and the calls we still finish need the simulator.
    group: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        encoding="utf-8",
        cwd=PROJECT_ROOT,
        env=_environment(),
        **group,
    )


def _first_line(child: subprocess.Popen[str], timeout_s: float) -> str:
    """What the child prints first, "" if it ends without a word. Raises queue.Empty when the time is over."""
    output = child.stdout
    if output is None:
        raise ValueError("no standard output")
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    # a thread, because a pipe can't be waited for with a time limit on every system
    threading.Thread(target=lambda: lines.put(output.readline()), daemon=True).start()
    return lines.get(timeout=timeout_s)


def _end(child: subprocess.Popen[str], patience_s: float) -> None:
    if child.stdin is not None:
        with contextlib.suppress(OSError):
            child.stdin.close()
    try:
        child.wait(patience_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if child.stdout is not None:
        child.stdout.close()
