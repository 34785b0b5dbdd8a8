"""Checks the health of providers in doubt, by listing their models, which costs nothing.

When a check is due and what its outcome means is decided in `routing/connectivity.py`; here it is made. Each
provider is checked by a job of its own, so that one that hangs does not delay the others.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ..errors import AuthFailed, ProviderError, TimedOut, Unreachable
from ..providers.base import ProviderAdapter
from ..routing.balancer import ProviderLoadBalancer
from ..routing.connectivity import HEALTH_CHECK_S, HealthCheckResult
from .canary_calls import CanaryCalls
from .supervisor import Supervisor

CANARY_EVERY_S = 0.5  # between two looks whether one is due
LOOK_EVERY_S = 1.0  # at least, whatever was expected


class HealthMonitor:
    """Runs beside the calls. `changed` is called when a provider may serve tasks that it could not before."""

    def __init__(
        self,
        balancer: ProviderLoadBalancer,
        adapters: Mapping[str, ProviderAdapter],
        now: Callable[[], float],
        changed: Callable[[], None],
        canaries: CanaryCalls | None = None,
    ) -> None:
        self._balancer, self._now, self._changed = balancer, now, changed
        self._adapters, self._canaries = adapters, canaries
        self._news = {name: asyncio.Event() for name in adapters if name in balancer.by_name}

    def look(self) -> None:
        """See now whether a health check is due, since a call failed."""
        for news in self._news.values():
            news.set()

    async def run(self, supervisor: Supervisor) -> None:
        """Check until cancelled. A job that fails is restarted, and does not affect the others.

        Raises LeadershipLost itself, where a TaskGroup would raise it in an exception group.
        """
        jobs = []
        for name in self._news:
            jobs.append(supervisor.keep(f"the health watch of {name}", partial(self._watch, name)))
            if self._canaries is not None:
                send = partial(self._send_canaries, name, self._canaries)
                jobs.append(supervisor.keep(f"the canaries of {name}", send))
        watching = [asyncio.create_task(job) for job in jobs]
        try:
            await asyncio.gather(*watching)
        finally:
            for each in watching:
                each.cancel()
            await asyncio.gather(*watching, return_exceptions=True)

    async def _watch(self, name: str) -> None:
        asked_at = -math.inf
        while True:
            now = self._now()
            wait_s = self._balancer.next_health_check_at(name, asked_at, now) - now
            if wait_s > 0:
                await self._wait(name, min(wait_s, LOOK_EVERY_S))
                continue
            asked_at = now
            found, models = await self._ask(name)
            if self._balancer.record_health_check(name, found, asked_at, self._now(), models):
                self._changed()
            if found is HealthCheckResult.UNREACHABLE:
                self.look()  # a check of the others may be due now

    async def _send_canaries(self, name: str, canaries: CanaryCalls) -> None:
        while True:
            if await canaries.send_if_due(name):
                self._changed()
            await asyncio.sleep(CANARY_EVERY_S)

    async def _wait(self, name: str, seconds: float) -> None:
        news = self._news[name]
        news.clear()
        try:
            async with asyncio.timeout(seconds):
                await news.wait()
        except TimeoutError:
            return

    async def _ask(self, name: str) -> tuple[HealthCheckResult, Sequence[str]]:
        try:
            async with asyncio.timeout(HEALTH_CHECK_S):
                return HealthCheckResult.ANSWERS, await self._adapters[name].list_models(HEALTH_CHECK_S)
        except TimeoutError:
            return HealthCheckResult.SILENT, ()
        except ProviderError as error:
            return _shown_by(error), ()


def _shown_by(error: ProviderError) -> HealthCheckResult:
    if isinstance(error, TimedOut):
        return HealthCheckResult.SILENT
    if isinstance(error, Unreachable):
        return HealthCheckResult.UNREACHABLE
    if isinstance(error, AuthFailed):
        return HealthCheckResult.FORBIDDEN if error.status == 403 else HealthCheckResult.KEY_REFUSED
    return HealthCheckResult.REFUSES if error.counts_against_health else HealthCheckResult.ANSWERS
