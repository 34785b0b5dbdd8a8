"""Gemini: the functions of a request."""

from __future__ import annotations

import json
import re
from typing import Any

from .demands import gemini_function_objection
from .shapes import Json, ToolSet, refused

_NAME = re.compile(r"[A-Za-z_][\w.:-]{0,63}", re.ASCII)
_BAD_NAME = (
    "Invalid function name. Must start with a letter or an underscore. Must be alphanumeric (a-z, A-Z, 0-9), "
    "underscores (_), dots (.), colons (:), or dashes (-), with a maximum length of 64."
)
_MODES = {"AUTO": "AUTO", "ANY": "ANY", "NONE": "NONE", "VALIDATED": "AUTO"} | {
    1: "AUTO",
    2: "ANY",
    3: "NONE",
    "MODE_UNSPECIFIED": "AUTO",
    0: "AUTO",
}


def read_tools(body: Json) -> tuple[ToolSet | None, int]:
    """The functions of a body, and the characters of their declarations."""
    tools = body.get("tools") or []
    config = body.get("toolConfig") or body.get("tool_config") or {}
    if not tools and not config:
        return None, 0
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise refused("Invalid value at 'tools'")
    schemas = _schemas(tools)
    calling = config.get("functionCallingConfig") or config.get("function_calling_config") or {}
    names, required = _choice(calling, schemas)
    return (ToolSet(schemas, names, required), len(json.dumps(tools))) if schemas else (None, 0)


def _schemas(tools: list[Json]) -> dict[str, Json]:
    """The parameters of each declared function."""
    schemas: dict[str, Json] = {}
    for i, tool in enumerate(tools):
        declared = tool.get("functionDeclarations") or tool.get("function_declarations") or []
        for j, function in enumerate(declared):
            name = _check_function(
                function, f"* GenerateContentRequest.tools[{i}].function_declarations[{j}]"
            )
            if name in schemas:
                raise refused(f"Duplicate function declaration found: {name}")
            schemas[name] = _parameters(function, name)
    return schemas


def _parameters(function: Json, name: str) -> Json:
    """The schema of a function: in the form of `parameters`, or any JSON schema of an object."""
    if function.get("parameters"):
        return dict(function["parameters"])
    # google-genai sends the name of the protocol buffer
    own = function.get("parametersJsonSchema", function.get("parameters_json_schema"))
    if own is not None and (not isinstance(own, dict) or own.get("type") != "object"):
        raise refused(f"{name} functionDeclaration `parameters` schema should be of type OBJECT.")
    return own or {"type": "object"}


def _check_function(function: Json, where: str) -> str:
    name = function.get("name")
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise refused(f"{where}.name: {_BAD_NAME}\n")
    if objection := gemini_function_objection(function.get("parameters"), f"{where}.parameters"):
        raise refused(objection)
    return name


def _choice(config: Json, schemas: Json) -> tuple[tuple[str, ...], bool]:
    """The names of the functions that may be called, and whether one of them must be."""
    where = "* GenerateContentRequest.tool_config.function_calling_config"
    sent: Any = config.get("mode", "AUTO")
    if sent not in _MODES:
        raise refused(f"Invalid value at 'tool_config.function_calling_config.mode', \"{sent}\"")
    mode, names = _MODES[sent], tuple(schemas)
    if mode == "ANY" and not schemas:
        raise refused("Function calling config is set without function_declarations.")
    allowed = config.get("allowedFunctionNames") or config.get("allowed_function_names")
    if allowed:
        if mode != "ANY" and sent != "VALIDATED":
            text = "allowed_function_names should only be set when mode is ANY"
            raise refused(f"{where}.allowed_function_names: {text}.\n")
        for name in allowed:
            if name not in schemas:
                raise refused(f"{where}.allowed_function_names: '{name}' is not a declared function.\n")
        names = tuple(allowed)
    return (() if mode == "NONE" else names), mode == "ANY"
