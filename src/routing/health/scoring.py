"""What a provider is worth right now, and which one has its turn.

The score, recomputed as results come in:

    performance_multiplier = 1.0 - (error_rate * 0.5)
    time_multiplier        = 1.0 / (1.0 + avg_response_time / 10.0)      # seconds
    final_score            = base_weight * performance_multiplier * time_multiplier

`error_rate` and `avg_response_time` are over a sliding window, so a recovered provider gets its share back as
its bad minutes leave the window. Calls that show nothing about health (429, refusals) count in neither. A
provider without history is neutral: no error, and the mean response time of the others.

Turns are taken by smooth weighted round-robin (as in nginx): at each step every eligible provider earns its
share of one credit, and the one with the most credit is chosen and pays one. So after n steps a provider's
count differs from the sum of its shares by at most its credit, and a test can predict it. Shares are
normalised per step; a provider that is not eligible neither earns nor pays.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

ERROR_WEIGHT = 0.5
RESPONSE_SCALE_S = 10.0
_SLOTS = 30  # the window slides in this many steps
LATENCIES_KEPT = 256  # quantiles are over the newest this many successful calls
_REFRESH = 16  # ... and computed again after this many more


def performance_multiplier(error_rate: float) -> float:
    """1.0 without errors, 0.5 when every call fails."""
    return 1.0 - error_rate * ERROR_WEIGHT


def time_multiplier(avg_response_s: float) -> float:
    """1.0 at no delay, 0.5 at ten seconds."""
    return 1.0 / (1.0 + avg_response_s / RESPONSE_SCALE_S)


def final_score(base_weight: float, error_rate: float, avg_response_s: float) -> float:
    """The documented product of the three factors."""
    return base_weight * performance_multiplier(error_rate) * time_multiplier(avg_response_s)


def shares(scores: Mapping[str, float]) -> dict[str, float]:
    """Each provider's share of the next untyped tasks; they sum to 1, or are all 0 without a score above
    0."""
    total = sum(scores.values())
    return {name: (score / total if total > 0 else 0.0) for name, score in scores.items()}


class History:
    """One provider's calls over the last `window_s` seconds, and its newest latencies."""

    __slots__ = (
        "_cached_at",
        "_latencies",
        "_quantiles",
        "_slots",
        "_width",
        "calls",
        "failures",
        "ok",
        "total_s",
    )

    def __init__(self, window_s: float) -> None:
        self._width = window_s / _SLOTS
        self._slots: deque[list[float]] = deque()  # [slot number, calls, failures, ok, seconds]
        self.calls = self.failures = self.ok = 0
        self.total_s = 0.0
        self._latencies: deque[float] = deque(maxlen=LATENCIES_KEPT)
        self._quantiles: tuple[float, float] | None = None
        self._cached_at = 0

    def record(self, ok: bool, latency_s: float, now: float) -> None:
        """Count one call that shows something about health; only answers count towards response time."""
        self.expire(now)
        number = now // self._width
        if not self._slots or self._slots[-1][0] < number:
            self._slots.append([number, 0, 0, 0, 0.0])
        slot = self._slots[-1]
        slot[1] += 1
        self.calls += 1
        if ok:
            slot[3] += 1
            slot[4] += latency_s
            self.ok += 1
            self.total_s += latency_s
            self._latencies.append(latency_s)
            self._cached_at += 1
        else:
            slot[2] += 1
            self.failures += 1

    def expire(self, now: float) -> bool:
        """Drop what is older than the window. Whether anything was dropped."""
        oldest = now // self._width - _SLOTS
        gone = False
        while self._slots and self._slots[0][0] <= oldest:
            _, calls, failures, ok, seconds = self._slots.popleft()
            self.calls -= int(calls)
            self.failures -= int(failures)
            self.ok -= int(ok)
            self.total_s = self.total_s - seconds if self.ok else 0.0
            gone = True
        return gone

    @property
    def error_rate(self) -> float:
        """Failures per call, 0..1; 0 without history."""
        return self.failures / self.calls if self.calls else 0.0

    @property
    def avg_response_s(self) -> float | None:
        """Mean of the answered calls in the window, in seconds; None without one."""
        return self.total_s / self.ok if self.ok else None

    def quantiles(self) -> tuple[float, float] | None:
        """(median, 95th percentile) of the newest answered calls, in seconds; None without one.

        For decisions: up to 16 calls old. What people read is `exact_quantiles`.
        """
        if self._latencies and (self._quantiles is None or self._cached_at >= _REFRESH):
            self._quantiles = self.exact_quantiles()
            self._cached_at = 0
        return self._quantiles

    def exact_quantiles(self) -> tuple[float, float] | None:
        """The same without delay, by the nearest rank: a single call has one value for both."""
        if not self._latencies:
            return None
        ordered = sorted(self._latencies)
        count = len(ordered)
        return ordered[(count - 1) // 2], ordered[(95 * count - 1) // 100]


def neutral_response_s(known: Sequence[float | None]) -> float:
    """The response time assumed of a provider without history: the mean of the others, else 0. In seconds."""
    values = [value for value in known if value is not None]
    return sum(values) / len(values) if values else 0.0


class RoundRobin:
    """Smooth weighted round-robin over numbered providers. `credit` is bounded by +-`clamp`."""

    __slots__ = ("clamp", "credit")

    def __init__(self, count: int, clamp: float) -> None:
        self.credit = [0.0] * count
        self.clamp = clamp

    def turn(self, eligible: Sequence[int], scores: Sequence[float], forced: int | None = None) -> int:
        """One step: which of `eligible` (not empty) goes next. `scores` run beside `eligible`.

        With `forced` the choice was made elsewhere (a preference). It is charged too, so that the
        tasks that follow restore the weights.
        """
        total = sum(scores)
        even = 1.0 / len(eligible)
        credit, clamp = self.credit, self.clamp
        chosen, most = eligible[0], float("-inf")
        for index, score in zip(eligible, scores, strict=True):
            earned = credit[index] + (score / total if total > 0 else even)
            credit[index] = earned if earned < clamp else clamp
            if earned > most:
                chosen, most = index, earned
        if forced is not None:
            chosen = forced
        paid = credit[chosen] - 1.0
        credit[chosen] = paid if paid > -clamp else -clamp
        return chosen
