"""Every test runs without keys, proxies and settings of the machine, in its own folder, on loopback only."""

from __future__ import annotations

import gc
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.simulator.process import SimulatorProcess

from . import database_guard, no_network
from .databases import (  # noqa: F401 - fixtures
    _migrated_database,
    _worker_database,
    database_env,
    emptied_postgresql_url,
    own_postgresql_url,
    path,
    place,
    postgresql_url,
)
from .fork_server import ADDRESS, AVAILABLE, ForkServer, fork_simulators
from .helpers import clean_environment
from .installed import installed  # noqa: F401 - a fixture
from .once import compile_routes_once, compile_statements_once, copy_schema_once, prepare_statements_once

clean_environment(os.environ)
# A background job or `nohup` ignores these, and so would every process that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
sys.dont_write_bytecode = False  # as the environment that has just been cleaned says
no_network.install()
compile_statements_once()
prepare_statements_once()
copy_schema_once()
compile_routes_once()


def pytest_configure(config: pytest.Config) -> None:
    """Give this process a folder. Where several workers run the tests, one fork server is enough for all."""
    folder = tempfile.mkdtemp(prefix=f"tests-{os.getpid()}-")
    os.environ["XDG_STATE_HOME"] = folder  # where keys went is remembered there, not at home
    os.environ[database_guard.REPORT] = str(Path(folder) / "database-guard.txt")
    is_worker = hasattr(config, "workerinput")
    if is_worker and ADDRESS in os.environ:
        fork_simulators(os.environ[ADDRESS])
    if AVAILABLE and not is_worker and config.getoption("numprocesses", None):
        server = ForkServer()
        os.environ[ADDRESS] = server.address
        config.add_cleanup(server.close)
        from .forked_workers import use_forks

        use_forks(config)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is collected stays to the end: the garbage collector need not look through it again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        from .spreading import processes_first

        processes_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    if config.getoption("dist") == "loadscope":
        from .spreading import Spreading

        return Spreading(config, log)
    return None


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No `.env` and no `state/` of the developer is found from here."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _nothing_left_the_machine() -> Iterator[None]:
    no_network.refused.clear()
    yield
    assert no_network.refused == []


@pytest.fixture(autouse=True)
def _no_database_was_opened_directly() -> Iterator[None]:
    """By any process that the test has started, however deep."""
    yield
    report = Path(os.environ[database_guard.REPORT])
    if report.exists():
        refused = report.read_text(encoding="utf-8")
        report.unlink()
        pytest.fail(f"a database file was used without SQLite:\n{refused}")


@pytest.fixture(scope="session")
def _shared_simulator() -> Iterator[SimulatorProcess]:
    fast = {"latency": {"first_token_s": 0.01, "per_token_s": 0.0001}}
    config = {"providers": dict.fromkeys(("anthropic", "openai", "gemini"), fast)}
    with SimulatorProcess.start(config) as simulator:
        yield simulator


@pytest.fixture
def simulator(_shared_simulator: SimulatorProcess) -> Iterator[SimulatorProcess]:
    """Three quick providers without faults or limits, their counters at zero. Not to be left patched."""
    _shared_simulator.reset()
    before = _shared_simulator.config()
    yield _shared_simulator
    assert _shared_simulator.config() == before, "patched for all tests that follow"
