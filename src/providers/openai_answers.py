"""The message of an OpenAI answer as parts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..messages import ContentPart, Text
from ..records import CompletionRequest
from . import values
from .answers import reasoning_of, tool_call, tool_names
from .openai_messages import ORIGIN, REASONING_FIELDS, tool_name


def parts_of(message: Mapping[str, Any], request: CompletionRequest) -> tuple[list[ContentPart], str]:
    """`(parts, what the message holds beside them)`: reasoning of compatible servers, text, calls."""
    parts: list[ContentPart] = []
    fields = {name: message[name] for name in REASONING_FIELDS if message.get(name)}
    if fields:
        shown = next((each for each in fields.values() if isinstance(each, str)), "")
        parts.append(reasoning_of(f"{ORIGIN}/{request.model}", fields, shown))
    if text := text_of(message.get("content")):
        parts.append(Text(text))
    names = tool_names(request, tool_name)
    unknown = False
    for call in map(values.mapping, values.sequence(message.get("tool_calls"))):
        function = values.mapping(call.get("function"))
        found = tool_call(call.get("id"), function.get("name"), function.get("arguments"), names)
        unknown |= found is None
        parts += [found] if found else []
    if old := values.mapping(message.get("function_call")):  # the form before tools
        found = tool_call("", old.get("name"), old.get("arguments"), names)
        parts += [found] if found else []
    return parts, "tool calls of an unknown kind" if unknown else ""


def text_of(content: object) -> str:
    """A message's text: a string, or on some servers a list of parts."""
    if isinstance(content, list):
        parts = (part.get("text") for part in map(values.mapping, content) if part.get("type") == "text")
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""
