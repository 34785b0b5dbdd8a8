"""The tables for finding tasks, and for what they were before they ran again.

search_backlog    final tasks whose words the index does not have yet; every end of a task adds its row
search_index      the words of the others; made by `SearchIndex.create`, not by a migration, since a task
                  needs no search to run, and SQLite may lack the module
task_minutes      the first row of each minute in which tasks were added
earlier_ends      how a task ended before it ran again, with its answer
"""

from __future__ import annotations

from sqlalchemy import Column, Float, Integer, SmallInteger, Table, Text

from .control_schema import RowId, metadata

SEARCH_INDEX = "search_index"

search_backlog = Table(
    "search_backlog",
    metadata,
    Column("task_row", RowId, primary_key=True, autoincrement=False),
)

task_minutes = Table(
    "task_minutes",
    metadata,
    Column("minute", Integer, primary_key=True, autoincrement=False),  # epoch minutes
    Column("first_row", RowId, nullable=False),
)

earlier_ends = Table(
    "earlier_ends",
    metadata,
    Column("task_row", RowId, primary_key=True, autoincrement=False),
    Column("ended_at", Float(53), primary_key=True, autoincrement=False),
    Column("status", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("finish_reason", Text, nullable=False),
    Column("truncated", SmallInteger, nullable=False),
    Column("error", Text, nullable=False),
    Column("output", Text),
    Column("parts", Text),
    sqlite_with_rowid=False,
)
