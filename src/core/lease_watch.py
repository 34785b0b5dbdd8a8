"""Whether the leader on PostgreSQL still runs, seen from outside: how long its row has stood unchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .store import Leader

LOOK_S = 0.25  # between two reads of the row: well inside the 2 s from a clean end to the next leader


class LeaseWatch:
    """Measures how long the row of another leader has stood unchanged. Pure: times are passed in.

    A lease that has expired stays so until the row changes: its holder places nothing before it renews.
    """

    def __init__(self) -> None:
        self._seen: tuple[int, int] | None = None
        self._since = self._last = 0.0
        self._expired: tuple[int, int] | None = None
        self._renewed: tuple[int, float] | None = None  # epoch, and when its renewal was seen

    def look(self, leader: Leader, before: float, after: float) -> bool:
        """Whether the lease has expired. The row was read between `before` and `after`, steady seconds."""
        row = (leader.epoch, leader.renewals)
        if row == self._expired:
            return True
        longest_gap_s = max(4 * LOOK_S, leader.lease_s / 4)
        if row != self._seen or before - self._last > longest_gap_s:
            if self._seen not in (None, row):
                self._renewed = (leader.epoch, after)
            self._seen, self._since = row, after
        self._last = after
        if before - self._since >= leader.lease_s:
            self._expired = row
        return row == self._expired

    def has_renewed(self, leader: Leader, since: float) -> bool:
        """Whether this leader was seen to renew after `since`, so that it is alive."""
        return self._renewed is not None and self._renewed[0] == leader.epoch and self._renewed[1] >= since

    def missed(self) -> None:
        """Start anew: the database did not answer, so the leader could not renew either."""
        self._seen = None
