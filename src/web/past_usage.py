"""Sums of calls over hours and days, without reading what is past again and again.

Calls are booked at the minute in which they begin, so a minute changes for as long as its calls last. What
lies `SETTLED_S` back is read once and kept; a request reads the rest. `KEPT_S` later all is read anew, since
an orchestrator that takes over books what a dead one may have spent, which can lie further back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..core.store import CallSums, UsageRow
from ..core.store.reports import GroupBy

SETTLED_S = 900.0
KEPT_S = 600.0
TIMES = ("minute", "half_hour", "hour", "day")
Sums = dict[tuple[str | int, ...], CallSums]
Read = Callable[[float, float, Sequence[GroupBy]], Sequence[UsageRow]]


@dataclass
class _Past:
    """The sums of the calls that began in [start, end)."""

    start: float
    end: float
    sums: Sums
    read_at: float  # monotonic


@dataclass
class PastUsage:
    """By grouping, the sums of what is past. Threads share it; `read` is `Reports.usage`."""

    read: Read
    _kept: dict[tuple[GroupBy, ...], _Past] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def since(self, start: float, now: float, by: tuple[GroupBy, ...]) -> Sums:
        """The sums of the calls that began at `start` or later, by key.

        `start` is the beginning of a unit, if the first key is a time, and otherwise of a minute.
        """
        end = max(start, (now - SETTLED_S) // 60 * 60)
        with self._lock:
            past = self._past(start, end, by)
            sums = dict(past.sums)
        return _add(sums, self.read(end, now + 60, by))

    def _past(self, start: float, end: float, by: tuple[GroupBy, ...]) -> _Past:
        past = self._kept.get(by)
        if past is not None and time.monotonic() - past.read_at <= KEPT_S and _can_grow(past, start, end, by):
            kept = {
                key: sums for key, sums in past.sums.items() if start == past.start or float(key[0]) >= start
            }
            past = _Past(start, end, _add(kept, self.read(past.end, end, by)), past.read_at)
        else:
            past = _Past(start, end, _add({}, self.read(start, end, by)), time.monotonic())
        self._kept[by] = past
        return past


def _can_grow(past: _Past, start: float, end: float, by: tuple[GroupBy, ...]) -> bool:
    """Whether these sums need only the calls that came since. Only keys with a time can be dropped."""
    moves = start > past.start and by[0] in TIMES
    return (start == past.start or moves) and start <= past.end <= end


def _add(sums: Sums, rows: Sequence[UsageRow]) -> Sums:
    for row in rows:
        before = sums.get(row.key)
        sums[row.key] = row.sums if before is None else before + row.sums
    return sums
