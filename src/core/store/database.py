"""The connection under the store: one URL, short transactions, statements compiled once.

Reading happens in a deferred transaction, so that several queries see one state. Writing begins with
BEGIN IMMEDIATE: a transaction that reads first and writes later would fail at once, without waiting,
when another process has written in between.
"""

from __future__ import annotations

import copy
import errno
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    NoSuchModuleError,
    ProgrammingError,
    StatementError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ...errors import ConfigError, ConnectionLost, LeadershipLost, StoreError, UnstorableError
from ...private import make_private_folder
from . import schema

BUSY_TIMEOUT_S = 30.0
IDLE_IN_TRANSACTION_S = 10.0  # as the lease: no transaction here is idle that long between two statements
_ALLOWED_URLS = (
    "sqlite:///PATH/FILE.db, postgresql://USER:PASSWORD@HOST:5432/NAME (special characters as %40)"
)
_SQLITE_PRAGMAS = (
    "PRAGMA synchronous=FULL",  # a commit that was acknowledged survives a power cut
    "PRAGMA temp_store=MEMORY",
    "PRAGMA cache_size=-32000",  # KiB: the inner pages of a million tasks
    "PRAGMA journal_size_limit=67108864",
)
_STATES_OF_VALUES = ("22", "23", "54")  # SQLSTATE classes: data exception, integrity, a limit is exceeded
_READING, _WRITING = "BEGIN", "BEGIN IMMEDIATE"
Row = tuple[Any, ...]
_making = threading.Lock()  # held while a database file is created


class Prepared:
    """A statement compiled once for a dialect and run with plain tuples in the order of `names`.

    Twice as fast as handing mappings to SQLAlchemy, which matters for what runs once per task. The
    tuples go to the driver as they are: only None, int, float, str and bytes.
    """

    def __init__(self, dialect: sa.Dialect, statement: Any, names: Sequence[str]) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=list(names))
        self._sql = str(compiled)
        self._names = tuple(names)
        self._constants = {n: v for n, v in compiled.params.items() if n not in self._names}
        self._order = compiled.positiontup and tuple(compiled.positiontup)  # None: by name

    def many(self, connection: sa.Connection, rows: Sequence[Row]) -> None:
        """Run once for each tuple; nothing happens for none."""
        if rows:
            connection.exec_driver_sql(self._sql, self._arranged(rows))

    def one(self, connection: sa.Connection, row: Row) -> sa.CursorResult[Any]:
        return connection.exec_driver_sql(self._sql, self._arranged([row])[0])

    def _arranged(self, rows: Sequence[Row]) -> Any:
        """As the driver wants them: tuples in the order of the placeholders, or mappings."""
        if self._order == self._names:
            return rows
        named = [self._constants | dict(zip(self._names, row, strict=True)) for row in rows]
        if self._order is None:
            return named
        return [tuple(row[name] for name in self._order) for row in named]


_prepared: dict[tuple[str, Any], Prepared] = {}  # by dialect and statement; they hold no connection


_EPOCH = (  # locked against a takeover, but not against the leader's own renewal
    sa.select(schema.leadership.c.epoch)
    .where(schema.leadership.c.id == sa.literal_column(str(schema.THE_LEADERSHIP)))
    .with_for_update(read=True, key_share=True)
)


class Database:
    """Opens the engine and hands out transactions. Threads may share it: each call takes a connection.

    One made by `fenced` shares the connections and is for a leader alone: each of its writes demands the
    leader's epoch in its own transaction, so that a takeover comes before it or after it.
    """

    def __init__(self, url_or_path: str | Path) -> None:
        self.url = _url(url_or_path)
        self._engine = _engine(self.url)
        self._local = threading.local()
        self._is_fenced = False
        self._epoch: int | None = None
        self._identity: tuple[int, int] | None = None

    def fenced(self) -> Database:
        """For one leader; it writes from `demand` on."""
        shared = copy.copy(self)
        shared._is_fenced = True
        return shared

    @property
    def commits(self) -> int:
        """How many writing transactions of this thread have begun to commit."""
        return getattr(self._local, "commits", 0)

    def demand(self, epoch: int | None) -> None:
        """Write under this epoch from now on; None: not at all."""
        self._epoch = epoch

    @property
    def epoch(self) -> int | None:
        return self._epoch

    @property
    def file(self) -> Path | None:
        """SQLite's file by its real path, however it was named; None for a server."""
        return Path(self.url.database or "").resolve() if self.is_sqlite else None

    def remember_file(self) -> None:
        """From now on `file_lost` compares with the file that is there now."""
        self._identity = _identity(self.file)

    def file_lost(self) -> str:
        """`was deleted`, `was replaced`, or nothing."""
        if self._identity is None or (found := _identity(self.file)) == self._identity:
            return ""
        return "was deleted" if found is None else "was replaced"

    @property
    def place(self) -> str:
        """The file or URL for messages."""
        return shown(self.url)

    @property
    def is_sqlite(self) -> bool:
        return _is_sqlite(self.url)

    def dispose(self) -> None:
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A consistent view for as long as the block lasts. Keep it short: it holds back the log's end."""
        with self._transaction(_READING) as connection:
            if not self.is_sqlite:
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield connection

    @contextmanager
    def writing(self, *, fenced: bool = True) -> Iterator[sa.Connection]:
        """One transaction, committed at the end of the block, undone by any exception.

        Raises LeadershipLost where this is a leader's and another one leads; nothing was written then.
        `fenced` is False for what decides on the leadership itself.
        """
        with self._transaction(_WRITING) as connection:
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
                    if begin != _READING:
                        self._local.commits = self.commits + 1  # from here on it may be carried out
        except DBAPIError as error:
            if self._is_about_a_value(error):
                raise UnstorableError(f"the database refuses a value: {_reason(error)}") from error
            kind = ConnectionLost if error.connection_invalidated else StoreError
            raise kind(f"{self.place}: {_reason(error)}") from error
        except PoolTimeout as error:
            raise StoreError(f"{self.place}: too many threads want a connection") from error
        except OverflowError as error:
            raise UnstorableError("a number is too large to be stored") from error
        except UnicodeError as error:
            raise UnstorableError("a text is no valid Unicode") from error
        except StatementError as error:  # SQLAlchemy could not turn a value into a parameter
            raise UnstorableError(
                f"{self.place}: a value cannot be stored ({type(error).__name__})"
            ) from error

    def _is_about_a_value(self, error: DBAPIError) -> bool:
        """Whether the database refused what was to be written, by class and SQLSTATE, never by its words."""
        if isinstance(error, DataError | IntegrityError):
            return True
        if self.is_sqlite:  # whose driver raises these two for a parameter that it cannot bind
            return isinstance(error, InterfaceError | ProgrammingError)
        state = getattr(error.orig, "sqlstate", None)
        if state is None:  # the driver itself could not adapt it; a closed connection is no ProgrammingError
            return isinstance(error, ProgrammingError)
        return str(state)[:2] in _STATES_OF_VALUES

    def prepared(self, statement: Any, names: Sequence[str]) -> Prepared:
        """The compiled form of a statement that lives as long as its module."""
        return self._remembered(statement, lambda: statement, names)

    def inserting(self, table: sa.Table) -> Prepared:
        """INSERT of whole rows: tuples of all columns in the table's order."""
        return self._remembered(
            f"insert {table.name}", lambda: sa.insert(table), [column.name for column in table.columns]
        )

    def adding(self, table: sa.Table, sums: Sequence[str]) -> Prepared:
        """INSERT, or where the key exists add the `sums` to what is there: tuples of key, then sums."""

        def build() -> Any:
            statement = self.insert(table)
            return statement.on_conflict_do_update(
                index_elements=list(table.primary_key.columns),
                set_={name: table.c[name] + statement.excluded[name] for name in sums},
            )

        names = [*(column.name for column in table.primary_key.columns), *sums]
        return self._remembered(f"add {table.name}", build, names)

    def replacing(self, table: sa.Table, values: Sequence[str]) -> Prepared:
        """INSERT, or where the key exists set the `values`: tuples of key, then values."""

        def build() -> Any:
            statement = self.insert(table)
            return statement.on_conflict_do_update(
                index_elements=list(table.primary_key.columns),
                set_={name: statement.excluded[name] for name in values},
            )

        names = [*(column.name for column in table.primary_key.columns), *values]
        return self._remembered(f"replace {table.name}", build, names)

    def insert(self, table: sa.Table) -> Any:
        """An INSERT that has `on_conflict_...`, which both dialects spell alike."""
        if self.is_sqlite:
            return sqlite.insert(table)
        from sqlalchemy.dialects import postgresql  # a slow import that most never need

        return postgresql.insert(table)

    def _remembered(self, key: Any, build: Callable[[], Any], names: Sequence[str]) -> Prepared:
        place = (self._engine.dialect.name, key)
        found = _prepared.get(place)
        if found is None:
            found = _prepared[place] = Prepared(self._engine.dialect, build(), names)
        return found


def prepare_place(url: sa.URL) -> None:
    """Make the file (0600) and its folders (0700) where they are missing. PostgreSQL needs neither.

    A file that exists is never opened here: on POSIX, closing any descriptor of a file drops every lock that
    this process holds on it, those of SQLite's open connections included. Another process would then take
    itself for the last user, and delete the write-ahead log with what it holds.
    See https://www.sqlite.org/howtocorrupt.html, section 2.2.
    """
    if not _is_sqlite(url) or not url.database:
        return
    path = Path(url.database)
    try:
        make_private_folder(path.parent)
        _make_file(path.resolve())  # the target of a link: O_EXCL follows none
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except OSError as error:
        raise StoreError(f"{path}: cannot be opened ({error.strerror})") from error


def _make_file(path: Path) -> None:
    """Create the file where it is missing. Another thread may connect only after the descriptor is closed."""
    with _making, suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _identity(path: Path | None) -> tuple[int, int] | None:
    """Device and number of a file, by which another one under its name is told from it."""
    try:
        found = path.stat() if path is not None else None
    except FileNotFoundError:
        return None
    return None if found is None else (found.st_dev, found.st_ino)


def _is_sqlite(url: sa.URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _url(url_or_path: str | Path) -> sa.URL:
    text = str(url_or_path)
    if "://" not in text:
        return sa.URL.create("sqlite", database=text)
    try:
        url = sa.make_url(text.replace("postgres://", "postgresql://", 1))
        backend = url.get_backend_name()
        if _is_sqlite(url):
            busy_timeout_s(url)
    except (sa.exc.ArgumentError, ValueError):
        # Not even masked, and without the cause: where it can't be taken apart, a password may be anywhere.
        scheme = text.partition("://")[0]
        raise ConfigError(f"{scheme}://... is no database URL", allowed=_ALLOWED_URLS) from None
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    if backend not in ("sqlite", "postgresql"):
        raise ConfigError(f"{url.drivername}: only sqlite and postgresql are supported")
    if _is_sqlite(url) and url.database in (None, "", ":memory:"):
        raise ConfigError("an SQLite database needs a file: sqlite:///path/to/file.db")
    return url


def shown(url: sa.URL) -> str:
    """A file, or a URL without what may be a password: that may stand in its query as well."""
    return url.database or "" if _is_sqlite(url) else str(url.set(query={}))


def busy_timeout_s(url: sa.URL) -> float:
    """How long SQLite waits for a lock: 30 s, or what the URL says (`sqlite:///file.db?timeout=5`)."""
    return float(str(url.query.get("timeout", BUSY_TIMEOUT_S)))


def _engine(url: sa.URL) -> sa.Engine:
    is_sqlite = _is_sqlite(url)
    arguments = {"timeout": busy_timeout_s(url)} if is_sqlite else _postgresql_arguments(url)
    try:
        # Parameters hold prompts and answers: they must not stand in tracebacks. A connection to a server may
        # have died while it lay idle: it is tried before it is used.
        engine = sa.create_engine(
            url, connect_args=arguments, hide_parameters=True, pool_pre_ping=not is_sqlite
        )
    except (ImportError, NoSuchModuleError) as error:
        raise ConfigError(
            f"PostgreSQL needs its driver: {sys.executable} -m pip install --require-hashes "
            "-r requirements/postgresql.lock, "
            "or for an image: docker build --build-arg POSTGRESQL=1"
        ) from error
    if not is_sqlite:
        sa.event.listen(engine, "connect", _set_up_postgresql)
    else:
        sa.event.listen(engine, "connect", _set_up_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _postgresql_arguments(url: sa.URL) -> dict[str, Any]:
    """A host that is gone is noticed within some ten seconds and not after the two hours of TCP's defaults.

    What the URL says itself counts.
    """
    arguments = {
        "connect_timeout": 5,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,  # ms
    }
    return {name: value for name, value in arguments.items() if name not in url.query}


def _set_up_postgresql(connection: Any, _record: object) -> None:
    """A process that is stopped inside a transaction must not keep its locks for ever."""
    import psycopg

    with suppress(psycopg.OperationalError):  # killed by now: its first use finds that out, and is repeated
        connection.execute(f"SET idle_in_transaction_session_timeout = {int(1000 * IDLE_IN_TRANSACTION_S)}")
        connection.commit()


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions of its own
    for pragma in _SQLITE_PRAGMAS:
        connection.execute(pragma)


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.info.get("begin", "BEGIN"))


def _reason(error: DBAPIError) -> str:
    """The driver's sentence alone: SQLAlchemy's message would carry prompts as parameters."""
    return " ".join(str(error.orig).split())
