"""Health checks through the SDKs against the simulator."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from src.config import load_settings, simulated_access
from src.core.clock import Clock
from src.core.health import HealthMonitor
from src.core.supervisor import Supervisor
from src.providers.factory import build_adapter
from src.routing.balancer import ProviderLoadBalancer
from src.routing.connectivity import HealthCheckResult
from src.simulator import SimulatorProcess

NAMES = ("anthropic", "openai", "gemini")


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        pytest.param(None, HealthCheckResult.ANSWERS, id="well"),
        pytest.param("server_error", HealthCheckResult.REFUSES, id="500"),
        pytest.param("down", HealthCheckResult.UNREACHABLE, id="refused"),
        pytest.param("outage", HealthCheckResult.UNREACHABLE, id="reset"),
        pytest.param("silence", HealthCheckResult.SILENT, id="silent"),
    ],
)
def test_the_result_of_a_health_check_at_each_provider(fault: str | None, found: HealthCheckResult) -> None:
    rows = {name: {"faults": {fault: 1.0} if fault else {}} for name in NAMES}
    with SimulatorProcess.start({"providers": rows}) as simulator:
        assert asyncio.run(first_findings(simulator.base_urls)) == dict.fromkeys(NAMES, found)


async def first_findings(base_urls: dict[str, str]) -> dict[str, HealthCheckResult]:
    """What the watch tells the balancer of each provider after its first call."""
    settings, clock = load_settings(environ={}), Clock()
    balancer = Listening(settings, now=clock.now())
    balancer.found, balancer.complete = {}, asyncio.Event()
    access = simulated_access(settings, base_urls)
    adapters = {name: build_adapter(each, 4) for name, each in access.items()}
    await asyncio.gather(*(adapter.warm_up() for adapter in adapters.values()))
    supervisor = Supervisor(lambda events: None, clock.now)
    watching = asyncio.create_task(HealthMonitor(balancer, adapters, clock.now, lambda: None).run(supervisor))
    async with asyncio.timeout(20.0):
        await balancer.complete.wait()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    for adapter in adapters.values():
        await adapter.close()
    return balancer.found


class Listening(ProviderLoadBalancer):
    """Keeps the first result of each provider."""

    found: dict[str, HealthCheckResult]
    complete: asyncio.Event

    def record_health_check(self, name: str, found: HealthCheckResult, *when: Any) -> bool:
        self.found.setdefault(name, found)
        if len(self.found) == len(NAMES):
            self.complete.set()
        return super().record_health_check(name, found, *when)
