"""What a provider's batches have seen and answered since the start or the last reset."""

from __future__ import annotations

from collections import Counter
from typing import Any

PRICE_FACTOR = 0.5  # of the live price, on all three APIs


class BatchStats:
    """Counters of one provider's batches, and the bill: what was answered, by model."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """All at zero."""
        self.requests: Counter[str] = Counter()  # by action
        self.by_fault: Counter[str] = Counter()
        self.by_row_fault: Counter[str] = Counter()
        self.created = 0
        self.rows = 0
        self.rows_by_end: Counter[str] = Counter()
        self.repeated_keys = 0
        self.paid_twice = 0
        self.answered_duplicates = 0
        self._billed: dict[str, list[int]] = {}  # by model: answers, input, cached input, output

    def bill(self, model: str, *counts: int) -> None:
        """An answer has been given: its input tokens, those of them read from a cache, its output tokens."""
        row = self._billed.setdefault(model, [0, 0, 0, 0])
        for place, number in enumerate((1, *counts)):
            row[place] += number

    def as_json(self) -> dict[str, Any]:
        """All counters, for JSON."""
        names = ("answers", "input_tokens", "cached_tokens", "output_tokens")
        return {
            "requests": dict(self.requests),
            "by_fault": dict(self.by_fault),
            "by_row_fault": dict(self.by_row_fault),
            "created": self.created,
            "rows": self.rows,
            "rows_by_end": dict(self.rows_by_end),
            "repeated_keys": self.repeated_keys,
            "paid_twice": self.paid_twice,
            "answered_duplicates": self.answered_duplicates,
            "billed": {model: dict(zip(names, row, strict=True)) for model, row in self._billed.items()},
            "price_factor": PRICE_FACTOR,
        }
