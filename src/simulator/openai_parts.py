"""OpenAI Chat Completions: the content of messages."""

from __future__ import annotations

from typing import Any

from .openai_media import read_medium
from .prompt import Prompt
from .shapes import Json, refused

_ALLOWED = {
    "system": ("text",),
    "tool": ("text",),
    "assistant": ("text", "refusal"),
    "user": ("text", "image_url", "input_audio", "file"),
}


def read_parts(prompt: Prompt, role: str, message: Json, i: int) -> None:
    """Add a message's content to the prompt. Raises Fail for what OpenAI refuses."""
    content, where = message.get("content"), f"messages.[{i}].content"
    if isinstance(content, str):
        prompt.text(role, content)
        return
    if content is None:
        if role == "assistant" and (message.get("tool_calls") or message.get("refusal")):
            return
        raise refused("Invalid value for 'content': expected a string, got null.", where)
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        text = f"Invalid type for 'messages[{i}].content': expected one of a string or array of objects."
        raise refused(text, where, "invalid_type")
    if not content:
        text = "empty array. Expected an array with minimum length 1, but got an empty array instead."
        raise refused(f"Invalid 'messages[{i}].content': {text}", where, "empty_array")
    for j, part in enumerate(content):
        _read_part(prompt, role, part, f"messages[{i}].content[{j}]")


def _read_part(prompt: Prompt, role: str, part: Json, where: str) -> None:
    kind: Any = part.get("type", "text" if "text" in part else None)
    if kind not in _ALLOWED[role]:
        names = ", ".join(f"'{name}'" for name in _ALLOWED[role])
        raise refused(
            f"Invalid value: '{kind}'. Supported values are: {names}.", f"{where}.type", "invalid_value"
        )
    if kind == "text":
        text = part.get("text")
        if not isinstance(text, str):
            raise refused(
                f"Invalid type for '{where}.text': expected a string.", f"{where}.text", "invalid_type"
            )
        prompt.text(role, text)
    elif kind == "refusal":
        prompt.text(role, str(part.get("refusal")))
    else:
        read_medium(prompt, role, part, where)
    if part.get("prompt_cache_breakpoint"):
        if role == "assistant":
            raise refused("'prompt_cache_breakpoint' is not supported on assistant messages.", where)
        prompt.mark()
