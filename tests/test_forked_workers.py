"""The workers of a test run are forks, and yet processes of their own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from .database_guard import REPORT
from .fork_server import AVAILABLE
from .forked_workers import NAME


@pytest.fixture(autouse=True)
def _in_a_fork(request: pytest.FixtureRequest) -> None:
    measures_imports = request.config.pluginmanager.hasplugin("_cov")
    if not AVAILABLE or measures_imports or "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("this process is no worker, or one that was started afresh")


def test_its_parent_has_imported_the_tests() -> None:
    assert f"-m\0{NAME}\0" in Path(f"/proc/{os.getppid()}/cmdline").read_text()


def test_signals_reach_it_as_they_reach_any_python() -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1
    assert os.getpgid(0) == os.getpgid(os.getppid()), "Ctrl-C in the terminal ends it"


def test_its_input_is_not_that_of_the_process_that_has_it() -> None:
    assert Path("/proc/self/fd/0").readlink() == Path(os.devnull)


def test_its_folder_is_its_own() -> None:
    assert f"-{os.getpid()}-" in Path(os.environ[REPORT]).parent.name
