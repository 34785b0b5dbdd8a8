"""Transactions over one URL: short, and with statements compiled once.

A read is a deferred transaction, so that several queries see one state. A write begins with BEGIN IMMEDIATE
on SQLite: a transaction that reads first and writes later would fail at once, without waiting, if another
process had written in between.
"""

from __future__ import annotations

import copy
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    ProgrammingError,
    StatementError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ...errors import ConnectionLost, LeadershipLost, LockTimeout, StoreError, UnstorableError
from . import schema
from .engine import LOCK_TIMEOUT_S, READING, WRITING, create_engine, is_sqlite_url, parsed_url, shown
from .frozen import end_frozen_sessions
from .prepared import Bulk, JsonRows, Prepared, json_rows

_S = TypeVar("_S")
_STATES_OF_VALUES = ("22", "23", "54")  # SQLSTATE classes: data exception, integrity, a limit is exceeded
_LOCK_NOT_AVAILABLE = "55P03"
_DEADLOCK = "40P01"
_EPOCH = (  # locked against a takeover, but not against the leader's own renewal
    sa.select(schema.leadership.c.epoch)
    .where(schema.leadership.c.id == sa.literal_column(str(schema.THE_LEADERSHIP)))
    .with_for_update(read=True, key_share=True)
)


class Database:
    """An engine and its transactions. Threads may share it: each transaction takes a connection.

    `fenced` makes one for the leader, over the same connections: each of its writes demands the leader's
    epoch in its own transaction, so that a takeover comes either before or after it.
    """

    def __init__(self, url_or_path: str | Path) -> None:
        self.url = parsed_url(url_or_path)
        self._engine = create_engine(self.url)
        self._local = threading.local()
        self._prepared: dict[Any, Any] = {}  # by statement, or by verb and table
        self._is_fenced = False
        self._epoch: int | None = None
        self._identity: tuple[int, int] | None = None

    def fenced(self) -> Database:
        """The same database for a leader, which can write after `demand`."""
        shared = copy.copy(self)
        shared._is_fenced = True
        return shared

    @property
    def commits(self) -> int:
        """How many write transactions of this thread have begun to commit."""
        return getattr(self._local, "commits", 0)

    def demand(self, epoch: int | None) -> None:
        """Write under this epoch from now on; with None, not at all."""
        self._epoch = epoch

    @property
    def epoch(self) -> int | None:
        """The epoch that writes demand; None before the first `demand`."""
        return self._epoch

    @property
    def file(self) -> Path | None:
        """The real path of SQLite's file; None for a server."""
        return Path(self.url.database or "").resolve() if self.is_sqlite else None

    def remember_file(self) -> None:
        """Let `file_lost` compare with the file that exists now."""
        self._identity = _identity(self.file)

    def file_lost(self) -> str:
        """`was deleted` or `was replaced` if the file was; else empty."""
        if self._identity is None or (found := _identity(self.file)) == self._identity:
            return ""
        return "was deleted" if found is None else "was replaced"

    @property
    def place(self) -> str:
        """The file or URL, without a password, for messages."""
        return shown(self.url)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is an SQLite file, and not PostgreSQL."""
        return is_sqlite_url(self.url)

    def dispose(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A consistent view for the duration of the block. Keep it short: it delays truncating the log."""
        with self._transaction(READING) as connection:
            if not self.is_sqlite:
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield connection

    @contextmanager
    def writing(self, *, fenced: bool = True) -> Iterator[sa.Connection]:
        """One transaction, committed at the end of the block, rolled back by any exception.

        Raises LeadershipLost, with nothing written, if this is a leader's and another orchestrator leads.
        `fenced` is False for changes of the leadership itself.
        """
        with self._transaction(WRITING) as connection:
            if self._is_fenced and fenced and self._led(connection) != self._epoch:
                raise LeadershipLost
            yield connection

    def _led(self, connection: sa.Connection) -> int:
        epoch: int = self.prepared(_EPOCH, []).one(connection, ()).scalar_one()
        return epoch

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                connection.info["begin"] = begin
                with connection.begin():
                    yield connection
                    if begin != READING:
                        self._local.commits = self.commits + 1  # from here on the commit may happen
        except DBAPIError as error:
            if self._is_about_a_value(error):
                raise UnstorableError(f"the database rejected a value: {_reason(error)}") from error
            state = getattr(error.orig, "sqlstate", None)
            if state == _DEADLOCK:
                raise LockTimeout(f"{self.place}: two sessions waited for each other") from error
            if state == _LOCK_NOT_AVAILABLE:
                end_frozen_sessions(self._engine)
                raise LockTimeout(
                    f"{self.place}: another session has held a lock for {LOCK_TIMEOUT_S:g} s"
                ) from error
            kind = ConnectionLost if error.connection_invalidated else StoreError
            raise kind(f"{self.place}: {_reason(error)}") from error
        except PoolTimeout as error:
            raise StoreError(f"{self.place}: no connection is free (too many threads)") from error
        except OverflowError as error:
            raise UnstorableError("a number is too large to be stored") from error
        except UnicodeError as error:
            raise UnstorableError("a text is not valid Unicode") from error
        except StatementError as error:  # SQLAlchemy could not turn a value into a parameter
            raise UnstorableError(
                f"{self.place}: a value cannot be stored ({type(error).__name__})"
            ) from error

    def _is_about_a_value(self, error: DBAPIError) -> bool:
        """Whether the database refused a value: decided by class and SQLSTATE, never by the message."""
        if isinstance(error, DataError | IntegrityError):
            return True
        if self.is_sqlite:  # its driver raises these two for a parameter that it cannot bind
            return isinstance(error, InterfaceError | ProgrammingError)
        state = getattr(error.orig, "sqlstate", None)
        if state is None:  # the driver could not adapt it; a closed connection is not a ProgrammingError
            return isinstance(error, ProgrammingError)
        return str(state)[:2] in _STATES_OF_VALUES

    def compact(self) -> int:
        """Rewrite SQLite's file without free space; returns by how many bytes it became smaller."""
        if self.file is None:
            return 0
        before = self.file.stat().st_size
        try:
            with closing(self._engine.raw_connection()) as connection:
                cursor = connection.cursor()
                cursor.execute("VACUUM")
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"{self.place}: {error}") from error
        return before - self.file.stat().st_size

    def prepared(self, statement: Any, names: Sequence[str]) -> Prepared:
        """The compiled form of a statement that its module keeps for good."""
        return self._remembered(statement, lambda: Prepared(self._engine.dialect, statement, names))

    def inserting(self, table: sa.Table, names: Sequence[str] = ()) -> Bulk:
        """INSERT of whole rows: tuples in the table's order of columns, or of the columns `names`."""
        return self._bulk("insert", table, lambda insert: insert, names)

    def adding(self, table: sa.Table, sums: Sequence[str]) -> Bulk:
        """INSERT of whole rows, or add to the `sums` of a row that exists."""

        def on_conflict(insert: Any) -> Any:
            added = {name: table.c[name] + insert.excluded[name] for name in sums}
            return insert.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=added)

        return self._bulk("add", table, on_conflict)

    def replacing(self, table: sa.Table, values: Sequence[str]) -> Bulk:
        """INSERT of whole rows, or set the `values` of a row that exists."""

        def on_conflict(insert: Any) -> Any:
            new = {name: insert.excluded[name] for name in values}
            return insert.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=new)

        return self._bulk("replace", table, on_conflict)

    def adding_missing(self, table: sa.Table) -> Bulk:
        """INSERT of whole rows, except those whose key exists."""
        return self._bulk("add missing", table, lambda insert: insert.on_conflict_do_nothing())

    def updating(self, table: sa.Table, names: Sequence[str], key: str) -> Bulk:
        """UPDATE of rows that exist: tuples of the new values of `names`, then the `key`."""

        def build() -> Bulk:
            dialect, columns = self._engine.dialect, table.c
            if self.is_sqlite:
                new = ((columns[n], sa.bindparam(f"new_{n}", type_=columns[n].type)) for n in names)
                one = sa.update(table).where(columns[key] == sa.bindparam("which")).ordered_values(*new)
                return Prepared(dialect, one, [*(f"new_{name}" for name in names), "which"])
            wanted = [columns[name] for name in (*names, key)]
            given = json_rows(wanted).c
            update = sa.update(table).where(columns[key] == given[key]).values({n: given[n] for n in names})
            return JsonRows(dialect, update, wanted, is_kept=False)

        return self._remembered(("update", table.name, tuple(names)), build)

    def insert(self, table: sa.Table) -> Any:
        """An INSERT with `on_conflict_...`, which both dialects spell alike."""
        if self.is_sqlite:
            return sqlite.insert(table)
        from sqlalchemy.dialects import postgresql  # a slow import that SQLite does not need

        return postgresql.insert(table)

    def _bulk(self, verb: str, table: sa.Table, end: Callable[[Any], Any], names: Sequence[str] = ()) -> Bulk:
        """An INSERT of many rows; `end` adds what to do with a row that exists."""

        def build() -> Bulk:
            dialect, columns = self._engine.dialect, [table.c[name] for name in names or table.c.keys()]
            if self.is_sqlite:
                return Prepared(dialect, end(self.insert(table)), [column.name for column in columns])
            insert = self.insert(table).from_select(columns, sa.select(*json_rows(columns).c))
            return JsonRows(dialect, end(insert), columns, is_kept=True)

        return self._remembered((verb, table.name), build)

    def _remembered(self, key: Any, build: Callable[[], _S]) -> _S:
        found: _S | None = self._prepared.get(key)
        if found is None:
            found = self._prepared[key] = build()
        return found


def _identity(path: Path | None) -> tuple[int, int] | None:
    """Device and inode of a file, which distinguish it from another one under the same name."""
    try:
        found = path.stat() if path is not None else None
    except FileNotFoundError:
        return None
    return None if found is None else (found.st_dev, found.st_ino)


def _reason(error: DBAPIError) -> str:
    """The driver's message alone: SQLAlchemy's message may contain prompts as parameters."""
    return " ".join(str(error.orig).split())
