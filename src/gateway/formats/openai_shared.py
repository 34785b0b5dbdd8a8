"""What Chat Completions and Responses have in common: errors, tools, media, names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ...messages import Document, Image, Tool
from .base import Json
from .checks import OpenAIChecks
from .problems import OPENAI, Problem, retry_headers
from .writing import comment, json_bytes

CHECKS = OpenAIChecks()
PASSED_HEADERS = ("openai-beta",)
_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_LONGEST_NAME = 64
_MOST_TOOLS = 128
_DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+);base64,", re.ASCII)
_DETAILS = ("auto", "low", "high", "original")
_CHOICES = ("none", "auto", "required")
KEEP_ALIVE = comment("keep-alive")


class OpenAIErrors:
    """Errors as both APIs answer them."""

    def error(self, problem: Problem) -> bytes:
        """As `Format.error`."""
        return json_bytes({"error": error_object(problem)})

    def status(self, problem: Problem) -> int:
        """As `Format.status`."""
        return OPENAI[problem.kind].status

    def error_headers(self, problem: Problem) -> dict[str, str]:
        """As `Format.error_headers`."""
        return retry_headers(problem)


def error_object(problem: Problem) -> Json:
    """The `error` of a body."""
    shape = OPENAI[problem.kind]
    return {
        "message": problem.message,
        "type": shape.type,
        "param": problem.param or None,
        "code": problem.code or shape.code or None,
    }


def passed_headers(headers: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """The headers that a provider of the same API gets; all names are in lower case."""
    return {name: headers[name] for name in names if name in headers}


class ToolSettings(NamedTuple):
    """The tools of a request. `only_form`: what no other API has."""

    tools: tuple[Tool, ...] = ()
    choice: str = ""
    only_form: tuple[str, ...] = ()


def read_function(holder: Json, where: str) -> Tool:
    """A function, as both APIs describe it."""
    name = read_name(holder, where)
    description = CHECKS.text(holder, "description", where) or ""
    parameters = CHECKS.mapping(holder, "parameters", where)
    if parameters is not None and parameters.get("type", "object") != "object":
        kind = parameters.get("type")
        text = f"schema must be a JSON Schema of 'type: \"object\"', got 'type: {kind}'."
        at = CHECKS.at(where, "parameters")
        raise CHECKS.refused(
            f"Invalid schema for function '{name}': {text}", at, "invalid_function_parameters"
        )
    return Tool(name, description, parameters, CHECKS.flag(holder, "strict", where))


def read_name(holder: Json, where: str) -> str:
    """The name of a function."""
    name, at = CHECKS.required_text(holder, "name", where), CHECKS.at(where, "name")
    if _NAME.fullmatch(name) is None:
        pattern = "^[a-zA-Z0-9_-]+$"
        text = f"string does not match pattern. Expected a string that matches the pattern '{pattern}'."
        raise CHECKS.refused(f"Invalid '{at}': {text}", at, "invalid_value")
    if len(name) > _LONGEST_NAME:
        text = (
            f"string too long. Expected a string with maximum length {_LONGEST_NAME}, but got a string with"
        )
        raise CHECKS.refused(
            f"Invalid '{at}': {text} length {len(name)} instead.", at, "string_above_max_length"
        )
    return name


def check_array(items: list[Json], where: str, most: int = _MOST_TOOLS) -> None:
    """An array that may be neither empty nor longer than that."""
    if not items:
        text = "empty array. Expected an array with minimum length 1, but got an empty array instead."
        raise CHECKS.refused(f"Invalid '{where}': {text}", where, "empty_array")
    if len(items) > most:
        text = f"array too long. Expected an array with maximum length {most}, but got an array with length"
        raise CHECKS.refused(
            f"Invalid '{where}': {text} {len(items)} instead.", where, "array_above_max_length"
        )


def chosen(choice: Any, tools: tuple[Tool, ...], named: str | None) -> str:
    """The neutral tool choice. `named`: the function that an object names."""
    if choice is None:
        return ""
    if isinstance(choice, str):
        if choice not in _CHOICES:
            raise CHECKS.wrong_value("tool_choice", choice, _CHOICES)
        if choice == "required" and not tools:
            text = "Tool choice 'required' must be specified with 'tools' parameter."
            raise CHECKS.refused(text, "tool_choice")
        return choice if tools else ""
    if named is None:
        raise CHECKS.wrong_type("tool_choice", "string", choice)
    if all(tool.name != named for tool in tools):
        text = f"Tool choice '{named}' not found in 'tools' parameter."
        raise CHECKS.refused(text, "tool_choice", "invalid_value")
    return named


def narrowed(tools: tuple[Tool, ...], names: Iterable[object]) -> tuple[Tool, ...]:
    """The tools that a choice of allowed tools leaves: other APIs get no others."""
    wanted = list(names)
    known = [tool.name for tool in tools]
    if not wanted or any(name not in known for name in wanted):
        text = "Invalid value for 'tool_choice': an allowed tool is not found in 'tools'."
        raise CHECKS.refused(text, "tool_choice", "invalid_value")
    return tuple(tool for tool in tools if tool.name in wanted)


def read_image(url: str, holder: Json, where: str, *, cache: bool) -> Image:
    """A picture behind a URL, or in a data URL. `holder` has its `detail`."""
    detail = CHECKS.choice(holder, "detail", _DETAILS, where) or ""
    if url.startswith(("https://", "http://")):
        return Image(url=url, detail=detail, cache=cache)
    found = _DATA_URL.match(url)
    if found is None:
        text = "Expected a valid URL, but got a value with an invalid format."
        raise CHECKS.refused(f"Invalid '{where}'. {text}", where, "invalid_value")
    if not found["type"].startswith("image/"):
        text = f"Invalid MIME type '{found['type']}'. Only image types are supported."
        raise CHECKS.refused(text, where, "invalid_image_format")
    return Image(found["type"], url[found.end() :], detail=detail, cache=cache)


def read_file(holder: Json, where: str, *, cache: bool) -> Document:
    """A document in `file_data`."""
    data = CHECKS.required_text(holder, "file_data", where)
    name = CHECKS.text(holder, "filename", where) or ""
    found = _DATA_URL.match(data)
    if found is None:
        at = CHECKS.at(where, "file_data")
        text = "Expected a base64-encoded data URL with an application/pdf MIME type."
        raise CHECKS.refused(f"Invalid file data: '{at}'. {text}", at, "invalid_value")
    return Document(found["type"], data[found.end() :], name=name, cache=cache)


def is_marked(part: Json) -> bool:
    """Whether the provider's cache keeps the prompt up to this part."""
    return part.get("prompt_cache_breakpoint") is not None
