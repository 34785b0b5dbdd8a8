"""Anthropic Messages: the system prompt and the messages of a body become a neutral history.

Reasoning that another provider wrote is known by its seal: it is part of the history, and left out of what
Anthropic gets, which would refuse it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from ...messages import ContentPart, Document, Image, Message, Reasoning, Text, ToolCall, ToolResult
from .base import Json
from .checks import Checks
from .fields import content_of
from .sealing import BrokenSealError, Unsealing, is_sealed

_ROLES = ("user", "assistant", "system")
_BLOCKS = {
    "user": ("text", "image", "document", "tool_result"),
    "assistant": ("text", "thinking", "redacted_thinking", "tool_use"),
}
_OF_THE_OTHER = {"user": _BLOCKS["assistant"], "assistant": _BLOCKS["user"]}
_IN_RESULTS = ("text", "image", "document")
_THOUGHTS = ("thinking", "redacted_thinking")


class MessagesHistory:
    """Reads the messages, and checks that each call has its result at once and each result its call."""

    def __init__(self, checks: Checks, model: str) -> None:
        self.messages: list[Message] = []
        self.only_form: list[str] = []
        self.lacks_thinking = (
            False  # the answer whose calls are being answered begins with another's thoughts
        )
        self._checks = checks
        self._origin = f"anthropic/{model}"
        self._role = ""
        self._called: dict[str, None] = {}  # ids of the calls of the assistant's last turn
        self._open: dict[str, None] = {}  # those of them without a result yet
        self._called_in = 0  # the message that they are in

    def read(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The body as Anthropic gets it. Raises FormatError."""
        self._system(body)
        messages = self._checks.objects(body, "messages")
        if messages is None:
            raise self._checks.missing("messages")
        if not messages:
            raise self._checks.refused("at least one message is required", "messages")
        kept = [self._message(message, i) for i, message in enumerate(messages)]
        self._check_answered(self._called if self._role == "assistant" else self._open)
        if self._role == "assistant":
            self.only_form.append(f"messages.{len(messages) - 1}: the beginning of the answer")
        if all(each is message for each, message in zip(kept, messages, strict=True)):
            return body
        return {**body, "messages": [each for each in kept if each is not None]}

    def _system(self, body: Mapping[str, Any]) -> None:
        system = body.get("system")
        if system is not None and system != "":
            self._system_prompt(body, "system", "")

    def _system_prompt(self, holder: Mapping[str, Any], key: str, where: str) -> None:
        content, at = holder.get(key), self._checks.at(where, key)
        if type(content) is str:
            self.messages.append(Message("system", content))
            return
        parts = [
            self._text(block, f"{at}.{j}")
            for j, block in enumerate(self._checks.objects(holder, key, where) or ())
            if self._kind(block, f"{at}.{j}", ("text",))
        ]
        if parts:
            self.messages.append(Message("system", content_of(parts)))

    def _kind(self, block: Json, where: str, allowed: tuple[str, ...]) -> str:
        kind = self._checks.required_text(block, "type", where)
        if kind not in allowed:
            names = ", ".join(f"'{name}'" for name in allowed)
            text = f"Input tag '{kind}' found using 'type' does not match any of the expected tags: {names}"
            raise self._checks.refused(text, where)
        return kind

    def _message(self, message: Json, i: int) -> Json | None:
        """Reads a message; gives it as Anthropic gets it, None where nothing of it is left."""
        where, content = f"messages.{i}", message.get("content")
        role = self._checks.required_text(message, "role", where)
        if role not in _ROLES:
            raise self._checks.wrong_value(f"{where}.role", role, _ROLES)
        if i == 0 and role != "user":
            raise self._checks.refused('first message must use the "user" role', "messages")
        if content is None:
            raise self._checks.missing(f"{where}.content")
        if role == "system":  # models take it or not; it belongs to no turn
            self._system_prompt(message, "content", where)
            return message
        self._enter(role)
        if type(content) is str:  # most messages
            if not content and role == "user":
                raise self._checks.refused("user messages must have non-empty content", where)
            self._check_answered(self._open)
            self.messages.append(Message(role, content))
            self.lacks_thinking &= role == "user"
            return message
        if type(content) is not list:
            raise self._checks.refused("Input should be a valid string or list", f"{where}.content")
        return self._blocks(role, message, content, i)

    def _enter(self, role: str) -> None:
        """Messages of the same role that follow each other are one turn, as the API joins them."""
        if role == self._role:
            return
        self._role = role
        if role == "user":
            self._open = dict(self._called)
        else:
            self._check_answered(self._open)
            self._called = {}

    def _check_answered(self, idents: Mapping[str, None]) -> None:
        if idents:
            names = ", ".join(idents)
            text = f"`tool_use` ids were found without `tool_result` blocks immediately after: {names}"
            rule = "Each `tool_use` block must have a corresponding `tool_result` block in the next message."
            raise self._checks.refused(f"{text}. {rule}", f"messages.{self._called_in}")

    def _blocks(self, role: str, message: Json, content: list[Any], i: int) -> Json | None:
        parts: list[ContentPart] = []
        kept: list[Json] = []
        unsealing = Unsealing()
        for j, block in enumerate(content):
            where = f"messages.{i}.content.{j}"
            if type(block) is not dict:
                raise self._checks.wrong_type(where, "object", block)
            if self._is_foreign(block):
                parts.extend(self._unsealed(block, where, unsealing))
                continue
            kept.append(block)
            parts.extend(self._block(role, block, where, i))
        unsealing.put_back(parts)
        self._add(role, parts)
        if role == "assistant":
            kinds = [block["type"] for block in kept]
            self.lacks_thinking = "tool_use" in kinds and kinds[0] not in _THOUGHTS
        if len(kept) == len(content):
            return message
        return {**message, "content": kept} if kept else None

    def _add(self, role: str, parts: list[ContentPart]) -> None:
        """Results of calls are messages of their own."""
        if role == "assistant":
            self.messages.append(Message(role, content_of(parts)))
            return
        for is_result, group in groupby(parts, lambda part: isinstance(part, ToolResult)):
            found = list(group)
            self.messages.append(
                Message("tool", tuple(found)) if is_result else Message(role, content_of(found))
            )

    def _block(self, role: str, block: Json, where: str, i: int) -> Iterator[ContentPart]:
        kind = self._checks.required_text(block, "type", where)
        if kind in _OF_THE_OTHER[role] and kind not in _BLOCKS[role]:
            self._kind(block, where, _BLOCKS[role])
        if kind == "tool_result":
            yield self._result(block, where)
            return
        self._check_answered(self._open)
        if kind == "tool_use":
            yield self._call(block, where, i)
        elif kind in _THOUGHTS:
            yield self._thought(block, kind, where)
        elif kind in _IN_RESULTS:
            yield from self._content(block, kind, where)
        else:  # tools that run at Anthropic, and what comes after this was written
            self.only_form.append(f"{where}.{kind}")

    def _url(self, source: Json, where: str) -> str:
        url = self._checks.required_text(source, "url", where)
        if not url.startswith(("https://", "http://")):
            raise self._checks.refused("Only HTTPS URLs are supported.", f"{where}.url")
        return url

    def _text(self, block: Json, where: str) -> Text:
        text = block.get("text")
        if type(text) is not str:
            raise self._checks.missing(f"{where}.text.text")
        if not text:
            raise self._checks.refused("text content blocks must be non-empty", where.split(".")[0])
        return Text(text, cache=_is_marked(block))

    def _content(self, block: Json, kind: str, where: str) -> Iterator[ContentPart]:
        if kind == "text":
            yield self._text(block, where)
            return
        source = self._checks.required_mapping(block, "source", f"{where}.{kind}")
        form = source.get("type")
        at = f"{where}.{kind}.source.{form}"
        name = self._checks.text(block, "title", f"{where}.{kind}") or ""
        if isinstance(block.get("citations"), dict) and block["citations"].get("enabled"):
            self.only_form.append(f"{where}.{kind}.citations")
        if form == "url":
            yield _medium(kind, name, cache=_is_marked(block), url=self._url(source, at))
        elif form == "base64":
            media_type = self._checks.required_text(source, "media_type", at)
            data = self._checks.required_text(source, "data", at)
            yield _medium(kind, name, cache=_is_marked(block), media_type=media_type, data=data)
        elif kind == "document" and form == "text":
            yield Text(self._checks.required_text(source, "data", at), cache=_is_marked(block))
        elif form == "file" or (kind == "document" and form == "content"):
            self.only_form.append(at)
        else:
            self._kind({"type": str(form)}, f"{where}.{kind}.source", ("base64", "url", "file"))

    def _call(self, block: Json, where: str, i: int) -> ToolCall:
        at = f"{where}.tool_use"
        ident = self._checks.required_text(block, "id", at)
        name = self._checks.required_text(block, "name", at)
        given = self._checks.required_mapping(block, "input", at)
        if ident in self._called:
            raise self._checks.refused("`tool_use` ids must be unique", "messages")
        self._called[ident] = None
        self._called_in = i
        return ToolCall(ident, name, json.dumps(given, ensure_ascii=False), cache=_is_marked(block))

    def _result(self, block: Json, where: str) -> ToolResult:
        at = f"{where}.tool_result"
        ident = self._checks.required_text(block, "tool_use_id", at)
        if ident not in self._called:
            text = (
                f"unexpected `tool_use_id` found in `tool_result` blocks: {ident}. Each `tool_result` block"
            )
            rule = "must have a corresponding `tool_use` block in the previous message."
            raise self._checks.refused(f"{text} {rule}", where)
        if ident not in self._open:
            text = "each tool_use must have a single result. Found multiple `tool_result` blocks with id"
            raise self._checks.refused(f"{text}: {ident}", where)
        del self._open[ident]
        is_error = self._checks.flag(block, "is_error", at) or False
        content = block.get("content")
        parts: list[ContentPart] = []
        if type(content) is str:
            parts = [Text(content)]
        else:
            for j, inner in enumerate(self._checks.objects(block, "content", at) or ()):
                parts.extend(self._inner(inner, f"{at}.content.{j}"))
        found = tuple(part for part in parts if isinstance(part, Text | Image | Document))
        return ToolResult(ident, found, is_error, cache=_is_marked(block))

    def _inner(self, block: Json, where: str) -> Iterator[ContentPart]:
        kind = self._checks.required_text(block, "type", where)
        if kind in _IN_RESULTS:
            yield from self._content(block, kind, where)
        else:  # a search result, a reference to a tool
            self.only_form.append(f"{where}.{kind}")

    def _thought(self, block: Json, kind: str, where: str) -> Reasoning:
        names = ("thinking", "signature") if kind == "thinking" else ("data",)
        for name in names:
            self._checks.required_text(block, name, f"{where}.{kind}")
        return Reasoning(json.dumps(block, ensure_ascii=False), self._origin, block.get("thinking") or "")

    def _is_foreign(self, block: Json) -> bool:
        return block.get("type") in _THOUGHTS and is_sealed(block.get("signature") or block.get("data"))

    def _unsealed(self, block: Json, where: str, unsealing: Unsealing) -> list[Reasoning]:
        name = "signature" if block["type"] == "thinking" else "data"
        text = self._checks.text(block, "thinking", f"{where}.thinking") or ""
        try:
            return unsealing.read(block[name], text)
        except BrokenSealError as error:
            message = f"Invalid `{name}` in `{block['type']}` block: {error}"
            raise self._checks.refused(message, where) from error


def _is_marked(block: Json) -> bool:
    return block.get("cache_control") is not None


def _medium(
    kind: str, name: str, *, cache: bool, media_type: str = "", data: str = "", url: str = ""
) -> Image | Document:
    if kind == "image":
        return Image(media_type, data, url, cache=cache)
    return Document(media_type, data, url, name=name, cache=cache)
