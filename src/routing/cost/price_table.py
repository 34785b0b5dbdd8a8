"""What calls to each provider's models cost."""

from __future__ import annotations

from collections.abc import Mapping

from ...records import Usage
from ...settings import Settings
from .pricing import CompiledPrice, PriceBook, catalogue_of


class PriceTable:
    """The prices of the configured providers. `catalogues`: the price list of each provider, None: none."""

    def __init__(
        self, settings: Settings, book: PriceBook | None, catalogues: Mapping[str, str | None] | None
    ) -> None:
        self._settings = settings
        self._book = book or PriceBook(lambda model: settings.lookup_model(model).price)
        self._catalogues = catalogues or {
            name: catalogue_of(name, config) for name, config in settings.providers.items() if config.enabled
        }
        self._baseline_list = settings.lookup_model(settings.baseline_model).price_list

    def price(self, provider: str, model: str, now: float) -> CompiledPrice | None:
        """The model's price at the provider at `now`; None where it is unknown."""
        return self._book.price(self._catalogues.get(provider), model, now)

    def baseline_nanos(self, usage: Usage, now: float) -> int | None:
        """What the same tokens cost on the configured baseline model, in nano-dollars; None: unknown.

        In a live call without a prompt cache.
        """
        price = self._book.price(self._baseline_list, self._settings.baseline_model, now)
        return None if price is None else price.cost_nanos(usage.uncached)
