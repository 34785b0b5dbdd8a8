"""Whether a provider takes a request: its key, form, model, parameters and length. Each check raises Fail."""

from __future__ import annotations

import json
from collections.abc import Mapping

from aiohttp import web

from .config import ProviderConfig
from .shapes import ApiFormat, Ask, Fail, Json, refused

_UNSIGNED = (
    "Function call is missing a thought_signature in functionCall parts. This is required for tools to work "
    "correctly, and missing thought_signature may lead to degraded model performance. Additional data, "
    "function call {call}. "
    "Please refer to https://ai.google.dev/gemini-api/docs/thought-signatures for more details."
)


def check_key(api_format: ApiFormat, config: ProviderConfig, request: web.BaseRequest) -> None:
    """Raises Fail for a key that is missing, or that the configuration does not list."""
    key = api_format.key(request.headers, request.query)
    if not key:
        raise Fail("no_key")
    if config.keys is not None and key not in config.keys:
        raise Fail("bad_key", masked_key=f"{key[:3]}***{key[-2:]}")


def parse(api_format: ApiFormat, raw: bytes, kind: str, model: str, query: Mapping[str, str]) -> Ask:
    """The request in a body. Raises Fail for one that is not well formed."""
    try:
        body = json.loads(raw)
    except ValueError:
        raise Fail("bad_request", message="The body of the request could not be parsed as JSON.") from None
    if not isinstance(body, dict):
        raise Fail("bad_request", message="The body of the request is not a JSON object.")
    return read_body(api_format, body, kind, model, query)


def read_body(api_format: ApiFormat, body: Json, kind: str, model: str, query: Mapping[str, str]) -> Ask:
    """The request in a body that is parsed. Raises Fail for one that is not well formed."""
    try:
        return api_format.parse(body, model, query, kind)
    except (AttributeError, TypeError) as error:  # a list where an object belongs, and the like
        raise Fail("bad_request", message=f"A field has the wrong type: {error}") from None


def check(ask: Ask, api_format: ApiFormat, config: ProviderConfig, input_tokens: int) -> None:
    """Raises Fail for a model, a parameter or a length that this provider does not take."""
    if config.models is not None and ask.model not in config.models:
        raise Fail("model_not_found", model=ask.model)
    if _starts_with(ask.model, config.refuses_temperature):
        _check_sampling(ask, api_format)
    if ask.old_max_tokens and _starts_with(ask.model, config.wants_max_completion_tokens):
        hint = " Use 'max_completion_tokens' instead."
        raise Fail("parameter_refused", param="max_tokens", hint=hint)
    if ask.has_effort and _starts_with(ask.model, config.refuses_effort):
        raise Fail("parameter_refused", param="reasoning_effort")
    if ask.unsigned_call is not None and _starts_with(ask.model, config.requires_signatures):
        raise refused(_UNSIGNED.format(call=ask.unsigned_call))
    if input_tokens > config.context_window:
        raise Fail("context_length", used=input_tokens, window=config.context_window)


def _check_sampling(ask: Ask, api_format: ApiFormat) -> None:
    for param, value in ask.sampling.items():
        if value != 1.0 or api_format.name != "openai":  # OpenAI accepts the default
            raise Fail("sampling_refused", param=param, value=value)


def _starts_with(model: str, prefixes: tuple[str, ...] | None) -> bool:
    return model.startswith(prefixes or ())
