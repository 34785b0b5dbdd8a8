"""Latencies counted in bins: quantiles of a million calls from forty numbers.

Bin 0 holds everything below 10 ms. Each further bin is a third wider than the one before, and the last one,
from 746 s, has no upper end. Within a bin, latencies count as spread evenly on a logarithmic scale, each in
the middle of its part: so all quantiles of a single latency are the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

BINS = 40
_SMALLEST_S = 0.01
_GROWTH = 4 / 3
_LOG_GROWTH = math.log(_GROWTH)


def bin_of(latency_s: float) -> int:
    """The bin of a latency in seconds."""
    if latency_s < _SMALLEST_S:
        return 0
    return min(BINS - 1, 1 + int(math.log(latency_s / _SMALLEST_S) / _LOG_GROWTH))


def upper_bounds_s() -> list[float]:
    """The upper bound of each bin but the last, in seconds."""
    return [_SMALLEST_S * math.pow(_GROWTH, i) for i in range(BINS - 1)]


def quantile(histogram: Sequence[int], q: float) -> float | None:
    """The seconds that the share `q` of all latencies does not exceed; None for an empty histogram.

    That is the latency of the nearest rank: the 95th percentile of ten is the largest.
    """
    total = sum(histogram)
    if total <= 0:
        return None
    rank = max(1, math.ceil(q * total))
    for i, count in enumerate(histogram):
        if rank <= count:
            return _SMALLEST_S * math.pow(_GROWTH, i - 1 + (rank - 0.5) / count)
        rank -= count
    raise AssertionError("the ranks of a histogram end within it")
