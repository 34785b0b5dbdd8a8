"""The content of an Anthropic answer as parts. Pure."""

from __future__ import annotations

from ..messages import ContentPart, Text
from ..records import CompletionRequest
from . import values
from .answers import reasoning_of, tool_call, tool_names
from .anthropic_messages import ORIGIN, tool_name


def parts_of(content: object, request: CompletionRequest) -> tuple[list[ContentPart], str]:
    """`(parts, the types of the blocks beside them)`."""
    parts: list[ContentPart] = []
    others: set[str] = set()
    names = tool_names(request, tool_name)
    for block in map(values.mapping, values.sequence(content)):
        kind = values.text(block.get("type"))
        found: ContentPart | None = None
        if kind == "text" and isinstance(block.get("text"), str):
            found = Text(block["text"])
        elif kind == "tool_use":
            found = tool_call(block.get("id"), block.get("name"), block.get("input"), names)
        elif kind in ("thinking", "redacted_thinking"):
            found = reasoning_of(f"{ORIGIN}/{request.model}", block, block.get("thinking"))
        if found is not None:
            parts.append(found)
        elif kind != "text":
            others.add(kind)
    return parts, ", ".join(sorted(others - {""}))
