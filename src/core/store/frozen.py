"""End PostgreSQL sessions whose client is stopped or gone in the middle of a write: no lock outlives it.

`idle_in_transaction_session_timeout` covers a client that stops between two statements. One that stops while
it sends a statement, or half of a pipeline, or while it reads a result, is not idle to the server, which
waits for it without any limit. So a transaction that has waited for a lock for `LOCK_TIMEOUT_S` ends such
sessions and is repeated.

A session is frozen if it is one of this program, has written or locked rows or holds the lock of a migration,
and the server has been waiting for its client for `IDLE_IN_TRANSACTION_S`. Its transaction is rolled back. A
process that goes on after that finds its connection lost, repeats its call, and as an orchestrator meets the
new epoch.
"""

from __future__ import annotations

import logging

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from .engine import IDLE_IN_TRANSACTION_S

log = logging.getLogger(__name__)
_END = sa.text("""
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user
        AND application_name = current_setting('application_name') AND pid <> pg_backend_pid()
        AND wait_event_type = 'Client'
        AND (
            backend_xid IS NOT NULL
            OR pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted)
        )
        AND state_change < clock_timestamp() - make_interval(secs => :seconds)
""")


def end_frozen_sessions(engine: sa.Engine) -> None:
    """End every frozen session of this program. A failure is left to the caller's next try."""
    try:
        with engine.begin() as connection:
            ended = connection.execute(_END, {"seconds": IDLE_IN_TRANSACTION_S}).scalar_one()
    except SQLAlchemyError as error:
        log.warning("frozen sessions could not be ended", extra={"action": "store", "error": str(error)})
        return
    if ended:
        log.warning(
            "ended %d database sessions that held locks and whose process is stopped or gone",
            ended,
            extra={"action": "store"},
        )
