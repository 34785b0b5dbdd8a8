"""One thread for the store: SQLite has one writer, and the event loop must not wait for a disk.

A database may be locked, full or unreachable for minutes. `insist` repeats a call until the database accepts
it. One log line says when an outage begins, and one when it ends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from ..errors import LeadershipLost, StoreError, UnstorableError
from ..formatting import duration

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)
RETRY_S, RETRY_AT_MOST_S = 1.0, 5.0  # doubled each time up to the second; a heartbeat must not be much later


class StoreThread:
    """Runs the store's synchronous methods on one thread, in the order of the calls."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="store")
        self.refusal = ""  # why the database is unavailable now; empty while it is available
        self._refused = 0  # calls that wait to be repeated
        self._refusing_since = 0.0

    async def __call__(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, partial(method, *args, **kwargs))

    async def insist(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `method`, and repeat it while the database is unavailable.

        Raises what repeating does not change: LeadershipLost, and UnstorableError for a value. `method` must
        be safe to repeat: if a connection is lost during a commit, the call may have been carried out.
        """
        try:
            return await self(method, *args, **kwargs)
        except (LeadershipLost, UnstorableError):
            raise
        except StoreError as error:
            self._note_refusal(error)
        answered = True
        try:
            return await self._again(method, *args, **kwargs)
        except asyncio.CancelledError:
            answered = False
            raise
        finally:
            self._refused -= 1
            self._note_end(answered)

    async def _again(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        wait_s = RETRY_S
        while True:
            await asyncio.sleep(wait_s)
            try:
                return await self(method, *args, **kwargs)
            except (LeadershipLost, UnstorableError):
                raise
            except StoreError as error:
                log.debug("database still unavailable", extra={"action": "store", "error": str(error)})
            wait_s = min(2 * wait_s, RETRY_AT_MOST_S)

    def _note_refusal(self, error: StoreError) -> None:
        self._refused += 1
        self.refusal = str(error)
        if self._refused == 1:
            self._refusing_since = time.monotonic()
            log.error("database unavailable, retrying", extra={"action": "store", "error": str(error)})

    def _note_end(self, answered: bool) -> None:
        """The outage ends when no call waits any more: while a database is locked, reads still work.

        `answered` is False if the last waiting call was cancelled.
        """
        if self._refused:
            return
        self.refusal = ""
        if answered:
            took = duration(time.monotonic() - self._refusing_since)
            # An error too: a log of errors alone must show that the outage is over.
            log.error("database available again, after %s", took, extra={"action": "store"})

    def close(self) -> None:
        """Wait for the pending calls, then end the thread."""
        self._executor.shutdown(wait=True)
