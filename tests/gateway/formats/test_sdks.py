"""The real SDKs read what the formats write: answers, streams and errors."""

from __future__ import annotations

from typing import Any

import anthropic
import openai
import pytest

from src.gateway.formats.base import Format
from src.gateway.formats.problems import Problem, ProblemKind
from src.messages import ContentPart, Text, ToolCall
from src.records import FinishReason
from src.stream_events import TextDelta

from .samples import FORMATS, PARTS, SERVED, completion, request_for, stream_of, streamed
from .sdks import ask, drain, events, serving

ENDS = [FinishReason.LENGTH, FinishReason.REFUSED, FinishReason.OTHER]


def said_in(form: str, answer: Any) -> tuple[str, list[tuple[str, str]]]:
    """`(text, calls)` of an answer that an SDK has read."""
    if form == "openai":
        message = answer.choices[0].message
        calls = [(call.id, call.function.name) for call in message.tool_calls or ()]
        return message.content or "", calls
    if form == "responses":
        calls = [(item.call_id, item.name) for item in answer.output if item.type == "function_call"]
        return answer.output_text, calls
    calls = [(block.id, block.name) for block in answer.content if block.type == "tool_use"]
    return "".join(block.text for block in answer.content if block.type == "text"), calls


def expected(parts: tuple[ContentPart, ...]) -> tuple[str, list[tuple[str, str]]]:
    text = "".join(part.text for part in parts if isinstance(part, Text))
    return text, [(part.id, part.name) for part in parts if isinstance(part, ToolCall)]


def prompt_tokens(form: str, usage: Any) -> tuple[int, int]:
    """Tokens of the prompt, cached ones included, and of the answer."""
    if form == "openai":
        return usage.prompt_tokens, usage.completion_tokens
    if form == "responses":
        return usage.input_tokens, usage.output_tokens
    read, written = usage.cache_read_input_tokens, usage.cache_creation_input_tokens
    return usage.input_tokens + read + written, usage.output_tokens


def is_valid(model: Any) -> None:
    """The SDKs build their objects without a check: check them, and that each is of a known class."""
    type(model).model_validate(model.model_dump(warnings="error"))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", PARTS)
async def test_an_answer_is_read(form: str, name: str) -> None:
    parts = PARTS[name]
    body = FORMATS[form].answer(request_for(form), SERVED, completion(parts))
    async with serving(body) as base_url:
        answer = await ask(form, base_url)
    is_valid(answer)
    assert said_in(form, answer) == expected(parts)
    assert answer.model == SERVED.model
    assert prompt_tokens(form, answer.usage) == (125, 40)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", [name for name, parts in PARTS.items() if parts])
async def test_a_stream_adds_up_to_the_same_answer(form: str, name: str) -> None:
    parts = PARTS[name]
    more: Any = {"stream_options": {"include_usage": True}} if form == "openai" else {}
    body = streamed(form, stream_of(completion(parts), [1, 2, 5]), **more)
    async with serving(body, stream=True) as base_url:
        answer = await drain(form, base_url)
        for event in await events(form, base_url):
            is_valid(event)
    is_valid(answer)
    assert said_in(form, answer) == expected(parts)
    assert answer.model == SERVED.model
    assert prompt_tokens(form, answer.usage) == (125, 40)
    whole = FORMATS[form].answer(request_for(form), SERVED, completion(parts))
    async with serving(whole) as base_url:
        other = await ask(form, base_url)
    assert comparable(form, answer) == comparable(form, other)


@pytest.mark.parametrize("form", FORMATS)
async def test_a_refusal_without_a_word_is_a_whole_stream(form: str) -> None:
    """The helpers of the openai SDK raise errors of their own here."""
    body = streamed(form, stream_of(completion(())))
    async with serving(body, stream=True) as base_url:
        found = await events(form, base_url)
    for event in found:
        is_valid(event)
    last = found[-1]
    if form == "openai":
        assert last.choices[0].finish_reason == "content_filter"
    elif form == "responses":
        assert last.type == "response.incomplete"
    else:
        assert (found[-2].delta.stop_reason, last.type) == ("refusal", "message_stop")


def comparable(form: str, answer: Any) -> Any:
    """An answer without what only the helper of a stream adds."""
    found = answer.model_dump(exclude_none=True)
    for name in ("parsed", "parsed_arguments", "parsed_output", "completed_at", "citations"):
        found = without(found, name)
    if form == "openai":
        for name in ("annotations", "tool_calls"):
            found["choices"][0]["message"].pop(name, None)
        found.pop("object")
    return found


def without(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {key: without(each, name) for key, each in value.items() if key != name}
    return [without(each, name) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("reason", ENDS)
async def test_each_end_has_its_word(form: str, reason: FinishReason) -> None:
    answer = completion(PARTS["text"], reason)
    words = {
        "openai": ("length", "content_filter", "stop"),
        "responses": ("max_output_tokens", "content_filter", None),
        "anthropic": ("max_tokens", "refusal", "end_turn"),
    }[form]
    async with serving(FORMATS[form].answer(request_for(form), SERVED, answer)) as base_url:
        found = await ask(form, base_url)
    if form == "openai":
        word = found.choices[0].finish_reason
    elif form == "anthropic":
        word = found.stop_reason
    else:
        word = found.incomplete_details.reason if found.incomplete_details else None
        assert found.status == ("incomplete" if word else "completed")
    assert word == words[ENDS.index(reason)]


CLASSES: dict[ProblemKind, tuple[type[Exception], type[Exception]]] = {
    ProblemKind.BAD_REQUEST: (openai.BadRequestError, anthropic.BadRequestError),
    ProblemKind.UNAUTHORIZED: (openai.AuthenticationError, anthropic.AuthenticationError),
    ProblemKind.FORBIDDEN: (openai.PermissionDeniedError, anthropic.PermissionDeniedError),
    ProblemKind.NOT_FOUND: (openai.NotFoundError, anthropic.NotFoundError),
    ProblemKind.METHOD_NOT_ALLOWED: (openai.APIStatusError, anthropic.APIStatusError),
    ProblemKind.MODEL_NOT_FOUND: (openai.NotFoundError, anthropic.NotFoundError),
    ProblemKind.CONFLICT: (openai.ConflictError, anthropic.ConflictError),
    ProblemKind.BODY_TOO_LARGE: (openai.APIStatusError, anthropic.ContentTooLargeError),
    ProblemKind.MEDIA_TYPE: (openai.APIStatusError, anthropic.APIStatusError),
    ProblemKind.CONTEXT_TOO_LONG: (openai.BadRequestError, anthropic.BadRequestError),
    ProblemKind.CONTENT_REFUSED: (openai.BadRequestError, anthropic.BadRequestError),
    ProblemKind.RATE_LIMITED: (openai.RateLimitError, anthropic.RateLimitError),
    ProblemKind.QUOTA_SPENT: (openai.RateLimitError, anthropic.PaymentRequiredError),
    ProblemKind.OVERLOADED: (openai.InternalServerError, anthropic.OverloadedError),
    ProblemKind.UNAVAILABLE: (openai.InternalServerError, anthropic.ServiceUnavailableError),
    ProblemKind.EXPIRED: (openai.InternalServerError, anthropic.OverloadedError),
    ProblemKind.TIMED_OUT: (openai.InternalServerError, anthropic.GatewayTimeoutError),
    ProblemKind.LOOP: (openai.InternalServerError, anthropic.InternalServerError),
    ProblemKind.PROVIDER_FAILED: (openai.InternalServerError, anthropic.InternalServerError),
    ProblemKind.INTERNAL: (openai.InternalServerError, anthropic.InternalServerError),
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", ProblemKind)
async def test_an_error_is_the_exception_of_the_sdk(form: str, kind: ProblemKind) -> None:
    api: Format = FORMATS[form]
    problem = Problem(kind, "Not like this.", param="messages[0].content", retry_after_s=0.5)
    error = CLASSES[kind][form == "anthropic"]
    async with serving(
        api.error(problem), status=api.status(problem), headers=api.error_headers(problem)
    ) as base_url:
        with pytest.raises(error, match="Not like this") as caught:
            await ask(form, base_url)
    found: Any = caught.value
    if form == "anthropic":
        assert found.api_message.endswith("Not like this.")
        assert found.type in ("api_error", "timeout_error") or found.type.endswith(("_error", "_too_large"))
    else:
        assert found.param == "messages[0].content"
        assert found.type


async def test_a_spent_budget_has_the_code_that_clients_know() -> None:
    problem = Problem(ProblemKind.QUOTA_SPENT, "The daily budget is spent.")
    body, status = FORMATS["openai"].error(problem), FORMATS["openai"].status(problem)
    async with serving(body, status=status) as base_url:
        with pytest.raises(openai.RateLimitError) as caught:
            await ask("openai", base_url)
    assert caught.value.code == caught.value.type == "insufficient_quota"


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("form", FORMATS)
async def test_an_error_in_a_stream_is_raised(form: str, begun: bool) -> None:
    writer = FORMATS[form].stream(request_for(form, stream=True), SERVED)
    body = writer.keep_alive() + (writer.event(TextDelta("The moon")) if begun else b"")
    body += writer.error(Problem(ProblemKind.PROVIDER_FAILED, "The connection broke."))
    error: type[Exception] = anthropic.APIError if form == "anthropic" else openai.APIError
    async with serving(body, stream=True) as base_url:
        for read in (drain, events):
            with pytest.raises(error, match="The connection broke"):
                await read(form, base_url)


@pytest.mark.parametrize("form", FORMATS)
async def test_a_stream_may_begin_with_keep_alives_and_has_some_in_between(form: str) -> None:
    writer = FORMATS[form].stream(request_for(form, stream=True), SERVED)
    body = b"".join(
        [
            writer.keep_alive(),
            *(writer.event(e) + writer.keep_alive() for e in stream_of(completion(PARTS["text"]), [3])),
        ]
    )
    async with serving(body + writer.end("two\nlines"), stream=True) as base_url:
        answer = await drain(form, base_url)
    assert said_in(form, answer) == expected(PARTS["text"])
