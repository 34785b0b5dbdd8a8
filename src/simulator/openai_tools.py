"""OpenAI Chat Completions: the tools of a request and the tool calls of its history."""

from __future__ import annotations

import json
import re
from typing import Any

from .demands import openai_tool_objection
from .shapes import Json, ToolSet, refused

_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_PATTERN = "^[a-zA-Z0-9_-]+$"
BAD_CHOICE = "Invalid value for 'tool_choice': use 'none', 'auto', 'required', a named tool or allowed tools."
_MOST_TOOLS = 128
_LONGEST_NAME = 64
_LONGEST_ID = 40


def read_tools(body: Json) -> tuple[ToolSet | None, int]:
    """The tools of a body, and the characters of their definitions."""
    tools = body.get("tools")
    if tools is None:
        for name in ("tool_choice", "parallel_tool_calls"):
            if body.get(name) not in (None, "none"):
                text = f"Invalid value for '{name}': '{name}' is only allowed when 'tools' are specified."
                raise refused(text, name)
        return None, 0
    check_length(tools, "tools")
    if len(tools) > _MOST_TOOLS:
        text = (
            f"Expected an array with maximum length {_MOST_TOOLS}, but got an array with length {len(tools)}"
        )
        raise refused(f"Invalid 'tools': array too long. {text} instead.", "tools", "array_above_max_length")
    schemas = {}
    for i, tool in enumerate(tools):
        if tool.get("type") != "function":
            text = f"Invalid value: '{tool.get('type')}'. Supported values are: 'function' and 'custom'."
            raise refused(text, f"tools[{i}].type", "invalid_value")
        function = tool.get("function") or {}
        name = check_name(function.get("name"), f"tools[{i}].function.name")
        schemas[name] = checked_schema(function, f"tools[{i}].function.parameters")
    allowed, required = _choice(body.get("tool_choice"), schemas)
    parallel = body.get("parallel_tool_calls") is not False
    return ToolSet(schemas, allowed, required, parallel), len(json.dumps(tools))


def _choice(choice: Any, schemas: Json) -> tuple[tuple[str, ...], bool]:
    """The names of the tools that may be called, and whether one of them must be."""
    names = tuple(schemas)
    if choice in (None, "auto", "required"):
        return names, choice == "required"
    if choice == "none":
        return (), False
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind == "function":
        name = (choice.get("function") or {}).get("name")
        if name not in schemas:
            text = f"Tool choice '{name}' not found in 'tools' parameter."
            raise refused(text, "tool_choice", "invalid_value")
        return (name,), True
    if kind == "allowed_tools":
        allowed = choice.get("allowed_tools") or {}
        named = [(each.get("function") or {}).get("name") for each in allowed.get("tools") or ()]
        return allowed_names(named, schemas), allowed.get("mode") == "required"
    raise refused(BAD_CHOICE, "tool_choice", "invalid_value")


def allowed_names(named: list[Any], schemas: Json) -> tuple[str, ...]:
    """The names of a choice of allowed tools. Raises Fail where one is unknown."""
    if not named or any(name not in schemas for name in named):
        raise refused(BAD_CHOICE, "tool_choice", "invalid_value")
    return tuple(map(str, named))


def checked_schema(function: Json, where: str) -> Json:
    """The parameters of a function. Raises Fail for a schema that OpenAI refuses."""
    if objection := openai_tool_objection(function):
        raise refused(objection, where, "invalid_function_parameters")
    return function.get("parameters") or {"type": "object"}


def check_calls(calls: Any, role: str, i: int) -> list[str]:
    """The ids of an assistant message's tool calls. Raises Fail for what OpenAI refuses."""
    where = f"messages[{i}].tool_calls"
    if role != "assistant":
        raise refused(f"Unknown parameter: '{where}'.", where, "unknown_parameter")
    check_length(calls, where)
    found = []
    for j, call in enumerate(calls):
        ident, function = call.get("id"), call.get("function") or {}
        if not isinstance(ident, str):
            text = f"Missing required parameter: '{where}[{j}].id'."
            raise refused(text, f"{where}[{j}].id", "missing_required_parameter")
        _check_max(ident, f"{where}[{j}].id", _LONGEST_ID)
        if call.get("type") != "function":
            text = f"Missing required parameter: '{where}[{j}].type'."
            raise refused(text, f"{where}[{j}].type", "missing_required_parameter")
        check_name(function.get("name"), f"{where}[{j}].function.name")
        if not isinstance(function.get("arguments"), str):
            name = f"{where}[{j}].function.arguments"
            raise refused(f"Invalid type for '{name}': expected a string.", name, "invalid_type")
        found.append(ident)
    return found


def check_length(items: Any, where: str) -> None:
    """Raises Fail for what is no array of objects, or empty."""
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise refused(f"Invalid type for '{where}': expected an array of objects.", where, "invalid_type")
    if not items:
        text = "empty array. Expected an array with minimum length 1, but got an empty array instead."
        raise refused(f"Invalid '{where}': {text}", where, "empty_array")


def check_name(name: Any, where: str) -> str:
    """The name of a function. Raises Fail for one that OpenAI refuses."""
    if not isinstance(name, str):
        raise refused(f"Missing required parameter: '{where}'.", where, "missing_required_parameter")
    if _NAME.fullmatch(name) is None:
        text = f"string does not match pattern. Expected a string that matches the pattern '{_PATTERN}'."
        raise refused(f"Invalid '{where}': {text}", where, "invalid_value")
    _check_max(name, where, _LONGEST_NAME)
    return name


def _check_max(text: str, where: str, longest: int) -> None:
    if len(text) > longest:
        what = (
            f"string too long. Expected a string with maximum length {longest}, but got a string with length"
        )
        raise refused(f"Invalid '{where}': {what} {len(text)} instead.", where, "string_above_max_length")
