"""How fast batches get on, from the numbers of ended tasks that pages have seen.

The store keeps no history of a batch, so this remembers what requests saw in the last minutes. Where none
did, the rate is unknown, and the pages fall back to the rate of the pool.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque

WINDOW_S = 300.0
APART_S = 5.0  # of two samples
LEAST_S = 20.0  # between the samples that a rate is made of
_REMEMBERED = 500  # batches


class BatchRates:
    """By batch, the ended tasks at some moments of the last minutes. Threads share it."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, deque[tuple[float, int]]] = OrderedDict()
        self._lock = threading.Lock()

    def rate_per_s(self, batch: str, ended: int, now: float) -> float | None:
        """Tasks that end per second, with `ended` of them now; None if too little was seen."""
        with self._lock:
            samples = self._seen.setdefault(batch, deque())
            self._seen.move_to_end(batch)
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
            if samples and ended < samples[-1][1]:  # tasks run again
                samples.clear()
            while samples and now - samples[0][0] > WINDOW_S:
                samples.popleft()
            if not samples or now - samples[-1][0] >= APART_S:
                samples.append((now, ended))
            at, before = samples[0]
        return (ended - before) / (now - at) if now - at >= LEAST_S else None
