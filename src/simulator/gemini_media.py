"""Gemini: images and documents.

Sources of the messages: recorded 400s, for instance in ogkalu2/comic-translate#399 (media types),
BoundaryML/baml#1548 (URLs), egoist/chatwise-releases#799 (images that can't be read).
"""

from __future__ import annotations

from typing import Any

from .images import Media, decoded, gemini_tokens, look_into
from .prompt import Prompt
from .shapes import Json, refused

_IMAGES = ("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif")
_TEXTS = ("text/plain", "text/html", "text/csv", "text/markdown", "text/xml", "application/json")
_FILES = ("https://generativelanguage.googleapis.com/", "gs://", "https://www.youtube.com/")
_UNREADABLE = (
    "Unable to process input image. Please retry or report in "
    "https://developers.generativeai.google/guide/troubleshooting"
)


def read_inline(prompt: Prompt, role: str, data: Any, where: str, resolution: str) -> None:
    """Add bytes to the prompt. Raises Fail for what Gemini refuses."""
    data = data if isinstance(data, dict) else {}
    named = data.get("mimeType", data.get("mime_type"))
    if named not in (*_IMAGES, *_TEXTS, "application/pdf"):
        raise refused(f"Unsupported MIME type: {named}")
    raw = decoded(_standard(data.get("data")))
    if raw is None:
        raise refused(f"Invalid value at '{where}.inline_data.data' (TYPE_BYTES), Base64 decoding failed")
    if named in _TEXTS:
        prompt.text("document", raw.decode("utf-8", "replace"))
        return
    media = look_into(raw)
    if named in _IMAGES and not media.kind.startswith("image/"):
        raise refused(_UNREADABLE)
    if named == "application/pdf" and not media.pages:
        raise refused("The document has no pages.")
    prompt.medium(role, media.name, gemini_tokens(media, resolution))


def _standard(data: Any) -> Any:
    """Base64 of either alphabet, with its padding or without, as protocol buffers take it."""
    if not isinstance(data, str):
        return data
    plain = data.replace("-", "+").replace("_", "/").rstrip("=")
    return plain + "=" * (-len(plain) % 4)


def read_file(prompt: Prompt, role: str, data: Any, resolution: str) -> None:
    """Add an uploaded file to the prompt. Other addresses are refused, as Gemini refuses them."""
    data = data if isinstance(data, dict) else {}
    uri = data.get("fileUri", data.get("file_uri"))
    if not isinstance(uri, str) or not uri.startswith(_FILES):
        raise refused(f"Invalid or unsupported file uri: {uri}")
    media = Media("file", digest=uri)
    prompt.medium(role, media.name, gemini_tokens(media, resolution))


def resolution_of(part: Json, settings: Json) -> str:
    """The resolution of a part, else that of the request: LOW, MEDIUM, HIGH, ULTRA_HIGH or ""."""
    own = part.get("mediaResolution", part.get("media_resolution")) or {}
    named = own.get("level") or settings.get("mediaResolution") or settings.get("media_resolution") or ""
    return str(named).removeprefix("MEDIA_RESOLUTION_")
