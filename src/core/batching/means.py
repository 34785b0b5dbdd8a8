"""What batches are worked with."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from ...providers.batch_api import BatchApi
from ..batch_budgets import BatchBudgets
from .offers import Offers
from .rows import BatchRowReader


@dataclass(frozen=True, slots=True)
class Means:
    """What is asked of a provider by its name, and what is sized, read and reserved.

    `providers`: those that have a key here; `why_not`: why another one has none. `account_of`: what stands
    for its address and key.
    """

    providers: Collection[str]
    why_not: Callable[[str], str]
    account_of: Callable[[str], str]
    api_of: Callable[[str], BatchApi]
    offers: Offers
    reader: BatchRowReader
    budgets: BatchBudgets
