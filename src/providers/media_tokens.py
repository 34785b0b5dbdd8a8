"""How many tokens each API counts for an image or a document. Pure: a leaf beside the table of APIs.

Sources:
    Anthropic  https://platform.claude.com/docs/en/build-with-claude/vision and .../pdf-support
    OpenAI     https://platform.openai.com/docs/guides/images-vision (models that count patches of 32 px)
    Gemini     https://ai.google.dev/gemini-api/docs/media-resolution

They are estimates for limits, windows and budgets, on the high side; what a call has used is what its answer
reports.
"""

from __future__ import annotations

import math

from ..media_sizes import MediaSize

_ANTHROPIC_PATCH_PX = 28
_ANTHROPIC_EDGE_PX = 2_000  # the longest; a longer one is scaled down
_ANTHROPIC_PAGE = 3_000  # as text, and as an image
_OPENAI_PATCH_PX = 32
_OPENAI_PER_PATCH = 1.2
_OPENAI_PATCHES = {"low": 256, "high": 2_500}  # at most; with any other detail as many as there are
_OPENAI_PAGE = 1_700  # OpenAI publishes no number
_GEMINI_IMAGE = 1_120  # at the resolution that is the default
_GEMINI_PAGE = 560


def anthropic_tokens(media: MediaSize) -> int:
    """One token for each patch of 28 x 28 pixels, after a long edge was scaled down."""
    if media.pages:
        return _ANTHROPIC_PAGE * media.pages
    scale = min(1.0, _ANTHROPIC_EDGE_PX / max(media.width, media.height, 1))
    return _patches(media.width * scale, media.height * scale, _ANTHROPIC_PATCH_PX)


def openai_tokens(media: MediaSize) -> int:
    """1.2 tokens for each patch of 32 x 32 pixels, of which the detail allows so many."""
    if media.pages:
        return _OPENAI_PAGE * media.pages
    patches = _patches(media.width, media.height, _OPENAI_PATCH_PX)
    return math.ceil(_OPENAI_PER_PATCH * min(patches, _OPENAI_PATCHES.get(media.detail, patches)))


def gemini_tokens(media: MediaSize) -> int:
    """A constant for each image and each page."""
    return _GEMINI_PAGE * media.pages or _GEMINI_IMAGE


def _patches(width: float, height: float, side_px: int) -> int:
    return max(1, math.ceil(round(width / side_px, 6))) * max(1, math.ceil(round(height / side_px, 6)))
