"""The official SDKs, unmodified, against a gateway: answers, streams, tools, and the classes of errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from src.simulator.process import SimulatorProcess

from .conftest import Served
from .http_client import send

QUESTION = [{"role": "user", "content": "Name a colour."}]
WEATHER = {
    "name": "weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture
def chat(gateway: Served, simulator: SimulatorProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def claude(gateway: Served, simulator: SimulatorProcess) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.url, api_key="any", max_retries=0) as client:
        yield client


# ------------------------------------------------------------------ answers

NAMES = ["auto", "economy", "openai/standard", "anthropic/economy", "gemini/premium", "claude-sonnet-5-5"]


@pytest.mark.parametrize("name", NAMES)
def test_chat_completions_answer_from_any_provider(chat: openai.OpenAI, name: str) -> None:
    answer = chat.chat.completions.with_raw_response.create(model=name, messages=QUESTION)
    found = answer.parse()
    assert found.choices[0].message.content and found.choices[0].finish_reason == "stop"
    assert found.usage is not None and found.usage.total_tokens > 0
    assert found.model == answer.headers["x-orchestrator-model"]
    provider = answer.headers["x-orchestrator-provider"]
    assert not name.count("/") or provider == name.split("/")[0]
    assert float(answer.headers["x-orchestrator-cost-usd"]) > 0
    assert answer.headers["x-orchestrator-attempts"] == "1"
    assert int(answer.headers["x-orchestrator-waited-ms"]) >= 0
    assert answer.headers["x-orchestrator-task-id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("name", NAMES)
def test_messages_answer_from_any_provider(claude: anthropic.Anthropic, name: str) -> None:
    answer = claude.messages.with_raw_response.create(model=name, max_tokens=200, messages=QUESTION)
    found = answer.parse()
    assert found.content[0].type == "text" and found.content[0].text
    assert found.usage.output_tokens > 0 and found.stop_reason == "end_turn"
    assert found.model == answer.headers["x-orchestrator-model"]
    assert answer.headers["request-id"] == answer.headers["x-orchestrator-task-id"]


@pytest.mark.parametrize("name", ["auto", "openai/economy", "anthropic/economy", "gemini/economy"])
def test_responses_answer_from_any_provider(chat: openai.OpenAI, name: str) -> None:
    assert chat.responses.create(model=name, input="Name a colour.").output_text


@pytest.mark.parametrize("name", ["openai/economy", "anthropic/economy", "gemini/economy"])
def test_a_tool_is_called_and_its_result_is_taken(chat: openai.OpenAI, name: str) -> None:
    tools: Any = [{"type": "function", "function": WEATHER}]
    history: list[Any] = [{"role": "user", "content": "What is the weather in Oslo?"}]
    first = chat.chat.completions.create(
        model=name, messages=history, tools=tools, tool_choice="required"
    ).choices[0]
    assert first.finish_reason == "tool_calls" and first.message.tool_calls
    history.append(first.message.model_dump(exclude_none=True))
    calls = first.message.tool_calls
    history += [{"role": "tool", "tool_call_id": call.id, "content": "4 degrees, rain"} for call in calls]
    last = chat.chat.completions.create(model=name, messages=history, tools=tools, tool_choice="none")
    assert last.choices[0].message.content


# ------------------------------------------------------------------ streams


@pytest.mark.parametrize("name", ["openai/economy", "anthropic/economy", "gemini/economy"])
def test_chat_completions_are_streamed(chat: openai.OpenAI, name: str) -> None:
    with chat.chat.completions.create(
        model=name, messages=QUESTION, stream=True, stream_options={"include_usage": True}
    ) as stream:
        assert stream.response.headers["x-orchestrator-provider"] == name.split("/")[0]
        chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text and chunks[-1].usage is not None
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"


@pytest.mark.parametrize("name", ["openai/economy", "anthropic/economy", "gemini/economy"])
def test_messages_and_responses_are_streamed(
    chat: openai.OpenAI, claude: anthropic.Anthropic, name: str
) -> None:
    with claude.messages.stream(model=name, max_tokens=200, messages=QUESTION) as stream:
        message = stream.get_final_message()
    assert message.content and message.stop_reason == "end_turn"
    with chat.responses.stream(model=name, input="Name a colour.") as events:
        assert events.get_final_response().output_text


def test_a_stream_ends_with_provider_and_cost(gateway: Served, simulator: SimulatorProcess) -> None:
    body = {"model": "economy", "messages": QUESTION, "stream": True}
    found = send(gateway.url, "/v1/chat/completions", method="POST", body=body)
    assert found.status == 200 and found.headers["content-type"].startswith("text/event-stream")
    assert re.search(rb"\n: provider=\w+ model=\S+ .*cost-usd=0\.\d+\n", found.body)
    assert found.body.endswith(b"data: [DONE]\n\n")


# ------------------------------------------------------------------ errors

BAD: dict[str, tuple[dict[str, Any], type[openai.APIStatusError]]] = {
    "unknown model": ({"model": "premum"}, openai.NotFoundError),
    "no messages": ({"messages": []}, openai.BadRequestError),
    "a number for a text": ({"messages": [{"role": "user", "content": 7}]}, openai.BadRequestError),
    "a parameter out of range": ({"temperature": 9}, openai.BadRequestError),
    "a field that only another API lacks": ({"model": "gemini/economy", "n": 2}, openai.BadRequestError),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("stream", [False, True])
def test_bad_requests_raise_the_sdks_own_classes(chat: openai.OpenAI, case: str, stream: bool) -> None:
    changes, kind = BAD[case]
    with pytest.raises(kind) as raised:
        chat.chat.completions.create(
            **{"model": "economy", "messages": QUESTION, "stream": stream, **changes}
        )
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert raised.value.request_id


def test_bad_messages_raise_the_other_sdks_classes(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(model="cloude", max_tokens=1, messages=QUESTION)
    with pytest.raises(anthropic.BadRequestError):
        claude.messages.create(model="economy", max_tokens=1, messages=[])


BODIES: dict[str, tuple[bytes, dict[str, str], int]] = {
    "not JSON": (b"{", {}, 400),
    "a list": (b"[]", {}, 400),
    "NaN": (b'{"model": "economy", "temperature": NaN}', {}, 400),
    "a duplicate key": (b'{"model": "economy", "model": "premium"}', {}, 400),
    "not UTF-8": (b'{"model": "\xff"}', {}, 400),
    "deep": (b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}", {}, 400),
    "endless": (b"[" * 100_000, {}, 400),
    "a form": (b"a=b", {"content-type": "application/x-www-form-urlencoded"}, 415),
    "text": (b"{}", {"content-type": "text/plain"}, 415),
    "no type": (b"{}", {"content-type": ""}, 415),
    "too large": (b" " * 33_000_000, {}, 413),
    "from here": (b"{}", {"origin": "http://127.0.0.1:5001"}, 403),
}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
@pytest.mark.parametrize("case", BODIES)
def test_a_body_that_is_none_is_an_error_of_the_api(gateway: Served, path: str, case: str) -> None:
    content, headers, status = BODIES[case]
    sent = {"content-type": "application/json", **headers}
    found = send(gateway.url, path, method="POST", body=content, headers=sent)
    assert found.status == status, found.body
    assert found.json["error"]["message"] and found.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_a_wrong_method_names_the_right_one(gateway: Served, path: str) -> None:
    found = send(gateway.url, path)
    assert found.status == 405 and "POST" in found.json["error"]["message"]


def test_a_deadline_ends_as_each_api_says_and_is_not_repeated(
    chat: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    soon = {"x-orchestrator-timeout": "0.001"}
    with pytest.raises(openai.InternalServerError) as raised:
        chat.with_options(max_retries=2).chat.completions.create(
            model="economy", messages=QUESTION, extra_headers=soon
        )
    assert raised.value.status_code == 504 and raised.value.response.headers["x-should-retry"] == "false"
    with pytest.raises(anthropic.APIStatusError) as other:
        claude.messages.create(model="economy", max_tokens=9, messages=QUESTION, extra_headers=soon)
    assert other.value.status_code == 529 and other.value.response.headers["x-should-retry"] == "false"


def test_an_unknown_header_of_ours_is_refused(chat: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="x-orchestrator-prority"):
        chat.chat.completions.create(
            model="economy", messages=QUESTION, extra_headers={"x-orchestrator-prority": "1"}
        )
