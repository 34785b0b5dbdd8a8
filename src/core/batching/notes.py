"""What a process has seen of an open batch beside what is in the store."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Note:
    """Of one batch. `not_accepted_since` is epoch seconds.

    `looked_for_s`: waited between looks for a creation that was not answered. `tries`: looks for what the
    provider does not have. `is_undecided`: it was reported that it may be one of those that are running.
    `is_late`: that it takes unusually long.
    """

    looked_for_s: float = 0.0
    not_accepted_since: float | None = None
    tries: int = 0
    is_undecided: bool = False
    is_late: bool = False
