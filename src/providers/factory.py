"""From a row of the configuration to an adapter."""

from __future__ import annotations

from ..config import ProviderAccess
from .base import OnLate, ProviderAdapter


def build_adapter(access: ProviderAccess, slots: int, on_late: OnLate | None = None) -> ProviderAdapter:
    """The adapter of a provider's wire format for `slots` calls at a time. Imports no SDK: `warm_up` does.

    `on_late` is for Gemini, whose calls run on in their threads; the others end with their task.
    """
    if access.row.wire == "anthropic":
        from .anthropic_adapter import AnthropicAdapter

        return AnthropicAdapter(access, slots)
    if access.row.wire == "openai":
        from .openai_adapter import OpenAIAdapter

        return OpenAIAdapter(access, slots)
    from .gemini_adapter import GeminiAdapter

    return GeminiAdapter(access, slots, on_late)
