"""Requests that generate nothing: counts of tokens, and OpenAI's embeddings."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import struct
from typing import Any

from .shapes import Ask, Json, positive_int, refused

_DIMENSIONS = {
    "text-embedding-3-large": 3_072,
    "text-embedding-3-small": 1_536,
    "text-embedding-ada-002": 1_536,
}
_USUAL_DIMENSIONS = 1_536
_TOO_LONG = (
    "This model's maximum context length is {most} tokens, however you requested {sent} tokens ({sent} in "
    "your prompt; 0 for the completion). Please reduce your prompt; or completion length."
)
_MOST_INPUTS = 2_048
_MOST_TOKENS = 8_192  # of one input


def read_embeddings(body: Json) -> Ask:
    """The request in a body. Raises Fail for what OpenAI refuses."""
    for name in ("model", "input"):
        if body.get(name) is None:
            raise refused(f"you must provide a {name} parameter", name)
    inputs = _inputs(body["input"])
    dimensions, form = _shape(body)
    return Ask(
        model=str(body["model"]),
        prompt="\x1e".join(f"embed:{text}" for text, _ in inputs),
        chars=sum(len(text) for text, tokens in inputs if tokens is None),
        messages=0,
        last="",
        max_tokens=None,
        sampling={},
        extra_tokens=sum(tokens or 0 for _, tokens in inputs),
        embeds=tuple(text for text, _ in inputs),
        embedding=(dimensions, form),
    )


def _shape(body: Json) -> tuple[int, str]:
    """Dimensions and encoding of the vectors."""
    form = body.get("encoding_format") or "float"
    if form not in ("float", "base64"):
        text = f"Invalid value: '{form}'. Supported values are: 'float' and 'base64'."
        raise refused(text, "encoding_format", "invalid_value")
    usual = _DIMENSIONS.get(str(body["model"]), _USUAL_DIMENSIONS)
    dimensions = positive_int(body, "dimensions") or usual
    if dimensions > usual:
        text = f"Invalid value for 'dimensions': must be less than or equal to {usual}."
        raise refused(text, "dimensions", "invalid_value")
    return dimensions, str(form)


def _inputs(sent: Any) -> list[tuple[str, int | None]]:
    """Each input as text, and the number of its tokens where it was sent as tokens.

    What is sent is a text, a list of texts, a list of tokens, or a list of such lists.
    """
    if isinstance(sent, str) or (isinstance(sent, list) and sent and isinstance(sent[0], int)):
        sent = [sent]
    if not isinstance(sent, list) or not sent:
        raise refused("'$.input' is invalid. Please check the API reference.", "input")
    if len(sent) > _MOST_INPUTS:
        text = (
            f"Expected an array with maximum length {_MOST_INPUTS}, but got an array with length {len(sent)}"
        )
        raise refused(f"Invalid 'input': array too long. {text} instead.", "input", "array_above_max_length")
    return [_input(each, i) for i, each in enumerate(sent)]


def _input(each: Any, i: int) -> tuple[str, int | None]:
    if isinstance(each, str):
        text, tokens, length = each, None, math.ceil(len(each) / 4)
    elif isinstance(each, list) and all(isinstance(token, int) for token in each):
        text, tokens, length = " ".join(map(str, each)), len(each), len(each)
    else:
        text, tokens, length = "", None, 0
    if not text:
        raise refused("'$.input' is invalid. Please check the API reference.", f"input[{i}]")
    if length > _MOST_TOKENS:
        raise refused(_TOO_LONG.format(most=_MOST_TOKENS, sent=length))
    return text, tokens


def embeddings(ask: Ask, input_tokens: int) -> bytes:
    """The vectors of the texts: of length 1, the same for the same text and model."""
    dimensions, form = ask.embedding
    data = []
    for i, text in enumerate(ask.embeds):
        vector = _vector(f"{ask.model}\x1f{text}", dimensions)
        shown: Any = vector
        if form == "base64":
            shown = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()
        data.append({"object": "embedding", "index": i, "embedding": shown})
    usage = {"prompt_tokens": input_tokens, "total_tokens": input_tokens}
    return json.dumps({"object": "list", "data": data, "model": ask.model, "usage": usage}).encode()


def _vector(text: str, dimensions: int) -> list[float]:
    raw = hashlib.shake_128(text.encode("utf-8", "surrogatepass")).digest(2 * dimensions)
    numbers = struct.unpack(f"<{dimensions}h", raw)
    length = math.sqrt(sum(number * number for number in numbers)) or 1.0
    return [number / length for number in numbers]
