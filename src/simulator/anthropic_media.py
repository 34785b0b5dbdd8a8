"""Anthropic Messages: images and documents.

Sources of the messages and limits: platform.claude.com/docs/en/build-with-claude/vision, and recorded 400s,
for instance in anthropics/claude-code#4778 and #49537 (dimensions), can1357/oh-my-pi#10633 (size).
"""

from __future__ import annotations

from .images import Media, anthropic_tokens, decoded, look_into
from .prompt import Prompt
from .shapes import Json, refused

_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_MAX_IMAGE_CHARS = 10 * 1024 * 1024  # of base64
_MAX_PX = 8_000
_MAX_PX_OF_MANY = 2_000
_MANY = 20
_MOST_IMAGES = 600
_MOST_PAGES = 600


def read_medium(prompt: Prompt, role: str, block: Json, where: str) -> None:
    """Add an image or a document to the prompt. Raises Fail for what Anthropic refuses."""
    kind = block["type"]
    source = block.get("source")
    if not isinstance(source, dict):
        raise refused(f"{where}.{kind}.source: Field required")
    form = source.get("type")
    place = f"{where}.{kind}.source.{form}"
    if form == "url":
        _read_url(prompt, role, kind, source.get("url"), f"{place}.url")
    elif form == "base64":
        _read_bytes(prompt, role, kind, source, place)
    elif kind == "document" and form == "text":
        if not isinstance(source.get("data"), str) or source.get("media_type") != "text/plain":
            raise refused(f"{place}.media_type: Input should be 'text/plain'")
        prompt.text("document", source["data"])
    else:
        text = f"Input tag '{form}' found using 'type' does not match any of the expected tags"
        raise refused(f"{where}.{kind}.source: {text}")


def _read_url(prompt: Prompt, role: str, kind: str, url: object, place: str) -> None:
    """It is not fetched, so its size is unknown."""
    if not isinstance(url, str) or not url.startswith("https://"):
        raise refused(f"{place}: Only HTTPS URLs are supported.")
    media = Media(f"url {kind}", pages=1 if kind == "document" else 0, digest=url)
    prompt.medium(role, media.name, anthropic_tokens(media))


def _read_bytes(prompt: Prompt, role: str, kind: str, source: Json, place: str) -> None:
    named, data = source.get("media_type"), source.get("data")
    allowed = _IMAGES if kind == "image" else ("application/pdf",)
    if named not in allowed:
        names = ", ".join(f"'{each}'" for each in allowed[:-1])
        names = f"{names} or '{allowed[-1]}'" if names else f"'{allowed[0]}'"
        raise refused(f"{place}.media_type: Input should be {names}")
    raw = decoded(data)
    if raw is None:
        raise refused(f"{place}.data: Invalid base64 data")
    if kind == "image" and len(str(data)) > _MAX_IMAGE_CHARS:
        size = f"{len(str(data))} bytes > {_MAX_IMAGE_CHARS} bytes"
        raise refused(f"{place}: image exceeds 10 MB maximum: {size}")
    media = look_into(raw)
    if kind == "document":
        _check_pages(prompt, media, place)
    else:
        _check_image(prompt, media, str(named), place)
    prompt.medium(role, media.name, anthropic_tokens(media))


def _check_pages(prompt: Prompt, media: Media, place: str) -> None:
    if not media.pages:
        raise refused(f"{place}.data: The PDF specified was not valid.")
    prompt.pages += media.pages
    if prompt.pages > _MOST_PAGES:
        raise refused(f"{place}.data: A maximum of {_MOST_PAGES} PDF pages may be provided.")


def _check_image(prompt: Prompt, media: Media, named: str, place: str) -> None:
    if media.kind not in _IMAGES:
        raise refused("Could not process image")
    if media.kind != named:
        raise refused(
            f"{place}: The image was specified using the {named} media type, but the image appears to be a "
            f"{media.kind} image"
        )
    edge = max(media.width, media.height)
    prompt.images += 1
    prompt.longest_edge_px = max(prompt.longest_edge_px, edge)
    text = f"{place}.data: At least one of the image dimensions exceed max allowed size"
    if edge > _MAX_PX:
        raise refused(f"{text}: {_MAX_PX} pixels")
    if prompt.images > _MANY and prompt.longest_edge_px > _MAX_PX_OF_MANY:
        raise refused(f"{text} for many-image requests: {_MAX_PX_OF_MANY} pixels")
    if prompt.images > _MOST_IMAGES:
        raise refused(f"messages: at most {_MOST_IMAGES} images may be provided.")
