"""Embeddings: what a request takes, before its body is passed on as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .base import FormatError
from .openai_shared import CHECKS

_MOST_INPUTS = 2_048


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest:
    """A request that the API would accept. Inputs are texts, `chars` in all, or arrays of `tokens`."""

    model: str
    body: Mapping[str, Any]
    inputs: int
    chars: int = 0
    tokens: int = 0


def read_embeddings(body: Mapping[str, Any]) -> EmbeddingsRequest:
    """The request in a body. Raises FormatError."""
    model = CHECKS.required_text(body, "model")
    if not model:
        raise CHECKS.missing("model")
    CHECKS.choice(body, "encoding_format", ("float", "base64"))
    CHECKS.integer(body, "dimensions", 1)
    inputs = _inputs(body.get("input"))
    texts = [each for each in inputs if type(each) is str]
    tokens = [each for each in inputs if type(each) is list and all(type(token) is int for token in each)]
    if len(inputs) not in (len(texts), len(tokens)):
        raise FormatError("Invalid 'input': expected strings, or arrays of tokens.", "input", "invalid_type")
    if not all(inputs):
        raise FormatError("Invalid 'input': input cannot be an empty string.", "input", "invalid_value")
    return EmbeddingsRequest(model, body, len(inputs), sum(map(len, texts)), sum(map(len, tokens)))


def _inputs(given: Any) -> list[Any]:
    if given is None:
        raise CHECKS.missing("input")
    if type(given) is str:
        return [given]
    if type(given) is not list:
        raise CHECKS.wrong_type("input", "string", given)
    if given and all(type(each) is int for each in given):
        return [given]
    if not given or len(given) > _MOST_INPUTS:
        text = f"Invalid 'input': expected 1 to {_MOST_INPUTS} inputs, but got {len(given)}."
        raise CHECKS.refused(text, "input", "invalid_value")
    return given
