"""A spent quota whose reset the provider did not name: one call at a time tries whether it is back."""

from __future__ import annotations


class QuotaHold:
    """The hold on one provider. Above 0, `until` means that the quota is spent; then a call may try it."""

    __slots__ = ("code", "spent_at", "until")

    def __init__(self) -> None:
        self.until = 0.0  # UTC epoch seconds
        self.spent_at = float("-inf")
        self.code = ""  # the provider's error code

    def spent(self, code: str, retry_at: float, now: float) -> None:
        """A call was refused since the quota is spent."""
        self.spent_at, self.code = now, code
        self.until = max(self.until, retry_at)

    def call_placed(self, retry_at: float) -> None:
        """A call tries the quota; the next one may at `retry_at`."""
        if self.until:
            self.until = retry_at

    def answered(self, placed_at: float) -> None:
        """A call was answered; one that was sent before the quota was spent shows nothing."""
        if placed_at > self.spent_at:
            self.until = 0.0

    def lift(self) -> None:
        """A person says that it works again."""
        self.until = 0.0
