"""A conversation as Anthropic Messages takes it. Pure.

system     all system prompts together, before the conversation
turns      the user speaks first; texts that are blank are left out, and so is a turn without anything
results    at the beginning of the user's turn behind the calls
reasoning  back to the model that wrote it, never as the last block of a turn
tools      are defined wherever the history has calls, as the API demands
marks      at most four; those of the caller go first
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from ..media_sizes import media_type
from ..messages import (
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
from .conversations import OPENING, accepted_name, arguments_of, ordered
from .media import left_out, plain_text
from .prompts import Json
from .schemas import anthropic_form
from .tool_schemas import parameters_of

ORIGIN = "anthropic"
MOST_MARKS = 4
_MARK = {"cache_control": {"type": "ephemeral"}}
_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_LONGEST_NAME, _LONGEST_ID = 128, 256
_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_EMPTY = "(empty)"
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}
THINKING = ("thinking", "redacted_thinking")


def tool_name(name: str) -> str:
    """The name under which the API knows a tool."""
    return accepted_name(name, _NAME, _LONGEST_NAME)


def rendered_messages(messages: Sequence[Message], model: str) -> tuple[Json, list[str]]:
    """`(the fields system and messages, warnings)`."""
    turns = ordered(messages)
    writer = _Writer(f"{ORIGIN}/{model}")
    system = [part for turn in turns if turn.role == "system" for part in turn.parts if _is_said(part)]
    if all(turn.role == "system" for turn in turns):  # the API needs a user's turn
        turns, system = [Message("user", tuple(system))], []
    for turn in turns:
        if turn.role != "system":
            writer.add(turn)
    found: Json = {"messages": writer.finished()}
    if system:
        found["system"] = _system(system)
    _limit_marks(found)
    return found, writer.warnings


def _is_said(part: ContentPart) -> bool:
    """Whether it is more than a blank text, which the API refuses."""
    return not isinstance(part, Text) or bool(part.text.strip())


def _system(parts: Iterable[ContentPart]) -> str | list[Json]:
    """The system prompts as one text, divided only at cache marks."""
    blocks: list[Json] = []
    texts: list[str] = []
    for part in parts:
        if isinstance(part, Text):
            texts.append(part.text)
            if part.cache:
                blocks.append({"type": "text", "text": "\n\n".join(texts), **_MARK})
                texts = []
    if not blocks:
        return "\n\n".join(texts)
    return [*blocks, {"type": "text", "text": "\n\n".join(texts)}] if texts else blocks


def _limit_marks(body: Json) -> None:
    """Keep the last marks: each covers what stands before it."""
    system = body.get("system")
    blocks = list(system) if isinstance(system, list) else []
    for message in body["messages"]:
        blocks += message["content"] if isinstance(message["content"], list) else []
    marked = [block for block in blocks if "cache_control" in block]
    for block in marked[: max(0, len(marked) - MOST_MARKS)]:
        del block["cache_control"]


class _Writer:
    """Writes turns one by one. Blocks of the same role that follow each other become one message."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._messages: list[Json] = []
        self.warnings: list[str] = []

    def add(self, message: Message) -> None:
        role = "assistant" if message.role == "assistant" else "user"
        if isinstance(message.content, str):
            if message.content.strip():
                self._append(role, message.content)
            return
        blocks = [block for part in message.content for block in self._blocks(part)]
        while role == "assistant" and blocks and blocks[-1]["type"] in THINKING:
            blocks.pop()  # the API refuses it as the last block
        if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
            self._append(role, blocks[0]["text"])
        elif blocks:
            self._append(role, blocks)

    def _append(self, role: str, content: str | list[Json]) -> None:
        last: Json = self._messages[-1] if self._messages else {"role": "", "content": ""}
        if last["role"] != role or (isinstance(content, str) and isinstance(last["content"], str)):
            self._messages.append({"role": role, "content": content})
            return
        last["content"] = [*_as_blocks(last["content"]), *_as_blocks(content)]

    def finished(self) -> list[Json]:
        """All messages, the first of which is the user's."""
        found = self._messages or [{"role": "user", "content": _EMPTY}]
        if found[0]["role"] == "assistant":
            found = [{"role": "user", "content": OPENING}, *found]
        if found[-1]["role"] == "assistant":  # the model goes on from here, and no blank may stand before it
            content = found[-1]["content"]
            if isinstance(content, str):
                found[-1]["content"] = content.rstrip()
            for block in content if isinstance(content, list) else ():
                if block["type"] == "text":
                    block["text"] = block["text"].rstrip()
        return found

    def _blocks(self, part: ContentPart) -> Iterable[Json]:
        block = self._block(part)
        if block is None:
            return
        if not isinstance(part, Reasoning) and part.cache:
            block |= _MARK
        yield block

    def _block(self, part: ContentPart) -> Json | None:
        if isinstance(part, Reasoning):
            return self._own_thinking(part)
        if isinstance(part, ToolResult):
            return self._result(part)
        if not isinstance(part, ToolCall):
            return self._content(part)
        ident = accepted_name(part.id, _NAME, _LONGEST_ID)
        return {"type": "tool_use", "id": ident, "name": tool_name(part.name), "input": arguments_of(part)}

    def _content(self, part: Text | Image | Document) -> Json | None:
        if isinstance(part, Text):
            return {"type": "text", "text": part.text} if part.text.strip() else None
        source = _image_source(part) if isinstance(part, Image) else _document_source(part)
        if source is None:
            text, warning = left_out(part, "Anthropic")
            self.warnings.append(warning)
            return {"type": "text", "text": text.text}
        if isinstance(part, Image):
            return {"type": "image", "source": source}
        return {"type": "document", "source": source, **({"title": part.name} if part.name else {})}

    def _result(self, result: ToolResult) -> Json:
        blocks = [found for part in result.parts if (found := self._content(part)) is not None]
        ident = accepted_name(result.call_id, _NAME, _LONGEST_ID)
        block: Json = {"type": "tool_result", "tool_use_id": ident}
        if blocks:
            block["content"] = blocks
            if len(blocks) == 1 and blocks[0]["type"] == "text":
                block["content"] = blocks[0]["text"]
        if result.is_error:
            block["is_error"] = True
        return block

    def _own_thinking(self, part: Reasoning) -> Json | None:
        if part.origin != self._origin:
            return None
        try:
            block = json.loads(part.opaque)
        except (ValueError, RecursionError):
            return None
        return block if isinstance(block, dict) and block.get("type") in THINKING else None


def _as_blocks(content: str | list[Json]) -> list[Json]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _image_source(image: Image) -> Json | None:
    if image.data:
        kind = media_type(image)
        return {"type": "base64", "media_type": kind, "data": image.data} if kind in _IMAGES else None
    return {"type": "url", "url": image.url} if image.url.startswith("https://") else None


def _document_source(document: Document) -> Json | None:
    if (text := plain_text(document)) is not None:
        return {"type": "text", "media_type": "text/plain", "data": text} if text.strip() else None
    if document.data:
        is_pdf = media_type(document) == "application/pdf"
        source = {"type": "base64", "media_type": "application/pdf", "data": document.data}
        return source if is_pdf else None
    return {"type": "url", "url": document.url} if document.url.startswith("https://") else None


# ---------------------------------------------------------------- tools


def rendered_tools(request: CompletionRequest) -> tuple[Json, list[str]]:
    """`(the fields of a body that are about tools, warnings)`."""
    warnings: list[str] = []
    if not request.tools:
        names = {tool_name(call.name): None for m in request.messages for call in _calls_of(m)}
        if not names:
            return {}, []
        tools = [{"name": name, "input_schema": {"type": "object"}} for name in names]
        return {"tools": tools, "tool_choice": {"type": "none"}}, []
    found: Json = {"tools": [_tool(tool, warnings) for tool in request.tools]}
    choice: Json = {}
    if request.tool_choice in _CHOICES:
        choice = {"type": _CHOICES[request.tool_choice]}
    elif request.tool_choice:
        choice = {"type": "tool", "name": tool_name(request.tool_choice)}
    if request.parallel_tool_calls is not None and choice.get("type") != "none":
        choice = {"type": "auto", **choice, "disable_parallel_tool_use": not request.parallel_tool_calls}
    if choice:
        found["tool_choice"] = choice
    return found, warnings


def _calls_of(message: Message) -> Iterable[ToolCall]:
    is_answer = message.role == "assistant" and not isinstance(message.content, str)
    return tool_calls_in(message.parts) if is_answer else ()


def _tool(tool: Tool, warnings: list[str]) -> Json:
    schema, description = parameters_of(tool)
    found: Json = {"name": tool_name(tool.name), "input_schema": schema}
    if description:
        found["description"] = description
    if tool.strict:
        form = anthropic_form(schema)
        if form.complete and form.schema is not None:
            found |= {"input_schema": form.schema, "strict": True}
        else:
            warnings.append(f"tool {tool.name}: its arguments are not held to the schema")
    return found
