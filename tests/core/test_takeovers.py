"""Real orchestrators on PostgreSQL that are stopped, killed and cut off, with another one that takes over.

The lease is short here, to keep the tests quick.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from src.core.store import Store
from src.errors import ConnectionLost
from src.messages import Message
from src.records import Task, TaskStatus
from src.simulator.process import SimulatorProcess
from tests.helpers import Script, live_environment, read_rows, write_rows
from tests.proxy import Proxy

LEASE_S = 2.0
MODEL = "gpt-6-luna"
NANOS_PER_TOKEN = 1000
CONFIG = f"""
[pool]
lease_s = {LEASE_S}
[models."{MODEL}"]
price = {{ input = 1.0, output = 1.0, cache_read = 1.0, cache_write = 1.0 }}
[providers.openai.limits]
requests_per_minute = 60000
[[agents]]
name = "only"
home = "openai"
calls_in_flight = 16
"""
LATENCY_S = 0.4
TASKS = 240
SERVE = ("--config", "short.toml", "--log-level", "info", "--yes")
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


@contextmanager
def a_provider() -> Iterator[SimulatorProcess]:
    row = {"latency": {"first_token_s": LATENCY_S, "per_token_s": 0.0}, "output_tokens": {"mean": 60}}
    with SimulatorProcess.start({"providers": {"openai": row}}) as started:
        yield started


@pytest.fixture
def provider() -> Iterator[SimulatorProcess]:
    with a_provider() as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "short.toml").write_text(CONFIG)
    rows = [
        {"id": f"t{n}", "prompt": f"Question {n}?", "max_tokens": 100, "models": [MODEL]}
        for n in range(TASKS)
    ]
    write_rows(tmp_path / "tasks.jsonl", rows)
    return tmp_path


def url_of(place: object) -> str:
    return f"sqlite:///{place}" if isinstance(place, Path) else str(place)


def environment(provider: SimulatorProcess, place: object) -> dict[str, str]:
    return {**live_environment(provider.base_urls, only=["openai"]), "DATABASE_URL": url_of(place)}


def calls(provider: SimulatorProcess) -> int:
    return int(provider.stats()["openai"]["calls"])


def bill_nanos(*providers: SimulatorProcess) -> int:
    """What was answered, or would have been to a caller that has gone."""
    stats = [provider.stats()["openai"] for provider in providers]
    return NANOS_PER_TOKEN * sum(s["admitted_input_tokens"] + s["output_tokens"] for s in stats)


def wait_until(true: Callable[[], bool], *scripts: Script, timeout_s: float = 60.0) -> float:
    """The seconds until it is true."""
    began = time.monotonic()
    while not true():
        messages = [script.err for script in scripts]
        assert time.monotonic() - began < timeout_s, messages
        assert all(script.process.poll() is None for script in scripts), messages
        time.sleep(0.02)
    return time.monotonic() - began


def booked_nanos(store: Store) -> int:
    """Certain and uncertain, of everything that was ever booked."""
    return sum(row.sums.cost_nanos + row.sums.uncertain_nanos for row in store.reports.usage(0.0, 1e11, []))


def test_a_run_that_was_stopped_and_taken_over_places_nothing_and_its_cap_holds(
    folder: Path, provider: SimulatorProcess, postgresql_url: str
) -> None:
    cap_usd = 0.012
    run = ("run", "tasks.jsonl", *SERVE, "--max-cost", str(cap_usd))
    with (
        a_provider() as second,
        Script(*run, cwd=folder, env=environment(provider, postgresql_url)) as old,
    ):
        wait_until(lambda: calls(provider) >= 60, old)
        old.process.send_signal(signal.SIGSTOP)
        with Script(*SERVE, "--standby", cwd=folder, env=environment(second, postgresql_url)) as new:
            new.wait_for(f"standby: waiting for process {old.process.pid} on ")
            new.wait_for("standby: taking over")
            wait_until(lambda: calls(second) > 0, new)
            at_the_stop = calls(provider)
            old.process.send_signal(signal.SIGCONT)
            assert old.wait() == 3, old.err
            assert "error: another orchestrator has taken over" in old.err and "Traceback" not in old.err
            new.wait_for("cap of batch")
            wait_until(lambda: second.stats()["openai"]["in_flight"] == 0, new)
            assert calls(provider) - at_the_stop <= 16, "no more than was on its way when it was stopped"
            new.terminate()
            assert new.wait() == 0, new.err
        with Store.open(postgresql_url, simulated=False) as store:
            booked = booked_nanos(store)
        assert bill_nanos(provider, second) <= booked <= cap_usd * 1e9
        assert booked >= 0.5 * cap_usd * 1e9, "and it was worth a cap"


def test_an_unreachable_database_costs_no_task_and_no_lead(
    folder: Path, provider: SimulatorProcess, postgresql_url: str
) -> None:
    with Proxy(5432) as proxy:
        behind = postgresql_url.replace(":5432", f":{proxy.port}")
        env = environment(provider, behind)
        with Script("run", "tasks.jsonl", *SERVE, "-o", "out.jsonl", cwd=folder, env=env) as run:
            wait_until(lambda: calls(provider) >= 1, run)
            with Script(*SERVE, "--standby", cwd=folder, env=env) as standby:
                standby.wait_for("standby: waiting for process ")
                proxy.cut()
                run.wait_for("lease expired")
                called = calls(provider)
                until = time.monotonic() + 2 * LEASE_S
                while time.monotonic() < until:
                    assert calls(provider) == called, "nothing is placed any more"
                    assert run.process.poll() is None and standby.process.poll() is None
                    run.pause()
                assert provider.stats()["openai"]["in_flight"] == 0, "what was in flight has ended"
                proxy.mend()
                run.wait_for("lease renewed")
                assert run.wait() == 0, run.err
                standby.wait_for("standby: taking over")  # a clean end, and no earlier
                standby.wait_for("ready after")
        assert calls(provider) == TASKS, "each task was asked once"
        rows = read_rows(folder / "out.jsonl")
        assert {row["id"] for row in rows} == {f"t{n}" for n in range(TASKS)} and len(rows) == TASKS
        with Store.open(postgresql_url, simulated=False) as store:
            assert store.leadership.leader().epoch == 2
            assert booked_nanos(store) == bill_nanos(provider)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_standby_takes_over_and_every_task_is_answered(
    folder: Path, provider: SimulatorProcess, place: object, number: signal.Signals
) -> None:
    env = environment(provider, place)
    with Store.open(place, simulated=False) as store:  # type: ignore[arg-type]
        store.intake.add_tasks(
            [
                Task(f"t{n}", "queue", (Message("user", "Why?"),), models=(MODEL,), max_tokens=100)
                for n in range(TASKS)
            ],
            now=time.time(),
        )
        with Script(*SERVE, cwd=folder, env=env) as old:
            old.wait_for("ready after")
            with Script(*SERVE, "--standby", cwd=folder, env=env) as new:
                new.wait_for(f"standby: waiting for process {old.process.pid} on ")
                old.process.send_signal(number)
                began = time.monotonic()
                new.wait_for("standby: taking over")
                took = time.monotonic() - began
                assert old.wait() == (0 if number == signal.SIGTERM else -signal.SIGKILL), old.err
                wait_until(lambda: store.reports.task_counts()[TaskStatus.SUCCEEDED] == TASKS, new)
        if number == signal.SIGTERM:
            assert calls(provider) == TASKS, "calls in flight were let finish"
        else:
            assert isinstance(place, Path) or took >= LEASE_S - 0.5  # renewed before it was killed
            assert calls(provider) <= TASKS + 16 + 16, "in flight, and on their way to the disk"


@pytest.mark.skipif(not FAKETIME.exists(), reason="faketime is not installed")
def test_a_wall_clock_that_is_ahead_costs_no_leader_its_lead(
    folder: Path, provider: SimulatorProcess, postgresql_url: str
) -> None:
    env = environment(provider, postgresql_url)
    ahead = {**env, "LD_PRELOAD": str(FAKETIME), "FAKETIME": "+60s"}
    with Store.open(postgresql_url, simulated=False) as store, Script(*SERVE, cwd=folder, env=env) as old:
        old.wait_for("ready after")
        with Script(*SERVE, cwd=folder, env=ahead) as second:
            assert second.wait() == 3
            assert "another orchestrator already serves this state" in second.err
        with Script(*SERVE, "--standby", cwd=folder, env=ahead) as standby:
            standby.wait_for("standby: waiting")
            until = time.monotonic() + 2 * LEASE_S
            while time.monotonic() < until:
                assert "standby: taking over" not in standby.err and old.process.poll() is None
                time.sleep(0.1)
        assert store.leadership.leader().epoch == 1 and store.leadership.leader().alive


def kill_connections(url: str) -> int:
    """End every other connection to this database, whatever it is doing."""
    import psycopg

    with psycopg.connect(url) as connection:
        query = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        row = connection.execute(query).fetchone()
        return int(row[0]) if row else 0


def kill_connections_until(url: str, is_over: Callable[[], bool], *scripts: Script) -> int:
    """End all other connections again and again, at moments that have nothing to do with the work."""
    killed, chance = 0, random.Random(7)
    until = time.monotonic() + 90
    while not is_over():
        assert time.monotonic() < until, [script.err for script in scripts]
        killed += kill_connections(url)
        time.sleep(chance.uniform(0.0, 0.3))
    return killed


def test_killed_connections_end_no_run(
    folder: Path, provider: SimulatorProcess, own_postgresql_url: str
) -> None:
    env = environment(provider, own_postgresql_url)
    with Script("run", "tasks.jsonl", "-o", "out.jsonl", *SERVE, cwd=folder, env=env) as run:
        run.wait_for("plan: ")
        assert kill_connections(own_postgresql_url), "idle ones, at the start"
        run.wait_for("ready after")
        killed = kill_connections_until(own_postgresql_url, lambda: run.process.poll() is not None, run)
        assert run.wait() == 0, run.err
        assert "Traceback" not in run.out + run.err
    assert killed > 10
    rows = read_rows(folder / "out.jsonl")
    assert len({row["id"] for row in rows}) == len(rows) == TASKS == calls(provider)
    assert {row["status"] for row in rows} == {"succeeded"}


def test_killed_connections_cost_a_server_no_task(
    folder: Path, provider: SimulatorProcess, own_postgresql_url: str
) -> None:
    """Tasks are added while the connections of the server, and of the process that adds them, are killed."""
    env = environment(provider, own_postgresql_url)
    with (
        Script(*SERVE, cwd=folder, env=env) as server,
        Store.open(own_postgresql_url, simulated=False) as store,
    ):
        server.wait_for("ready after")
        added: set[str] = set()

        def add_and_look() -> bool:
            names = [f"t{n}" for n in range(len(added), min(len(added) + 40, TASKS))]
            message = (Message("user", "Why?"),)
            new = [Task(name, "queue", message, models=(MODEL,), max_tokens=100) for name in names]
            assert server.process.poll() is None, server.err
            with suppress(ConnectionLost):  # perhaps committed: the same tasks are added again
                store.intake.add_tasks(new, now=time.time())
                added.update(names)
                return store.reports.task_counts("queue")[TaskStatus.SUCCEEDED] == TASKS
            return False

        assert kill_connections_until(own_postgresql_url, add_and_look, server) > 10
        server.terminate()
        assert server.wait() == 0, server.err
        assert "Traceback" not in server.out + server.err
        assert calls(provider) == TASKS, "each task was called once"
        assert booked_nanos(store) == bill_nanos(provider)
