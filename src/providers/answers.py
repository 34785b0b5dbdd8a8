"""What an answer is made of, read from the form of any API.

An adapter reads the parts; this module decides which of them the caller gets. Calls belong to an answer only
where the request has tools, and reasoning is kept only where a conversation may go on from the answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from uuid import uuid4

from ..messages import ContentPart, Reasoning, Text, ToolCall, tool_calls_in
from ..records import CompletionRequest, FinishReason
from . import values
from .prompts import Finish
from .usage import Reported

ID_CHARS = 500  # of a tool call
NOT_ASKED_FOR = "tool calls that were not asked for"


class Content(NamedTuple):
    """What the caller gets of an answer, and what that is compared with."""

    text: str
    written: str  # all that the model wrote for the caller, calls included: its output tokens are of this
    parts: tuple[ContentPart, ...] = ()  # where they are more than the text
    other: str = ""  # what the answer holds beside them, in words


class Answer(NamedTuple):
    """An answer as an adapter has read it. `why`: the end in the provider's words, for an error."""

    parts: Sequence[ContentPart]
    other: str  # what it holds beside the parts
    finish: Finish | None
    reason: str  # the provider's finish reason
    why: str
    used: Reported
    model: str
    request_id: str


def may_call_tools(request: CompletionRequest) -> bool:
    """Whether calls are an answer to the request."""
    return bool(request.tools) or request.native is not None


def content_for(answer: Answer, request: CompletionRequest) -> Content:
    """What the caller gets of the parts of an answer.

    A call that a token limit has cut in its middle is left out: nobody can make it.
    """
    parts = answer.parts
    if len(parts) == 1 and type(parts[0]) is Text:  # nearly always
        return Content(parts[0].text, parts[0].text, other=answer.other)
    text = "".join(part.text for part in parts if isinstance(part, Text))
    if not may_call_tools(request):
        return Content(text, text, other=_unwanted(parts) or answer.other)
    if answer.finish is FinishReason.LENGTH:
        parts = [part for part in parts if not isinstance(part, ToolCall) or _is_whole(part)]
    called = "".join(call.name + call.arguments for call in tool_calls_in(parts))
    return Content(text, text + called, _beyond_text(parts), answer.other)


def _unwanted(parts: Iterable[ContentPart]) -> str:
    """What the parts are beside text, in words."""
    kinds = {type(part) for part in parts}
    return NOT_ASKED_FOR if ToolCall in kinds else "reasoning" if Reasoning in kinds else ""


def _is_whole(call: ToolCall) -> bool:
    try:
        return isinstance(json.loads(call.arguments or "{}"), dict)
    except (ValueError, RecursionError):
        return False


def finish_with(content: Content, finish: FinishReason) -> FinishReason:
    """The finish reason beside these parts: some servers stop for a call without saying so."""
    has_calls = finish is FinishReason.STOP and tool_calls_in(content.parts)
    return FinishReason.TOOL if has_calls else finish


def _beyond_text(parts: Iterable[ContentPart]) -> tuple[ContentPart, ...]:
    """The parts where they are more than text, texts in a row as one; else nothing.

    A call without an id gets one: those of Gemini and of some other servers may have none.
    """
    found: list[ContentPart] = []
    for part in parts:
        last = found[-1] if found else None
        if isinstance(part, Text):
            if isinstance(last, Text):
                found[-1] = Text(last.text + part.text)
            elif part.text:
                found.append(part)
        elif isinstance(part, ToolCall) and not part.id:
            found.append(replace(part, id=new_call_id()))
        else:
            found.append(part)
    return () if all(isinstance(part, Text) for part in found) else tuple(found)


def new_call_id() -> str:
    """For a call that came without an id. A stream gives it to the call before its first delta."""
    return f"call_{uuid4().hex[:24]}"


def tool_names(request: CompletionRequest, sent_as: Callable[[str], str]) -> Mapping[str, str]:
    """The caller's names of tools by those that were sent in their place, where they differ."""
    pairs = ((sent_as(tool.name), tool.name) for tool in request.tools)
    return {sent: name for sent, name in pairs if sent != name}


def tool_call(ident: object, name: object, arguments: object, names: Mapping[str, str]) -> ToolCall | None:
    """A call as an answer has it, None where it lacks a name. Arguments are JSON text or any JSON value."""
    called = values.text(name)
    if not called:
        return None
    if not isinstance(arguments, str):
        arguments = "{}" if arguments is None else json_text(arguments)
    return ToolCall(values.text(ident, ID_CHARS), names.get(called, called), arguments)


def json_text(value: Any) -> str:
    """JSON as the APIs write it in a history."""
    return json.dumps(value, ensure_ascii=False)


def reasoning_of(origin: str, fields: Mapping[str, Any], text: object) -> Reasoning:
    """Reasoning with the fields that its API wants back."""
    return Reasoning(json_text(fields), origin, text if isinstance(text, str) else "")
