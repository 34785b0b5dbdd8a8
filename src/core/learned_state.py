"""Keeps what a run learns about providers for the next one: limits, estimates of calls, calls in flight.

The key is the address and a fingerprint of the API key (`config.identity`), so that another account starts
afresh. What is learned of a simulator is not kept.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..config import ProviderAccess, identity
from ..routing.balancer import ProviderLoadBalancer
from .store import Store
from .store_thread import StoreThread


class LearnedStateRepository:
    """Restores and saves the learned limits and estimates of all providers."""

    def __init__(
        self,
        balancer: ProviderLoadBalancer,
        access: Mapping[str, ProviderAccess],
        store: Store,
        thread: StoreThread,
    ) -> None:
        self._balancer, self._access, self._store, self._thread = balancer, access, store, thread

    async def restore(self) -> None:
        """Give every provider what earlier runs learned about it."""
        for name, access in self._access.items():
            known = await self._thread.insist(self._store.learned_state.load, *identity(access))
            if known and not access.simulated:
                self._balancer.by_name[name].restore(
                    known.get("groups", {}), known.get("estimates", {}), known.get("concurrency", 0)
                )

    async def save(self, now: float) -> None:
        """Save what is known now. Raises StoreError where the store does not take it."""
        for name, access in self._access.items():
            provider = self._balancer.by_name[name]
            payload = {
                "groups": {g.name: found for g in provider.groups.values() if (found := g.export())},
                "estimates": provider.estimators.export(),
                "concurrency": provider.concurrency.limit,
            }
            if payload["groups"] or payload["estimates"]:
                await self._thread(self._store.learned_state.save, *identity(access), payload, now)
