"""Requests that came in through the gateway in the form of their provider's API: sent as they are. Pure.

Only what the pool decides is replaced: the model, and whether the answer is streamed. Fields and values that
this program does not know stay as they are, cache marks included.
"""

from __future__ import annotations

from ..records import CompletionRequest, Native
from .prompts import Json

# Only these of the caller's headers: the key, the host and the length are the SDK's.
_PASSED_ON = frozenset(["anthropic-beta", "anthropic-version", "openai-beta", "via"])
_OF_STREAMS = frozenset(["stream", "stream_options"])  # the adapter adds them to a stream


def native_body(native: Native, request: CompletionRequest, *, requires_max_tokens: bool) -> Json:
    """The caller's body for the model that was chosen, not streamed."""
    body = {name: value for name, value in native.body.items() if name not in _OF_STREAMS}
    body["model"] = request.model
    if requires_max_tokens:
        body.setdefault("max_tokens", request.max_tokens)
    return body


def native_headers(native: Native) -> dict[str, str]:
    """Those of the caller's headers that the provider gets."""
    return {name: value for name, value in native.headers.items() if name.lower() in _PASSED_ON}
