"""From a section of the configuration to an adapter."""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

from ..config import ProviderAccess
from .base import ProviderAdapter
from .batch_api import BatchApi

MAX_ANSWER_MB = 32.0


def build_adapter(
    access: ProviderAccess, slots: int, *, max_answer_mb: float = MAX_ANSWER_MB
) -> ProviderAdapter:
    """The adapter of a provider's API format for `slots` calls at a time. Imports no SDK: `warm_up` does.

    An answer of more than `max_answer_mb` (decompressed) is rejected.
    """
    adapter = _load(access.config.api.adapter)
    return cast(ProviderAdapter, adapter(access, slots, int(max_answer_mb * 1_000_000)))


def build_batch_api(access: ProviderAccess, adapter: ProviderAdapter) -> BatchApi:
    """The batch API of a provider, over its adapter. Imports no SDK."""
    return cast(BatchApi, _load(access.config.api.batch_api)(adapter))


def _load(where: str) -> Any:
    module, _, name = where.partition(":")
    return getattr(import_module(f".{module}", __package__), name)
