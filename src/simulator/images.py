"""Images and documents: what is in their bytes, and how many tokens each provider counts for them.

Formulas of the current models. Sources:
- Anthropic: platform.claude.com/docs/en/build-with-claude/vision and pdf-support; the size of the patches and
  the longest edge fit the counts measured in huggingface.co/datasets/JOHNISKING/image-token-cost
- OpenAI: platform.openai.com/docs/guides/images-vision; multiplier and patches fit the same measurements
- Gemini: ai.google.dev/gemini-api/docs/media-resolution
"""

from __future__ import annotations

import binascii
import hashlib
import math
import re
from dataclasses import dataclass

UNKNOWN_PX = 1_024  # width and height of an image that is not looked into: behind a URL, or HEIC
_CLAUDE_PATCH_PX = 28
_CLAUDE_EDGE_PX = 2_000
_GPT_PATCH_PX = 32
_GPT_MULTIPLIER = 1.2
_GPT_PATCHES = {"low": 256, "high": 2_500}  # of 32 x 32 px; other details are not scaled down
_GEMINI_IMAGE = {"LOW": 280, "MEDIUM": 560, "HIGH": 1_120, "ULTRA_HIGH": 2_240}
_CLAUDE_PAGE = 3_000  # text and image of a page of a PDF; 1,500 to 3,000 of text are usual
_GPT_PAGE = 1_700  # text and image; OpenAI gives no number
_GEMINI_PAGE = 560
_PAGE = re.compile(rb"/Type\s*/Page(?![a-zA-Z])")
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of the frames that hold the size


@dataclass(frozen=True, slots=True)
class Media:
    """Bytes that were looked into. `kind` is a media type, "" where it is none that is known."""

    kind: str
    width: int = UNKNOWN_PX
    height: int = UNKNOWN_PX
    pages: int = 0
    digest: str = ""

    @property
    def name(self) -> str:
        """What names the content in the prompt, the same on every API."""
        return f"{self.kind} {self.digest}"


def decoded(data: object) -> bytes | None:
    """The bytes behind base64, None where it is not valid."""
    if not isinstance(data, str):
        return None
    try:
        return binascii.a2b_base64(data, strict_mode=True)
    except (binascii.Error, ValueError):
        return None


def look_into(data: bytes) -> Media:
    """What the bytes are."""
    digest = hashlib.blake2b(data, digest_size=8).hexdigest()
    if data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) >= 24:
        return Media("image/png", _big(data[16:20]), _big(data[20:24]), digest=digest)
    if data[:6] in (b"GIF87a", b"GIF89a") and len(data) >= 10:
        return Media("image/gif", _little(data[6:8]), _little(data[8:10]), digest=digest)
    if data.startswith(b"\xff\xd8\xff"):
        return Media("image/jpeg", *_jpeg_size(data), digest=digest)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) >= 30:
        return Media("image/webp", *_webp_size(data), digest=digest)
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"heif"):
        return Media("image/heic", digest=digest)
    if data.startswith(b"%PDF-"):
        return Media("application/pdf", pages=max(1, len(_PAGE.findall(data))), digest=digest)
    return Media("", digest=digest)


def _big(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _JPEG_SIZES:
            return _big(data[at + 7 : at + 9]), _big(data[at + 5 : at + 7])
        at += 2 + _big(data[at + 2 : at + 4])
    return UNKNOWN_PX, UNKNOWN_PX


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return _little(data[24:27]) + 1, _little(data[27:30]) + 1
    if kind == b"VP8L":
        bits = _little(data[21:25])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return _little(data[26:28]) & 0x3FFF, _little(data[28:30]) & 0x3FFF


# -- tokens --


def anthropic_tokens(media: Media) -> int:
    """Patches of 28 px, after an edge of more than 2,000 px was scaled down; or pages."""
    if media.pages:
        return _CLAUDE_PAGE * media.pages
    scale = min(1.0, _CLAUDE_EDGE_PX / max(media.width, media.height, 1))
    return _patches(media.width * scale, media.height * scale, _CLAUDE_PATCH_PX)


def openai_tokens(media: Media, detail: str) -> int:
    """1.2 tokens a patch of 32 px, after the image was scaled down to the patches of its detail; or pages."""
    if media.pages:
        return _GPT_PAGE * media.pages
    width, height = float(media.width), float(media.height)
    most = _GPT_PATCHES.get(detail)
    if most is not None and _patches(width, height, _GPT_PATCH_PX) > most:
        scale = math.sqrt(_GPT_PATCH_PX**2 * most / (width * height))
        across, down = width * scale / _GPT_PATCH_PX, height * scale / _GPT_PATCH_PX
        scale *= min(math.floor(across) / across, math.floor(down) / down)  # whole patches
        width, height = width * scale, height * scale
    return math.ceil(_patches(width, height, _GPT_PATCH_PX) * _GPT_MULTIPLIER)


def gemini_tokens(media: Media, resolution: str) -> int:
    """A number for each resolution, whatever the size; or pages."""
    if media.pages:
        return _GEMINI_PAGE * media.pages
    return _GEMINI_IMAGE.get(resolution, _GEMINI_IMAGE["HIGH"])


def _patches(width: float, height: float, side: int) -> int:
    # rounded before, so that a scaled edge of exactly n patches is n
    return max(1, math.ceil(round(width / side, 6)) * math.ceil(round(height / side, 6)))
