"""What a provider has seen and answered since the start or the last reset."""

from __future__ import annotations

from collections import Counter
from typing import Any

_KEPT_SECONDS = 3_600  # of the timeline


class Stats:
    """Counters of one provider. `t` is seconds since the start or the last reset.

    A call's outcome is its HTTP status, "reset", or "gone": its connection ended before the answer.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self._run = 0
        self.clear()

    def clear(self) -> None:
        """All at zero but the calls in flight; those end uncounted."""
        self._run += 1
        self.calls = 0
        self.by_status: Counter[str] = Counter()
        self.by_fault: Counter[str] = Counter()
        self.limited_by: Counter[str] = Counter()
        self.max_in_flight = self.in_flight
        self.admitted_input_tokens = 0
        self.output_tokens = 0
        self.answered_duplicates = 0
        self.answered: dict[str, list[int]] = {}  # by model: answers, input tokens, output tokens
        self.flex: dict[str, list[int]] = {}  # the same, of those with service_tier flex alone
        self.flex_refused = 0
        self.model_list_calls = 0
        self.count_calls = 0
        self.streams = 0
        self.aborted_streams = 0  # their client left before the end
        self._seconds: dict[int, list[int]] = {}

    def _second(self, t: float) -> list[int]:
        second = int(t)
        row = self._seconds.get(second)
        if row is None:
            row = self._seconds[second] = [0, 0, 0, 0]
            if len(self._seconds) > _KEPT_SECONDS:
                del self._seconds[min(self._seconds)]
        return row

    def enter(self, t: float) -> int:
        """Count a call in; what `leave` must be given."""
        self.calls += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        self._second(t)[0] += 1
        return self._run

    def answer(self, model: str, input_tokens: int, output_tokens: int, flex: bool) -> None:
        """A sound answer has been given whole."""
        for counts in (self.answered, self.flex) if flex else (self.answered,):
            row = counts.setdefault(model, [0, 0, 0])
            for place, number in enumerate((1, input_tokens, output_tokens)):
                row[place] += number

    def leave(self, run: int, t: float, outcome: str) -> None:
        """A call has ended as `outcome`."""
        self.in_flight -= 1
        if run != self._run:
            return
        self.by_status[outcome] += 1
        self._second(t)[1 if outcome == "200" else 2 if outcome == "429" else 3] += 1

    def as_json(self) -> dict[str, Any]:
        """All counters, for JSON."""
        return {
            "calls": self.calls,
            "by_status": dict(self.by_status),
            "by_fault": dict(self.by_fault),
            "limited_by": dict(self.limited_by),
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "admitted_input_tokens": self.admitted_input_tokens,
            "output_tokens": self.output_tokens,
            "answered_duplicates": self.answered_duplicates,
            "answered": _by_model(self.answered),
            "flex": _by_model(self.flex),
            "flex_refused": self.flex_refused,
            "model_list_calls": self.model_list_calls,
            "count_calls": self.count_calls,
            "streams": self.streams,
            "aborted_streams": self.aborted_streams,
            "timeline": self._timeline(),
        }

    def _timeline(self) -> list[dict[str, int]]:
        """A row for every second from the first call to the last, quiet ones included."""
        if not self._seconds:
            return []
        names = ("calls", "ok", "status_429", "other")
        seconds = range(min(self._seconds), max(self._seconds) + 1)
        return [
            {"t": t, **dict(zip(names, self._seconds.get(t, (0, 0, 0, 0)), strict=True))} for t in seconds
        ]


def _by_model(counts: dict[str, list[int]]) -> dict[str, dict[str, int]]:
    names = ("answers", "input_tokens", "output_tokens")
    return {model: dict(zip(names, row, strict=True)) for model, row in counts.items()}
