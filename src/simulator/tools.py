"""Tools: which of them an answer calls, and with what arguments.

A choice that requires a tool is obeyed. Otherwise the model calls what the last text of the user asks for:

    call get_weather                      one call
    call get_weather and get_time         parallel calls
    call get_weather {"city": "Oslo"}     these arguments instead of ones made up from the schema
    call search, then call fetch          `search` now, `fetch` once the result of `search` is in the history
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from .examples import example
from .shapes import Json, ToolCall, ToolSet

_CALL = re.compile(r"\bcall\s+(?=[A-Za-z_])")
_NAME = re.compile(r"[A-Za-z_][\w.:-]*")
_AND = re.compile(r"\s*(?:,\s*and\b|,|\band\b)\s*")
_DECODER = json.JSONDecoder()


def chosen_calls(tools: ToolSet, text: str, calls_before: int, words: str) -> tuple[ToolCall, ...]:
    """What an answer calls after `calls_before` answers with calls since `text`, the user's last one."""
    if not tools.names:
        return ()
    groups = asked_calls(text, tools.names)
    if calls_before < len(groups):
        group = groups[calls_before]
    elif tools.required:
        group = [(tools.names[0], None)]
    else:
        return ()
    return tuple(_call(tools, *each, words) for each in (group if tools.parallel else group[:1]))


def _call(tools: ToolSet, name: str, given: Json | None, words: str) -> ToolCall:
    arguments: Any = example(tools.schemas[name], words) if given is None else given
    arguments = arguments if isinstance(arguments, dict) else {}
    return ToolCall(name, arguments, json.dumps(arguments, ensure_ascii=False))


def asked_calls(text: str, names: Collection[str]) -> list[list[tuple[str, Json | None]]]:
    """The groups of calls that a text asks for, each with its arguments where the text gives them."""
    groups = []
    found = _CALL.search(text)
    while found is not None:
        group, end = _group(text, found.end(), names)
        if group:
            groups.append(group)
        found = _CALL.search(text, end)
    return groups


def _group(text: str, at: int, names: Collection[str]) -> tuple[list[tuple[str, Json | None]], int]:
    group: list[tuple[str, Json | None]] = []
    while (found := _NAME.match(text, at)) is not None:
        name = found[0] if found[0] in names else found[0].rstrip(".:-")
        if name not in names:
            break
        arguments, at = _arguments(text, at + len(name))
        group.append((name, arguments))
        joint = _AND.match(text, at)
        if joint is None:
            break
        at = joint.end()
    return group, at


def _arguments(text: str, at: int) -> tuple[Json | None, int]:
    start = at + (text[at : at + 1] == " ")
    if text[start : start + 1] != "{":
        return None, at
    try:
        arguments, end = _DECODER.raw_decode(text, start)
    except ValueError:
        return None, at
    return arguments, end


def fitted(calls: tuple[ToolCall, ...], room: int) -> tuple[tuple[ToolCall, ...], bool]:
    """The calls that fit into `room` characters, the last one perhaps cut, and whether all of them fit."""
    kept: list[ToolCall] = []
    for call in calls:
        if len(call.text) > room:
            return (*kept, replace(call, text=call.text[: max(0, room)], is_whole=False)), False
        room -= len(call.text)
        kept.append(call)
    return tuple(kept), True
