"""Images and documents in messages: data URLs, or addresses that only the provider fetches."""

from __future__ import annotations

import binascii
import re

from ...errors import InputError
from ...messages import Document, Image
from .validation_messages import shown

IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/heic", "image/heif")
DOCUMENT_TYPES = ("application/pdf", "text/plain")
MAX_URL_CHARS = 8_192
_ALIASES = {"image/jpg": "image/jpeg"}
_DATA_URL = re.compile(r"data:([^;,]*)(;[^,]*)?,")
_HTTPS = re.compile(r"https://[^\s/]+\S*", re.ASCII)
# The first bytes of a file, by media type. APIs refuse a picture under a wrong name.
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
    (b"%PDF-", "application/pdf"),
)
_HEAD_CHARS = 16  # of base64, for the first bytes


def read_image(url: str, detail: str, where: str) -> Image:
    """The image behind a data URL, or at an https URL. Raises InputError."""
    if not url.startswith("data:"):
        return Image(url=_checked_url(url, where), detail=detail)
    media_type, data = _from_data_url(url, IMAGE_TYPES, where)
    return Image(media_type, data, detail=detail)


def read_document(url: str, name: str, where: str) -> Document:
    """The document behind a data URL, or at an https URL. Raises InputError."""
    if not url.startswith("data:"):
        return Document(url=_checked_url(url, where), name=name)
    media_type, data = _from_data_url(url, DOCUMENT_TYPES, where)
    return Document(media_type, data, name=name)


def _checked_url(url: str, where: str) -> str:
    if len(url) > MAX_URL_CHARS:
        raise InputError(f"'{where}' must be at most {MAX_URL_CHARS:,} characters, not {len(url):,}")
    if not _HTTPS.fullmatch(url):
        raise InputError(f"'{where}' must be a data URL or begin with https://, not {shown(url)}")
    return url


def _from_data_url(url: str, allowed: tuple[str, ...], where: str) -> tuple[str, str]:
    """`(media type, base64)`."""
    found = _DATA_URL.match(url[:200])
    if found is None or not (found[2] or "").endswith(";base64"):
        raise InputError(f"'{where}' must be like data:{allowed[0]};base64,..., not {shown(url)}")
    media_type = _ALIASES.get(found[1].lower(), found[1].lower())
    if media_type not in allowed:
        raise InputError(f"'{where}' has the media type {shown(found[1])}; allowed are {', '.join(allowed)}")
    data = url[found.end() :]
    try:
        is_empty = not binascii.a2b_base64(data, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"'{where}' is not valid base64: {error}") from None
    if is_empty:
        raise InputError(f"'{where}' is empty")
    _check_kind(media_type, data, where)
    return media_type, data


def _check_kind(media_type: str, data: str, where: str) -> None:
    """Raises InputError for the data of another type than it says."""
    head = binascii.a2b_base64(data[:_HEAD_CHARS])
    held = next((kind for magic, kind in _MAGIC if head.startswith(magic)), "")
    has_magic = any(kind == media_type for _, kind in _MAGIC)
    if held != media_type and (held or has_magic):
        raise InputError(f"'{where}' says {media_type}, but holds {held or 'something else'}")
