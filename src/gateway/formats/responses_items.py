"""OpenAI Responses: the items of an input become a neutral history.

Items of the assistant in a row are one message, and so are the outputs of its calls.

Reasoning that another provider wrote is known by its seal: it is part of the history, and left out of what
OpenAI gets, which would refuse it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...messages import ContentPart, Document, Image, Message, Reasoning, Text, ToolCall, ToolResult
from .base import Json
from .fields import content_of
from .openai_shared import CHECKS, is_marked, read_file, read_image, read_name
from .sealing import BrokenSealError, Unsealing, is_sealed

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_PARTS = {
    "system": ("input_text",),
    "user": ("input_text", "input_image", "input_file", "input_audio"),
    "assistant": ("output_text", "refusal"),
    "tool": ("input_text", "input_image", "input_file"),
}


class Items:
    """Reads the items, and checks that each call has its output and each output its call."""

    def __init__(self, model: str) -> None:
        self.messages: list[Message] = []
        self.only_form: list[str] = []
        self._origin = f"responses/{model}"
        self._role = ""  # of the message that is being collected
        self._parts: list[ContentPart] = []
        self._unsealing = Unsealing()
        self._called: set[str] = set()
        self._open: dict[str, None] = {}  # calls without an output yet, in their order
        self._foreign: set[int] = set()  # numbers of items that OpenAI does not get

    def read(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The body as OpenAI gets it. Raises FormatError."""
        given = body.get("input")
        if given is None and body.get("prompt"):
            return body
        if type(given) is str:
            self.messages.append(Message("user", given))
            return body
        items = CHECKS.objects(body, "input")
        if not items:
            raise CHECKS.missing("input")
        for i, item in enumerate(items):
            self._item(item, i)
        self._end_message()
        if self._open:
            text = f"No tool output found for function call {next(iter(self._open))}."
            raise CHECKS.refused(text, "input")
        if not self._foreign:
            return body
        return {**body, "input": [item for i, item in enumerate(items) if i not in self._foreign]}

    def _item(self, item: Json, i: int) -> None:
        where = f"input[{i}]"
        kind = CHECKS.text(item, "type", where) or "message"
        if kind == "message":
            self._message(item, where)
        elif kind == "function_call":
            self._add("assistant", self._call(item, where))
        elif kind == "function_call_output":
            self._add("tool", self._output(item, where))
        elif kind == "reasoning":
            self._reasoning(item, i)
        elif kind == "item_reference":
            text = "Items of earlier responses are not kept: send the items themselves instead of references."
            raise CHECKS.refused(text, f"{where}.type", "unsupported_value")
        else:  # calls of tools that only this API has, and what comes after this was written
            self._end_message()
            self.only_form.append(f"{where}.{kind}")

    def _add(self, role: str, *parts: ContentPart) -> None:
        if role != self._role:
            self._end_message()
            self._role = role
        self._parts.extend(parts)

    def _end_message(self) -> None:
        self._unsealing.put_back(self._parts)
        if self._parts or self._role == "assistant":
            self.messages.append(Message(self._role, content_of(self._parts)))
        self._role, self._parts = "", []

    def _message(self, item: Json, where: str) -> None:
        role = item.get("role")
        neutral = _ROLES.get(role) if isinstance(role, str) else None
        if neutral is None:
            raise CHECKS.wrong_value(f"{where}.role", role, _ROLES)
        content = item.get("content")
        if neutral == "assistant":
            parts = [Text(content)] if type(content) is str else self._content(neutral, content, where)
            self._add(neutral, *(part for part in parts if not isinstance(part, Text) or part.text))
            return
        self._end_message()
        if type(content) is str:
            self.messages.append(Message(neutral, content))
        else:
            self.messages.append(Message(neutral, content_of(self._content(neutral, content, where))))

    def _content(self, role: str, content: Any, where: str, key: str = "content") -> list[ContentPart]:
        at = f"{where}.{key}"
        if content is None:
            raise CHECKS.missing(at)
        if type(content) is not list:
            raise CHECKS.wrong_type(at, "string", content)
        return [self._part(role, part, f"{at}[{j}]") for j, part in enumerate(content)]

    def _part(self, role: str, part: Any, where: str) -> ContentPart:
        if type(part) is not dict:
            raise CHECKS.wrong_type(where, "object", part)
        kind, allowed = part.get("type"), _PARTS[role]
        if kind not in allowed:
            raise CHECKS.wrong_value(f"{where}.type", kind, allowed)
        if kind == "refusal":
            return Text(CHECKS.required_text(part, "refusal", where))
        if kind == "input_audio":
            self.only_form.append(f"{where}.input_audio")
            return Text("")
        if kind in ("input_text", "output_text"):
            return Text(CHECKS.required_text(part, "text", where), cache=is_marked(part))
        if CHECKS.text(part, "file_id", where) is not None:
            self.only_form.append(f"{where}.file_id")
            return Text("")
        return self._image(part, where) if kind == "input_image" else self._file(part, where)

    def _image(self, part: Json, where: str) -> Image:
        url = CHECKS.required_text(part, "image_url", where)
        return read_image(url, part, where, cache=is_marked(part))

    def _file(self, part: Json, where: str) -> Document:
        url, name = CHECKS.text(part, "file_url", where), CHECKS.text(part, "filename", where) or ""
        if url is not None:
            if not url.startswith(("https://", "http://")):
                at, text = (
                    f"{where}.file_url",
                    "Expected a valid URL, but got a value with an invalid format.",
                )
                raise CHECKS.refused(f"Invalid '{at}'. {text}", at, "invalid_value")
            return Document(url=url, name=name, cache=is_marked(part))
        return read_file(part, where, cache=is_marked(part))

    def _call(self, item: Json, where: str) -> ToolCall:
        ident = CHECKS.required_text(item, "call_id", where)
        name = read_name(item, where)
        arguments = CHECKS.required_text(item, "arguments", where)
        self._called.add(ident)
        self._open[ident] = None
        return ToolCall(ident, name, arguments)

    def _output(self, item: Json, where: str) -> ToolResult:
        ident = CHECKS.required_text(item, "call_id", where)
        if ident not in self._called:
            text = f"No tool call found for function call output with call_id {ident}."
            raise CHECKS.refused(text, f"{where}.call_id")
        self._open.pop(ident, None)
        output = item.get("output")
        if type(output) is str:
            return ToolResult(ident, (Text(output),))
        parts = self._content("tool", output, where, "output")
        return ToolResult(ident, tuple(part for part in parts if isinstance(part, Text | Image | Document)))

    def _reasoning(self, item: Json, i: int) -> None:
        where = f"input[{i}]"
        summary = CHECKS.objects(item, "summary", where)
        if summary is None:
            raise CHECKS.missing(f"{where}.summary")
        text = "\n\n".join(CHECKS.required_text(each, "text", f"{where}.summary") for each in summary)
        word = CHECKS.text(item, "encrypted_content", where)
        if not is_sealed(word) or word is None:
            opaque = json.dumps({key: value for key, value in item.items() if value is not None})
            self._add("assistant", Reasoning(opaque, self._origin, text))
            return
        self._foreign.add(i)
        try:
            found = self._unsealing.read(word, text)
        except BrokenSealError as error:
            at = f"{where}.encrypted_content"
            message = f"The encrypted content for item {item.get('id')} could not be verified: {error}."
            raise CHECKS.refused(message, at, "invalid_encrypted_content") from error
        self._add("assistant", *found)
