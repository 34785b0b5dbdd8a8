"""How large images and documents are, read from their first bytes: what decides how many tokens they count.

Nothing is decoded but headers, and nothing is fetched: what a URL points at is taken to be of a usual size.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable
from typing import NamedTuple

from .messages import Document, Image, Media

USUAL_PX = 1_024  # width and height of an image whose header is not read
USUAL_PAGES = 10  # of a document behind a URL
_HEADER_CHARS = 400_000  # base64: a JPEG's size may stand behind a thumbnail and a colour profile
_PAGE = re.compile(rb"/Type\s*/Page(?![a-zA-Z])")
_BYTES_PER_PAGE = 3_000  # of a text
# Markers of a JPEG segment that holds the size; C4, C8 and CC are tables.
_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


# The first characters of base64. A file is what its bytes are, whatever it is called.
_STARTS = (
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
    ("JVBERi0", "application/pdf"),
)


class MediaSize(NamedTuple):
    """One image (`width` and `height`, pixels) or document (`pages` above 0). `kind`: its media type.

    `is_url`: the provider fetches it itself. `detail`: as in `Image`.
    """

    kind: str
    width: int = 0
    height: int = 0
    pages: int = 0
    is_url: bool = False
    detail: str = ""

    @property
    def needs(self) -> tuple[str, ...]:
        """What an API and a model must take to be asked: what it is, how it is sent, and its type."""
        what = "documents" if self.pages else "images"
        if self.is_url:
            return what, f"URLs of {what}"
        is_as_named = self.kind.startswith("image/") == (what == "images")
        return what, self.kind if is_as_named else f"{what} of type {self.kind or 'unknown'}"


def media_type(part: Media) -> str:
    """The media type of the bytes, as they say it themselves, else as they are called."""
    named = part.media_type.lower().partition(";")[0].strip()
    return next((kind for start, kind in _STARTS if part.data.startswith(start)), named)


def sizes_of(media: Iterable[Media]) -> tuple[MediaSize, ...]:
    """The size of each."""
    return tuple(size_of(each) for each in media)


def size_of(media: Media) -> MediaSize:
    """The size of an image or a document, of a usual one where its header does not show it."""
    if isinstance(media, Image):
        if media.url:
            return MediaSize(media.media_type, USUAL_PX, USUAL_PX, is_url=True, detail=media.detail)
        width, height = known_pixels(media)
        return MediaSize(media_type(media), width or USUAL_PX, height or USUAL_PX, detail=media.detail)
    if media.url:
        return MediaSize(media.media_type, pages=USUAL_PAGES, is_url=True)
    return MediaSize(media_type(media), pages=_pages(media))


def known_pixels(image: Image) -> tuple[int, int]:
    """`(width, height)` by its header; (0, 0) where that does not show it."""
    return _image_size(_decoded(image.data[:_HEADER_CHARS]))


def _pages(document: Document) -> int:
    data = _decoded(document.data)
    if media_type(document) == "application/pdf":
        return max(1, len(_PAGE.findall(data)))
    return max(1, len(data) // _BYTES_PER_PAGE)


def _decoded(data: str) -> bytes:
    """The bytes behind base64 that may be cut off; intake has checked that it is base64."""
    try:
        return binascii.a2b_base64(data[: len(data) // 4 * 4])
    except (binascii.Error, ValueError):
        return b""


def _image_size(data: bytes) -> tuple[int, int]:
    """`(width, height)`; (0, 0) where the header is of no known form."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _number(data[16:20]), _number(data[20:24])
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg_size(data)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp_size(data)
    return 0, 0


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        if data[at + 1] in _SIZE_MARKERS:
            return _number(data[at + 7 : at + 9]), _number(data[at + 5 : at + 7])
        at += 2 + max(2, _number(data[at + 2 : at + 4]))
    return 0, 0


def _webp_size(data: bytes) -> tuple[int, int]:
    form = data[12:16]
    if form == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if form == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if form == b"VP8 ":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return 0, 0
