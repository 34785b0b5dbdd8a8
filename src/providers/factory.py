"""From a section of the configuration to an adapter."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from ..config import ProviderAccess
from .base import ProviderAdapter

MAX_ANSWER_MB = 32.0


def build_adapter(
    access: ProviderAccess, slots: int, *, max_answer_mb: float = MAX_ANSWER_MB
) -> ProviderAdapter:
    """The adapter of a provider's API format for `slots` calls at a time. Imports no SDK: `warm_up` does.

    An answer of more than `max_answer_mb` (decompressed) is rejected.
    """
    module, _, name = access.config.api.adapter.partition(":")
    adapter = getattr(import_module(f".{module}", __package__), name)
    return cast(ProviderAdapter, adapter(access, slots, int(max_answer_mb * 1_000_000)))
