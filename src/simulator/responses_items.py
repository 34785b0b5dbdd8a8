"""OpenAI Responses: the items of an input.

Sources of the messages: recorded 400s of the API; openai/openai-agents-python has many of those of pairs.
"""

from __future__ import annotations

from typing import Any

from .openai_media import read_file, read_image
from .openai_tools import check_name
from .prompt import Prompt
from .reasoning import signature
from .shapes import Json, refused

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_PARTS = {
    "system": ("input_text",),
    "user": ("input_text", "input_image", "input_file"),
    "assistant": ("output_text", "refusal"),
    "tool": ("input_text", "input_image", "input_file"),
}
_TYPES = ("message", "function_call", "function_call_output", "reasoning", "item_reference")


class Items:
    """Reads the items into a prompt, and checks that they follow each other as the API demands."""

    def __init__(self, prompt: Prompt, *, is_stored: bool) -> None:
        self._prompt = prompt
        self._is_stored = is_stored
        self._called: set[str] = set()
        self._open: list[str] = []  # calls without an output yet
        self._reasoned: str | None = None  # the id of reasoning that still lacks the item it led to
        self._in_calls = False

    def read(self, items: Any) -> None:
        """Raises Fail for what OpenAI refuses."""
        if isinstance(items, str):
            self._prompt.text("user", items)
            return
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            text = "Invalid type for 'input': expected one of a string or array of input items."
            raise refused(text, "input", "invalid_type")
        for i, item in enumerate(items):
            self._read(item, f"input[{i}]")
        self._check_reasoned()
        self._end_calls()
        if self._open:
            raise refused(f"No tool output found for function call {self._open[0]}.", "input")

    def _read(self, item: Json, where: str) -> None:
        kind = item.get("type", "message")
        if kind not in _TYPES:
            names = ", ".join(f"'{each}'" for each in _TYPES)
            text = f"Invalid value: '{kind}'. Supported values are: {names}."
            raise refused(text, f"{where}.type", "invalid_value")
        is_answer = kind == "function_call" or (kind == "message" and item.get("role") == "assistant")
        if is_answer:
            self._reasoned = None
        elif kind != "reasoning":
            self._check_reasoned()
        if kind != "function_call":
            self._end_calls()
        if kind == "message":
            self._message(item, where)
        elif kind == "function_call":
            self._call(item, where)
        elif kind == "function_call_output":
            self._output(item, where)
        elif kind == "reasoning":
            self._reasoning(item, where)
        else:
            raise refused(_not_found(item.get("id")), "input")

    def _message(self, item: Json, where: str) -> None:
        role = _ROLES.get(str(item.get("role")))
        if role is None:
            names = ", ".join(f"'{each}'" for each in _ROLES)
            text = f"Invalid value: '{item.get('role')}'. Supported values are: {names}."
            raise refused(text, where, "invalid_value")
        self._content(role, item.get("content"), f"{where}.content")

    def _content(self, role: str, content: Any, where: str) -> None:
        if isinstance(content, str):
            self._prompt.text(role, content)
            return
        if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
            text = f"Invalid type for '{where}': expected one of a string or array of objects."
            raise refused(text, where, "invalid_type")
        for j, part in enumerate(content):
            self._part(role, part, f"{where}[{j}]")

    def _part(self, role: str, part: Json, where: str) -> None:
        kind = part.get("type")
        if kind not in _PARTS[role]:
            names = " and ".join(f"'{each}'" for each in _PARTS[role])
            raise refused(f"Invalid value: '{kind}'. Supported values are: {names}.", where, "invalid_value")
        if kind == "input_image":
            self._image(role, part, where)
        elif kind == "input_file":
            self._file(role, part, where)
        else:
            text = part.get("refusal" if kind == "refusal" else "text")
            if not isinstance(text, str):
                message = f"Missing required parameter: '{where}.text'."
                raise refused(message, f"{where}.text", "missing_required_parameter")
            self._prompt.text(role, text)

    def _image(self, role: str, part: Json, where: str) -> None:
        if part.get("file_id") is not None:
            read_file(self._prompt, role, {"file_id": part["file_id"]}, where)
        else:
            read_image(self._prompt, role, part.get("image_url"), part.get("detail") or "auto", where)

    def _file(self, role: str, part: Json, where: str) -> None:
        if part.get("file_url") is not None:  # not fetched
            read_file(self._prompt, role, {"file_id": part["file_url"]}, where)
        else:
            read_file(self._prompt, role, part, where)

    def _call(self, item: Json, where: str) -> None:
        ident = item.get("call_id")
        if not isinstance(ident, str):
            text = f"Missing required parameter: '{where}.call_id'."
            raise refused(text, f"{where}.call_id", "missing_required_parameter")
        name = check_name(item.get("name"), f"{where}.name")
        if not isinstance(item.get("arguments"), str):
            text = f"Invalid type for '{where}.arguments': expected a string."
            raise refused(text, f"{where}.arguments", "invalid_type")
        self._prompt.call_as_sent(name, item["arguments"])
        self._called.add(ident)
        self._open.append(ident)
        self._in_calls = True

    def _end_calls(self) -> None:
        if self._in_calls:
            self._in_calls = False
            self._prompt.calls_ended()

    def _output(self, item: Json, where: str) -> None:
        ident = item.get("call_id")
        if ident not in self._called:
            raise refused(f"No tool call found for function call output with call_id {ident}.", "input")
        if ident in self._open:
            self._open.remove(str(ident))
        self._content("tool", item.get("output"), f"{where}.output")

    def _reasoning(self, item: Json, where: str) -> None:
        ident, sealed = item.get("id"), item.get("encrypted_content")
        if not isinstance(item.get("summary"), list):
            text = f"Missing required parameter: '{where}.summary'."
            raise refused(text, f"{where}.summary", "missing_required_parameter")
        if sealed is None and not self._is_stored:
            raise refused(_not_found(ident), "input")
        if sealed is not None and sealed != signature(self._prompt.model, str(ident)):
            text = f"The encrypted content for item {ident} could not be verified."
            raise refused(text, "input", "invalid_encrypted_content")
        self._reasoned = str(ident)

    def _check_reasoned(self) -> None:
        if self._reasoned is not None:
            text = "of type 'reasoning' was provided without its required following item."
            raise refused(f"Item '{self._reasoned}' {text}", "input")


def _not_found(ident: object) -> str:
    return (
        f"Item with id '{ident}' not found. Items are not persisted when `store` is set to false. "
        "Try again with `store` set to true, or remove this item from your input."
    )
