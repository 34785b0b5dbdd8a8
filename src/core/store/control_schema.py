"""The tables beside the tasks: orchestrators, and what passes between them and people.

`schema` has the other tables and the rules for all of them.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, Table, Text, text

RowId = BigInteger().with_variant(Integer(), "sqlite")  # SQLite's row number is an INTEGER key

metadata = MetaData()

orchestrators = Table(
    "orchestrators",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("incarnation", Text, nullable=False, unique=True),
    Column("pid", Integer, nullable=False),
    Column("host", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("batch", Text, nullable=False),
    Column("started_at", Float(53), nullable=False),
    Column("heartbeat_at", Float(53), nullable=False),
    Column("retired_at", Float(53)),
    Column("finished", BigInteger, nullable=False, server_default="0"),  # tasks, in its whole life
)

THE_LEADERSHIP = 1  # the only row of `leadership`

leadership = Table(
    "leadership",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),  # raised by every takeover, never lowered
    Column("holder", Text, nullable=False),  # its incarnation; empty: none leads
    Column("pid", Integer, nullable=False),
    Column("host", Text, nullable=False),
    Column("lease_s", Float(53), nullable=False),  # the holder's, which all others use as well
    Column("renewals", BigInteger, nullable=False),  # a standby watches whether it changes
    Column("renewed_at", Float(53), nullable=False),  # by the database's clock; 0 on SQLite
    Column("gateway_url", Text, nullable=False, server_default=""),  # the holder's; empty: it has none
    Column("gateway_key", Text, nullable=False, server_default=""),  # by which it knows requests of standbys
)

standbys = Table(  # for people, and for a leader that ends: requests wait if one may follow
    "standbys",
    metadata,
    Column("incarnation", Text, primary_key=True),
    Column("pid", Integer, nullable=False),
    Column("host", Text, nullable=False),
    Column("seen_at", Float(53), nullable=False),  # by the database's clock
)

cost_reservations = Table(  # what calls may cost at most, stored before they are made
    "cost_reservations",
    metadata,
    Column("orchestrator_id", RowId, primary_key=True, autoincrement=False),
    Column("provider", Text, primary_key=True),
    Column("batch", Text, primary_key=True),
    Column("submitter", Text, primary_key=True),
    Column("worker", Text, primary_key=True),  # that makes the calls; empty: the orchestrator itself
    Column("nanos", BigInteger, nullable=False),
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("orchestrator_id", RowId, primary_key=True, autoincrement=False),
    Column("at", Float(53), nullable=False),
    Column("body", Text, nullable=False),
)

settings = Table(
    "settings",
    metadata,
    Column("version", RowId, primary_key=True),
    Column("key", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("previous", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("at", Float(53), nullable=False),
    Index("ix_settings_key", "key", "version"),
)

commands = Table(
    "commands",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("args", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("at", Float(53), nullable=False),
    Column("taken_by", RowId),
    Column("taken_at", Float(53)),
    Column("outcome", Text, nullable=False),
    Column("finished_at", Float(53)),
)
Index(
    "ix_commands_open",
    commands.c.id,
    sqlite_where=text("finished_at IS NULL"),
    postgresql_where=text("finished_at IS NULL"),
)

events = Table(
    "events",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("at", Float(53), nullable=False),
    Column("kind", Text, nullable=False),
    Column("level", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("task_id", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("fields", Text, nullable=False),
    Index("ix_events_kind", "kind", "id"),
)

learned = Table(
    "learned",
    metadata,
    Column("base_url", Text, primary_key=True),
    Column("fingerprint", Text, primary_key=True),  # a digest of the key and of secrets in the address
    Column("payload", Text, nullable=False),
    Column("at", Float(53), nullable=False),
)

meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),  # simulated: 0 or 1; last_task_row
    Column("value", BigInteger, nullable=False),
)
