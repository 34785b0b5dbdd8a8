"""What an answer is made of, read from the form of any API.

An adapter reads the parts; this module decides which of them the caller gets. Calls belong to an answer only
where the request has tools, and reasoning is kept only where a conversation may go on from the answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from ..messages import ContentPart, Reasoning, Text, ToolCall, tool_calls_in
from ..records import CompletionRequest, FinishReason
from . import values
from .prompts import Finish
from .usage import Reported

ID_CHARS = 500  # of a tool call
NOT_ASKED_FOR = "tool calls that were not asked for"


@dataclass(frozen=True, slots=True)
class Content:
    """The parts of an answer in their order. `other`: what it holds beside them, in words."""

    parts: tuple[ContentPart, ...]
    other: str = ""

    @property
    def text(self) -> str:
        """All text, without reasoning and calls."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """All calls."""
        return tool_calls_in(self.parts)

    @property
    def written(self) -> str:
        """All that the model wrote for the caller: what its output tokens are compared with."""
        calls = self.calls
        return self.text + "".join(call.name + call.arguments for call in calls) if calls else self.text


@dataclass(frozen=True, slots=True)
class Answer:
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


def content_for(
    request: CompletionRequest, parts: Iterable[ContentPart], other: str, finish: Finish | None
) -> Content:
    """What the caller gets of the parts of an answer.

    A call that a token limit has cut in its middle is left out: nobody can make it.
    """
    found = tuple(part for part in parts if not isinstance(part, Text) or part.text)
    if not may_call_tools(request):
        return _only_text(found, other)
    if finish is FinishReason.LENGTH:
        found = tuple(part for part in found if not isinstance(part, ToolCall) or _is_whole(part))
    return Content(found, other)


def _only_text(parts: Sequence[ContentPart], other: str) -> Content:
    """The texts; the rest is named only."""
    kinds = {type(part) for part in parts}
    if ToolCall in kinds:
        other = NOT_ASKED_FOR
    elif Reasoning in kinds:
        other = other or "reasoning"
    return Content(tuple(part for part in parts if isinstance(part, Text)), other)


def _is_whole(call: ToolCall) -> bool:
    try:
        return isinstance(json.loads(call.arguments or "{}"), dict)
    except (ValueError, RecursionError):
        return False


def finish_with(content: Content, finish: FinishReason) -> FinishReason:
    """The finish reason beside these parts: some servers stop for a call without saying so."""
    return FinishReason.TOOL if content.calls and finish is FinishReason.STOP else finish


def parts_beyond_text(content: Content) -> tuple[ContentPart, ...]:
    """The parts where they are more than text, texts in a row as one; else nothing."""
    if all(isinstance(part, Text) for part in content.parts):
        return ()
    found: list[ContentPart] = []
    for part in content.parts:
        last = found[-1] if found else None
        if isinstance(part, Text) and isinstance(last, Text):
            found[-1] = replace(last, text=last.text + part.text)
        else:
            found.append(part)
    return tuple(found)


def tool_names(request: CompletionRequest, sent_as: Callable[[str], str]) -> Mapping[str, str]:
    """The caller's names of tools, by those that were sent in their place."""
    return {sent_as(tool.name): tool.name for tool in request.tools}


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


def with_ids(parts: Iterable[ContentPart]) -> tuple[ContentPart, ...]:
    """The parts, with an id for each call that came without one: Gemini's and some servers' do."""
    return tuple(
        replace(part, id=new_call_id()) if isinstance(part, ToolCall) and not part.id else part
        for part in parts
    )


def new_call_id() -> str:
    """For a call that came without one."""
    return f"call_{uuid4().hex[:24]}"
