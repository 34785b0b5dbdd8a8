"""What is the same in every test of a process and costs much, done once: to compile statements, routes and
templates, and to create the tables of a new database. Each test has a database and an application of its own,
which would do all of that again.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import uuid
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa
from flask import Flask
from jinja2 import Environment
from werkzeug.routing import Rule

from src.core import store
from src.core.store import database, migrate
from src.private import make_private_folder

_engines: dict[str, sa.Engine] = {}
_builders: dict[tuple[Any, ...], Callable[..., tuple[str, str]]] = {}
_environments: list[Environment] = []
_prepared: dict[str, dict[Any, Any]] = {}  # by kind of database: what `Database` remembers
_empty: dict[bool, bytes] = {}  # new databases, live and simulated
_making = threading.Lock()  # held while one is made: tests open databases on several threads


def compile_statements_once() -> None:
    """Let engines of one kind of database share what they have compiled, which needs a shared dialect."""
    create = database.create_engine

    def create_engine(url: sa.URL) -> sa.Engine:
        engine, first = create(url), _engines.get(url.drivername)
        if first is None or getattr(first.dialect, "server_version_info", None) is None:
            _engines[url.drivername] = engine  # until one has been connected
        else:
            engine.dialect, engine._compiled_cache = first.dialect, first._compiled_cache
        return engine

    database.create_engine = create_engine


def prepare_statements_once() -> None:
    """Let databases of one kind share what they have prepared: the keys are the same in all of them."""
    initialize = database.Database.__init__

    def __init__(self: database.Database, url_or_path: str | Path) -> None:
        initialize(self, url_or_path)
        self._prepared = _prepared.setdefault(self.url.drivername, {})

    database.Database.__init__ = __init__  # type: ignore[method-assign]


def copy_schema_once() -> None:
    """Let a new SQLite file begin as a copy of the first one that the migrations have made."""

    def bring_up_to_date(each: database.Database, *, simulated: bool) -> None:
        if each.file is not None and not each.file.exists():
            with suppress(OSError):  # the program meets the same, and says so
                _create(each.file, _empty_database(simulated))
        migrate.bring_up_to_date(each, simulated=simulated)

    store.bring_up_to_date = bring_up_to_date


def make_empty_databases() -> None:
    """Make those that are copied now, for all processes that are forks of this one."""
    for simulated in (False, True):
        _empty_database(simulated)


def _empty_database(simulated: bool) -> bytes:
    with _making:
        if simulated not in _empty:
            with TemporaryDirectory(prefix="orchestrator-") as folder:  # the database guard knows this name
                first = database.Database(Path(folder) / "empty.db")
                migrate.bring_up_to_date(first, simulated=simulated)
                first.dispose()
                with closing(sqlite3.connect(Path(folder) / "empty.db")) as connection:
                    _empty[simulated] = connection.serialize()
        return _empty[simulated]


def _create(file: Path, content: bytes) -> None:
    """Make a file that no process sees before it is whole. Does nothing if it exists by then."""
    make_private_folder(file.parent)
    unfinished = file.with_name(f".{uuid.uuid4().hex}")
    try:
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as writing:
            writing.write(content)
        with suppress(FileExistsError):
            os.link(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)


class RuleCompiledOnce(Rule):
    """What builds the URLs of a route depends only on its parts."""

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        key = (self.rule, append_unknown, tuple(self._trace), tuple(sorted((self.defaults or {}).items())))
        if key not in _builders:
            _builders[key] = super()._compile_builder(append_unknown)
        return _builders[key]


def compile_routes_once() -> None:
    Flask.url_rule_class = RuleCompiledOnce


def share_templates(app: Flask) -> None:
    """Let `app` use the templates of an earlier one. They take the application from the request."""
    if not _environments:
        _environments.append(app.jinja_env)
    app.jinja_env = _environments[0]
