"""OpenAI Chat Completions: images and files.

Sources of the messages: recorded 400s, for instance in STranslate/STranslate#277 (formats),
langgenius/dify#11527 (media types).
"""

from __future__ import annotations

import re

from .images import Media, decoded, look_into, openai_tokens
from .prompt import Prompt
from .shapes import Json, refused

_DATA_URL = re.compile(r"data:([a-z]+/[a-z0-9.+-]+);base64,")
_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_DETAILS = ("auto", "low", "high", "original")
_UNSUPPORTED = (
    "You uploaded an unsupported image. Please make sure your image has of one the following formats: "
    "['png', 'jpeg', 'gif', 'webp']."
)


def read_medium(prompt: Prompt, role: str, part: Json, where: str) -> None:
    """Add an image or a file to the prompt. Raises Fail for what OpenAI refuses."""
    kind = part["type"]
    content = part.get(kind)
    if not isinstance(content, dict):
        raise refused(
            f"Missing required parameter: '{where}.{kind}'.", f"{where}.{kind}", "missing_required_parameter"
        )
    if kind == "image_url":
        read_image(prompt, role, content.get("url"), content.get("detail", "auto"), f"{where}.image_url")
    elif kind == "file":
        read_file(prompt, role, content, f"{where}.file")
    else:
        prompt.text(role, f"[{kind}]")


def read_image(prompt: Prompt, role: str, url: object, detail: object, where: str) -> None:
    """An image behind a URL, which is not fetched, or in a data URL."""
    if detail not in _DETAILS:
        names = ", ".join(f"'{each}'" for each in _DETAILS)
        text = f"Invalid value: '{detail}'. Supported values are: {names}."
        raise refused(text, f"{where}.detail", "invalid_value")
    if isinstance(url, str) and url.startswith(("https://", "http://")):
        media = Media("url image", digest=url)
    else:
        media = _decoded_image(url, where)
    prompt.medium(role, media.name, openai_tokens(media, str(detail)))


def _decoded_image(url: object, where: str) -> Media:
    found = _DATA_URL.match(url) if isinstance(url, str) else None
    if found is None or not isinstance(url, str):
        text = f"Invalid '{where}.url'. Expected a valid URL, but got a value with an invalid format."
        raise refused(text, f"{where}.url", "invalid_value")
    if not found[1].startswith("image/"):
        raise refused("Invalid MIME type. Only image types are supported.", "", "invalid_image_format")
    data = decoded(url[found.end() :])
    if data is None:
        raise refused("Invalid base64 image_url.", "", "invalid_base64")
    media = look_into(data)
    if media.kind not in _IMAGES:  # what the data URL calls it does not matter
        raise refused(_UNSUPPORTED, "", "invalid_image_format")
    return media


def read_file(prompt: Prompt, role: str, content: Json, where: str) -> None:
    """A PDF in a data URL, or an uploaded file that is not looked into."""
    if content.get("file_id") is not None:
        media = Media("file", pages=1, digest=str(content["file_id"]))
        prompt.medium(role, media.name, openai_tokens(media, "high"))
        return
    for name in ("filename", "file_data"):
        if not isinstance(content.get(name), str):
            text = f"Missing required parameter: '{where}.{name}'."
            raise refused(text, f"{where}.{name}", "missing_required_parameter")
    found = _DATA_URL.match(content["file_data"])
    if found is None or found[1] != "application/pdf":
        text = "Expected a base64-encoded data URL with an application/pdf MIME type."
        raise refused(
            f"Invalid file data: '{where}.file_data'. {text}", f"{where}.file_data", "invalid_value"
        )
    data = decoded(content["file_data"][found.end() :])
    media = look_into(data or b"")
    if not media.pages:
        raise refused("The file could not be parsed as a PDF.", f"{where}.file_data", "invalid_file")
    prompt.medium(role, media.name, openai_tokens(media, "high"))
