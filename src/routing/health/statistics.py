"""Counters of one provider's calls since the start, for pages and reports."""

from __future__ import annotations

from collections import deque

from ...errors import ProviderError
from ...records import Outcome, Usage

ERRORS_KEPT = 5
_ERROR_CHARS = 200


class CallStatistics:
    """Calls, tokens and nano-dollars; the newest errors first."""

    __slots__ = (
        "calls",
        "cost_nanos",
        "failed",
        "last_errors",
        "neutral",
        "output_tokens",
        "prompt_tokens",
        "succeeded",
    )

    def __init__(self) -> None:
        self.calls = self.succeeded = self.failed = self.neutral = 0
        self.prompt_tokens = self.output_tokens = self.cost_nanos = 0
        self.last_errors: deque[str] = deque(maxlen=ERRORS_KEPT)

    def record(
        self, outcome: Outcome, usage: Usage | None, cost_nanos: int | None, error: ProviderError | None
    ) -> None:
        """Count one call that has ended. `cost_nanos` None: its price is unknown."""
        self.calls += 1
        if outcome is Outcome.OK:
            self.succeeded += 1
        elif error is not None and error.counts_against_health:
            self.failed += 1
        else:
            self.neutral += 1
        if usage is not None:
            self.prompt_tokens += usage.prompt_tokens
            self.output_tokens += usage.output_tokens
        self.cost_nanos += cost_nanos or 0
        if error is not None:
            self.last_errors.appendleft(f"{error.kind}: {error.message[:_ERROR_CHARS]}")
