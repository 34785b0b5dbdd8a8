"""The parts of a Gemini answer in our form. Pure.

A signature belongs to the part that bears it: its `Reasoning` stands before that part, with the thoughts
before it, where the API shows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..messages import ContentPart, Reasoning, Text
from ..records import CompletionRequest
from . import values
from .answers import reasoning_of, tool_call, tool_names
from .gemini_messages import ORIGIN, SIGNATURE, tool_name


def parts_of(parts: object, request: CompletionRequest) -> tuple[list[ContentPart], str]:
    """`(parts, what the answer holds beside them)`."""
    found: list[ContentPart] = []
    others: set[str] = set()
    origin, names = f"{ORIGIN}/{request.model}", tool_names(request, tool_name)
    thoughts, signature = "", ""
    for part in map(values.mapping, values.sequence(parts)):
        signature = _text(part.get(SIGNATURE)) or signature
        if part.get("thought"):
            thoughts += _text(part.get("text"))
            continue
        own = _part(part, names)
        if own is None:
            others |= part.keys() - {"text", SIGNATURE}
            continue
        if thoughts or signature:
            found.append(_reasoning(origin, signature, thoughts))
            thoughts, signature = "", ""
        found.append(own)
    if thoughts or signature:
        found.append(_reasoning(origin, signature, thoughts))
    return found, ", ".join(sorted(values.text(name) for name in others))


def _part(part: Mapping[str, Any], names: Mapping[str, str]) -> ContentPart | None:
    if text := _text(part.get("text")):
        return Text(text)
    call = values.mapping(part.get("functionCall"))
    return tool_call(call.get("id"), call.get("name"), call.get("args"), names) if call else None


def _reasoning(origin: str, signature: str, thoughts: str) -> Reasoning:
    return reasoning_of(origin, {SIGNATURE: signature} if signature else {}, thoughts)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
