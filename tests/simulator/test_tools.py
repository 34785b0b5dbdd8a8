"""Tool calls: what is called when, through the real SDKs and over whole conversations."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import jsonschema
import pytest

from src.simulator import SimulatorProcess
from src.simulator.config import API_FORMATS
from src.simulator.tools import asked_calls

from .histories import (
    SCHEMAS,
    Poster,
    answer_turn,
    calls_in,
    choice,
    finish_in,
    request,
    results,
    text_in,
    tools,
    user,
)
from .sdks import MODELS, ask, gemini_sdk
from .streams import stream

BOTH = "Please call get_weather and get_time."


def names(api: str, answer: Any) -> list[str]:
    return [name for _, name, _ in calls_in(api, answer)]


# -- what is called --


@pytest.mark.parametrize("api", API_FORMATS)
@pytest.mark.parametrize(
    ("text", "wanted", "expected"),
    [
        pytest.param("Hello.", "auto", [], id="nothing asked for"),
        pytest.param("Call me later, get_weather is down.", "auto", [], id="names alone"),
        pytest.param(BOTH, "auto", ["get_weather", "get_time"], id="parallel"),
        pytest.param(BOTH, "none", [], id="forbidden"),
        pytest.param(BOTH, "get_time", ["get_time"], id="one by its name"),
        pytest.param("Hello.", "any", ["get_weather"], id="required"),
        pytest.param("call get_time, get_time, and get_weather.", "any", ["get_time"] * 2 + ["get_weather"]),
    ],
)
async def test_the_choice_and_the_prompt_decide_what_is_called(
    poster: Poster, api: str, text: str, wanted: str, expected: list[str]
) -> None:
    answer = await poster.answer(api, text, **choice(api, wanted))
    assert names(api, answer) == expected
    finishes = {"anthropic": "tool_use", "openai": "tool_calls", "gemini": "STOP"}
    if expected:
        assert finish_in(api, answer) == finishes[api]
        for _, name, arguments in calls_in(api, answer):
            jsonschema.validate(arguments, SCHEMAS[name])
    else:
        assert text_in(api, answer)


@pytest.mark.parametrize("api", API_FORMATS)
async def test_arguments_in_the_prompt_are_used_as_they_are(poster: Poster, api: str) -> None:
    given = {"zone": "Zürich \U0001f30a", "deep": [{"a": None}]}
    answer = await poster.answer(api, f"call get_time {json.dumps(given)} and get_time.")
    [first, second] = calls_in(api, answer)
    assert first[2] == given
    assert second[2] != given


@pytest.mark.parametrize("name", ["parametersJsonSchema", "parameters_json_schema"])
async def test_gemini_takes_plain_json_schemas_too(poster: Poster, name: str) -> None:
    closed = {**SCHEMAS["get_time"], "additionalProperties": False}
    given: Any = [{"functionDeclarations": [{"name": "get_time", name: closed}]}]
    body = request("gemini", [user("gemini", "call get_time")], tools=given)
    _, answer = await poster.post("gemini", body)
    jsonschema.validate(calls_in("gemini", answer)[0][2], closed)
    given[0]["functionDeclarations"][0][name] = {"type": "string"}
    assert (await poster.post("gemini", body))[0] == 400


@pytest.mark.parametrize("api", ["anthropic", "openai"])
async def test_calls_in_parallel_can_be_switched_off(poster: Poster, api: str) -> None:
    off: dict[str, Any] = {"parallel_tool_calls": False}
    if api == "anthropic":
        off = {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}
    assert names(api, await poster.answer(api, BOTH, **off)) == ["get_weather"]


@pytest.mark.parametrize("api", API_FORMATS)
async def test_an_agent_s_steps_follow_each_other_and_end_in_text(poster: Poster, api: str) -> None:
    turns = [user(api, "First call get_weather and get_time, then call get_time. Then sum up.")]
    seen, idents = [], []
    for _ in range(4):
        status, answer = await poster.post(api, request(api, turns, tools=tools(api)))
        assert status == 200, answer
        made = calls_in(api, answer)
        seen.append([name for _, name, _ in made])
        turns.append(answer_turn(api, answer))
        if not made:
            break
        idents += [ident for ident, _, _ in made]
        turns += results(api, *((ident, name, "42") for ident, name, _ in made))
    assert seen == [["get_weather", "get_time"], ["get_time"], []]
    assert text_in(api, answer)
    if api != "gemini":
        assert len(set(idents)) == 3


@pytest.mark.parametrize("api", API_FORMATS)
async def test_definitions_calls_and_results_count_as_input(poster: Poster, api: str) -> None:
    async def read(turns: list[Any], **more: Any) -> int:
        status, _ = await poster.post(api, request(api, turns, **more))
        assert status == 200
        tokens = poster.sim.stats()[api]["admitted_input_tokens"]
        poster.sim.reset()
        return int(tokens)

    begun = [user(api, "Hi")]
    plain, with_tools = await read(begun), await read(begun, tools=tools(api))
    assert with_tools - plain == pytest.approx(len(json.dumps(tools(api))) / 4, abs=1)


# -- at the token limit --


@pytest.mark.parametrize("api", API_FORMATS)
async def test_a_call_that_the_token_limit_cuts_is_no_call(sim: SimulatorProcess, api: str) -> None:
    more: dict[str, Any] = {"tools": tools(api), **choice(api, "get_weather")}
    if api == "gemini":
        more = {"tools": gemini_tools(), "tool_config": gemini_choice("get_weather")}
    found = await stream(sim, api, max_tokens=4, **more)
    assert found.finish in ("max_tokens", "length", "MAX_TOKENS")
    if api == "gemini":
        assert found.calls == {}
        return
    [[_, arguments]] = found.calls.values()
    with pytest.raises(json.JSONDecodeError):
        json.loads(arguments)


# -- through the SDKs --


def gemini_tools() -> Any:
    declared = deepcopy(tools("gemini")[0]["functionDeclarations"])
    for each in declared:
        each["description"] = each["name"]
        for own in each["parameters"]["properties"].values():
            own.pop("minimum", None)  # google-generativeai does not know it
    return [{"function_declarations": declared}]


def gemini_choice(name: str) -> Any:
    return {"function_calling_config": {"mode": "ANY", "allowed_function_names": [name]}}


async def sdk_calls(sim: SimulatorProcess, api: str, prompt: str) -> list[tuple[str, Any]]:
    if api == "gemini":
        genai = gemini_sdk()
        genai.configure(api_key="k", transport="rest", client_options={"api_endpoint": sim.base_urls[api]})
        model = genai.GenerativeModel(MODELS[api], tools=gemini_tools())
        answer = model.generate_content(prompt, request_options={"retry": None, "timeout": 5})
        parts = type(answer.candidates[0]).to_dict(answer.candidates[0])["content"]["parts"]
        return [
            (p["function_call"]["name"], p["function_call"]["args"]) for p in parts if "function_call" in p
        ]
    answer = await ask(sim, api, prompt=prompt, max_tokens=300, tools=tools(api))
    if api == "anthropic":
        return [(block.name, block.input) for block in answer.content if block.type == "tool_use"]
    made = answer.choices[0].message.tool_calls
    return [(call.function.name, json.loads(call.function.arguments)) for call in made]


@pytest.mark.parametrize("api", API_FORMATS)
async def test_calls_read_the_same_streamed_and_at_once(sim: SimulatorProcess, api: str) -> None:
    at_once = await sdk_calls(sim, api, BOTH)
    more = {"tools": gemini_tools() if api == "gemini" else tools(api)}
    found = await stream(sim, api, prompt=BOTH, max_tokens=300, **more)
    assert [(name, json.loads(text)) for name, text in found.calls.values()] == at_once
    assert [name for name, _ in at_once] == ["get_weather", "get_time"]
    assert found.finish in ("tool_use", "tool_calls", "STOP")
    stats = sim.stats()[api]
    assert stats["output_tokens"] == 2 * found.usage[1]  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("call a", [["a"]]),
        ("call a.", [["a"]]),
        ("Call a", []),
        ("recall a", []),
        ("call b, then call a and a", [["a", "a"]]),
        ("call a, a and a then call a", [["a", "a", "a"], ["a"]]),
        ("call a and then stop", [["a"]]),
        ('call a {"x": 1} and a', [["a", "a"]]),
        ('call a {"x": 1', [["a"]]),
        ("call ", []),
    ],
)
def test_what_a_text_asks_for(text: str, groups: list[list[str]]) -> None:
    assert [[name for name, _ in group] for group in asked_calls(text, ["a"])] == groups
