"""Statements that are compiled once and run often."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import sqlalchemy as sa
from pydantic_core import PydanticSerializationError, to_json

from ...errors import UnstorableError
from .engine import KEPT

Row = tuple[Any, ...]
_ENOUGH_CHARS = 32_000_000  # of rows in one statement; PostgreSQL takes a value of up to a gigabyte
_ROWS, _COUNT = "rows", "count"


class Bulk(Protocol):
    """A statement for many rows, as tuples of the values of its columns: None, int, float, str and bytes."""

    def many(self, connection: sa.Connection, rows: Sequence[Row]) -> None:
        """Write all the rows, in their order; does nothing without rows."""


class Prepared:
    """A statement compiled once for a dialect and run with plain tuples in the order of `names`.

    This is twice as fast as passing mappings to SQLAlchemy, which matters for statements that run once per
    task. The tuples reach the driver as they are, so they may hold only None, int, float, str and bytes.
    """

    def __init__(self, dialect: sa.Dialect, statement: Any, names: Sequence[str]) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=list(names))
        self._sql = str(compiled)
        self._names = tuple(names)
        self._constants = {n: v for n, v in compiled.params.items() if n not in self._names}
        self._order = compiled.positiontup and tuple(compiled.positiontup)  # None: by name

    def many(self, connection: sa.Connection, rows: Sequence[Row]) -> None:
        """Run once for each tuple; does nothing without tuples."""
        if rows:
            connection.exec_driver_sql(self._sql, self._arranged(rows))

    def one(self, connection: sa.Connection, row: Row) -> sa.CursorResult[Any]:
        """Run once, with this tuple."""
        return connection.exec_driver_sql(self._sql, self._arranged([row])[0])

    def _arranged(self, rows: Sequence[Row]) -> Any:
        """The rows in the driver's form: tuples in the order of the placeholders, or mappings."""
        if self._order == self._names:
            return rows
        named = [self._constants | dict(zip(self._names, row, strict=True)) for row in rows]
        if self._order is None:
            return named
        return [tuple(row[name] for name in self._order) for row in named]


class JsonRows:
    """PostgreSQL only: a statement that takes its rows together, as the objects of one JSON array.

    A statement for each row costs the server and this process several times as much, and one that has a
    placeholder for each of sixty columns is too long for psycopg to remember. With `is_kept` the server keeps
    its plan, which must suit any size of its tables.
    """

    def __init__(
        self, dialect: sa.Dialect, statement: Any, columns: Sequence[sa.Column[Any]], *, is_kept: bool
    ) -> None:
        self._sql = str(statement.compile(dialect=dialect))
        # The encoder takes SQLAlchemy's own kind of str a hundred times more slowly.
        self._names, self._options = [str(column.name) for column in columns], {KEPT: is_kept}
        self._binary = [column.name for column in columns if isinstance(column.type, sa.LargeBinary)]

    def many(self, connection: sa.Connection, rows: Sequence[Row]) -> None:
        """Write all the rows, in their order; does nothing without rows.

        Raises UnstorableError for a value that is not one of JSON.
        """
        for part in _parts(rows):
            objects = [dict(zip(self._names, row, strict=True)) for row in part]
            for name in self._binary:
                for each in objects:
                    each[name] = f"\\x{each[name].hex()}"  # as PostgreSQL reads bytes
            try:
                values = {_ROWS: to_json(objects).decode(), _COUNT: len(objects)}
            except PydanticSerializationError:
                raise UnstorableError("a value is neither a number nor valid text") from None
            connection.exec_driver_sql(self._sql, values, execution_options=self._options)


def json_rows(columns: Sequence[sa.Column[Any]]) -> sa.Subquery:
    """The rows that a `JsonRows` statement is given: these columns of a table, with their types there.

    They are limited to their number, since the server expects a hundred of any array.
    """
    from sqlalchemy.dialects import postgresql  # a slow import that SQLite does not need

    array = sa.bindparam(_ROWS, type_=postgresql.JSON)
    records = sa.func.json_populate_recordset(sa.literal_column(f"NULL::{columns[0].table.name}"), array)
    given = records.table_valued(*(column.name for column in columns), name="given").c
    count = sa.bindparam(_COUNT, type_=sa.BigInteger)
    return sa.select(*given).limit(count).subquery("given_rows")


def _parts(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """The rows in parts that a statement can take, however long their texts are."""
    begin = chars = 0
    for n, row in enumerate(rows):
        chars += sum(len(value) for value in row if isinstance(value, str))
        if chars > _ENOUGH_CHARS:
            yield rows[begin : n + 1]
            begin, chars = n + 1, 0
    if begin < len(rows):
        yield rows[begin:]
