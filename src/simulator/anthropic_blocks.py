"""Anthropic Messages: the blocks that content is made of."""

from __future__ import annotations

import re

from .anthropic_media import read_medium
from .prompt import Prompt
from .reasoning import check_thinking_block
from .shapes import Json, refused

_ID = re.compile(r"[a-zA-Z0-9_-]+")
_ALLOWED = {
    "system": ("text",),
    "user": ("text", "image", "document", "tool_result"),
    "assistant": ("text", "thinking", "redacted_thinking", "tool_use"),
}
_IN_A_RESULT = ("text", "image", "document")


def read_block(prompt: Prompt, role: str, block: Json, where: str) -> None:
    """Add a block to the prompt. Raises Fail for what Anthropic refuses."""
    kind = block.get("type")
    if kind not in _ALLOWED[role]:
        names = ", ".join(f"'{name}'" for name in _ALLOWED[role])
        raise refused(f"{where}: Input tag '{kind}' found using 'type' does not match any of {names}")
    if kind == "text":
        prompt.text(role, block["text"])
    elif kind == "tool_use":
        _read_call(prompt, block, f"{where}.tool_use")
    elif kind == "tool_result":
        _read_result(prompt, block, f"{where}.tool_result")
    elif kind in ("image", "document"):
        read_medium(prompt, role, block, where)
    else:  # thinking of earlier answers is not counted
        check_thinking_block(block, prompt.model, where)
    if block.get("cache_control"):
        prompt.mark()


def _check_id(ident: object, where: str) -> None:
    if not isinstance(ident, str):
        raise refused(f"{where}: Field required")
    if _ID.fullmatch(ident) is None:
        raise refused(f"{where}: String should match pattern '^[a-zA-Z0-9_-]+$'")


def _read_call(prompt: Prompt, block: Json, where: str) -> None:
    _check_id(block.get("id"), f"{where}.id")
    if not isinstance(block.get("name"), str) or not block["name"]:
        raise refused(f"{where}.name: Field required")
    if not isinstance(block.get("input"), dict):
        raise refused(f"{where}.input: Input should be a valid dictionary")
    prompt.call(block["name"], block["input"])


def _read_result(prompt: Prompt, block: Json, where: str) -> None:
    _check_id(block.get("tool_use_id"), f"{where}.tool_use_id")
    if not isinstance(block.get("is_error", False), bool):
        raise refused(f"{where}.is_error: Input should be a valid boolean")
    content = block.get("content")
    if isinstance(content, str):
        prompt.text("tool", content)
        return
    for j, part in enumerate(content or ()):
        kind = part.get("type")
        if kind not in _IN_A_RESULT:
            names = ", ".join(f"'{name}'" for name in _IN_A_RESULT)
            text = f"Input tag '{kind}' found using 'type' does not match any of {names}"
            raise refused(f"{where}.content.{j}: {text}")
        if kind == "text":
            if not part.get("text"):
                raise refused("messages: text content blocks must be non-empty")
            prompt.text("tool", part["text"])
        else:
            read_medium(prompt, "tool", part, f"{where}.content.{j}")
