"""Settings and commands, through which the pages control the orchestrator."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa

from . import schema
from .codec import dumps, loads
from .database import Database
from .identifiers import Identifiers
from .reconnecting import reconnecting
from .rows import Command, SettingChange


@reconnecting()
class Controls:
    """Settings by key, with their history, and commands with their outcomes."""

    def __init__(self, database: Database, ids: Identifiers) -> None:
        self._database, self._ids = database, ids

    # ------------------------------------------------------------ settings

    def settings_version(self) -> int:
        """The number of the last change; 0 before the first."""
        with self._database.reading() as connection:
            return connection.execute(sa.select(sa.func.max(schema.settings.c.version))).scalar() or 0

    def current_settings(self) -> dict[str, Any]:
        """The newest value of each key, without keys that were unset."""
        s = schema.settings.c
        newest = sa.select(sa.func.max(s.version)).group_by(s.key)
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(s.key, s.value).where(s.version.in_(newest))).all()
        values = {row.key: loads(row.value) for row in rows}
        return {key: value for key, value in values.items() if value is not None}

    def put_setting(self, key: str, value: Any, *, who: str, now: float) -> int:
        """Set `key` to a JSON value (None: unset) and return the new version."""
        return self.put_settings({key: value}, who=who, now=now)[0]

    def put_settings(self, values: Mapping[str, Any], *, who: str, now: float) -> list[int]:
        """Set several keys in one transaction; returns their new versions in the same order."""
        s = schema.settings.c
        versions = []
        with self._database.writing() as connection:
            for key, value in values.items():
                last = sa.select(s.value).where(s.key == key).order_by(s.version.desc()).limit(1)
                previous = connection.execute(last).scalar() or "null"
                row = {"key": key, "value": dumps(value), "previous": previous, "who": who, "at": now}
                insert = sa.insert(schema.settings).values(row).returning(s.version)
                versions.append(int(connection.execute(insert).scalar_one()))
        return versions

    def settings_history(self, limit: int = 50, *, keys: Collection[str] = ()) -> list[SettingChange]:
        """The last changes, newest first; with `keys` those of these settings alone."""
        s = schema.settings
        query = sa.select(s).order_by(s.c.version.desc()).limit(limit)
        if keys:
            query = query.where(s.c.key.in_(list(keys)))
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [SettingChange(r.version, r.key, loads(r.value), loads(r.previous), r.who, r.at) for r in rows]

    # ------------------------------------------------------------ commands

    def add_command(self, kind: str, args: Mapping[str, Any], *, who: str, now: float) -> int:
        """Add a request to the orchestrator; returns the number of the command."""
        row = {"kind": kind, "args": dumps(dict(args)), "who": who, "at": now, "outcome": ""}
        with self._database.writing() as connection:
            insert = sa.insert(schema.commands).values(row).returning(schema.commands.c.id)
            return int(connection.execute(insert).scalar_one())

    def take_commands(self, incarnation: str, now: float) -> list[Command]:
        """Take all open commands, oldest first. Finish each of them with `finish_command`."""
        me = self._ids.orchestrator_id(incarnation)
        c = schema.commands.c
        statement = (
            sa.update(schema.commands)
            .where(c.finished_at.is_(None), c.taken_by.is_(None))
            .values(taken_by=me, taken_at=now)
            .returning(*c)
        )
        with self._database.writing() as connection:
            rows = connection.execute(statement).all()
        return [_command(row) for row in sorted(rows, key=lambda row: row.id)]

    def finish_command(self, command_id: int, outcome: str, now: float) -> None:
        """Store the outcome of a command, at `now` in epoch seconds."""
        c = schema.commands.c
        with self._database.writing() as connection:
            connection.execute(
                sa.update(schema.commands).where(c.id == command_id).values(outcome=outcome, finished_at=now)
            )

    def command(self, command_id: int) -> Command | None:
        """One command with its outcome so far; None if it does not exist."""
        query = sa.select(schema.commands).where(schema.commands.c.id == command_id)
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
        return _command(row) if row else None


def _command(row: Any) -> Command:
    return Command(row.id, row.kind, loads(row.args), row.who, row.at, row.outcome, row.finished_at)
