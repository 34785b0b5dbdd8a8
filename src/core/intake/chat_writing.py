"""Writes messages and tools in the form that `chat_reading` reads.

Reasoning has no place in that form: it is a part of type `reasoning` with its readable text, for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ...messages import (
    TOOL_CHOICES,
    ContentPart,
    Document,
    Image,
    Message,
    Reasoning,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from .chat_form import Json


def written_messages(messages: Iterable[Message]) -> list[Json]:
    """The messages; one with several results of tools becomes one for each."""
    return [written for message in messages for written in _written(message)]


def _written(message: Message) -> list[Json]:
    content = message.content
    if isinstance(content, str):
        return [{"role": message.role, "content": content}]
    results = [part for part in content if isinstance(part, ToolResult)]
    if results:
        return [_written_result(message.role, result) for result in results]
    parts = [part for part in content if not isinstance(part, ToolCall)]
    calls = written_calls(content)
    written: Json = {"role": message.role, "content": _content(parts) if parts or not calls else None}
    return [written | {"tool_calls": calls} if calls else written]


def _written_result(role: str, result: ToolResult) -> Json:
    written = {"role": role, "tool_call_id": result.call_id, "content": _content(result.parts)}
    return written | {"is_error": True} if result.is_error else written


def _content(parts: Sequence[ContentPart]) -> str | list[Json]:
    """A text where it is all."""
    if not parts:
        return ""
    if len(parts) == 1 and isinstance(parts[0], Text):
        return parts[0].text
    return [_part(part) for part in parts]


def _part(part: ContentPart) -> Json:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if isinstance(part, Image):
        image = {"url": part.url or f"data:{part.media_type};base64,{part.data}"}
        return {"type": "image_url", "image_url": image | ({"detail": part.detail} if part.detail else {})}
    if isinstance(part, Document):
        data = f"data:{part.media_type};base64,{part.data}"
        file = {"file_url": part.url} if part.url else {"file_data": data}
        return {"type": "file", "file": file | ({"filename": part.name} if part.name else {})}
    return {"type": "reasoning", "text": part.text if isinstance(part, Reasoning) else ""}


def written_calls(parts: Iterable[ContentPart]) -> list[Json]:
    """The tool calls among the parts."""
    return [
        {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.arguments}}
        for part in parts
        if isinstance(part, ToolCall)
    ]


def written_tools(tools: Iterable[Tool]) -> list[Json]:
    """The tools."""
    found = []
    for tool in tools:
        optional: dict[str, Any] = {
            "description": tool.description or None,
            "parameters": tool.parameters,
            "strict": tool.strict,
        }
        given = {key: value for key, value in optional.items() if value is not None}
        found.append({"type": "function", "function": {"name": tool.name, **given}})
    return found


def written_choice(choice: str) -> str | Json | None:
    """A `tool_choice`; None where it is left to the API."""
    if not choice or choice in TOOL_CHOICES:
        return choice or None
    return {"type": "function", "function": {"name": choice}}
