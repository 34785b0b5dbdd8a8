"""The seam between the pool and the providers' SDKs.

An adapter makes exactly one HTTP exchange per call. It does not retry, does not choose, does not
read a clock for anything but its own timeouts, and raises nothing but `ProviderError` subclasses
(and `asyncio.CancelledError`). The total time limit is the agent's, since no SDK's timeout is a total.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from ..records import Completion, CompletionRequest, Usage

LateUsageCallback = Callable[[CompletionRequest, Usage], None]
"""Told, on the event loop, what a call has used after all whose task had already given it up."""


@runtime_checkable
class ProviderAdapter(Protocol):
    """What the pool needs of a provider."""

    name: str

    async def warm_up(self) -> None:
        """Import the SDK and build the client, off the loop, so that no timed call pays for it."""

    async def complete(self, request: CompletionRequest) -> Completion:
        """Make one call. Raises a `ProviderError` subclass for everything that is not a usable answer."""

    async def list_models(self, timeout_s: float) -> list[str]:
        """The free health call. Raises like `complete`."""

    async def close(self) -> None:
        """Close all connections. Safe to call twice."""
