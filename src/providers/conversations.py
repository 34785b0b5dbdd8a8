"""A conversation in an order that every API accepts. Pure.

A history is written by several models, clients and people, so an API may refuse it as it stands. `ordered`
puts right what is the same everywhere, and changes nothing else:

    calls      every call has an id of its own, and exactly one result, directly behind its answer
    results    one message of the role `tool` behind each answer with calls, in the order of the calls; a
               missing result is an error that says so, and a result without a call becomes text
    answers    answers in a row are one, as soon as one of them is more than text
    places     images and documents of a system prompt move into a user's message behind it

The rest differs between the APIs and is in `openai_messages.py`, `anthropic_messages.py` and
`gemini_messages.py`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from ..messages import (
    ContentPart,
    Document,
    Image,
    Message,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    tool_calls_in,
)

NO_RESULT = "no result"
OPENING = "(The conversation starts here.)"  # for an API that takes no answer as the first message
_ALLOWED = {
    "system": (Text,),
    "user": (Text, Image, Document),
    "assistant": (Text, ToolCall, Reasoning),
}
_DIGEST_CHARS = 8
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]+")


def ordered(messages: Sequence[Message]) -> Sequence[Message]:
    """The conversation by the rules above; plain texts as they are."""
    if all(type(message.content) is str and message.role != "tool" for message in messages):
        return messages
    found: list[Message] = []
    ids = _UniqueIds()
    at = 0
    while at < len(messages):
        if messages[at].role != "assistant":
            found.extend(_sorted_out(messages[at], ()))
            at += 1
            continue
        end = _end_of_run(messages, at, is_answer=True)
        after = _end_of_run(messages, end, is_answer=False)
        found.extend(_answer_and_results(messages[at:end], messages[end:after], ids))
        at = after
    return found


def _end_of_run(messages: Sequence[Message], start: int, *, is_answer: bool) -> int:
    """Where the answers in a row that begin at `start` end, or the messages that are none."""
    end = start
    while end < len(messages) and (messages[end].role == "assistant") is is_answer:
        end += 1
    return end


def _answer_and_results(
    answers: Sequence[Message], others: Sequence[Message], ids: _UniqueIds
) -> Iterable[Message]:
    """Answers in a row, the results of their calls, and the rest of what stands before the next answer."""
    if all(type(answer.content) is str for answer in answers):
        yield from answers
        yield from (each for other in others for each in _sorted_out(other, ()))
        return
    parts = tuple(part for answer in answers for part in answer.parts)
    asked = tool_calls_in(parts)
    calls = [replace(call, id=ids.of(call.id)) for call in asked]
    results = _Results(asked, calls)
    rest = [each for other in others for each in _sorted_out(other, results.taken_from(other))]
    yield from _sorted_out(Message("assistant", _renamed(parts, calls)), ())
    if calls:
        yield Message("tool", results.all)
    yield from rest


def _renamed(parts: Iterable[ContentPart], calls: Iterable[ToolCall]) -> tuple[ContentPart, ...]:
    """The parts with these calls in the places of theirs."""
    following = iter(calls)
    return tuple(next(following) if isinstance(part, ToolCall) else part for part in parts)


class _UniqueIds:
    """Ids of calls: a second call with the same id gets another one."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def of(self, ident: str) -> str:
        found, number = ident, 1
        while found in self._seen:
            number += 1
            found = f"{ident}_{number}"
        self._seen.add(found)
        return found


class _Results:
    """The results of the calls of one answer, by the place of the call."""

    def __init__(self, asked: Sequence[ToolCall], renamed: Sequence[ToolCall]) -> None:
        self._asked, self._renamed = asked, renamed
        self._found: dict[int, ToolResult] = {}

    def taken_from(self, message: Message) -> set[int]:
        """The places of the results in a message that answer one of the calls. They are kept."""
        taken = set()
        for number, part in enumerate(() if isinstance(message.content, str) else message.content):
            if isinstance(part, ToolResult) and (place := self._open(part.call_id)) is not None:
                self._found[place] = replace(part, call_id=self._renamed[place].id)
                taken.add(number)
        return taken

    def _open(self, ident: str) -> int | None:
        places = (n for n, call in enumerate(self._asked) if call.id == ident and n not in self._found)
        return next(places, None)

    @property
    def all(self) -> tuple[ToolResult, ...]:
        """A result for each call."""
        return tuple(
            self._found.get(place) or ToolResult(call.id, (Text(NO_RESULT),), is_error=True)
            for place, call in enumerate(self._renamed)
        )


def _sorted_out(message: Message, taken: Collection[int]) -> Iterable[Message]:
    """The message without the parts at the places `taken`, and behind it what it can't hold, as a user's."""
    role = message.role if message.role in _ALLOWED else "user"
    if isinstance(message.content, str):
        yield message if message.role == role else Message(role, message.content)
        return
    own: list[ContentPart] = []
    moved: list[ContentPart] = []
    for number, part in enumerate(message.content):
        if number in taken:
            continue
        if isinstance(part, _ALLOWED[role]):
            own.append(part)
        else:
            moved.extend(_as_users(part))
    if role == "user":
        own, moved = own + moved, []
    if own:
        yield Message(role, tuple(own))
    if moved and role == "system":
        yield Message("user", tuple(moved))


def _as_users(part: ContentPart) -> Iterable[ContentPart]:
    """A part that its message can't hold, as a user's message has it."""
    if isinstance(part, ToolResult):
        kind = "Error" if part.is_error else "Result"
        yield Text(f"{kind} of the tool call {part.call_id}:")
        yield from part.parts
    elif isinstance(part, ToolCall):
        yield Text(f"Tool call {part.name}: {part.arguments}")
    elif not isinstance(part, Reasoning):
        yield part


def with_mark(messages: Sequence[Message], number: int, roles: Sequence[str]) -> Sequence[Message]:
    """The messages with a cache mark on the last part in the first `number` of them that can bear it."""
    for at in range(min(number, len(messages)) - 1, -1, -1):
        if messages[at].role not in roles:
            continue
        parts = messages[at].parts
        for place in range(len(parts) - 1, -1, -1):
            part = parts[place]
            if isinstance(part, Reasoning) or (isinstance(part, Text) and not part.text.strip()):
                continue
            marked = (*parts[:place], replace(part, cache=True), *parts[place + 1 :])
            return (*messages[:at], Message(messages[at].role, marked), *messages[at + 1 :])
    return messages


def accepted_name(name: str, pattern: re.Pattern[str], longest: int) -> str:
    """A name or an id that the API accepts: itself, or always the same one made of it."""
    if len(name) <= longest and pattern.fullmatch(name):
        return name
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_CHARS // 2)
    start = _NOT_IN_NAMES.sub("_", name)[: longest - _DIGEST_CHARS - len("id__")].strip("_-")
    return f"{'id_' if not start[:1].isalpha() else ''}{start}_{digest.hexdigest()}"


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """The arguments as an object. What a model wrote instead of one is its one member, `arguments`."""
    if not call.arguments.strip():
        return {}
    try:
        found = json.loads(call.arguments, parse_constant=_no_number)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"arguments": call.arguments}


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def joined_text(parts: Iterable[ContentPart]) -> str:
    """The texts among the parts, one paragraph each; those without text are left out."""
    return "\n\n".join(part.text for part in parts if isinstance(part, Text) and part.text)
