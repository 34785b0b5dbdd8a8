"""The agents of this process: calls of tasks without workers, and all calls whose submitter waits."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

from ..agents.real_agent import RealAgent
from ..records import Completion, CompletionRequest, Placement
from ..stream_events import Offer, StreamEvent


class LocalWorker:
    """Makes calls as they are placed, without messages: nothing is converted, and nothing outlives it."""

    def __init__(self, agents: Mapping[str, RealAgent]) -> None:
        self._agents = agents

    def attempt(self, placement: Placement) -> Awaitable[Completion]:
        """The one call of a placement. Raises a `ProviderError` where no usable answer comes."""
        return self._agents[placement.agent].attempt(placement)

    def stream(
        self, placement: Placement, heard: Callable[[], None], offer: Offer
    ) -> AsyncGenerator[StreamEvent, None]:
        """The same, event by event: see `RealAgent.stream`."""
        return self._agents[placement.agent].stream(placement, heard, offer)

    def request_for(self, placement: Placement) -> CompletionRequest:
        """The request of a placement, with everything resolved: what a remote worker gets."""
        return self._agents[placement.agent].request_for(placement)
