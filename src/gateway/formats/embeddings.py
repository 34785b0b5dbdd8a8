"""OpenAI embeddings as clients ask for them: the body is passed on as it is, and so is the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...messages import Message, Text
from ...records import EMBEDDINGS, Completion, Native
from .base import CallerRequest, FormatError, Served, StreamWriter
from .openai_shared import CHECKS, PASSED_HEADERS, OpenAIErrors, passed_headers
from .writing import json_bytes

_MOST_INPUTS = 2_048


class EmbeddingsFormat(OpenAIErrors):
    """The `Format` of embeddings. There are no streams of them."""

    form = EMBEDDINGS

    def read(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> CallerRequest:
        """As `Format.read`. Its messages have the size of the inputs."""
        model = CHECKS.required_text(body, "model")
        if not model:
            raise CHECKS.missing("model")
        CHECKS.choice(body, "encoding_format", ("float", "base64"))
        CHECKS.integer(body, "dimensions", 1)
        texts = _texts(_inputs(body))
        return CallerRequest(
            form=self.form,
            model=model,
            messages=(Message("user", texts[0] if len(texts) == 1 else tuple(map(Text, texts))),),
            native=Native(self.form, body, passed_headers(headers, PASSED_HEADERS)),
            max_tokens=1,  # of an answer that has none
        )

    def answer(self, request: CallerRequest, served: Served, completion: Completion) -> bytes:
        """As `Format.answer`."""
        return completion.raw if isinstance(completion.raw, bytes) else json_bytes(completion.raw)

    def stream(self, request: CallerRequest, served: Served) -> StreamWriter:
        """Never asked for: `read` gives no request with `stream`."""
        raise NotImplementedError("embeddings are not streamed")


VECTORS = EmbeddingsFormat()


def _inputs(body: Mapping[str, Any]) -> list[Any]:
    """Texts or arrays of tokens, none of them empty. Raises FormatError."""
    given = body.get("input")
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


def _texts(inputs: list[Any]) -> list[str]:
    """Each input as text. A token is written as a number, so its size is no smaller than its tokens."""
    tokens = [each for each in inputs if type(each) is list and all(type(token) is int for token in each)]
    if len(inputs) not in (sum(type(each) is str for each in inputs), len(tokens)):
        raise FormatError("Invalid 'input': expected strings, or arrays of tokens.", "input", "invalid_type")
    if not all(inputs):
        raise FormatError("Invalid 'input': input cannot be an empty string.", "input", "invalid_value")
    return [" ".join(map(str, each)) for each in inputs] if tokens else inputs
