"""Images and documents: what they are, and the text that stands for one that an API does not take. Pure."""

from __future__ import annotations

import binascii

from ..media_sizes import media_type
from ..messages import Document, Image, Media, Text

_KIND_CHARS = 60  # of a media type in a warning
_PLAIN = ("text/", "application/json", "application/xml", "application/yaml")


def plain_text(part: Document) -> str | None:
    """The text of a document that is nothing but text, else None."""
    if not part.data or not media_type(part).startswith(_PLAIN):
        return None
    try:
        return binascii.a2b_base64(part.data).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return None


def text_document(part: Document, text: str) -> Text:
    """A document as text, for an API that takes no such documents."""
    return Text(f"{part.name}:\n{text}" if part.name else text, part.cache)


def left_out(part: Media, api: str) -> tuple[Text, str]:
    """`(text in its place, warning)` for an image or a document that an API does not take."""
    noun = "image" if isinstance(part, Image) else "document"
    kind = "a URL" if part.url else media_type(part)[:_KIND_CHARS] or "an unknown type"
    return Text(f"[{noun} left out]"), f"{noun} left out: {api} does not take {kind}"
