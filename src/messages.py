"""Conversations in one neutral form: what intake reads, the store keeps and every adapter writes for its API.

A message is a role and its parts. A plain text stands for one `Text` part, so that a prompt costs nothing
extra. Binary content is base64 text, as every API and the store take it.

    system, user     Text, Image, Document
    assistant        Text, ToolCall, Reasoning
    tool             ToolResult

No API takes every history as it is: adapters put system prompts, the roles' order and the ids of tool calls
into the form that their API accepts (`providers/`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

ROLES = ("system", "user", "assistant", "tool")
TOOL_CHOICES = ("auto", "none", "required")  # any other choice is the name of a tool
REASONING_EFFORTS = ("none", "minimal", "low", "medium", "high")


@dataclass(frozen=True, slots=True)
class Text:
    """Text. `cache`: a prompt that others share ends here, so the provider should keep it in its cache."""

    text: str
    cache: bool = False


@dataclass(frozen=True, slots=True)
class Image:
    """A picture: `data` (base64, of `media_type`) or `url`, never both. `detail`: low, high or auto."""

    media_type: str = ""
    data: str = ""
    url: str = ""
    detail: str = ""
    cache: bool = False

    @property
    def label(self) -> str:
        """What it is, for people: `image/png, 20 KB`."""
        return f"{self.media_type}, {_size(self.data)}" if self.data else f"image {self.url}"


@dataclass(frozen=True, slots=True)
class Document:
    """A document, a PDF for instance: `data` (base64, of `media_type`) or `url`, never both."""

    media_type: str = ""
    data: str = ""
    url: str = ""
    name: str = ""
    cache: bool = False

    @property
    def label(self) -> str:
        """What it is, for people: `report.pdf, application/pdf, 20 KB`."""
        what = f"{self.media_type}, {_size(self.data)}" if self.data else f"document {self.url}"
        return f"{self.name}, {what}" if self.name else what


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model asks for a call of the tool `name`. `arguments` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str
    cache: bool = False


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What the call `call_id` returned: texts, images and documents. `is_error`: the call failed."""

    call_id: str
    parts: tuple[Text | Image | Document, ...]
    is_error: bool = False
    cache: bool = False


@dataclass(frozen=True, slots=True)
class Reasoning:
    """What a model thought. Only the model that wrote it gets it back.

    `opaque`: JSON text that proves to its API where it comes from (signed or encrypted). `origin`:
    `API format/model`. `text`: readable where the API shows it. Gemini's signature belongs to the next part.
    """

    opaque: str
    origin: str
    text: str = ""


def _size(data: str) -> str:
    size = len(data) * 3 // 4 - data[-2:].count("=")  # of base64
    return f"{size:,} B" if size < 1000 else f"{size / 1000:,.0f} KB"


ContentPart = Text | Image | Document | ToolCall | ToolResult | Reasoning
Media = Image | Document


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `content` is its parts, or a text for one `Text` part."""

    role: str  # of ROLES
    content: str | tuple[ContentPart, ...]

    @property
    def parts(self) -> tuple[ContentPart, ...]:
        """The parts, also of a plain text."""
        return (Text(self.content),) if isinstance(self.content, str) else self.content

    @property
    def text(self) -> str:
        """The text that a person reads: that of the text parts, and of a tool's results."""
        return self.content if isinstance(self.content, str) else text_of(self.content)


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask for. `parameters` is a JSON schema of type object."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] | None = None
    strict: bool | None = None  # OpenAI: hold the arguments to the schema


def text_of(parts: Iterable[ContentPart]) -> str:
    """The texts among the parts, and those of tool results, one paragraph each."""
    found = []
    for part in parts:
        if isinstance(part, Text):
            found.append(part.text)
        elif isinstance(part, ToolResult):
            found.append(text_of(part.parts))
    return "\n\n".join(text for text in found if text)


def tool_calls_in(parts: Iterable[ContentPart]) -> tuple[ToolCall, ...]:
    """The calls among the parts, in their order."""
    return tuple(part for part in parts if isinstance(part, ToolCall))


def media_in(messages: Iterable[Message]) -> tuple[Media, ...]:
    """Every image and document of the conversation, those of tool results included."""
    found: list[Media] = []
    for message in messages:
        if isinstance(message.content, str):
            continue
        for part in message.content:
            inner = part.parts if isinstance(part, ToolResult) else (part,)
            found.extend(each for each in inner if isinstance(each, Image | Document))
    return tuple(found)


def text_length(message: Message) -> int:
    """How many characters of a message its provider counts as text."""
    return sum(map(len, text_parts(message)))


def tool_length(tool: Tool) -> int:
    """How many characters of text the definition of a tool is."""
    return len(tool.name) + len(tool.description) + len(json.dumps(tool.parameters or {}))


def text_parts(message: Message) -> Iterable[str]:
    """Everything of a message that its provider counts as text: texts, tool calls and their results."""
    if isinstance(message.content, str):
        yield message.content
        return
    for part in message.content:
        if isinstance(part, Text):
            yield part.text
        elif isinstance(part, ToolCall):
            yield part.name
            yield part.arguments
        elif isinstance(part, ToolResult):
            yield from (each.text for each in part.parts if isinstance(each, Text))
        elif isinstance(part, Reasoning):
            yield part.opaque
