"""If the server ends a connection in the middle of a call, the call is repeated or raises ConnectionLost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from src.core.store import Store
from src.core.store.reconnecting import reconnect
from src.errors import ConnectionLost
from src.records import TaskStatus

from .makers import NOW, a_result, a_task, assert_sums_are_true, register, tasks, with_claims


@contextmanager
def killed_at(store: Store, url: str, statement: int) -> Iterator[None]:
    """The connection that is about to carry out this statement, counted from 1, is gone by then."""
    import psycopg

    engine, seen = store.database._engine, [0]

    def kill(connection: Any, *_: Any) -> None:
        seen[0] += 1
        if seen[0] == statement:
            pid = connection.connection.driver_connection.info.backend_pid
            with psycopg.connect(url, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))

    sa.event.listen(engine, "before_cursor_execute", kill)
    yield
    sa.event.remove(engine, "before_cursor_execute", kill)
    assert seen[0] >= statement, "it has come to that statement"


CALLS: dict[str, Callable[[Store], object]] = {
    "latest_snapshot": lambda store: store.orchestrators.latest_snapshot()[1] is not None,
    "leader": lambda store: store.leadership.leader().epoch,
    "summary": lambda store: store.reports.summary("b").calls.calls,
    "tasks": lambda store: len(store.tasks.page(100).rows),
    "create_batch": lambda store: store.intake.create_batch("new", now=NOW),
    "add_tasks": lambda store: (
        store.intake.add_tasks([a_task(f"n{i}", "new") for i in range(3)], now=NOW).added
    ),
    "put_setting": lambda store: store.controls.put_setting("x", 1, who="test", now=NOW),
    "add_command": lambda store: store.controls.add_command("resume", {}, who="test", now=NOW),
    "claim": lambda store: len(store.queue.claim("me", 2, now=NOW)),
    "finish": lambda store: len(
        store.queue.finish("me", [a_result(task) for task in store.queue.claimed("me")])
    ),
    "register": lambda store: register(store, "next").recovered,
}


@pytest.fixture
def emptied(emptied_postgresql_url: str) -> Iterator[Store]:
    with Store.open(emptied_postgresql_url, simulated=True) as store:
        with_claims(store, *tasks(3))
        store.intake.add_tasks([a_task(f"more{i}") for i in range(4)], now=NOW)
        yield store


FEW_STATEMENTS = {
    "leader": (1, 2),
    "create_batch": (1,),
    "tasks": (1, 2),
    "put_setting": (1, 2),
    "add_command": (1,),
}


@pytest.mark.parametrize(
    ("name", "statement"), [(name, n) for name in CALLS for n in FEW_STATEMENTS.get(name, (1, 3))]
)
def test_a_call_whose_connection_is_killed_returns_the_same(
    emptied: Store, emptied_postgresql_url: str, name: str, statement: int
) -> None:
    answers = {"latest_snapshot": True, "leader": 0, "summary": 0, "tasks": 7, "create_batch": None}
    answers |= {"add_tasks": 3, "put_setting": 1, "add_command": 1, "claim": 2, "finish": 3, "register": 3}
    with killed_at(emptied, emptied_postgresql_url, statement):
        assert CALLS[name](emptied) == answers[name]
    assert_sums_are_true(emptied)


def test_a_call_that_may_have_committed_is_not_repeated(emptied: Store, emptied_postgresql_url: str) -> None:
    made = []

    def twice() -> None:
        made.append(emptied.controls.put_setting("x", 1, who="test", now=NOW))
        with emptied.database.reading() as connection:  # past the store's methods, which would repeat it
            connection.execute(sa.text("SELECT 1"))

    with killed_at(emptied, emptied_postgresql_url, 4), pytest.raises(ConnectionLost):
        reconnect(emptied.database, twice)
    assert made == [1]


def test_an_idle_connection_that_was_killed_is_replaced(emptied: Store, emptied_postgresql_url: str) -> None:
    import psycopg

    with psycopg.connect(emptied_postgresql_url, autocommit=True) as other:
        for _ in range(3):
            emptied.reports.task_counts()
            other.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            assert emptied.reports.task_counts()[TaskStatus.RUNNING] == 3


def test_a_session_that_ends_inside_a_pipeline_is_a_lost_connection(emptied: Store) -> None:
    """Then psycopg cannot leave the pipeline, and raises another error than the server's."""
    import psycopg

    def end(*_: object) -> None:
        try:
            raise psycopg.errors.AdminShutdown("terminating connection due to administrator command")
        except psycopg.Error:
            raise psycopg.OperationalError("cannot exit pipeline mode while busy")  # noqa: B904 - as psycopg does

    engine = emptied.database._engine
    sa.event.listen(engine, "do_execute", end)
    try:
        with pytest.raises(ConnectionLost), emptied.database.writing() as connection:
            connection.exec_driver_sql("SELECT 1")
    finally:
        sa.event.remove(engine, "do_execute", end)
    assert emptied.leadership.leader().epoch >= 0, "the next call has a new connection"
