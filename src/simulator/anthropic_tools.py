"""Anthropic Messages: the tools of a request, and the pairs of calls and results in its history."""

from __future__ import annotations

import json
import re
from typing import Any

from .prompt import Prompt
from .shapes import Json, ToolSet, refused

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_FIELDS = frozenset(
    {"allowed_callers", "cache_control", "defer_loading", "description", "eager_input_streaming"}
    | {"input_examples", "input_schema", "name", "strict", "type"}
)
_CHOICES = ("auto", "any", "tool", "none")
_UNIONS = ("oneOf", "allOf", "anyOf")


def read_tools(body: Json) -> tuple[ToolSet | None, int]:
    """The tools of a body, and the characters of their definitions."""
    tools, choice = body.get("tools"), body.get("tool_choice")
    if not tools:
        if choice is not None:
            raise refused("tool_choice: tool_choice may only be specified while providing tools.")
        return None, 0
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise refused("tools: Input should be a valid list")
    schemas: dict[str, Json] = {}
    for i, tool in enumerate(tools):
        name = _check_tool(tool, f"tools.{i}.custom")
        if name in schemas:
            raise refused("tools: Tool names must be unique.")
        schemas[name] = tool["input_schema"]
    names, required = _choice(choice, schemas)
    parallel = not (choice or {}).get("disable_parallel_tool_use")
    return ToolSet(schemas, names, required, parallel), len(json.dumps(tools))


def _check_tool(tool: Json, where: str) -> str:
    if tool.get("type", "custom") != "custom":
        raise refused(
            f"{where}: Input tag '{tool['type']}' found using 'type' does not match any of 'custom'"
        )
    for field in tool:
        if field not in _FIELDS:
            raise refused(f"{where}.{field}: Extra inputs are not permitted")
    name, schema = tool.get("name"), tool.get("input_schema")
    if not isinstance(name, str):
        raise refused(f"{where}.name: Field required")
    if _NAME.fullmatch(name) is None:
        raise refused(f"{where}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    if schema is None:
        raise refused(f"{where}.input_schema: Field required")
    if not isinstance(schema, dict):
        raise refused(f"{where}.input_schema: Input should be a valid dictionary")
    if any(union in schema for union in _UNIONS):
        text = "input_schema does not support oneOf, allOf, or anyOf at the top level"
        raise refused(f"{where}.input_schema: {text}")
    if "type" not in schema:
        raise refused(f"{where}.input_schema.type: Field required")
    if schema["type"] != "object":
        raise refused(f"{where}.input_schema.type: Input should be 'object'")
    return name


def _choice(choice: Any, schemas: Json) -> tuple[tuple[str, ...], bool]:
    """The names of the tools that may be called, and whether one of them must be."""
    names = tuple(schemas)
    if choice is None:
        return names, False
    kind = choice.get("type")
    if kind not in _CHOICES:
        text = f"Input tag '{kind}' found using 'type' does not match any of the expected tags"
        raise refused(f"tool_choice: {text}: {', '.join(repr(each) for each in _CHOICES)}")
    if kind == "tool":
        name = choice.get("name")
        if name is None:
            raise refused("tool_choice.tool.name: Field required")
        if name not in schemas:
            raise refused(f"tool_choice: Tool '{name}' not found in provided tools")
        return (name,), True
    return (() if kind == "none" else names), kind == "any"


class Pairs:
    """Checks that each tool call has its result at the beginning of the next turn of the user.

    Messages of the same role that follow each other are one turn, as the API joins them.
    """

    def __init__(self, prompt: Prompt, *, has_tools: bool) -> None:
        self._prompt = prompt
        self._has_tools = has_tools
        self._role = ""
        self._called_in = 0  # the message with the last call
        self._i = 0
        self._seen: set[str] = set()
        self._called: list[str] = []  # ids of the calls of the last turn of the assistant
        self._open: list[str] = []  # those of them without a result yet

    def enter(self, role: str, i: int) -> None:
        """The message `i` begins."""
        self._i = i
        if role != self._role:
            self._role = role
            if role == "user":
                self._open = list(self._called)
                if self._called:
                    self._prompt.calls_ended()
            else:
                self.check_no_calls_open()
                self._called = []

    def check_no_calls_open(self) -> None:
        """What is no result comes after all of them."""
        if self._open:
            raise refused(self._unanswered(self._open))

    def add(self, block: Json, where: str) -> None:
        """A block of the message."""
        kind = block["type"]
        if kind in ("tool_use", "tool_result") and not self._has_tools:
            raise refused("Requests which include `tool_use` or `tool_result` blocks must define tools.")
        if kind == "tool_use":
            self._call(block["id"])
        elif kind == "tool_result":
            self._result(block["tool_use_id"], where)
        else:
            self.check_no_calls_open()

    def _call(self, ident: str) -> None:
        if ident in self._seen:
            raise refused("messages: `tool_use` ids must be unique")
        self._seen.add(ident)
        self._called.append(ident)
        self._called_in = self._i

    def _result(self, ident: str, where: str) -> None:
        if ident not in self._called:
            raise refused(
                f"{where}: unexpected `tool_use_id` found in `tool_result` blocks: {ident}. "
                "Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
            )
        if ident not in self._open:
            text = "each tool_use must have a single result. Found multiple `tool_result` blocks with id"
            raise refused(f"{where}: {text}: {ident}")
        self._open.remove(ident)

    def end(self) -> None:
        """The conversation has ended."""
        self.check_no_calls_open()
        if self._role == "assistant" and self._called:
            raise refused(self._unanswered(self._called))

    def _unanswered(self, idents: list[str]) -> str:
        return (
            f"messages.{self._called_in}: `tool_use` ids were found without `tool_result` blocks immediately "
            f"after: {', '.join(idents)}. "
            "Each `tool_use` block must have a corresponding `tool_result` block in the next message."
        )
