"""The providers of a run in virtual time: configured as the live ones, with the limits that are known."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..routing.balancer import ProviderLoadBalancer
from ..routing.cost.budgets import BudgetRule, Budgets
from ..routing.state import ProviderState
from ..settings import Settings

AMPLE_PER_MINUTE = 6_000.0  # requests assumed for a provider without a known limit
LearnedLimits = Mapping[str, Mapping[str, Mapping[str, Any]]]  # by provider and model group


@dataclass(frozen=True, slots=True)
class VirtualPool:
    """Settings, the names of the configured providers, and the limits that earlier runs have learned."""

    settings: Settings
    configured: Collection[str]
    learned: LearnedLimits = field(default_factory=dict)
    cap: BudgetRule | None = None  # what the run may cost
    estimates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by provider, as learned

    def balancer(self, now: float) -> ProviderLoadBalancer:
        """A balancer with the learned limits, and without prompt caches, which virtual time cannot fill."""
        balancer = ProviderLoadBalancer(
            self.settings.without_caches(),
            now=now,
            configured=self.configured,
            budgets=None if self.cap is None else Budgets([self.cap]),
        )
        for provider in balancer.providers:
            provider.restore(self.learned.get(provider.name, {}), self.estimates.get(provider.name))
        return balancer


def assume_ample_limits(balancer: ProviderLoadBalancer) -> tuple[str, ...]:
    """Assume ample limits for providers without a configured or learned one; returns their names.

    Virtual time cannot find limits out, and would begin slowly for nothing.
    """
    unknown = tuple(p.name for p in balancer.providers if not _limits_known(p))
    for name in unknown:
        balancer.by_name[name].restore(_SameForEveryGroup({"requests": AMPLE_PER_MINUTE}))
    return unknown


def _limits_known(provider: ProviderState) -> bool:
    config = provider.config
    configured = config.limits.model_dump(exclude_none=True) or config.model_limits
    return bool(configured or provider.learned)


class _SameForEveryGroup(dict[str, Mapping[str, float | bool]]):
    """Learned limits that answer for any model group."""

    def __init__(self, limits: Mapping[str, float | bool]) -> None:
        super().__init__()
        self._limits = limits

    def get(self, key: str, default: Any = None) -> Any:
        return self._limits
