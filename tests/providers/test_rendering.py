"""Whatever a conversation looks like, each API takes what is sent, as strictly as the simulator checks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.messages import Message, Text, ToolCall, ToolResult, tool_calls_in
from src.providers.factory import build_adapter
from src.providers.sdk_adapter import SdkAdapter
from src.records import CompletionRequest, FinishReason
from src.simulator.anthropic_format import AnthropicFormat
from src.simulator.anthropic_requests import read_message
from src.simulator.gemini_format import GeminiFormat
from src.simulator.gemini_requests import read_content
from src.simulator.openai_format import OpenAIFormat
from src.simulator.openai_requests import read_chat
from src.simulator.shapes import Ask, Fail, Reply
from src.simulator.shapes import ToolCall as Called

from .conftest import API_FORMATS, MODELS, access_to, ask
from .histories import CLOCK, HISTORIES, TOOLS, WEATHER, anthropic_reasoning, gemini_reasoning

Json = dict[str, Any]
FORMATS = {"anthropic": AnthropicFormat(), "openai": OpenAIFormat(), "gemini": GeminiFormat()}
EFFORTS = st.sampled_from([None, None, "none", "minimal", "low", "medium", "high"])


def adapter_of(api: str) -> SdkAdapter:
    made = build_adapter(access_to(api, "http://127.0.0.1:9"), 1)
    assert isinstance(made, SdkAdapter)
    return made


ADAPTERS = {api: adapter_of(api) for api in API_FORMATS}


def body_of(api: str, request: CompletionRequest) -> tuple[Json, tuple[str, ...]]:
    """The body as it is sent, and what was left out of it."""
    rendered = ADAPTERS[api]._render(request)
    if api != "gemini":
        return rendered.body, rendered.warnings
    # the package writes the generation config and the system prompt; the contract tests send them
    body = {"contents": rendered.body["contents"], **rendered.body["beyond"]}
    if rendered.body["system"]:
        body["systemInstruction"] = {"parts": [{"text": rendered.body["system"]}]}
    return body, rendered.warnings


def read(api: str, body: Json) -> Ask:
    """What the simulator reads. Raises Fail for what the API refuses."""
    body = json.loads(json.dumps(body, allow_nan=False))
    if api == "anthropic":
        return read_message(body)
    return read_chat(body) if api == "openai" else read_content(body, MODELS["gemini"], {}, "generate")


def taken(api: str, request: CompletionRequest) -> Ask:
    body, _ = body_of(api, request)
    try:
        found = read(api, body)
    except Fail as fail:
        raise AssertionError(f"{api} refuses: {fail.facts.get('message')}\n{body}") from fail
    assert found.unsigned_call is None or request.parameters.get("thinking") == "budget"
    return found


REQUESTS = st.fixed_dictionaries(
    {
        "messages": HISTORIES,
        "tools": st.sampled_from([(), (WEATHER,), TOOLS]),
        "tool_choice": st.sampled_from(["", "auto", "none", "required", WEATHER.name]),
        "parallel_tool_calls": st.sampled_from([None, True, False]),
        "reasoning_effort": EFFORTS,
        "max_tokens": st.sampled_from([16, 2_048, 64_000]),
        "temperature": st.sampled_from([None, 0.5, 1.0]),
        "cached_turns": st.integers(0, 9),
        "response_schema": st.sampled_from([None, {"type": "object", "properties": {"a": {}}}]),
        "thinking": st.sampled_from(["effort", "budget"]),
        "marks": st.booleans(),
    }
)


@pytest.mark.parametrize("api", API_FORMATS)
@settings(max_examples=200)
@given(given_=REQUESTS)
def test_whatever_the_history_is_the_api_takes_it(api: str, given_: dict[str, Any]) -> None:
    facts = dict(given_)
    thinking, marks = facts.pop("thinking"), facts.pop("marks")
    if marks:  # a prompt long enough for the prompt cache
        facts["messages"] = (Message("system", "x" * 5_000), *facts["messages"])
    parameters = {"thinking": thinking, "prompt_cache": "marks" if marks else ""}
    taken(api, ask(api, parameters=parameters, **facts))


# ---------------------------------------------------------------- providers that switch

WORDS = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=12)
CALLED = st.tuples(
    st.sampled_from([WEATHER.name, CLOCK.name]),
    st.dictionaries(st.sampled_from(["city", "unit"]), WORDS, max_size=2),
    WORDS,
)
ROUND = st.tuples(
    st.sampled_from(API_FORMATS),  # who answers
    WORDS,  # what the user says before
    st.one_of(st.none(), WORDS),  # what the answer says beside its calls
    st.lists(CALLED, max_size=3),
    st.booleans(),  # whether its results are errors
)


def conversation(rounds: list[Any]) -> list[tuple[Message, ...]]:
    """A conversation that several providers have written, as it stood before each of its answers."""
    turns: list[Message] = [Message("system", "Be brief.")]
    before: list[tuple[Message, ...]] = []
    for number, (api, said, text, calls, are_errors) in enumerate(rounds):
        turns.append(Message("user", said))
        before.append(tuple(turns))
        parts: list[Any] = []
        if api == "anthropic":
            parts.append(anthropic_reasoning(MODELS[api], said))
        if text or not calls:
            parts.append(Text(text or "Yes."))
        if api == "gemini" and calls:
            parts.append(gemini_reasoning(MODELS[api], calls[0][0]))
        made = [ToolCall(f"call.{n}", name, json.dumps(given)) for n, (name, given, _) in enumerate(calls)]
        turns.append(Message("assistant", (*parts, *made)))
        for n, (_, _, result) in enumerate(calls):  # ids repeat from round to round, as some servers' do
            shown = f"Error {number}: {result}" if are_errors else result
            turns.append(Message("tool", (ToolResult(f"call.{n}", (Text(shown),), are_errors),)))
        if calls:
            before.append(tuple(turns))
    return [*before, (*turns, Message("user", "And now?"))]


@settings(max_examples=60)
@given(rounds=st.lists(ROUND, min_size=1, max_size=4))
def test_wherever_the_provider_switches_the_conversation_reads_the_same(rounds: list[Any]) -> None:
    for messages in conversation(rounds):
        request = {"messages": messages, "tools": (WEATHER, CLOCK), "tool_choice": "auto"}
        prompts = {taken(api, ask(api, **request)).prompt for api in API_FORMATS}
        assert len(prompts) == 1


@settings(max_examples=60)
@given(rounds=st.lists(ROUND, min_size=1, max_size=4))
def test_reasoning_goes_back_to_the_model_that_wrote_it_alone(rounds: list[Any]) -> None:
    messages = conversation(rounds)[-1]
    for api in API_FORMATS:
        own = sum(round_[0] == api and (api == "anthropic" or bool(round_[3])) for round_ in rounds)
        body, _ = body_of(api, ask(api, messages=messages, tools=(WEATHER, CLOCK)))
        other, _ = body_of(api, ask(api, model="another", messages=messages, tools=(WEATHER, CLOCK)))
        sent = json.dumps(body)
        if api == "anthropic":
            assert (sent.count('"signature"'), json.dumps(other).count('"signature"')) == (own, 0)
        elif api == "gemini":
            written = sent.count("thoughtSignature") - sent.count("skip_thought_signature_validator")
            assert written == own
            unsigned = json.dumps(other)
            assert unsigned.count("thoughtSignature") == unsigned.count("skip_thought_signature_validator")
        else:
            assert "signature" not in sent.lower()


# ---------------------------------------------------------------- answers


@settings(max_examples=60)
@given(
    text=st.one_of(st.just(""), WORDS),
    calls=st.lists(CALLED, min_size=1, max_size=3),
    thinking=st.one_of(st.none(), WORDS),
)
def test_an_answer_reads_the_same_from_every_api_and_goes_back_to_each(
    text: str, calls: list[Any], thinking: str | None
) -> None:
    made = tuple(Called(name, given, json.dumps(given, ensure_ascii=False)) for name, given, _ in calls)
    heard = set()
    for api in API_FORMATS:
        request = ask(api, tools=(WEATHER, CLOCK))
        asked = taken(api, request)
        reply = Reply(
            text, "tool_calls" if api == "openai" else "stop", 30, 400, calls=made, thinking=thinking
        )
        reply.finish = "stop"
        body = json.loads(FORMATS[api].answer(asked, reply, "abc"))
        completion = ADAPTERS[api]._completion(body, request, {}, ())
        assert completion.finish_reason is FinishReason.TOOL
        assert completion.warnings == ()
        found = tool_calls_in(completion.parts)
        assert len({call.id for call in found}) == len(found) and all(call.id for call in found)
        heard.add((completion.text, *((call.name, call.arguments) for call in found)))
        results = tuple(ToolResult(call.id, (Text("1"),)) for call in found)
        history = (*request.messages, Message("assistant", completion.parts), Message("tool", results))
        prompts = {
            taken(each, ask(each, messages=history, tools=(WEATHER, CLOCK))).prompt for each in API_FORMATS
        }
        assert len(prompts) == 1
    assert len(heard) == 1
