"""Which provider API a model belongs to, by the list of models in the installed genai-prices package.

Rows of `[models]` come first. This list answers for names that no row covers, such as `o3`.
"""

from __future__ import annotations

from functools import cache

_LISTS = {"anthropic": "anthropic", "openai": "openai", "gemini": "google"}  # provider API -> price list


@cache
def api_of(model: str) -> str | None:
    """`anthropic`, `openai` or `gemini`; None for a model in none of their lists, or not for text.

    The order matters: Google's list also has the Claude models that it resells.
    """
    from genai_prices import data_snapshot  # imports the list (0.1 s), which few commands need

    for api, catalogue in _LISTS.items():
        try:
            _, info = data_snapshot.get_snapshot().find_provider_model(model, None, catalogue, None)
        except LookupError:
            continue
        rows = [row.prices for row in info.prices] if isinstance(info.prices, list) else [info.prices]
        if any(row.input_mtok is not None and row.output_mtok is not None for row in rows):
            return api
    return None
