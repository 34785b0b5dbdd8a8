"""Whether any provider can be reached, and when none could."""

from __future__ import annotations

from collections import deque

WINDOWS_KEPT = 1_000  # a process may run for months


class NetworkState:
    """The network of the whole pool. All times are UTC epoch seconds."""

    __slots__ = ("_windows", "jumped_at", "offline_since")

    def __init__(self) -> None:
        self.offline_since: float | None = None  # None: a provider can be reached
        self.jumped_at = float("-inf")  # when the clock jumped last
        self._windows: deque[tuple[float, float]] = deque(maxlen=WINDOWS_KEPT)

    def went_offline(self, since: float) -> None:
        """No provider can be reached, since then."""
        self.offline_since = since

    def came_online(self, now: float) -> float | None:
        """A provider was reached. Since when none was; None where it was not offline."""
        since, self.offline_since = self.offline_since, None
        if since is not None:
            self._windows.append((since, now))
        return since

    def jumped(self, seconds: float, now: float) -> None:
        """The clock jumped by `seconds`, as after a laptop's sleep: no call had a network meanwhile."""
        self._windows.append((now - seconds - 1.0, now))
        self.jumped_at = now

    def was_offline(self, begun_at: float, ended_at: float) -> bool:
        """Whether a call between these was in flight without a network: then it costs no attempt."""
        if self.offline_since is not None and ended_at >= self.offline_since:
            return True
        return any(start <= ended_at and begun_at <= end for start, end in self._windows)
