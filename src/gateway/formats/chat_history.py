"""OpenAI Chat Completions: the messages of a body become a neutral history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...messages import ContentPart, Message, Text, ToolCall, ToolResult
from .base import Json
from .fields import content_of
from .openai_shared import CHECKS, check_array, is_marked, read_file, read_image, read_name

_ROLES = ("system", "developer", "user", "assistant", "tool")
_PARTS = {
    "system": ("text",),
    "developer": ("text",),
    "user": ("text", "image_url", "input_audio", "file"),
    "assistant": ("text", "refusal"),
    "tool": ("text",),
}
_LONGEST_ID = 40


class ChatHistory:
    """The messages, and that each call has its result before anything else follows."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.only_form: list[str] = []
        self.hints: list[str] = []
        self._pending: list[str] = []  # ids of calls without a result yet
        self._answerable: list[str] = []  # ids of the calls that a tool message may answer now

    def read(self, body: Mapping[str, Any]) -> None:
        """Raises FormatError."""
        messages = CHECKS.objects(body, "messages")
        if messages is None:
            raise CHECKS.missing("messages")
        check_array(messages, "messages", len(messages))
        for i, message in enumerate(messages):
            self._message(message, i)
        self._check_answered()

    def _message(self, message: Json, i: int) -> None:
        where = f"messages[{i}]"
        role = CHECKS.required_text(message, "role", where)
        if role not in _ROLES:
            if role == "function":
                text = "The role 'function' is deprecated and not supported here: use 'tools' instead."
                raise CHECKS.refused(text, f"{where}.role", "unsupported_value")
            raise CHECKS.wrong_value(f"{where}.role", role, _ROLES)
        if message.get("name") is not None:
            self.hints.append("messages.name")
        if role == "tool":
            self._result(message, i)
            return
        self._check_answered()
        self._answerable = []
        content = message.get("content")
        if role == "assistant":
            self._answer(message, where)
        elif type(content) is str:  # most messages
            self.messages.append(Message("user" if role == "user" else "system", content))
        else:
            parts = self._parts(role, content, where)
            self.messages.append(Message("user" if role == "user" else "system", parts))

    def _answer(self, message: Json, where: str) -> None:
        if message.get("function_call") is not None:
            text = "'function_call' is deprecated and not supported here: use 'tool_calls' instead."
            raise CHECKS.refused(text, f"{where}.function_call", "unsupported_parameter")
        parts = self._said(message, where)
        calls = CHECKS.objects(message, "tool_calls", where)
        if calls is not None:
            check_array(calls, f"{where}.tool_calls")
            found = [self._call(call, f"{where}.tool_calls[{j}]") for j, call in enumerate(calls)]
            parts.extend(found)
            self._pending = [call.id for call in found]
            self._answerable = list(self._pending)
        elif not parts and message.get("content") is None and message.get("audio") is None:
            at = f"{where}.content"
            text = f"Invalid value for '{at}': expected a string, got null."
            raise CHECKS.refused(text, at, "invalid_value")
        self.messages.append(Message("assistant", content_of(parts)))

    def _said(self, message: Json, where: str) -> list[ContentPart]:
        content, refusal = message.get("content"), CHECKS.text(message, "refusal", where)
        if message.get("audio") is not None:
            self.only_form.append(f"{where}.audio")
        parts: list[ContentPart] = []
        if type(content) is str:
            parts = [Text(content)] if content else []
        elif content is not None:
            parts = list(self._parts("assistant", content, where))
        return [*parts, Text(refusal)] if refusal else parts

    def _call(self, call: Json, where: str) -> ToolCall:
        ident = CHECKS.required_text(call, "id", where)
        if len(ident) > _LONGEST_ID:
            at = f"{where}.id"
            text = (
                f"string too long. Expected a string with maximum length {_LONGEST_ID}, but got a string with"
            )
            text = f"Invalid '{at}': {text} length {len(ident)} instead."
            raise CHECKS.refused(text, at, "string_above_max_length")
        CHECKS.required_text(call, "type", where)
        if CHECKS.choice(call, "type", ("function", "custom"), where) == "custom":
            self.only_form.append(f"{where}.custom")
            custom = CHECKS.required_mapping(call, "custom", where)
            name = read_name(custom, f"{where}.custom")
            return ToolCall(ident, name, CHECKS.required_text(custom, "input", f"{where}.custom"))
        function, at = CHECKS.required_mapping(call, "function", where), f"{where}.function"
        return ToolCall(ident, read_name(function, at), CHECKS.required_text(function, "arguments", at))

    def _result(self, message: Json, i: int) -> None:
        where = f"messages[{i}]"
        if not self._answerable:
            text = "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
            raise CHECKS.refused(f"Invalid parameter: {text}", f"{where}.role")
        ident = CHECKS.required_text(message, "tool_call_id", where)
        if ident not in self._answerable:
            text = f"'tool_call_id' of '{ident}' not found in 'tool_calls' of previous message."
            raise CHECKS.refused(f"Invalid parameter: {text}", f"{where}.tool_call_id")
        if ident in self._pending:
            self._pending.remove(ident)
        content = message.get("content")
        parts = (Text(content),) if type(content) is str else self._parts("tool", content, where)
        texts = tuple(part for part in parts if isinstance(part, Text))
        self.messages.append(Message("tool", (ToolResult(ident, texts),)))

    def _check_answered(self) -> None:
        if self._pending:
            text = (
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
                "'tool_call_id'. The following tool_call_ids did not have response messages: "
            )
            raise CHECKS.refused(text + ", ".join(self._pending), "messages")

    def _parts(self, role: str, content: Any, where: str) -> tuple[ContentPart, ...]:
        at = f"{where}.content"
        if content is None:
            raise CHECKS.refused(
                f"Invalid value for '{at}': expected a string, got null.", at, "invalid_value"
            )
        if type(content) is not list:
            raise CHECKS.wrong_type(at, "string", content)
        check_array(content, at, len(content))
        return tuple(self._part(role, part, f"{at}[{j}]") for j, part in enumerate(content))

    def _part(self, role: str, part: Any, where: str) -> ContentPart:
        if type(part) is not dict:
            raise CHECKS.wrong_type(where, "object", part)
        kind, allowed = part.get("type"), _PARTS[role]
        if kind not in allowed:
            raise CHECKS.wrong_value(f"{where}.type", kind, allowed)
        if kind == "text":
            return Text(CHECKS.required_text(part, "text", where), cache=is_marked(part))
        if kind == "refusal":
            return Text(CHECKS.required_text(part, "refusal", where))
        holder, at = CHECKS.required_mapping(part, kind, where), f"{where}.{kind}"
        if kind == "image_url":
            url = CHECKS.required_text(holder, "url", at)
            return read_image(url, holder, at, cache=is_marked(part))
        if kind == "input_audio" or holder.get("file_id") is not None:
            self.only_form.append(where if kind == "input_audio" else f"{at}.file_id")
            return Text("")
        return read_file(holder, at, cache=is_marked(part))
