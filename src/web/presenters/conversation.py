"""The turns of a conversation as the page of a task shows them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ...media_sizes import known_pixels
from ...messages import ContentPart, Image, Message, Reasoning, Text, ToolCall, ToolResult


@dataclass(frozen=True, slots=True)
class PartView:
    """One part. `kind`: text, media, call, result, error (a tool's), reasoning; `title`: what it is."""

    kind: str
    text: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True)
class TurnView:
    """One turn."""

    role: str
    parts: tuple[PartView, ...]


def turns_of(messages: Iterable[Message]) -> tuple[TurnView, ...]:
    """The messages, with the name of the tool above each result."""
    names: dict[str, str] = {}
    found = []
    for message in messages:
        names |= {part.id: part.name for part in message.parts if isinstance(part, ToolCall)}
        found.append(TurnView(message.role, parts_of(message.parts, names)))
    return tuple(found)


def parts_of(parts: Iterable[ContentPart], names: dict[str, str] | None = None) -> tuple[PartView, ...]:
    """The parts of a turn. `names`: of the tools, by the ids of their calls."""
    return tuple(view for part in parts for view in _views(part, names or {}))


def answer_parts(parts: Iterable[ContentPart]) -> tuple[PartView, ...]:
    """What an answer has beside its text: reasoning that can be read, and tool calls."""
    return tuple(view for view in parts_of(parts) if view.kind in ("reasoning", "call"))


def _views(part: ContentPart, names: dict[str, str]) -> Iterator[PartView]:
    if isinstance(part, Text):
        yield PartView("text", part.text)
    elif isinstance(part, ToolCall):
        yield PartView("call", _indented(part.arguments), part.name)
    elif isinstance(part, ToolResult):
        yield from _result_views(part, names)
    elif isinstance(part, Reasoning):
        if part.text:
            yield PartView("reasoning", part.text)
    else:
        width, height = known_pixels(part) if isinstance(part, Image) else (0, 0)
        shown = f", {width:,} x {height:,} px" if width and height else ""
        yield PartView("media", title=part.label + shown)


def _result_views(result: ToolResult, names: dict[str, str]) -> Iterator[PartView]:
    texts = "\n\n".join(each.text for each in result.parts if isinstance(each, Text))
    kind = "error" if result.is_error else "result"
    yield PartView(kind, texts, names.get(result.call_id, result.call_id))
    yield from parts_of(each for each in result.parts if not isinstance(each, Text))


def _indented(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), ensure_ascii=False, indent=2)
    except ValueError:
        return arguments
