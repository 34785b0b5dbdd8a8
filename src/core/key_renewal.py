"""Replaces providers' keys while calls run.

A key belongs to its adapter. A renewed provider gets a new one, which new calls find; calls in flight end
with the old one and its key. An adapter without calls keeps no connection, so the old ones are closed with
the others, when the run ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..config import ProviderAccess
from ..providers.base import ProviderAdapter
from ..records import Event
from ..routing.balancer import ProviderLoadBalancer


class KeyRenewal:
    """Changes `adapters` and `access` in place: all who call providers, and what is learned, look there."""

    def __init__(
        self,
        balancer: ProviderLoadBalancer,
        adapters: dict[str, ProviderAdapter],
        access: dict[str, ProviderAccess],
        build: Callable[[ProviderAccess], ProviderAdapter],
    ) -> None:
        self._balancer, self._adapters, self._access, self._build = balancer, adapters, access, build
        self._replaced: list[ProviderAdapter] = []

    async def renew(self, keys: Mapping[str, ProviderAccess], now: Callable[[], float]) -> list[Event]:
        """Use these keys for new calls, and try every key again that was refused. Returns what happened."""
        for name in keys.keys() & self._adapters.keys():
            adapter = self._build(keys[name])
            await adapter.warm_up()
            self._replaced.append(self._adapters[name])
            self._adapters[name], self._access[name] = adapter, keys[name]
        tried_again = self._balancer.retry_keys(now())
        names = ", ".join(name for name in self._adapters if name in keys) or "none has changed"
        text = f"keys were read again: {names}"
        if tried_again:
            text += f"; refused before, tried again: {', '.join(tried_again)}"
        return [Event(now(), "keys_read", text)]

    async def close(self) -> None:
        """Close the adapters that were replaced."""
        for adapter in self._replaced:
            await adapter.close()
