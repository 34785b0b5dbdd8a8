"""Which limits a provider API has, and what it charges a call against each of them. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LimitRules:
    """The rules of one provider API."""

    counted: Mapping[str, str]
    """Setting -> the bucket it fills. A setting that is not here would limit nothing, so it is refused."""
    charges_on_admission: bool = False
    """A call is charged max(max_tokens, characters / 4) when it is admitted, and nothing ever comes back.
    False: what it has used is settled once the answer is there."""
    counts_cache_reads: bool = True
    """Input tokens read from a prompt cache count as input."""
    day_ends_in_california: bool = False
    """Daily limits reset at midnight Pacific time. False: they refill continuously over 24 hours."""
