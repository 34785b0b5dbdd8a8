"""What every request of one gateway needs."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from aiohttp import web

from ..access import AccessPolicy
from ..core.clock import Clock
from ..settings import Settings
from .forwarding import Forwarder
from .guard import Guard
from .names import ModelChoice, choose
from .time_limits import STANDARD, TimeLimits

if TYPE_CHECKING:
    from ..core.orchestrator import Orchestrator
    from ..core.store import Store

NAMES_KEPT = 1_000  # of models that were asked for and are served
Metrics = Callable[[str], tuple[bytes, str]]  # Accept header -> body and content type; blocks


@dataclass
class GatewayContext:
    """Settings, store and guard of one gateway, in one event loop.

    `incarnation`: the name of this process as an orchestrator. `pool`: the orchestrator while this process
    leads, or did so. `forwarder`: while the gateway runs. `key`: of requests that a standby has passed on.
    """

    settings: Settings
    store: Store
    access: AccessPolicy
    called: Collection[str]  # the providers that can be called
    guard: Guard
    metrics: Metrics
    clock: Clock
    simulated: bool
    incarnation: str
    pool: Orchestrator | None = None
    forwarder: Forwarder | None = None
    times: TimeLimits = STANDARD
    key: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    open_requests: dict[str, str] = field(default_factory=dict)  # id of the task -> its submitter
    choose: Callable[[str], ModelChoice] = field(init=False)  # `names.choose`, which remembers

    def __post_init__(self) -> None:
        found = partial(choose, settings=self.settings, called=self.called)
        self.choose = lru_cache(NAMES_KEPT)(found)

    @property
    def passes_on(self) -> Forwarder:
        """What passes requests on to the leader."""
        if self.forwarder is None:
            raise RuntimeError("requests come while the gateway runs")
        return self.forwarder

    def leading(self) -> Orchestrator | None:
        """The orchestrator that places requests now; None before, after, and while another one leads."""
        return self.pool if self.pool is not None and self.pool.is_serving else None

    def placing(self) -> Orchestrator | None:
        """As `leading`, or the orchestrator that is starting: it lets requests wait until it leads."""
        return self.pool if self.pool is not None and not self.pool.is_ending else None


CONTEXT: web.AppKey[GatewayContext] = web.AppKey("context", GatewayContext)
