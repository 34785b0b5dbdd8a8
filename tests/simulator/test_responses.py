"""OpenAI Responses through the real SDK: output, events, tools, reasoning, and what is refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from src.simulator import SimulatorProcess

from .histories import SCHEMAS, Poster
from .media import data_url, png
from .streams import RawStream

PATH = "/responses"
TOOLS: Any = [{"type": "function", "name": name, "parameters": own} for name, own in SCHEMAS.items()]
SEALED: Any = ["reasoning.encrypted_content"]


@pytest_asyncio.fixture
async def gpt(sim: SimulatorProcess) -> AsyncIterator[openai.AsyncOpenAI]:
    http = openai.DefaultAsyncHttpxClient(verify=False)  # plain HTTP needs no certificates
    async with openai.AsyncOpenAI(
        base_url=sim.base_urls["openai"], api_key="k", max_retries=0, http_client=http
    ) as client:
        yield client


async def events_of(stream: Any) -> list[Any]:
    return [event async for event in stream]


async def test_a_response_answers_and_says_what_it_cost(
    gpt: openai.AsyncOpenAI, sim: SimulatorProcess
) -> None:
    response = await gpt.responses.create(model="m", input="Why?", instructions="Be brief.")
    assert response.output_text.startswith("On “Why?”")
    assert (response.status, response.object, response.instructions) == ("completed", "response", "Be brief.")
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    stats = sim.stats()["openai"]
    assert stats["output_tokens"] == response.usage.output_tokens
    assert stats["admitted_input_tokens"] == response.usage.input_tokens


async def test_it_says_the_same_as_a_chat_completion(gpt: openai.AsyncOpenAI, sim: SimulatorProcess) -> None:
    response = await gpt.responses.create(model="m", input="Why?")
    completion = await gpt.chat.completions.create(model="m", messages=[{"role": "user", "content": "Why?"}])
    assert response.output_text == completion.choices[0].message.content
    assert sim.stats()["openai"]["answered_duplicates"] == 1


async def test_a_stream_has_the_events_of_the_api_in_their_order(gpt: openai.AsyncOpenAI) -> None:
    events = await events_of(await gpt.responses.create(model="m", input="Why?", stream=True))
    names = [event.type for event in events]
    assert names[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert names[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert set(names[4:-4]) == {"response.output_text.delta"}
    assert [event.sequence_number for event in events] == list(range(len(events)))
    whole = events[-1].response
    assert "".join(event.delta for event in events[4:-4]) == whole.output_text
    at_once = await gpt.responses.create(model="m", input="Why?")
    assert (whole.output_text, whole.usage) == (at_once.output_text, at_once.usage)


async def test_the_sdk_s_own_collector_agrees(gpt: openai.AsyncOpenAI) -> None:
    async with gpt.responses.stream(model="m", input="call get_time and get_weather", tools=TOOLS) as stream:
        collected = await stream.get_final_response()
    at_once = await gpt.responses.create(model="m", input="call get_time and get_weather", tools=TOOLS)
    calls = [
        (item.name, json.loads(item.arguments)) for item in collected.output if item.type == "function_call"
    ]
    assert [name for name, _ in calls] == ["get_time", "get_weather"]
    assert calls == [(i.name, json.loads(i.arguments)) for i in at_once.output if i.type == "function_call"]


@pytest.mark.parametrize("is_stored", [True, False])
async def test_an_agent_goes_on_with_the_items_it_got(gpt: openai.AsyncOpenAI, is_stored: bool) -> None:
    history: list[Any] = [{"role": "user", "content": "call get_time, then call get_weather, then sum up"}]
    more: Any = {"reasoning": {"effort": "low", "summary": "auto"}, "include": SEALED, "store": is_stored}
    seen = []
    for _ in range(3):
        response = await gpt.responses.create(model="m", input=history, tools=TOOLS, **more)
        calls = [item for item in response.output if item.type == "function_call"]
        seen.append([call.name for call in calls])
        history += [item.model_dump(exclude_none=True) for item in response.output]
        history += [{"type": "function_call_output", "call_id": c.call_id, "output": "42"} for c in calls]
    assert seen == [["get_time"], ["get_weather"], []]
    assert response.output[0].type == "reasoning"
    assert response.output_text


async def test_reasoning_is_an_item_of_its_own(gpt: openai.AsyncOpenAI) -> None:
    more: Any = {"reasoning": {"effort": "medium", "summary": "auto"}, "include": SEALED}
    response = await gpt.responses.create(model="m", input="Why?", **more)
    first = response.output[0]
    assert first.type == "reasoning"
    assert first.summary[0].text
    assert first.encrypted_content
    assert response.usage is not None
    assert response.usage.output_tokens_details.reasoning_tokens == 100
    events = await events_of(await gpt.responses.create(model="m", input="Why?", stream=True, **more))
    assert "response.reasoning_summary_text.delta" in [event.type for event in events]


async def test_a_cut_response_is_incomplete(gpt: openai.AsyncOpenAI) -> None:
    response = await gpt.responses.create(model="m", input="Why?", max_output_tokens=16)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    events = await events_of(
        await gpt.responses.create(model="m", input="Why?", max_output_tokens=16, stream=True)
    )
    assert events[-1].type == "response.incomplete"


async def test_a_schema_and_an_image_are_read(gpt: openai.AsyncOpenAI) -> None:
    form: Any = {"format": {"type": "json_schema", "name": "x", "schema": SCHEMAS["get_time"]}}
    content: Any = [
        {"type": "input_text", "text": "Why?"},
        {"type": "input_image", "image_url": data_url("image/png", png(256, 256)), "detail": "auto"},
    ]
    response = await gpt.responses.create(model="m", input=[{"role": "user", "content": content}], text=form)
    assert set(json.loads(response.output_text)) == {"zone"}
    assert response.usage is not None
    assert response.usage.input_tokens == 1 + 77 + 2 * 4


@pytest.mark.parametrize(
    ("fault", "last"),
    [
        ("stream_cut", "response.output_text.delta"),
        ("stream_unterminated", "response.output_item.done"),
        ("stream_error", "response.failed"),
    ],
)
async def test_streams_break_here_too(raw_stream: RawStream, fault: str, last: str) -> None:
    raw_stream.sim.patch("openai", {"faults": {fault: 1.0}})
    url = raw_stream.sim.base_urls["openai"] + PATH
    body = {"model": "m", "input": "Why?", "stream": True}
    async with raw_stream.session.post(url, json=body, headers={"Authorization": "Bearer k"}) as response:
        text = (await response.read()).decode()
    names = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    assert names[-1] == last
    assert "response.completed" not in names


CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": "x"}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": []}
USER = {"role": "user", "content": "Why?"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"input": None}, "Missing required parameter: 'input'"),
        ({"messages": []}, "Unknown parameter: 'messages'"),
        ({"previous_response_id": "resp_1"}, "Previous response with id 'resp_1' not found"),
        ({"max_output_tokens": 5}, "Expected a value >= 16"),
        ({"background": True}, "Background mode"),
        ({"stream": "yes"}, "Invalid type for 'stream'"),
        ({"reasoning": {"effort": "huge"}}, "Invalid value: 'huge'"),
        ({"tools": [{"type": "web_search"}]}, "Invalid value: 'web_search'"),
        ({"tools": [{"type": "function", "name": "a b"}]}, "'tools[0].name': string does not match pattern"),
        ({"tool_choice": "required"}, "must be specified with 'tools'"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "name": "g"}}, "Tool choice 'g' not found"),
        ({"input": [USER, CALL]}, "No tool output found for function call c."),
        ({"input": [USER, OUTPUT]}, "No tool call found for function call output with call_id c."),
        ({"input": [USER, THOUGHT]}, "provided without its required following item"),
        ({"input": [USER, THOUGHT, USER]}, "provided without its required following item"),
        ({"input": [USER, {**THOUGHT, "encrypted_content": "x"}, CALL, OUTPUT]}, "could not be verified"),
        ({"input": [USER, THOUGHT, CALL, OUTPUT], "store": False}, "Items are not persisted"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "Item with id 'msg_1' not found"),
        ({"input": [{"type": "computer_call"}]}, "Invalid value: 'computer_call'"),
        ({"input": [{"role": "robot", "content": "x"}]}, "Invalid value: 'robot'"),
        ({"input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, "Invalid value: 'text'"),
        ({"input": [{**CALL, "arguments": {}}]}, "Invalid type for 'input[0].arguments'"),
    ],
)
async def test_what_the_api_does_not_take(poster: Poster, more: dict[str, Any], message: str) -> None:
    status, answer = await poster.post("openai", {"model": "m", "input": "Why?", **more}, PATH)
    assert (status, message in answer["error"]["message"]) == (400, True), answer
