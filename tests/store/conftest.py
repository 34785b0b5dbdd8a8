"""A real database in a temporary folder; PostgreSQL too where driver and server are there."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from src.core.store import Store

from .makers import assert_sums_are_true

SERVER = "postgresql://postgres@127.0.0.1:5432/test"


def postgresql_answers() -> str:
    """Empty where it can be used, else why not."""
    if find_spec("psycopg") is None:
        return "psycopg is not installed"
    import psycopg

    try:
        psycopg.connect(SERVER, connect_timeout=2).close()
    except psycopg.OperationalError:
        return "no PostgreSQL on 127.0.0.1:5432"
    return ""


WHY_NO_POSTGRESQL = postgresql_answers()
DATABASES = ["sqlite"] if WHY_NO_POSTGRESQL else ["sqlite", "postgresql"]


@pytest.fixture
def postgresql_url() -> Iterator[str]:
    """A schema of its own in the test database."""
    if WHY_NO_POSTGRESQL:
        pytest.skip(WHY_NO_POSTGRESQL)
    import psycopg

    name = f"store_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(SERVER, autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{name}"')
        yield f"{SERVER}?options=-csearch_path%3D{name}"
        connection.execute(f'DROP SCHEMA "{name}" CASCADE')


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "simulated.db"


@pytest.fixture(params=DATABASES)
def place(request: pytest.FixtureRequest, path: Path) -> Any:
    """Where a store is: a file, and a URL."""
    return path if request.param == "sqlite" else request.getfixturevalue("postgresql_url")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrated once, to be copied: that takes longer than most tests."""
    path = tmp_path_factory.mktemp("store") / "empty.db"
    Store.open(path, simulated=True).close()
    return path


@pytest.fixture
def store(place: Any, empty_database: Path) -> Iterator[Store]:
    """An open store, on each database; whatever a test did, its sums are true in the end."""
    if isinstance(place, Path):
        place.parent.mkdir()
        shutil.copy(empty_database, place)
    with Store.open(place, simulated=True) as opened:
        yield opened
        assert_sums_are_true(opened)
