"""Conversations as JSON values, as the database keeps them and as ids and fingerprints of tasks see them.

    "a text"                                      the content of a message that is one plain text
    [{"text": "a text"}, {"image": "image/png", "data": "..."}, ...]      parts

The first key of a part says what it is; fields with their default are left out. A part that JSON does not
have here, because a later version wrote it, raises ValueError.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .messages import ContentPart, Document, Image, Message, Reasoning, Text, Tool, ToolCall, ToolResult

Json = dict[str, Any]
# The class of each part, its first key, and the fields by key: the first one is that of the first key.
_FIELDS: dict[type, dict[str, str]] = {
    Text: {"text": "text", "cache": "cache"},
    Image: {
        "image": "media_type", "data": "data", "url": "url", "detail": "detail", "cache": "cache",
    },
    Document: {
        "document": "media_type", "data": "data", "url": "url", "name": "name", "cache": "cache",
    },
    ToolCall: {"call": "id", "name": "name", "arguments": "arguments", "cache": "cache"},
    ToolResult: {"result": "call_id", "parts": "parts", "is_error": "is_error", "cache": "cache"},
    Reasoning: {"reasoning": "opaque", "origin": "origin", "text": "text"},
}  # fmt: skip
_ALWAYS = frozenset(
    ["arguments", "parts", "origin"]
)  # beside the first key: written where they are empty too


def encode_content(content: str | Sequence[ContentPart]) -> str | list[Json]:
    """A message's content as a JSON value."""
    return content if isinstance(content, str) else [encode_part(part) for part in content]


def decode_content(value: str | list[Json]) -> str | tuple[ContentPart, ...]:
    """The content from `encode_content`."""
    return value if isinstance(value, str) else tuple(map(decode_part, value))


def encode_part(part: ContentPart) -> Json:
    """One part as an object."""
    found: Json = {}
    for key, name in _FIELDS[type(part)].items():
        value = getattr(part, name)
        if isinstance(value, tuple):
            value = [encode_part(each) for each in value]
        if value or key in _ALWAYS or not found:
            found[key] = value
    return found


def decode_part(value: Mapping[str, Any]) -> ContentPart:
    """The part from `encode_part`. Raises ValueError for another object."""
    first = next(iter(value), "")
    kind = _KINDS.get(first)
    if kind is None:
        raise ValueError(f"unknown part of a message: {first[:40]!r}")
    fields = {_FIELDS[kind][key]: each for key, each in value.items()}
    if "parts" in fields:
        fields["parts"] = tuple(map(decode_part, fields["parts"]))
    part: ContentPart = kind(**fields)
    return part


_KINDS: dict[str, Any] = {next(iter(fields)): kind for kind, fields in _FIELDS.items()}


def decode_message(role: str, content: str | list[Json]) -> Message:
    """A message from its role and encoded content."""
    return Message(role, content if type(content) is str else decode_content(content))


def encode_tool(tool: Tool) -> Json:
    """A tool as an object, without fields that have their default."""
    fields = {"description": tool.description or None, "parameters": tool.parameters, "strict": tool.strict}
    return {"name": tool.name} | {key: value for key, value in fields.items() if value is not None}


def decode_tool(value: Mapping[str, Any]) -> Tool:
    """The tool from `encode_tool`."""
    return Tool(**value)


def texts_of(content: str | list[Json]) -> Iterator[str]:
    """The texts that a person reads in encoded content: those of text parts and of tools' results."""
    if isinstance(content, str):
        yield content
    for part in content if isinstance(content, list) else ():
        kind = _KINDS.get(next(iter(part), "")) if isinstance(part, dict) else None
        if kind is Text:
            yield part["text"]
        elif kind is ToolResult:
            yield from texts_of(part["parts"])
