"""How long a provider's batch takes, from submission to results: learned, and assumed before that.

The assumption is a median of 7 minutes and a 90 % quantile of an hour, as published over 230,000 batches. It
counts as five batches, at the 10, 30, 50, 70 and 90 % quantiles of a log-normal distribution, so that a few
batches of one's own outweigh it. A batch that is still out has taken its age at least: it counts with that,
where it is old already, so that a provider that stands still is not taken for a fast one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

ASSUMED_MEDIAN_S = 420.0
ASSUMED_P90_S = 3_600.0
REMEMBERED = 50  # batches per provider and model, the newest

_NORMAL_QUANTILES = (-1.2816, -0.5244, 0.0, 0.5244, 1.2816)  # at 10, 30, 50, 70 and 90 %
_SIGMA = math.log(ASSUMED_P90_S / ASSUMED_MEDIAN_S) / _NORMAL_QUANTILES[-1]
ASSUMED_S = tuple(ASSUMED_MEDIAN_S * math.exp(_SIGMA * z) for z in _NORMAL_QUANTILES)


@dataclass(frozen=True, slots=True)
class Turnaround:
    """Quantiles in seconds. `batches`: of one's own that they rest on; 0: they are assumed."""

    p10_s: float
    p50_s: float
    p90_s: float
    batches: int = 0

    @property
    def samples(self) -> int:
        """The batches that the quantiles rest on, those that are assumed included."""
        return len(ASSUMED_S) + self.batches

    @property
    def is_assumed(self) -> bool:
        """Whether no batch has been seen yet."""
        return not self.batches


def turnaround(done_s: Iterable[float], ages_s: Iterable[float] = ()) -> Turnaround:
    """`done_s`: how long finished batches took, the newest last. `ages_s`: of batches that are still out."""
    own = list(done_s)[-REMEMBERED:]
    known = sorted((*ASSUMED_S, *own))
    slow = [age for age in ages_s if age > _quantile(known, 0.5)]
    known = sorted((*known, *slow))
    return Turnaround(
        _quantile(known, 0.1), _quantile(known, 0.5), _quantile(known, 0.9), len(own) + len(slow)
    )


def _quantile(ordered: list[float], share: float) -> float:
    """Between the middles of the values, linear; the ends beyond them."""
    place = min(max(share * len(ordered) - 0.5, 0.0), len(ordered) - 1.0)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


ASSUMED = turnaround(())
