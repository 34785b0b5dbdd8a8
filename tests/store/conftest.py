"""A store on each database, empty, and true to its sums in the end."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.core.store import Store
from tests.databases import DATABASES

from .makers import assert_sums_are_true


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrated once, to be copied: that takes longer than most tests."""
    path = tmp_path_factory.mktemp("store") / "empty.db"
    Store.open(path, simulated=True).close()
    return path


@pytest.fixture(params=DATABASES)
def store(request: pytest.FixtureRequest, path: Path, empty_database: Path) -> Iterator[Store]:
    """An open store, on each database; whatever a test did, its sums are true in the end."""
    if request.param == "sqlite":
        path.parent.mkdir()
        shutil.copy(empty_database, path)
        place: str | Path = path
    else:
        place = request.getfixturevalue("emptied_postgresql_url")
    with Store.open(place, simulated=True) as opened:
        yield opened
        assert_sums_are_true(opened)
