"""One thread for the store and nothing else: SQLite has one writer, and the loop must not wait for a disk.

A database may be locked, full or out of reach for minutes. Whoever can wait for it `insist`s: the call is
made again until the store takes it. One line in the log says when that begins, and one when it is over.
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
RETRY_S, RETRY_AT_MOST_S = 1.0, 5.0  # doubled in between; a heartbeat must not be late by much more


class StoreThread:
    """Runs the store's synchronous methods, in the order in which they are asked for."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="store")
        self.refusal = ""  # why the store refuses at the moment; empty while it does not
        self._refused = 0  # calls that wait to be made again
        self._refusing_since = 0.0

    async def __call__(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, partial(method, *args, **kwargs))

    async def insist(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same, but where the store refuses the call is made again until it does not.

        What repeating does not change is raised: LeadershipLost, and UnstorableError for the same value.
        `method` must be safe to repeat: it may have been carried out although it was refused, where a
        connection was lost while committing.
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
                log.debug("the store still refuses", extra={"action": "store", "error": str(error)})
            wait_s = min(2 * wait_s, RETRY_AT_MOST_S)

    def _note_refusal(self, error: StoreError) -> None:
        self._refused += 1
        self.refusal = str(error)
        if self._refused == 1:
            self._refusing_since = time.monotonic()
            log.error("the store refuses; trying again", extra={"action": "store", "error": str(error)})

    def _note_end(self, answered: bool) -> None:
        """Over is what no call waits for any more: while a database is locked, reading still works.

        `answered`: the last call was taken, or refused for good, for its value or a lost leadership.
        """
        if self._refused:
            return
        self.refusal = ""
        if answered:
            took = duration(time.monotonic() - self._refusing_since)
            # As loud as its beginning: a log that shows errors alone must not look as if it went on.
            log.error("the store takes calls again, after %s", took, extra={"action": "store"})

    def close(self) -> None:
        """Wait for what has been asked for, then end the thread."""
        self._executor.shutdown(wait=True)
