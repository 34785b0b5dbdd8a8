"""How large a request's prompt is, for judging what a provider reports about it. Pure.

Text and media are apart: base64 is no text, and an image has the tokens that its provider's formula gives it.
The bounds hold for every provider; estimates by each one's formula belong to routing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from ..answer_schema import schema_text
from ..media_sizes import sizes_of
from ..messages import Document, Media, Message, Reasoning, media_in, text_parts
from ..records import CompletionRequest
from .media_tokens import anthropic_tokens, gemini_tokens, openai_tokens

_IMAGE_TOKENS_AT_MOST = 20_000  # the current formulas give 5,200 to an image at its largest
_UNSEEN_TOKENS_AT_MOST = 1_000_000  # of a document behind a URL, or of what a native body has beside messages


def text_chars(request: CompletionRequest) -> int:
    """Characters of text that the model reads for certain: reasoning may be left out of the prompt."""
    return sum(
        len(message.content) if isinstance(message.content, str) else sum(map(len, _said(message)))
        for message in request.messages
    )


def _said(message: Message) -> Iterator[str]:
    shown = tuple(part for part in message.parts if not isinstance(part, Reasoning))
    return iter(text_parts(Message(message.role, shown)))


def text_bytes(request: CompletionRequest) -> int:
    """UTF-8 bytes of everything in the prompt that is text, tools and schema included."""
    size = bytes_in(text for message in request.messages for text in text_parts(message))
    if request.response_schema is not None:
        size += bytes_in((schema_text(request.response_schema),))
    for tool in request.tools:
        size += bytes_in((tool.name, tool.description, json.dumps(tool.parameters or {})))
    return size


def media_tokens(request: CompletionRequest) -> int:
    """An estimate for all images and documents, by the API that counts the most."""
    sizes = sizes_of(media_in(request.messages))
    return sum(max(anthropic_tokens(size), openai_tokens(size), gemini_tokens(size)) for size in sizes)


def media_tokens_at_most(request: CompletionRequest) -> int:
    """No image or document of the request, nor what only its native form has, counts for more."""
    unseen = _UNSEEN_TOKENS_AT_MOST if request.native is not None else 0
    return unseen + sum(map(_at_most, media_in(request.messages)))


def _at_most(part: Media) -> int:
    if not isinstance(part, Document):
        return _IMAGE_TOKENS_AT_MOST
    return _UNSEEN_TOKENS_AT_MOST if part.url else _IMAGE_TOKENS_AT_MOST + len(part.data)


def bytes_in(texts: Iterable[str]) -> int:
    """UTF-8 bytes of texts."""
    return sum(len(text) if text.isascii() else len(text.encode("utf-8", "replace")) for text in texts)
