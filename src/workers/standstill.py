"""Whether an event loop stood still: its process was stopped, or got no processor time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

TICK_S = 0.25
GAP_S = 1.0  # so late a tick is no busy loop any more


class Standstill:
    """Ticks on the running loop while it is wanted.

    All that came due during a gap happens at its end, in any order: a time limit is reached before the answer
    is read that came long before.
    """

    def __init__(self, is_wanted: Callable[[], bool]) -> None:
        self._is_wanted = is_wanted
        self._handle: asyncio.TimerHandle | None = None
        self._ended_at = -math.inf

    def watch(self) -> None:
        """Tick from now on, until it is not wanted."""
        if self._handle is None:
            self._tick_from(asyncio.get_running_loop())

    @property
    def has_just_ended(self) -> bool:
        """Whether what happens now may have been due during a gap."""
        return asyncio.get_running_loop().time() - self._ended_at < TICK_S

    def _tick_from(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + TICK_S
        self._handle = loop.call_at(due, self._tick, loop, due)

    def _tick(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        now = loop.time()
        if now - due >= GAP_S:
            self._ended_at = now
        self._handle = None
        if self._is_wanted():
            self._tick_from(loop)
