"""The scores of all providers, kept together: one without history is measured against the others."""

from __future__ import annotations

from collections.abc import Sequence

from .health.scoring import neutral_response_s, performance_multiplier, time_multiplier
from .state import ProviderState

RESCORE_EVERY_S = 1.0  # old minutes leave the window even while no call ends


class Scoreboard:
    """Recomputes the score of each provider by the formula of `scoring.py`."""

    def __init__(self, providers: Sequence[ProviderState], now: float) -> None:
        self._providers = providers
        self._scored_at = now
        self.rescore(now)

    def is_due(self, now: float) -> bool:
        """Whether the scores were last recomputed RESCORE_EVERY_S ago."""
        return now - self._scored_at >= RESCORE_EVERY_S

    def rescore(self, now: float) -> None:
        """Recompute every score from the window that ends at `now`."""
        self._scored_at = now
        for provider in self._providers:
            provider.history.expire(now)
        neutral_s = neutral_response_s([p.history.avg_response_s for p in self._providers])
        for provider in self._providers:
            _score(provider, neutral_s)

    def rescore_one(self, provider: ProviderState) -> bool:
        """Recompute the score of one provider. Whether it does not depend on the others' histories."""
        for each in self._providers:
            if not each.history.ok:
                return False
        _score(provider, 0.0)
        return True


def _score(provider: ProviderState, neutral_s: float) -> None:
    history = provider.history
    average_s = history.avg_response_s
    if average_s is None:
        average_s = neutral_s
    performance = provider.performance_multiplier = performance_multiplier(history.error_rate)
    time = provider.time_multiplier = time_multiplier(average_s)
    provider.score = provider.weight * performance * time  # `final_score`, from factors that pages show too
