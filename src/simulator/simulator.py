"""All simulated providers of one process, under one clock."""

from __future__ import annotations

from typing import Any

from .batches.clock import BatchClock
from .config import Config, ProviderConfig, merge, parse_provider
from .engine import Engine
from .net import Clock
from .server import ProviderServer
from .shapes import Json


class Simulator:
    """All providers under one clock. Created inside a running loop. Raises OSError where a port is taken."""

    def __init__(self, config: Config, raw: Json) -> None:
        self.seed = config.seed
        self.clock = Clock()
        self.batch_clock = BatchClock(self.clock, config.batch_clock_factor)
        self._answered: set[int] = set()
        self._paid: set[str] = set()
        self._raw: dict[str, Json] = {
            name: dict((raw.get("providers") or {}).get(name, {})) for name in config.providers
        }
        self.providers = {
            name: ProviderServer(
                Engine(name, own, config.seed, self.clock, self._answered), self.batch_clock, self._paid
            )
            for name, own in config.providers.items()
        }

    async def start(self) -> None:
        """Listen on every port that the faults leave open."""
        for provider in self.providers.values():
            provider.follow_schedule()
        await self.ready()

    async def ready(self) -> None:
        """Wait until every port is as the faults say."""
        for provider in self.providers.values():
            await provider.ready()

    def patch(self, name: str, change: Json) -> ProviderConfig:
        """Lay `change` over a provider's configuration. Raises ConfigError and then changes nothing."""
        raw = merge(self._raw[name], change)
        config = parse_provider(name, raw)
        self._raw[name] = raw
        self.providers[name].configure(config)
        return config

    def reset(self) -> None:
        """Clocks, counters and buckets as at the start, without batches; the configuration stays."""
        self.clock.reset()
        self.batch_clock.reset()
        self._answered.clear()
        self._paid.clear()
        for provider in self.providers.values():
            provider.reset()

    def end(self) -> None:
        """Close all ports and connections."""
        for provider in self.providers.values():
            provider.end()

    async def stats(self) -> dict[str, Any]:
        """The counters of every provider, for JSON."""
        found = {}
        for name, provider in self.providers.items():
            await provider.batches.store.settle_all()
            found[name] = {**provider.stats.as_json(), "batches": provider.batches.store.stats.as_json()}
        return found
