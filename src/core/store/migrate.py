"""Bring a database to this program's schema when it is opened.

Pages and orchestrator may start together. The first one migrates, inside one transaction that is also the
lock (BEGIN IMMEDIATE on SQLite, an advisory lock on PostgreSQL), so a process killed half-way leaves nothing
behind. Alembic takes a quarter of a second to import, so it is imported only for a migration.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

import sqlalchemy as sa

from ...errors import StoreError
from .database import Database
from .engine import busy_timeout_s, prepare_place
from .leadership import LeadershipRow
from .schema import REVISION, meta

MIGRATIONS = Path(__file__).with_name("migrations")
_LEADERSHIP_REVISION = "0003"  # the first schema that names its leader
_ADVISORY_LOCK = 0x0A6E_7500
_ONE_AT_A_TIME = threading.Lock()  # alembic keeps the migration that runs in global variables
_version = sa.table("alembic_version", sa.column("version_num"))


def bring_up_to_date(database: Database, *, simulated: bool) -> None:
    """Create or migrate the schema, and check that simulated and live results stay apart.

    Raises StoreError for a database that is newer than this program, belongs to another program, holds live
    results although `simulated` is True (or the other way round), has to be migrated while an earlier version
    serves it, or cannot be opened.
    """
    prepare_place(database.url)
    if database.is_sqlite:
        _use_write_ahead_log(database)
    with database.reading() as connection:
        current = _revision(connection, database.place)
        if current == REVISION:
            _check_kind(connection, database.place, simulated)
            return
    if current is not None and current >= _LEADERSHIP_REVISION:
        _refuse_while_served(database)
    with database.writing() as connection:
        _lock(connection, database)
        if _revision(connection, database.place) != REVISION:  # no other process was faster
            _upgrade(connection)
        insert = database.insert(meta).values(key="simulated", value=int(simulated))
        connection.execute(insert.on_conflict_do_nothing())
        _check_kind(connection, database.place, simulated)


def _refuse_while_served(database: Database) -> None:
    """An earlier version that still serves the database could not store its answers in the new schema."""
    leader = LeadershipRow(database).leader()
    if leader.alive:
        killed = "" if leader.one_host else f"; if it was killed, try again in {leader.lease_s:g} s"
        raise StoreError(
            f"{database.place}: can't be migrated now: an earlier version serves it "
            f"(process {leader.pid} on {leader.host}; stop it first{killed})"
        )


def _revision(connection: sa.Connection, place: str) -> str | None:
    """The revision of the schema; None for an empty database."""
    tables = set(sa.inspect(connection).get_table_names())
    if "alembic_version" not in tables:
        if tables & {"tasks", "batches", "meta"}:
            raise StoreError(f"{place}: has tables of another program")
        return None
    found: str | None = connection.execute(sa.select(_version.c.version_num)).scalar()
    if found is not None and not (found.isdigit() and len(found) == len(REVISION)):
        raise StoreError(f"{place}: belongs to another program (schema {found})")
    if found is not None and found > REVISION:
        raise StoreError(
            f"{place}: was written by a newer version (schema {found}, this one knows {REVISION})"
        )
    return found


def _check_kind(connection: sa.Connection, place: str, simulated: bool) -> None:
    stored = connection.execute(sa.select(meta.c.value).where(meta.c.key == "simulated")).scalar()
    if stored is not None and bool(stored) != simulated:
        has, wanted = ("simulated", "live") if stored else ("live", "simulated")
        raise StoreError(f"{place}: holds {has} results and was opened for {wanted} ones")


def _use_write_ahead_log(database: Database) -> None:
    """Set the journal mode in which readers and the writer do not wait for each other; the file keeps it.

    The switch needs exclusive access and ignores the busy timeout: hence the loop.
    """
    path = Path(database.url.database or "")
    timeout_s = busy_timeout_s(database.url)
    give_up_at = time.monotonic() + timeout_s
    while True:
        try:
            connection = sqlite3.connect(path, timeout=timeout_s)
            try:
                connection.execute("PRAGMA journal_mode=WAL")
            finally:
                connection.close()
        except sqlite3.DatabaseError as error:
            primary_code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest says how it is locked
            is_locked = primary_code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not is_locked or time.monotonic() > give_up_at:
                raise StoreError(f"{path}: {error}") from error
            time.sleep(0.01)
        else:
            return


def _lock(connection: sa.Connection, database: Database) -> None:
    if not database.is_sqlite:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))


def _upgrade(connection: sa.Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    with _ONE_AT_A_TIME:
        command.upgrade(config, "head")
