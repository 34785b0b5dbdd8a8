"""Prompts and finish reasons: what all API formats share. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..answer_schema import schema_text
from ..errors import ContentRefused, InvalidResponse, ProviderError, Truncated, UnusableAnswer
from ..messages import Message
from ..records import CompletionRequest, FinishReason
from .schemas import NOT_EXPRESSIBLE, Form

Json = dict[str, Any]
_IN_WORDS = "Answer with JSON that matches this JSON schema, and with nothing else:"


def leading_system(messages: Sequence[Message]) -> int:
    """How many system messages stand before the conversation."""
    return next((n for n, m in enumerate(messages) if m.role != "system"), len(messages))


def apply_schema(
    request: CompletionRequest,
    form_of: Callable[[Mapping[str, Any]], Form],
    messages: Sequence[Message],
    *,
    in_words: bool,
) -> tuple[Sequence[Message], Json | None]:
    """`(messages, schema as the API takes it)` for the answer that is wanted; None: no schema is sent.

    `messages` are the request's, with their cache marks. If the API's form loses part of the schema, or none
    is to be sent (`in_words`), the whole schema is added to them as text in a system message.
    """
    schema = request.response_schema
    if schema is None:
        return messages, None
    form = NOT_EXPRESSIBLE if in_words else form_of(schema)
    if form.complete:
        return messages, form.schema
    said = Message("system", f"{_IN_WORDS}\n{schema_text(schema)}")
    first = leading_system(messages)
    return (*messages[:first], said, *messages[first:]), form.schema


Finish = FinishReason | type[ProviderError]
"""The meaning of a finish reason: a kind of end, or the error that it stands for."""


def finish_of(reason: str, table: Mapping[str, Finish]) -> Finish | None:
    """The meaning of a finish reason: OTHER where the table does not have it, None where the reason is empty.

    Servers differ in case (`STOP`), and some add a detail after a colon (`content_filter: PROHIBITED`).
    """
    if not reason:
        return None
    return table.get(reason) or table.get(reason.partition(":")[0].strip().lower(), FinishReason.OTHER)


def why_unusable(
    written: str, finish: Finish | None, reason: str, other_content: str = ""
) -> tuple[type[ProviderError], str] | None:
    """`(error class, message)` of a 200 that is not an answer; None if it is one. `reason`: the provider's.

    `written`: its text and tool calls. `other_content`: what it holds instead, where it holds something.
    """
    if finish is FinishReason.REFUSED:
        return ContentRefused, f"refused to answer ({reason})"
    if finish is None:
        return InvalidResponse, "the answer was cut off: it has no stop reason"
    if not isinstance(finish, FinishReason):
        return finish, f"the answer ended with {reason}"
    if written.strip():
        return None
    if finish is FinishReason.LENGTH:
        return Truncated, "max_tokens was spent before any text came"
    if other_content or finish is not FinishReason.STOP:
        return (
            UnusableAnswer,
            f"the answer has no text, only {other_content or 'its end'} (stop reason {reason})",
        )
    return InvalidResponse, f"the answer is empty (stop reason {reason})"


def unknown_end(finish: Finish | None, reason: object) -> tuple[str, ...]:
    """The warning for an answer with an unknown finish reason."""
    if finish is not FinishReason.OTHER:
        return ()
    return (f"the answer has an unknown finish reason ({reason}), so it may be incomplete",)
