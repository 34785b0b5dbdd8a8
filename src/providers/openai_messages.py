"""A conversation as OpenAI Chat Completions takes it. Pure.

texts      a string, or parts where there is more than text or a cache mark
images     of users only: those of tool results follow in a user's message behind all results
documents  PDFs as files; plain text as text
reasoning  back to the model of a compatible server that wrote it; OpenAI keeps its own
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from ..media_sizes import media_type
from ..messages import (
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
    tool_calls_in,
)
from ..records import CompletionRequest
from .conversations import accepted_name, joined_text, ordered
from .media import left_out, plain_text, text_document
from .prompts import Json
from .tool_schemas import parameters_of, with_items

ORIGIN = "openai"
_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_ID = re.compile(r".+", re.DOTALL)
_LONGEST_NAME, _LONGEST_ID = 64, 40
_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_DETAILS = ("auto", "low", "high", "original")
REASONING_FIELDS = (
    "reasoning_content",
    "reasoning_details",
    "reasoning",
    "thinking",
)  # of compatible servers
_MARK = {"prompt_cache_breakpoint": {"mode": "explicit"}}


def tool_name(name: str) -> str:
    """The name under which the API knows a tool."""
    return accepted_name(name, _NAME, _LONGEST_NAME)


def rendered_messages(
    messages: Sequence[Message], model: str, *, marks: bool
) -> tuple[list[Json], list[str]]:
    """`(messages, warnings)`. `marks`: the model takes cache marks."""
    writer = _Writer(f"{ORIGIN}/{model}", marks=marks)
    for message in ordered(messages):
        writer.add(message)
    return writer.messages or [{"role": "user", "content": ""}], writer.warnings


def rendered_tools(request: CompletionRequest) -> Json:
    """The fields of a body that are about tools."""
    if not request.tools:
        return {}
    found: Json = {"tools": [_tool(tool) for tool in request.tools]}
    if request.tool_choice in TOOL_CHOICES:
        found["tool_choice"] = request.tool_choice
    elif request.tool_choice:
        found["tool_choice"] = {"type": "function", "function": {"name": tool_name(request.tool_choice)}}
    if request.parallel_tool_calls is not None:
        found["parallel_tool_calls"] = request.parallel_tool_calls
    return found


def _tool(tool: Tool) -> Json:
    schema, description = parameters_of(tool)
    function: Json = {"name": tool_name(tool.name), "parameters": with_items(schema)}
    if description:
        function["description"] = description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


class _Writer:
    """Writes messages one by one. Media of tool results wait until the next message that is none."""

    def __init__(self, origin: str, *, marks: bool) -> None:
        self._origin = origin
        self._marks = marks
        self.messages: list[Json] = []
        self.warnings: list[str] = []

    def add(self, message: Message) -> None:
        if isinstance(message.content, str):
            self.messages.append({"role": message.role, "content": message.content})
        elif message.role == "assistant":
            self._add_answer(message.content)
        elif message.role == "tool":
            self._add_results(message.content)
        else:
            self._add_said(message.role, message.content)

    def _add_said(self, role: str, parts: Iterable[ContentPart]) -> None:
        self.messages.append({"role": role, "content": self._content(parts)})

    def _content(self, parts: Iterable[ContentPart]) -> str | list[Json]:
        """One text as a string, everything else as a list."""
        blocks = [block for part in parts for block in self._blocks(part)]
        if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
            return str(blocks[0]["text"])
        return blocks or ""

    def _blocks(self, part: ContentPart) -> Iterable[Json]:
        block: Json | None = None
        if isinstance(part, Text):
            block = {"type": "text", "text": part.text} if part.text else None
        elif isinstance(part, Image):
            block = self._image(part)
        elif isinstance(part, Document):
            block = self._document(part)
        if block is None:
            return
        if self._marks and not isinstance(part, Reasoning) and part.cache:
            block |= _MARK
        yield block

    def _image(self, image: Image) -> Json:
        url = image.url
        if image.data:
            kind = media_type(image)
            if kind not in _IMAGES:
                return self._placeholder(image)
            url = f"data:{kind};base64,{image.data}"
        elif not url.startswith(("https://", "http://")):
            return self._placeholder(image)
        found: Json = {"url": url}
        if image.detail in _DETAILS:
            found["detail"] = image.detail
        return {"type": "image_url", "image_url": found}

    def _document(self, document: Document) -> Json:
        if (text := plain_text(document)) is not None:
            return {"type": "text", "text": text_document(document, text).text or " "}
        if not document.data or media_type(document) != "application/pdf":
            return self._placeholder(document)
        data = f"data:application/pdf;base64,{document.data}"
        return {"type": "file", "file": {"filename": document.name or "document.pdf", "file_data": data}}

    def _placeholder(self, part: Image | Document) -> Json:
        text, warning = left_out(part, "OpenAI")
        self.warnings.append(warning)
        return {"type": "text", "text": text.text}

    def _add_answer(self, parts: Sequence[ContentPart]) -> None:
        texts = [part.text for part in parts if isinstance(part, Text) and part.text]
        calls = tool_calls_in(parts)
        if not texts and not calls:
            return
        answer: Json = {"role": "assistant", "content": "".join(texts) if texts else None}
        if calls:
            answer["tool_calls"] = [_call(call) for call in calls]
        for part in parts:
            if isinstance(part, Reasoning) and part.origin == self._origin:
                answer |= _own_fields(part)
        self.messages.append(answer)

    def _add_results(self, parts: Iterable[ContentPart]) -> None:
        shown: list[ContentPart] = []
        for result in parts:
            if not isinstance(result, ToolResult):
                continue
            media = [part for part in result.parts if not isinstance(part, Text)]
            ident = accepted_name(result.call_id, _ID, _LONGEST_ID)
            if media:
                shown += [Text(f"Attached to the result of {ident}:"), *media]
            content: Any = _said(result, has_media=bool(media))
            if self._marks and result.cache and content:
                content = [{"type": "text", "text": content, **_MARK}]
            self.messages.append({"role": "tool", "tool_call_id": ident, "content": content})
        if shown:
            self._add_said("user", shown)


def _call(call: ToolCall) -> Json:
    function = {"name": tool_name(call.name), "arguments": call.arguments or "{}"}
    return {"id": accepted_name(call.id, _ID, _LONGEST_ID), "type": "function", "function": function}


def _said(result: ToolResult, *, has_media: bool) -> str:
    """The text of a result. The API has no flag for an error, so that the text has to say it."""
    text = joined_text(result.parts)
    if result.is_error and not text.lower().startswith("error"):
        return f"Error: {text}" if text else "Error"
    return text or ("(see the attachment)" if has_media else "")


def _own_fields(part: Reasoning) -> Json:
    """The fields that a compatible server has written, to be sent back to it."""
    try:
        fields = json.loads(part.opaque)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(fields, dict):
        return {}
    return {name: fields[name] for name in REASONING_FIELDS if name in fields}
