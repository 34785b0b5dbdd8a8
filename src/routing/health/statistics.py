"""Counters of one provider's calls since the start, for pages and reports."""

from __future__ import annotations

from ...errors import ProviderError
from ...records import ErrorCount, Outcome, Usage

ERRORS_KEPT = 5  # different ones
_ERROR_CHARS = 200


class CallStatistics:
    """Calls, tokens and nano-dollars, and the newest errors with how often each came."""

    __slots__ = (
        "calls",
        "cost_nanos",
        "errors",
        "failed",
        "neutral",
        "output_tokens",
        "prompt_tokens",
        "succeeded",
    )

    def __init__(self) -> None:
        self.calls = self.succeeded = self.failed = self.neutral = 0
        self.prompt_tokens = self.output_tokens = self.cost_nanos = 0
        self.errors: dict[str, ErrorCount] = {}  # by text, the newest last

    def record(
        self,
        outcome: Outcome,
        usage: Usage | None,
        cost_nanos: int | None,
        error: ProviderError | None,
        now: float,
    ) -> None:
        """Count one call that ended at `now`. `cost_nanos` None: its price is unknown."""
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
            self._count(f"{error.kind}: {error.message[:_ERROR_CHARS]}", now)

    def _count(self, text: str, now: float) -> None:
        before = self.errors.pop(text, None)
        self.errors[text] = ErrorCount(text, before.count + 1 if before else 1, now)
        if len(self.errors) > ERRORS_KEPT:
            del self.errors[next(iter(self.errors))]
