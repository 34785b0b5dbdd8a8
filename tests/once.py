"""What is the same in every test of a process and costs much, done once: to compile statements, routes and
templates, and to work out the statements of a new schema. Each test has a database and an application of its
own, which would do all of that again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from flask import Flask
from jinja2 import Environment
from werkzeug.routing import Rule

from src.core.store import database, migrate

_engines: dict[str, sa.Engine] = {}
_builders: dict[tuple[Any, ...], Callable[..., tuple[str, str]]] = {}
_environments: list[Environment] = []
_creation: list[tuple[str, Any]] = []  # statements with their parameters
_noting = threading.Lock()  # held while they are noted: tests open databases on several threads


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


def plan_schema_once() -> None:
    """Give an empty SQLite file its schema by the statements that the first one got from the migrations."""
    upgrade = migrate._upgrade

    def _upgrade(connection: sa.Connection) -> None:
        if connection.dialect.name != "sqlite" or sa.inspect(connection).get_table_names():
            upgrade(connection)
            return
        with _noting:
            if not _creation:
                sa.event.listen(connection, "before_cursor_execute", _note)
                upgrade(connection)
                sa.event.remove(connection, "before_cursor_execute", _note)
                return
        for statement, parameters in _creation:
            connection.exec_driver_sql(statement, parameters)

    migrate._upgrade = _upgrade


def _note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
    if not statement.lstrip().startswith(("SELECT", "PRAGMA")):
        _creation.append((statement, parameters))


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
