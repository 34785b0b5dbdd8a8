"""Makes the requests of one token that stand for a probe: see `routing/canaries.py` for when one is due.

A canary call is neither a task nor an attempt, and has no row. Like any call it passes the `CallGate`. Its
cost counts for the overall and the provider's budgets, and is added to the sums of usage.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..agents.real_agent import complete
from ..providers.base import ProviderAdapter
from ..records import Completion, CompletionRequest, Placement
from ..routing.balancer import ProviderLoadBalancer
from ..settings import Settings
from .calls import Call, CallGate
from .placing import PlacementGuard
from .store_session import StoreSession

TIMEOUT_S = 10.0  # one token takes a second or two where it comes at all


class CanaryCalls:
    """Sends canary calls and books them."""

    def __init__(
        self,
        settings: Settings,
        balancer: ProviderLoadBalancer,
        adapters: Mapping[str, ProviderAdapter],
        gate: CallGate,
        session: StoreSession,
        guard: PlacementGuard,
    ) -> None:
        self._settings, self._balancer, self._adapters = settings, balancer, adapters
        self._gate, self._session, self._guard = gate, session, guard

    async def send_if_due(self, name: str) -> bool:
        """Send one to the provider if it is due; returns whether one was sent, and has ended.

        Raises LeadershipLost where another orchestrator leads.
        """
        if not self._guard.may_place():
            return False
        placement = self._balancer.place_canary(name, self._session.clock.now())
        if placement is None:
            return False
        call = self._gate.open(placement)
        try:
            await self._gate.make(call, self._complete)
        finally:  # a shutdown too: what was sent may be billed
            try:
                await self._book(call)
            finally:
                self._gate.release(call)
        return True

    async def _complete(self, placement: Placement) -> Completion:
        config = self._settings.lookup_model(placement.model)
        request = CompletionRequest(
            placement.model, placement.task.messages, placement.max_tokens, timeout_s=TIMEOUT_S,
            parameters={"max_tokens_parameter": config.max_tokens_parameter},
        )  # fmt: skip
        return await complete(self._adapters, placement.provider, request)

    async def _book(self, call: Call) -> None:
        settled, session = self._gate.settle(call), self._session
        if call.sent:
            await session.thread.insist(
                session.store.queue.record_canary, session.incarnation, settled.attempt
            )
