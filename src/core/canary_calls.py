"""Makes the requests of one token that stand for a probe: see `routing/canaries.py` for when one is due.

One is no task and no attempt: it has no row of its own. As with any call, what it may cost is covered before
it leaves, and it leaves only while this orchestrator leads and may place. Its cost counts for the overall and
the provider's budgets, and is added to the sums of usage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..agents.real_agent import complete
from ..errors import ProviderError
from ..providers.base import ProviderAdapter
from ..records import Attempt, Completion, CompletionRequest, Outcome, Placement, Usage
from ..routing.balancer import ProviderLoadBalancer
from ..routing.canaries import CANARY
from ..routing.dispatch import outcome_of
from ..settings import Settings
from .budget_keeper import BudgetKeeper
from .leadership import Leadership
from .store_thread import StoreThread

TIMEOUT_S = 10.0  # one token takes a second or two where it comes at all


class CanaryCalls:
    """Sends one for a provider and books it. `may_place`: whether calls are placed at all now."""

    def __init__(
        self,
        settings: Settings,
        balancer: ProviderLoadBalancer,
        adapters: Mapping[str, ProviderAdapter],
        budget_keeper: BudgetKeeper,
        leadership: Leadership,
        thread: StoreThread,
        may_place: Callable[[], bool],
        now: Callable[[], float],
    ) -> None:
        self._settings, self._balancer, self._adapters = settings, balancer, adapters
        self._budget_keeper, self._leadership, self._thread = budget_keeper, leadership, thread
        self._may_place, self._now = may_place, now

    async def send_if_due(self, name: str) -> bool:
        """Whether one was sent, and has ended. Raises LeadershipLost where another orchestrator leads."""
        if not self._may_place():
            return False
        placement = self._balancer.place_canary(name, self._now())
        if placement is None:
            return False
        completion: Completion | None = None
        error: ProviderError | None = None
        sent, started_at = False, self._now()
        try:
            await self._budget_keeper.cover(placement)
            await self._leadership.permission()
            sent, started_at = True, self._now()
            completion = await self._call(placement)
        except ProviderError as failed:
            error = failed
        finally:  # a shutdown too: what was sent may be billed
            try:
                await self._book(placement, completion, error, started_at, sent)
            finally:
                self._budget_keeper.release(placement)
        return True

    async def _call(self, placement: Placement) -> Completion:
        config = self._settings.lookup_model(placement.model)
        request = CompletionRequest(
            placement.model, placement.task.messages, placement.max_tokens, timeout_s=TIMEOUT_S,
            parameters={"max_tokens_parameter": config.max_tokens_parameter},
        )  # fmt: skip
        return await complete(self._adapters, placement.provider, request)

    async def _book(
        self,
        placement: Placement,
        completion: Completion | None,
        error: ProviderError | None,
        started_at: float,
        sent: bool,
    ) -> None:
        now = self._now()
        usage = completion.usage if completion is not None else (error.usage if error is not None else None)
        limits = completion.limits if completion is not None else (error.limits if error is not None else ())
        outcome = outcome_of(completion, error) if sent else Outcome.CANCELLED
        cost = self._balancer.settle(
            placement.permit, outcome, now,
            latency_s=now - started_at, usage=usage, error=error, limits=limits,
        )  # fmt: skip
        if not sent:
            return
        attempt = Attempt(
            1, placement.provider, placement.model, "", outcome, started_at, now - started_at, CANARY, (),
            usage=usage or Usage(), cost_nanos=cost, max_tokens=placement.max_tokens,
        )  # fmt: skip
        await self._thread.insist(self._leadership.store.book_canary, self._leadership.incarnation, attempt)
