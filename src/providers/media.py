"""Images and documents: what they are, and the text that stands for one that an API does not take. Pure."""

from __future__ import annotations

import binascii

from ..messages import Document, Image, Media, Text

# The first characters of base64. A file is what its bytes are, whatever it is called.
_STARTS = (
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
    ("JVBERi0", "application/pdf"),
)
_KIND_CHARS = 60  # of a media type in a warning
_PLAIN = ("text/", "application/json", "application/xml", "application/yaml")


def media_type(part: Media) -> str:
    """The media type of the bytes, as they say it themselves, else as they are called."""
    named = part.media_type.lower().partition(";")[0].strip()
    return next((kind for start, kind in _STARTS if part.data.startswith(start)), named)


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
