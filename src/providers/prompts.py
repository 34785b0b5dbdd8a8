"""What the wires share of prompts and the judgement on an answer. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..answer_schema import schema_text
from ..errors import ContentRefused, InvalidResponse, ProviderError, Truncated
from ..records import FinishReason, Message

Json = dict[str, Any]
_IN_WORDS = "Answer with JSON that matches this JSON schema, and with nothing else:"


def system_apart(messages: Sequence[Message]) -> tuple[str, list[Message]]:
    """`(system prompt, turns)`. A prompt that is all system is the user's only turn: no wire takes none."""
    system = "\n\n".join(m.content for m in messages if m.role == "system")
    turns = [m for m in messages if m.role != "system"]
    return (system, turns) if turns else ("", [Message("user", system)])


def leading_system(messages: Sequence[Message]) -> int:
    """How many system messages stand before the conversation."""
    return next((n for n, m in enumerate(messages) if m.role != "system"), len(messages))


def with_schema_in_words(messages: Sequence[Message], schema: Mapping[str, Any]) -> tuple[Message, ...]:
    """The prompt with the schema as one more system message, where it can't be sent as a schema."""
    told = Message("system", f"{_IN_WORDS}\n{schema_text(schema)}")
    first = leading_system(messages)
    return (*messages[:first], told, *messages[first:])


def why_unusable(
    text: str, finish: FinishReason | None, reason: str
) -> tuple[type[ProviderError], str] | None:
    """Why a 200 is no answer: our class and a sentence; None if it is one. `reason` is the provider's."""
    if finish is FinishReason.REFUSED:
        return ContentRefused, f"refused to answer ({reason})"
    if finish is None:
        return InvalidResponse, "the answer was cut off: it has no stop reason"
    if text.strip():
        return None
    if finish is FinishReason.LENGTH:
        return Truncated, "max_tokens was spent before any text came"
    return InvalidResponse, f"the answer is empty (stop reason {reason})"
