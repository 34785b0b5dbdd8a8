"""The seam between the pool and the providers' SDKs.

An adapter makes exactly one HTTP exchange per call. It does not retry, does not choose, does not
read a clock except for its own timeouts, and raises only `ProviderError` subclasses
(and `asyncio.CancelledError`). The total time limit is the agent's, since no SDK's timeout is a total.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol, runtime_checkable

from ..records import Completion, CompletionRequest
from ..stream_events import Offer, StreamEvent, refuse


@runtime_checkable
class ProviderAdapter(Protocol):
    """The calls that the pool makes to a provider."""

    name: str

    async def warm_up(self) -> None:
        """Import the SDK and build the client, off the loop, so that no timed call pays for it."""

    async def complete(self, request: CompletionRequest) -> Completion:
        """Make one call. Raises a `ProviderError` subclass for everything but a usable answer."""

    def stream(self, request: CompletionRequest, offer: Offer = refuse) -> AsyncGenerator[StreamEvent, None]:
        """Make one call whose answer comes in pieces. Raises like `complete`, at any point.

        Events that `offer` takes are not yielded.
        The last event is `Finished`, with what `complete` returns. Closing the generator before it closes the
        connection at once; so use `contextlib.aclosing`.
        """

    async def list_models(self, timeout_s: float) -> list[str]:
        """The models that the provider offers: a free health check. Raises like `complete`."""

    async def close(self) -> None:
        """Close all connections. Safe to call twice."""
