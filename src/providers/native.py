"""Requests that came in through the gateway in the form of their provider's API: sent as they are. Pure.

Only what the pool decides is replaced: the model, whether the answer is streamed, how long it may be, since
its cost is reserved, and parameters that the model does not take. Fields and values that this program does
not know stay as they are, cache marks included.
"""

from __future__ import annotations

from ..records import CompletionRequest, Native
from .prompts import Json

# Only these of the caller's headers: the key, the host and the length are the SDK's.
_PASSED_ON = frozenset(["anthropic-beta", "anthropic-version", "openai-beta", "via"])
_LIMITS = frozenset(["max_tokens", "max_completion_tokens", "max_output_tokens"])
# How the APIs write the parameters that some models refuse.
_WRITTEN = {
    "temperature": frozenset(["temperature"]),
    "top_p": frozenset(["top_p"]),
    "seed": frozenset(["seed"]),
    "stop": frozenset(["stop", "stop_sequences"]),
    "reasoning_effort": frozenset(["reasoning_effort", "reasoning", "thinking"]),
}
_OF_STREAMS = frozenset(["stream", "stream_options"])  # the adapter adds them to a stream


def native_body(native: Native, request: CompletionRequest, limit_name: str) -> Json:
    """The caller's body for the model that was chosen, not streamed.

    `limit_name`: what the API calls max_tokens; empty where it has none.
    """
    left_out = _OF_STREAMS | _LIMITS
    for parameter in request.parameters.get("unsent", ()):
        left_out |= _WRITTEN.get(parameter, frozenset())
    body = {name: value for name, value in native.body.items() if name not in left_out}
    body["model"] = request.model
    if limit_name:
        body[limit_name] = request.max_tokens
    if request.temperature is not None:
        body["temperature"] = request.temperature  # lowered where the caller's is above what the API takes
    return body


def native_headers(native: Native) -> dict[str, str]:
    """Those of the caller's headers that the provider gets."""
    return {name: value for name, value in native.headers.items() if name.lower() in _PASSED_ON}
