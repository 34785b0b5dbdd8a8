"""Leadership: the lock on SQLite, the lease on PostgreSQL, with real processes, stopped and killed."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from src.core.leadership import Leadership, steady
from src.core.lease_watch import LeaseWatch
from src.core.store import HostLock, Leader, Registrant, Store
from src.core.store.engine import LOCK_TIMEOUT_S
from src.errors import StoreError
from tests.helpers import ROOT, start_module
from tests.store.makers import NOW, tasks

LEASE_S = 1.0
AT_ONCE_S = 60.0  # on a busy machine; without a cause to wait it is less than one


class Child:
    """A process that leads with the process id of the test; it answers each line with its state."""

    def __init__(self, place: object, lease_s: float) -> None:
        env = {"LEASE_S": str(lease_s), "LEADER_PID": str(os.getpid())}
        self.process = start_module("tests.store.child", "lead", str(place), env=env)
        assert self._line() == "leads"

    def _line(self) -> str:
        return str(self.process.stdout.readline()).strip()

    def query(self) -> tuple[bool, bool]:
        """Whether it may place, and whether it has lost."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        may_place, lost = self._line().split()
        return may_place == "True", lost == "True"

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=60)


@contextmanager
def leading_child(place: object, lease_s: float = LEASE_S) -> Iterator[Child]:
    child = Child(place, lease_s)
    try:
        yield child
    finally:
        child.end()


# ---------------------------------------------------------------- the watch, in virtual time


def row(epoch: int = 1, renewals: int = 1) -> Leader:
    return Leader(epoch, "other", 1, "there", 10.0, renewals, alive=True, one_host=False)


def looks(watch: LeaseWatch, start: float, seconds: float, leader: Leader, step: float = 0.5) -> bool:
    """Look every half second, each look taking a tenth; the last answer."""
    found = False
    for i in range(int(seconds / step) + 1):
        found = watch.look(leader, start + i * step, start + i * step + 0.1)
    return found


def test_a_lease_expires_a_whole_lease_after_the_row_was_first_read() -> None:
    watch = LeaseWatch()
    assert not looks(watch, 100.0, 10.0, row())
    assert watch.look(row(), 110.1, 110.2)
    assert not watch.has_renewed(row(), since=0.0)


def test_an_expired_lease_stays_expired_until_the_row_changes() -> None:
    watch = LeaseWatch()
    looks(watch, 100.0, 10.5, row())
    assert watch.look(row(), 500.0, 500.1), "its holder places nothing before it renews"
    assert not watch.look(row(renewals=2), 501.0, 501.1)


def test_a_renewal_restarts_the_lease_and_shows_that_the_holder_runs() -> None:
    watch = LeaseWatch()
    looks(watch, 100.0, 9.0, row())
    assert not looks(watch, 109.5, 9.0, row(renewals=2))
    assert watch.has_renewed(row(), since=109.5) and not watch.has_renewed(row(epoch=2), since=109.5)
    assert not watch.has_renewed(row(), since=115.0), "that was long ago"
    assert looks(watch, 119.0, 1.0, row(renewals=2))


def test_only_time_in_which_the_database_answered_counts() -> None:
    watch = LeaseWatch()
    looks(watch, 100.0, 9.0, row())
    watch.missed()
    assert not looks(watch, 130.0, 10.0, row()), "it could not renew either"
    assert watch.look(row(), 140.2, 140.3)


def test_time_without_a_look_does_not_count() -> None:
    """The taker itself was stopped, and the database may have been out of reach meanwhile."""
    watch = LeaseWatch()
    looks(watch, 100.0, 5.0, row())
    assert not looks(watch, 160.0, 9.0, row())
    assert looks(watch, 169.5, 1.0, row())


def test_the_steady_clock_does_not_follow_the_wall_clock() -> None:
    assert abs(steady() - time.monotonic()) < 366 * 86400 < time.time()


# ---------------------------------------------------------------- both databases


@pytest.fixture
def stored(place: object) -> Iterator[Store]:
    with Store.open(place, simulated=True) as store:  # type: ignore[arg-type]
        store.intake.add_tasks(tasks(1), now=NOW)
        yield store


def test_a_second_orchestrator_is_refused_in_one_line_with_a_remedy(stored: Store) -> None:
    with Leadership(stored, LEASE_S) as first, Leadership(stored, LEASE_S) as second:
        first.acquire()
        assert first.may_place and stored.leadership.leader().alive
        with pytest.raises(StoreError) as refused:
            second.acquire()
        assert not second.may_place
    text = str(refused.value)
    assert "\n" not in text and "another orchestrator already serves this state: process " in text
    assert "--standby" in text
    assert ("DATABASE_URL" in text) == stored.leadership.leader().one_host


def test_after_a_clean_end_the_next_orchestrator_leads_at_once(stored: Store) -> None:
    for epoch in (1, 2, 3):
        with Leadership(stored, 600.0) as each:
            each.acquire()
            assert stored.leadership.leader().epoch == epoch
        assert not stored.leadership.leader().alive


def test_a_standby_waits_and_names_the_leader(stored: Store) -> None:
    said: list[str] = []
    first, second = Leadership(stored, 60.0), Leadership(stored, 60.0)
    first.acquire()
    with second:
        waiting = threading.Thread(target=lambda: second.acquire(standby=True, say=said.append))
        waiting.start()
        while not said:
            time.sleep(0.01)
        assert f"waiting for process {os.getpid()} on {socket.gethostname()}" in said[0]
        assert not second.may_place
        while not (seen := stored.standbys.present()):
            time.sleep(0.01)
        assert [(each.host, each.pid) for each in seen] == [(socket.gethostname(), os.getpid())]
        first.release()
        waiting.join(10)
        assert second.may_place
        assert stored.standbys.present() == ()
    assert said[1:] == ["standby: taking over"]


def test_a_killed_leader_with_the_same_process_id_is_replaced(place: object, stored: Store) -> None:
    """A container that is started again has its old host name, and its process its old number."""
    with leading_child(place) as child:
        child.send(signal.SIGKILL)
        child.process.wait()
        began = time.monotonic()
        with Leadership(stored, LEASE_S) as mine:
            mine.acquire()
            took = time.monotonic() - began
            me = Registrant(mine.incarnation, os.getpid(), socket.gethostname(), "simulated")
            assert mine.store.orchestrators.register(me, now=NOW + 1).recovered == 1
            assert stored.leadership.leader().one_host or took >= LEASE_S


# ---------------------------------------------------------------- the lock


@pytest.fixture
def lock_path(tmp_path: Path) -> Path:
    return tmp_path / "live.db.lock"


def test_a_stopped_leader_is_not_taken_over_on_sqlite_and_a_killed_one_at_once(path: Path) -> None:
    with Store.open(path, simulated=True) as store:
        store.intake.add_tasks(tasks(1), now=NOW)
        with leading_child(path, lease_s=600.0) as child, Leadership(store, LEASE_S) as mine:
            child.send(signal.SIGSTOP)
            until = time.monotonic() + 2 * LEASE_S
            while time.monotonic() < until:
                with pytest.raises(StoreError, match="another orchestrator"):
                    mine.acquire()
            child.send(signal.SIGCONT)
            assert child.query() == (True, False)
            child.send(signal.SIGSTOP)
            child.send(signal.SIGKILL)
            child.process.wait()
            began = time.monotonic()
            mine.acquire(standby=True)
            assert time.monotonic() - began < AT_ONCE_S


def test_readers_disturb_neither_the_leader_nor_a_new_orchestrator(lock_path: Path) -> None:
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            HostLock(lock_path).is_held()

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(100):
            lock = HostLock(lock_path)
            assert lock.acquire() and HostLock(lock_path).is_held()
            assert not HostLock(lock_path).acquire()
            lock.release()
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert not HostLock(lock_path).is_held()


def test_a_lock_file_that_was_deleted_is_not_the_lock(lock_path: Path) -> None:
    first, second = HostLock(lock_path), HostLock(lock_path)
    assert first.acquire()
    lock_path.unlink()
    assert second.acquire() and second.is_held()
    second.release()
    first.release()


def test_every_path_to_the_database_leads_to_the_same_lock(path: Path, tmp_path: Path) -> None:
    with Store.open(path, simulated=True) as store:
        (tmp_path / "link.db").symlink_to(path)
        with Store.open(tmp_path / "link.db", simulated=True) as other:
            assert other.leadership.host_lock is not None and store.leadership.host_lock is not None
            assert (
                other.leadership.host_lock.path
                == store.leadership.host_lock.path
                == Path(f"{path.resolve()}.lock")
            )


def test_a_file_system_without_locks_is_one_clear_error(
    lock_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    # No file system without locks can be mounted here: only its answer is imitated.

    def refuse(_fd: int, _operation: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StoreError, match="this file system does not support the file lock"):
        HostLock(lock_path).acquire()


# ---------------------------------------------------------------- the lease


def test_a_stopped_leader_is_taken_over_after_its_lease_and_places_nothing_afterwards(
    postgresql_url: str,
) -> None:
    with Store.open(postgresql_url, simulated=True) as store:
        store.intake.add_tasks(tasks(1), now=NOW)
        with leading_child(postgresql_url) as child, Leadership(store, LEASE_S) as mine:
            assert child.query() == (True, False)
            child.send(signal.SIGSTOP)
            began = time.monotonic()
            mine.acquire(standby=True)
            assert time.monotonic() - began >= LEASE_S
            child.send(signal.SIGCONT)
            assert not child.query()[0]
            while not child.query()[1]:
                time.sleep(0.05)
            assert mine.may_place


def test_a_stopped_leader_that_is_not_taken_over_goes_on_under_its_epoch(postgresql_url: str) -> None:
    with Store.open(postgresql_url, simulated=True) as store:
        store.intake.add_tasks(tasks(1), now=NOW)
        with leading_child(postgresql_url) as child:
            child.send(signal.SIGSTOP)
            while store.leadership.leader().alive:  # by the database's clock
                time.sleep(0.05)
            child.send(signal.SIGCONT)
            while not child.query()[0]:
                time.sleep(0.05)
            assert store.leadership.leader().alive and store.leadership.leader().epoch == 1


def test_a_leader_whose_steady_clock_has_passed_the_lease_places_nothing(postgresql_url: str) -> None:
    """As after a sleep, before any thread has had its turn."""
    ahead = 0.0
    with (
        Store.open(postgresql_url, simulated=True) as store,
        Leadership(store, 60.0, clock=lambda: steady() + ahead) as mine,
    ):
        mine.acquire()
        assert mine.may_place
        ahead = 47.0
        assert mine.may_place
        ahead = 48.1  # the lease less a fifth
        assert not mine.may_place and not mine.lost


@pytest.mark.parametrize("moment", ["between_statements", "while_sending", "while_reading"])
def test_a_leader_that_is_stopped_inside_a_transaction_blocks_no_successor(
    postgresql_url: str, moment: str
) -> None:
    """Its transaction holds the row that the successor needs, and the server waits for the stopped client.

    Once it goes on, its session is gone: it writes nothing and has lost.
    """
    with Store.open(postgresql_url, simulated=True) as store, stopped_child(postgresql_url, moment) as child:
        said: list[str] = []
        with Leadership(store, LEASE_S) as mine:
            began = time.monotonic()
            mine.acquire(standby=True, say=said.append)
            assert time.monotonic() - began < LEASE_S + 2 * LOCK_TIMEOUT_S + AT_ONCE_S
            assert said[-1] == "standby: taking over"
            while not mine.may_place:  # the wait for the lock counts against the first lease
                assert mine.leads and time.monotonic() - began < 120.0
                time.sleep(0.01)
            child.send_signal(signal.SIGCONT)
            out, _ = child.communicate(timeout=30)
            assert out == "LeadershipLost\n"
            assert not store.controls.current_settings()


def test_a_process_that_is_stopped_in_a_migration_keeps_no_other_one_from_opening(
    postgresql_url: str,
) -> None:
    with stopped_child(postgresql_url, "in_a_migration"):
        began = time.monotonic()
        Store.open(postgresql_url, simulated=True).close()
        assert time.monotonic() - began < 2 * LOCK_TIMEOUT_S + AT_ONCE_S


@contextmanager
def stopped_child(url: str, moment: str) -> Iterator[subprocess.Popen[str]]:
    """A leader that has stopped itself at that moment of a write."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.store.child", f"stop_{moment}", url],
        cwd=ROOT,
        env={**os.environ, "LEASE_S": str(LEASE_S)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        yield child
    finally:
        child.kill()
        child.communicate()
