"""Conditions of statements that name their rows."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.visitors import InternalTraversal


class Among(sa.ColumnElement[bool]):
    """`column` is one of the whole numbers of the parameter `name`, a list.

    PostgreSQL gets them as one array: a hundred parameters cost more than what they find.
    """

    type = sa.Boolean()
    _traverse_internals = [  # noqa: RUF012 - SQLAlchemy's own form; by these it remembers the statement
        ("column", InternalTraversal.dp_clauseelement),
        ("name", InternalTraversal.dp_string),
    ]

    def __init__(self, column: sa.ColumnElement[int], name: str = "rows") -> None:
        self.column, self.name = column, name

    def self_group(self, against: object = None) -> Among:
        """As it is: SQLite would get `IN (...) = 1`, which uses no index."""
        return self


@compiles(Among)
def _as_list(element: Among, compiler: Any, **options: Any) -> str:
    values: Any = sa.bindparam(element.name, expanding=True)
    return str(compiler.process(element.column.in_(values), **options))


@compiles(Among, "postgresql")
def _as_array(element: Among, compiler: Any, **options: Any) -> str:
    from sqlalchemy.dialects import postgresql  # a slow import that SQLite does not need

    values: Any = sa.bindparam(element.name, type_=postgresql.ARRAY(sa.BigInteger))
    return str(compiler.process(element.column == sa.any_(values), **options))


def without_index(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """`condition`, checked row by row, for a query that names its rows.

    PostgreSQL knows little of a table that has just been filled. It would take the index of the condition and
    read all tasks of a status to find a hundred of them.
    """
    return condition.is_(sa.true())
