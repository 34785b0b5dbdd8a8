"""The provider APIs that this program speaks: one row each.

A new one takes an adapter (`NAME_adapter.py`), that of its batches (`NAME_batches.py`), the form in which it
takes a JSON schema (`schemas/NAME_form.py`) and a row here. Settings, routing, prices, plans and adapters
read the row, and none of them names an API.

The table is a leaf: it imports values and pure functions only, since the settings are validated against it.
Adapters, which import the settings, are therefore named as `module:class`; `factory` loads them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..limit_rules import LimitRules
from ..media_sizes import MediaSize
from .media_tokens import anthropic_tokens, gemini_tokens, openai_tokens
from .schemas import Form, anthropic_form, gemini_form, openai_form


@dataclass(frozen=True, slots=True)
class ApiFormat:
    """One provider API. `name` is the value of `api_format` in the configuration."""

    name: str
    adapter: str
    """`module:class` within this package, called as `adapter(access, slots, max_bytes)`."""
    limits: LimitRules
    schema_form: Callable[[Mapping[str, Any]], Form]
    price_list: str
    """The price list of the API's inventor in the genai-prices package. Empty: it has none."""
    warm_up_s: float
    """How long the import of its SDK takes before the first call, measured on two cores."""
    media_tokens: Callable[[MediaSize], int]
    """How many tokens it counts for an image or a document."""
    takes: frozenset[str]
    """What it has a form for: `MediaSize.needs` of images and documents, and `tools`."""
    batch_api: str
    """`module:class` of the adapter of its batch API within this package, called with the adapter above."""
    batch_rows: int
    """The most rows of one batch."""
    native_forms: tuple[str, ...] = ()
    """The forms of `Native` that it takes: such a request is sent as its caller wrote it."""
    lacks: tuple[str, ...] = ()
    """Those of `PARAMETERS` that it has no name for."""
    exclusive: tuple[str, ...] = ()
    """Parameters of which it takes one: the first that is set."""
    max_temperature: float = 2.0
    """The highest temperature it takes, at least 1; a higher one is lowered to it."""


_IMAGES = {"tools", "images", "image/png", "image/jpeg", "image/webp"}
_PDF = {"documents", "application/pdf"}

_ROWS = (
    ApiFormat(
        name="anthropic",
        adapter="anthropic_adapter:AnthropicAdapter",
        batch_api="anthropic_batches:AnthropicBatches",
        batch_rows=100_000,
        # https://platform.claude.com/docs/en/api/rate-limits
        limits=LimitRules(
            {
                "requests_per_minute": "requests",
                "input_tokens_per_minute": "input_tokens",
                "output_tokens_per_minute": "output_tokens",
                "requests_per_day": "requests_per_day",
            },
            counts_cache_reads=False,
        ),
        schema_form=anthropic_form,
        price_list="anthropic",
        native_forms=("anthropic",),
        warm_up_s=2.1,
        media_tokens=anthropic_tokens,
        takes=frozenset({*_IMAGES, "image/gif", "URLs of images", *_PDF, "text/plain", "URLs of documents"}),
        lacks=("seed",),
        exclusive=("temperature", "top_p"),  # newer models answer 400 to both together
        max_temperature=1.0,
    ),
    ApiFormat(
        name="openai",
        adapter="openai_adapter:OpenAIAdapter",
        batch_api="openai_batches:OpenAIBatches",
        batch_rows=50_000,
        # https://platform.openai.com/docs/guides/rate-limits
        limits=LimitRules(
            {
                "requests_per_minute": "requests",
                "tokens_per_minute": "tokens",
                "requests_per_day": "requests_per_day",
            },
            charges_on_admission=True,
        ),
        schema_form=openai_form,
        price_list="openai",
        native_forms=("openai", "embeddings"),
        warm_up_s=0.9,
        media_tokens=openai_tokens,
        takes=frozenset({*_IMAGES, "image/gif", "URLs of images", *_PDF}),
    ),
    ApiFormat(
        name="gemini",
        adapter="gemini_adapter:GeminiAdapter",
        batch_api="gemini_batches:GeminiBatches",
        batch_rows=1_000,  # as inline requests
        # https://ai.google.dev/gemini-api/docs/rate-limits: its tokens per minute are those of prompts
        limits=LimitRules(
            {
                "requests_per_minute": "requests",
                "input_tokens_per_minute": "input_tokens",
                "tokens_per_minute": "input_tokens",
                "requests_per_day": "requests_per_day",
            },
            day_ends_in_california=True,
        ),
        schema_form=gemini_form,
        price_list="google",
        warm_up_s=1.0,
        media_tokens=gemini_tokens,
        takes=frozenset({*_IMAGES, "image/heic", "image/heif", *_PDF, "text/plain"}),
    ),
)

API_FORMATS: Mapping[str, ApiFormat] = MappingProxyType({row.name: row for row in _ROWS})
"""By name, in the order in which a model's name is looked up in the price lists: Google's list also has the
Claude models that it resells, so it comes after Anthropic's."""
