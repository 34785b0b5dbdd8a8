"""A second process at the same database: `python -m tests.store.child VERB PATH`.

Prints a line whenever the test that started it may go on, or may kill it.
"""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

from src.core.leadership import Leadership
from src.core.store import NewBatch, PlannedRow, Registrant, Store
from src.core.store.database import Database
from src.core.store.migrate import _ADVISORY_LOCK
from src.errors import ConnectionLost, StoreError
from src.records import Outcome, TaskStatus

from .makers import NOW, a_result, a_task, an_attempt, tasks

CHUNK = 20
DEFERRED, TURNS = 200, 15  # of `change` and `place`
DUE = NOW + 86_400.0


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def open_it(path: str) -> None:
    say("opening")
    with Store.open(path, simulated=True) as store:
        say(repr(store.reports.task_counts()[TaskStatus.QUEUED]))


def add(path: str) -> None:
    """Hand in the same 300 tasks as every other child does."""
    say("adding")
    with Store.open(path, simulated=True) as store:
        say(str(store.intake.add_tasks(tasks(300), now=NOW).added))


def work(path: str) -> None:
    """Claim and finish until nothing is queued; tell each id that was written."""
    with Store.open(path, simulated=True) as store:
        say("working")
        while claimed := store.queue.claim("me", CHUNK, now=NOW):
            for result in store.queue.finish("me", [a_result(task) for task in claimed]):
                say(result.task.id)


def finish(path: str) -> None:
    """Finish what `me` has claimed, chunk by chunk, each task with an attempt before the last."""
    with Store.open(path, simulated=True) as store:
        claimed = store.queue.claim("me", 1000, now=NOW)
        for start in range(0, len(claimed), CHUNK):
            chunk = claimed[start : start + CHUNK]
            failed = an_attempt(1, Outcome.FAILED)
            store.queue.record_attempts("me", [(task, failed) for task in chunk])
            say("recorded")
            store.queue.finish("me", [a_result(task, failed, an_attempt(2)) for task in chunk])
            say("finished")


def lead(path: str) -> None:
    """Lead under the number of the process that started this one, a life before its own, and claim a task."""
    pid = int(os.environ["LEADER_PID"])
    with Store.open(path, simulated=True) as store:
        leadership = Leadership(store, lease_s=float(os.environ["LEASE_S"]))
        leadership.me = dataclasses.replace(leadership.me, pid=pid)
        leadership.acquire()
        me = Registrant(leadership.incarnation, pid, socket.gethostname(), "simulated")
        leadership.store.orchestrators.register(me, now=NOW)
        leadership.store.queue.claim(leadership.incarnation, 1, now=NOW)
        say("leads")
        for _ in sys.stdin:  # each line is a question
            say(f"{leadership.may_place} {leadership.lost}")
        leadership.release()


def open_twice(path: str) -> None:
    """Keep a store open, open another one and close it again, then write when the test says so."""
    with Store.open(path, simulated=True) as store:
        store.intake.add_tasks(tasks(1), now=NOW)
        Store.open(path, simulated=True).close()
        _write_on_request(store)


def open_directly(path: str) -> None:
    """The same with a file descriptor in place of the other store."""
    with Store.open(path, simulated=True) as store:
        store.intake.add_tasks(tasks(1), now=NOW)
        os.close(os.open(path, os.O_RDWR))
        _write_on_request(store)


def _write_on_request(store: Store) -> None:
    say("open")
    sys.stdin.readline()
    with suppress(StoreError):  # the log is gone
        store.intake.add_tasks(tasks(300), now=NOW)
    say("written")
    sys.stdin.readline()


def stop_between_statements(path: str) -> None:
    _stop_in_a_write(path, lambda _: _stop())


def stop_while_sending(path: str) -> None:
    """Half of a pipeline is sent: to the server it is not idle."""
    _stop_in_a_write(path, lambda cursor: cursor.executemany("SELECT length(%s)", _values_and_a_stop()))


def stop_while_reading(path: str) -> None:
    """The server sends more than the connection holds."""

    def ask(cursor: Any) -> None:
        wire = cursor.connection.pgconn
        wire.send_query(b"SELECT repeat('x', 50000000)")
        wire.flush()
        _stop()
        while wire.get_result():
            pass

    _stop_in_a_write(path, ask)


def stop_in_a_migration(path: str) -> None:
    """It holds the lock of a migration, and has written nothing yet."""
    with Database(path).writing() as connection:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        driver = connection.connection.driver_connection
        driver.cursor().executemany("SELECT length(%s)", _values_and_a_stop())


def _values_and_a_stop() -> Iterator[tuple[str]]:
    yield ("a" * 100_000,)
    _stop()
    yield ("b",)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _stop_in_a_write(path: str, stop: Callable[[Any], None]) -> None:
    """Lead, stop inside a write, and print how that ends, and the next write."""
    with Store.open(path, simulated=True) as store:
        leadership = Leadership(store, lease_s=float(os.environ["LEASE_S"]))
        leadership.acquire()
        try:
            with suppress(ConnectionLost), leadership.store.database.writing() as connection:
                driver = connection.connection.driver_connection
                stop(driver.cursor())
            leadership.store.controls.put_setting("late", 1, who="test", now=NOW)
        except StoreError as error:
            say(type(error).__name__)
        leadership.release()


def change(path: str) -> None:
    """Give deferred tasks new content, in another order each time, and add new ones like them."""
    order = random.Random(1)
    with Store.open(path, simulated=True) as store:
        say("changing")
        for turn in range(TURNS):
            known = [a_task(f"t{i:04}", prompt=f"text {turn}", deadline_at=DUE) for i in range(DEFERRED)]
            new = [a_task(f"new{turn}-{i}", prompt=f"text {i % 7}", deadline_at=DUE) for i in range(10)]
            mixed = order.sample(known, 100) + new
            store.intake.add_tasks(mixed, now=NOW + turn, rerun_changed=True, once=turn % 2 == 0)
        say("changed")


def place(path: str) -> None:
    """Put deferred tasks into batches and bring them back, send others live and finish some, as a leader."""
    with Store.open(path, simulated=True) as store:
        say("placing")
        for turn in range(TURNS):
            now = NOW + turn
            for group in store.deferrals.groups():
                found = store.deferrals.oldest(group.id, 60)
                rows = [PlannedRow(task, 7, 256, "economy") for task in reversed(found)]
                batch = store.provider_batches.intend(
                    NewBatch("openai", "gpt-x", f"marker{turn:03}"), rows, now
                )
                if batch is not None and batch.state == "intended":
                    store.batch_results.failed(batch.id, "full", now=now, defer=turn % 3 > 0)
                store.deferrals.go_live(group.id, 20, now)
            claimed = store.queue.claim("me", 30, now=now)
            store.queue.finish("me", [a_result(task) for task in reversed(claimed)])
        say("placed")


VERBS: dict[str, Callable[[str], None]] = {
    "open": open_it,
    "add": add,
    "work": work,
    "finish": finish,
    "lead": lead,
    "change": change,
    "place": place,
    "open_twice": open_twice,
    "open_directly": open_directly,
    "stop_between_statements": stop_between_statements,
    "stop_while_sending": stop_while_sending,
    "stop_while_reading": stop_while_reading,
    "stop_in_a_migration": stop_in_a_migration,
}

if __name__ == "__main__":
    VERBS[sys.argv[1]](sys.argv[2])
