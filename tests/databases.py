"""Databases for tests: a file in the test's folder, and a PostgreSQL on 127.0.0.1:5432.

Each worker of a test run makes a PostgreSQL database of its own and drops it in the end. A test gets a new
schema in it, or the worker's migrated one, emptied. Without a server such tests are skipped, with a word; in
CI (CI=true) they fail.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from src.core.store import Store, schema

from .helpers import skip_without

SERVER = "postgresql://postgres@127.0.0.1:5432"
DATABASES = ["sqlite", "postgresql"]


@cache
def why_no_postgresql() -> str:
    """Empty where it can be used."""
    if find_spec("psycopg") is None:
        return "psycopg is not installed (requirements/dev.txt has it)"
    import psycopg

    try:
        psycopg.connect(f"{SERVER}/postgres", connect_timeout=2).close()
    except psycopg.OperationalError:
        return "no PostgreSQL on 127.0.0.1:5432 that lets postgres in without a password"
    return ""


def need_postgresql() -> None:
    """Skip where there is none; in CI that is a failure."""
    if why := why_no_postgresql():
        skip_without(why)


@contextmanager
def own_database() -> Iterator[str]:
    """The URL of a new, empty database, which is dropped at the end, open connections included."""
    need_postgresql()
    import psycopg

    name = f"orchestrator_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(f"{SERVER}/postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        try:
            # Quicker, and safe against all but a crash of the server, which no test brings about.
            connection.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
            yield f"{SERVER}/{name}"
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def _worker_database() -> Iterator[str]:
    with own_database() as url:
        yield url


@pytest.fixture(scope="session")
def _migrated_database(_worker_database: str) -> str:
    Store.open(_worker_database, simulated=True).close()
    return _worker_database


@pytest.fixture
def postgresql_url(_worker_database: str) -> Iterator[str]:
    """A new schema, without tables."""
    import psycopg

    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(_worker_database, autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{name}"')
        yield f"{_worker_database}?options=-csearch_path%3D{name}"
        connection.execute(f'DROP SCHEMA "{name}" CASCADE')


@pytest.fixture
def own_postgresql_url() -> Iterator[str]:
    """A database of the test's own: all its connections can be killed."""
    with own_database() as url:
        yield url


@pytest.fixture
def emptied_postgresql_url(_migrated_database: str) -> str:
    """All tables, simulated and without rows: faster than anew, and than TRUNCATE, which syncs files."""
    import psycopg

    tables = [table for table in reversed(schema.metadata.sorted_tables) if table is not schema.meta]
    restart = "SELECT setval(seqrelid, seqstart, false) FROM pg_sequence"
    with psycopg.connect(_migrated_database) as connection:
        connection.execute(";".join(str(table.delete()) for table in tables))
        connection.execute(restart)
        connection.execute("DELETE FROM meta WHERE key <> 'simulated'")
        connection.execute("INSERT INTO leadership VALUES (1, 0, '', 0, '', 0, 0, 0, '')")
    return _migrated_database


@pytest.fixture(params=DATABASES)
def database_env(request: pytest.FixtureRequest) -> dict[str, str]:
    """What a command needs in its environment to keep its live state in each database."""
    return {} if request.param == "sqlite" else {"DATABASE_URL": request.getfixturevalue("postgresql_url")}


def rows_of(env: Mapping[str, str], folder: Path, query: str) -> list[tuple[Any, ...]]:
    """What a query finds in the live state of commands run in `folder` with `env`; none before its tables."""
    if url := env.get("DATABASE_URL"):
        import psycopg

        with psycopg.connect(url) as connection:
            try:
                return connection.execute(query.encode()).fetchall()
            except psycopg.errors.UndefinedTable:
                return []
    file = folder / "state" / "live.db"
    if not file.exists():
        return []
    with closing(sqlite3.connect(file)) as database:
        try:
            return database.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "simulated.db"


@pytest.fixture(params=DATABASES)
def place(request: pytest.FixtureRequest, path: Path) -> Any:
    """The address of a store that has not been opened yet: a file, and a URL."""
    return path if request.param == "sqlite" else request.getfixturevalue("postgresql_url")
