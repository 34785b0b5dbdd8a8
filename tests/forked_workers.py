"""Workers of a test run as forks of one process that has imported all tests already.

A worker that starts afresh spends most of its first ten seconds of CPU on imports, and on a machine that has
not run the tests before, on compiling them. Here one process imports them, and each worker only collects.
A worker remains a process of its own, which `tests/test_forked_workers.py` checks.

    python -m tests.forked_workers LISTENER TEST...    the server: `TEST...` as pytest takes them
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from execnet import gateway_base, gateway_io

from .fork_server import AVAILABLE, ROOT, Fork, ForkServer, end, next_fork, take_over

NAME = "tests.forked_workers"

# ------------------------------------------------------------------ in the process that has the workers


def use_forks(config: pytest.Config) -> None:
    """Let the workers of this run be forks, where that makes no difference to the tests."""
    measures_imports = config.pluginmanager.hasplugin("_cov")
    if AVAILABLE and not measures_imports and config.invocation_params.dir == ROOT:
        server = WorkerServer(config.args)
        create = gateway_io.create_io

        def create_io(spec: Any, execmodel: Any) -> Any:
            if not spec.popen:
                return create(spec, execmodel)
            made = ForkedIO(server.address, execmodel)
            config.add_cleanup(made.wait)  # before the server ends: the last added is the first done
            return made

        config.add_cleanup(server.close)
        config.add_cleanup(lambda: setattr(gateway_io, "create_io", create))
        gateway_io.create_io = create_io


class WorkerServer(ForkServer):
    def __init__(self, tests: Sequence[str]) -> None:
        self._tests = tests
        super().__init__()

    def _launch(self, listener: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # in this session, so that Ctrl-C reaches the workers
            [sys.executable, "-m", NAME, str(listener), *self._tests],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            pass_fds=[listener],
        )


class ForkedIO(gateway_io.Popen2IOMaster):  # type: ignore[misc]
    """What execnet has for a process on this machine, with a fork in the place of `subprocess.Popen`."""

    def __init__(self, address: str, execmodel: Any) -> None:
        self.popen = Fork(address, [], ROOT, os.environ, stdin=subprocess.PIPE, stderr=2)
        gateway_base.Popen2IO.__init__(self, self.popen.stdin, self.popen.stdout, execmodel)


# ------------------------------------------------------------------ in the server


class ImportOnly:
    """Leaves out what is collected from the modules: each worker does that itself."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makeitem(self) -> list[pytest.Item]:
        return []


def main(listener: socket.socket, tests: list[str]) -> None:
    with (
        Path(os.devnull).open("w") as nothing,
        contextlib.redirect_stdout(nothing),
    ):  # the workers report errors
        pytest.main(["--collect-only", "-p", "no:cacheprovider", *tests], plugins=[ImportOnly()])
    from .once import make_empty_databases  # by now the tests have set it up

    make_empty_databases()
    gc.collect()
    gc.freeze()  # what all workers share stays unwritten
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the workers end by it
    request, streams = next_fork(listener)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    take_over(request, streams)
    sys.argv = ["-c"]
    exec(eval(sys.stdin.readline()))  # noqa: S102, S307 - how execnet starts a Python
    end(0)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
