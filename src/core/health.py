"""Looking after providers that are out: health calls while a breaker is open, probes while offline.

Both use the free call that lists models. While a breaker is open it only matters if it has failed in this
opening (see `routing/breaker.py`). While a provider is suspect, its answer lets one call try, since the
calls that were swallowed may never return. Any answer at all, even a refusal, ends being offline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from ..errors import AuthFailed, ProviderError
from ..providers.base import ProviderAdapter
from ..routing.balancer import ProviderLoadBalancer
from ..routing.breaker import BreakerState
from ..settings import Settings

PROBE_TIMEOUT_S = 3.0


class HealthWatch:
    """Runs beside the loop. `changed` is called when something may go that could not before."""

    def __init__(
        self,
        balancer: ProviderLoadBalancer,
        adapters: Mapping[str, ProviderAdapter],
        settings: Settings,
        now: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self._balancer, self._adapters, self._settings = balancer, adapters, settings
        self._now, self._changed = now, changed
        self._look = asyncio.Event()
        self._seen: dict[str, int] = {}  # openings of each breaker that a health call has followed

    def look(self) -> None:
        """Something failed: look now instead of at the next round."""
        opened = any(
            p.breaker.state is BreakerState.OPEN and p.breaker.opened_count != self._seen.get(p.name)
            for p in self._balancer.providers
        )
        if opened or self._balancer.offline_since is not None:
            self._look.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            offline = self._balancer.offline_since is not None
            await self._round(self._probe if offline else self._health)
            routing, breaker = self._settings.routing, self._settings.breaker
            still = self._balancer.offline_since is not None
            pause_s = routing.offline_probe_s if still else breaker.health_interval_s
            self._look.clear()
            try:
                async with asyncio.timeout(pause_s):
                    await self._look.wait()
            except TimeoutError:
                continue

    async def _round(self, look: Callable[[str], Awaitable[None]]) -> None:
        await asyncio.gather(*(look(name) for name in self._adapters if name in self._balancer.by_name))

    async def _probe(self, name: str) -> None:
        if await self._answers(name) is not None and self._balancer.offline_since is not None:
            self._balancer.reached(name, self._now())
            self._changed()

    async def _health(self, name: str) -> None:
        """One call, whatever is in doubt: the key, a silence, an open breaker."""
        provider = self._balancer.by_name[name]
        breaker = provider.breaker
        suspect = self._balancer.is_suspect(name, self._now())
        is_open = breaker.state is BreakerState.OPEN
        if not (provider.misconfigured or suspect or is_open):
            return
        if is_open:
            self._seen[name] = breaker.opened_count
        answers = bool(await self._answers(name))
        now = self._now()
        changed = False
        if provider.misconfigured and answers:
            self._balancer.resume_key(name)  # somebody has mended the key on the provider's side
            changed = True
        if suspect and answers and self._balancer.answers_health(name, now):
            changed = True
        if is_open:
            breaker.health(answers, now)
            changed = changed or provider.half_open
        if changed:
            self._changed()

    async def _answers(self, name: str) -> bool | None:
        """True: lists its models. False: answers with an error of its own. None: nothing came back."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await self._adapters[name].list_models(PROBE_TIMEOUT_S)
        except TimeoutError:
            return None
        except ProviderError as error:
            if error.status is None:
                return None
            return not (error.counts_against_health or isinstance(error, AuthFailed))
        return True
