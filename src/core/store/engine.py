"""Database URLs, files and engines: how a connection is made and set up."""

from __future__ import annotations

import errno
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import NoSuchModuleError

from ...errors import ConfigError, StoreError
from ...package import DISTRIBUTION, INSTALLED
from ...private import make_private_folder

BUSY_TIMEOUT_S = 30.0
IDLE_IN_TRANSACTION_S = 10.0  # as the lease: no transaction here is idle that long between two statements
LOCK_TIMEOUT_S = IDLE_IN_TRANSACTION_S  # PostgreSQL: then frozen sessions are ended, and the call is repeated
APPLICATION = "agent-orchestrator"
_ALLOWED_URLS = (
    "sqlite:///PATH/FILE.db, postgresql://USER:PASSWORD@HOST:5432/NAME (special characters as %40)"
)
_SQLITE_PRAGMAS = (
    "PRAGMA synchronous=FULL",  # an acknowledged commit survives a power cut
    "PRAGMA temp_store=MEMORY",
    "PRAGMA cache_size=-32000",  # KiB: the inner pages of a million tasks
    "PRAGMA journal_size_limit=67108864",
)
KEPT = "kept"  # execution option: the server keeps the plan, which suits tables of any size
READING, WRITING = "BEGIN", "BEGIN IMMEDIATE"  # in `Connection.info["begin"]`, on SQLite
# SQLSTATEs with which PostgreSQL ends a session: by command, after a crash, at its own shutdown.
_SESSION_ENDED = frozenset({"57P01", "57P02", "57P03"})
_CONNECTION_EXCEPTION = "08"  # the class of errors of the connection
_creating = threading.Lock()  # held while a database file is created


def is_sqlite_url(url: sa.URL) -> bool:
    """Whether the URL names an SQLite file."""
    return url.get_backend_name() == "sqlite"


def parsed_url(url_or_path: str | Path) -> sa.URL:
    """The URL of a database; a path names an SQLite file. Raises ConfigError for what is neither."""
    text = str(url_or_path)
    if "://" not in text:
        return sa.URL.create("sqlite", database=text)
    try:
        url = sa.make_url(text.replace("postgres://", "postgresql://", 1))
        backend = url.get_backend_name()
        if is_sqlite_url(url):
            busy_timeout_s(url)
    except (sa.exc.ArgumentError, ValueError):
        # Only the scheme, and no cause: in a URL that cannot be parsed, a password may be anywhere.
        scheme = text.partition("://")[0]
        raise ConfigError(f"{scheme}://... is not a database URL", allowed=_ALLOWED_URLS) from None
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    if backend not in ("sqlite", "postgresql"):
        raise ConfigError(f"{url.drivername}: only sqlite and postgresql are supported")
    if is_sqlite_url(url) and url.database in (None, "", ":memory:"):
        raise ConfigError("an SQLite database needs a file: sqlite:///path/to/file.db")
    return url


def shown(url: sa.URL) -> str:
    """The file, or the URL without its password and its query, which may hold one too."""
    return url.database or "" if is_sqlite_url(url) else str(url.set(query={}))


def busy_timeout_s(url: sa.URL) -> float:
    """Seconds that SQLite waits for a lock: 30, or the URL's own (`sqlite:///file.db?timeout=5`)."""
    return float(str(url.query.get("timeout", BUSY_TIMEOUT_S)))


def create_engine(url: sa.URL) -> sa.Engine:
    """An engine whose connections are set up. Raises ConfigError if PostgreSQL's driver is missing."""
    is_sqlite = is_sqlite_url(url)
    arguments = {"timeout": busy_timeout_s(url)} if is_sqlite else _postgresql_arguments(url)
    try:
        # Parameters hold prompts and answers, which must not appear in tracebacks. A connection to a server
        # may have died while it was idle: it is tested before use.
        engine = sa.create_engine(
            url, connect_args=arguments, hide_parameters=True, pool_pre_ping=not is_sqlite
        )
    except (ImportError, NoSuchModuleError) as error:
        raise ConfigError(f"PostgreSQL needs its driver: {_how_to_install_the_driver()}") from error
    if not is_sqlite:
        sa.event.listen(engine, "connect", _set_up_postgresql)
        sa.event.listen(engine, "handle_error", _find_lost_connection)
        sa.event.listen(engine, "do_execute", _execute_on_postgresql)
    else:
        sa.event.listen(engine, "connect", _set_up_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _how_to_install_the_driver() -> str:
    pip = f"{sys.executable} -m pip install"
    if INSTALLED:
        return f"{pip} '{DISTRIBUTION}[postgresql]'"
    locked = f"{pip} --require-hashes -r requirements/postgresql.lock"
    return f"{locked}, or for an image: docker build --build-arg POSTGRESQL=1"


def _postgresql_arguments(url: sa.URL) -> dict[str, Any]:
    """Connection arguments that detect a lost host within ten seconds, unless the URL sets them itself.

    TCP's defaults need two hours.
    """
    arguments = {
        "prepare_threshold": sys.maxsize,  # only if KEPT: the plan for a small table reads all of a large one
        "connect_timeout": 5,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,  # ms
        "application_name": APPLICATION,  # by which `frozen.py` knows the sessions of this program
    }
    return {name: value for name, value in arguments.items() if name not in url.query}


def _set_up_postgresql(connection: Any, _record: object) -> None:
    """Let the server end a transaction whose process is stopped between two statements, and no wait last.

    `frozen.py` ends the sessions that the server's own timeout does not cover.
    """
    import psycopg

    with suppress(psycopg.OperationalError):  # killed already: its first use fails and is repeated
        connection.execute(
            f"SET idle_in_transaction_session_timeout = {int(1000 * IDLE_IN_TRANSACTION_S)}; "
            f"SET lock_timeout = {int(1000 * LOCK_TIMEOUT_S)}"
        )
        connection.commit()


def _execute_on_postgresql(cursor: Any, sql: str, values: Any, context: Any) -> bool:
    """Let the server keep a statement that says so."""
    kept = bool(context.execution_options.get(KEPT))
    if kept:
        cursor.execute(sql, values, prepare=True)
    return kept


def _find_lost_connection(context: sa.engine.ExceptionContext) -> None:
    """Take a session that the server ended in the middle of a pipeline for a lost connection.

    psycopg then raises an error about its pipeline, and has the server's own as its context.
    """
    error: BaseException | None = context.original_exception
    while error is not None and not context.is_disconnect:
        state = str(getattr(error, "sqlstate", None) or "")
        context.is_disconnect = state in _SESSION_ENDED or state.startswith(_CONNECTION_EXCEPTION)
        error = error.__cause__ or error.__context__


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions of its own
    for pragma in _SQLITE_PRAGMAS:
        connection.execute(pragma)


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.info.get("begin", "BEGIN"))


def prepare_place(url: sa.URL) -> None:
    """Create a missing database file (0600) and its missing folders (0700). PostgreSQL needs neither.

    An existing file is never opened here: on POSIX, closing any descriptor of a file drops every lock that
    this process holds on it, including those of SQLite's open connections. Another process would then
    conclude that it is the last user, and delete the write-ahead log with its contents. See
    https://www.sqlite.org/howtocorrupt.html, section 2.2. Raises StoreError if the file cannot be used.
    """
    if not is_sqlite_url(url) or not url.database:
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
    """Create a missing file. Other threads may connect only after the descriptor is closed."""
    with _creating, suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
