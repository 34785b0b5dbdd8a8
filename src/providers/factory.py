"""From a section of the configuration to an adapter."""

from __future__ import annotations

from ..config import ProviderAccess
from .base import OnLate, ProviderAdapter

MAX_ANSWER_MB = 32.0


def build_adapter(
    access: ProviderAccess,
    slots: int,
    on_late: OnLate | None = None,
    *,
    max_answer_mb: float = MAX_ANSWER_MB,
) -> ProviderAdapter:
    """The adapter of a provider's API format for `slots` calls at a time. Imports no SDK: `warm_up` does.

    An answer of more than `max_answer_mb` (decompressed) is none.
    `on_late` is for Gemini, whose calls run on in their threads; the others end with their task.
    """
    most_bytes = int(max_answer_mb * 1_000_000)
    if access.config.api_format == "anthropic":
        from .anthropic_adapter import AnthropicAdapter

        return AnthropicAdapter(access, slots, most_bytes)
    if access.config.api_format == "openai":
        from .openai_adapter import OpenAIAdapter

        return OpenAIAdapter(access, slots, most_bytes)
    from .gemini_adapter import GeminiAdapter

    return GeminiAdapter(access, slots, most_bytes, on_late)
