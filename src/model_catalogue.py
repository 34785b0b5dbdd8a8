"""Which provider API a model belongs to, by the list of models in the installed genai-prices package.

Rows of `[models]` come first. This list answers for names that no row covers, such as `o3`.
"""

from __future__ import annotations

from functools import cache, lru_cache

from .providers.api_formats import API_FORMATS

LONGEST_NAME = 200
NAMES_KEPT = 4_096  # any client may ask for any name


def api_of(model: str) -> str | None:
    """The name of its API format; None for a model in none of their price lists, or not for text."""
    return _api_of(model) if len(model) <= LONGEST_NAME else None


@lru_cache(NAMES_KEPT)
def _api_of(model: str) -> str | None:
    from genai_prices import data_snapshot  # imports the list (0.1 s), which few commands need

    for api in API_FORMATS.values():
        if not api.price_list:
            continue
        try:
            _, info = data_snapshot.get_snapshot().find_provider_model(model, None, api.price_list, None)
        except LookupError:
            continue
        rows = [row.prices for row in info.prices] if isinstance(info.prices, list) else [info.prices]
        if any(row.input_mtok is not None and row.output_mtok is not None for row in rows):
            return api.name
    return None


@cache
def models_of(api: str) -> tuple[str, ...]:
    """The models in the price list of that API format's inventor; none where it has no list."""
    from genai_prices import data_snapshot

    listed = API_FORMATS[api].price_list
    found = (each.models for each in data_snapshot.get_snapshot().providers if each.id == listed)
    return tuple(model.id for models in found for model in models)


@cache
def listed_models() -> frozenset[str]:
    """The models in the price lists of all API formats."""
    return frozenset(model for api in API_FORMATS for model in models_of(api))
