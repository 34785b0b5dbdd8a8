"""Reasoning: shown and hidden, streamed and at once, and what a history must bring back of it."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from src.simulator import SimulatorProcess
from src.simulator.config import API_FORMATS

from .histories import Poster, answer_turn, calls_in, choice, request, results, text_in, tools, user
from .sdks import ask
from .streams import RawStream

BUDGET = {"thinking": {"type": "enabled", "budget_tokens": 1_024}, "max_tokens": 2_000}
THOUGHTS = {"generationConfig": {"thinkingConfig": {"includeThoughts": True}, "maxOutputTokens": 2_000}}
SHOWN: dict[str, dict[str, Any]] = {"anthropic": BUDGET, "gemini": THOUGHTS}


def thinking_in(api: str, answer: dict[str, Any]) -> str:
    if api == "anthropic":
        return "".join(b["thinking"] for b in answer["content"] if b["type"] == "thinking")
    parts = answer["candidates"][0]["content"]["parts"]
    return "".join(part["text"] for part in parts if part.get("thought"))


def thinking_tokens(api: str, answer: dict[str, Any]) -> int:
    if api == "anthropic":
        return int(answer["usage"].get("output_tokens_details", {}).get("thinking_tokens", 0))
    if api == "openai":
        return int(answer["usage"]["completion_tokens_details"]["reasoning_tokens"])
    return int(answer["usageMetadata"].get("thoughtsTokenCount", 0))


@pytest.mark.parametrize("api", SHOWN)
async def test_reasoning_that_is_asked_for_comes_before_the_answer(poster: Poster, api: str) -> None:
    status, answer = await poster.post(api, request(api, [user(api, "Why?")], **SHOWN[api]))
    assert status == 200, answer
    assert len(thinking_in(api, answer)) == 400
    assert thinking_tokens(api, answer) == 100
    status, plain = await poster.post(api, request(api, [user(api, "Why?")]))
    assert thinking_tokens(api, plain) == 0


@pytest.mark.parametrize(
    ("api", "more", "tokens"),
    [
        ("anthropic", {"thinking": {"type": "disabled"}}, 0),
        ("anthropic", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}, 100),
        ("openai", {"reasoning_effort": "none"}, 0),
        ("openai", {"reasoning_effort": "low"}, 25),
        ("openai", {"reasoning_effort": "max"}, 200),
        ("gemini", {"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}}, 0),
        ("gemini", {"generationConfig": {"thinkingConfig": {"thinkingBudget": 20}}}, 20),
        ("gemini", {"generationConfig": {"thinkingConfig": {"thinkingLevel": "LOW"}}}, 25),
    ],
)
async def test_effort_and_budget_change_how_much_is_thought(
    poster: Poster, api: str, more: dict[str, Any], tokens: int
) -> None:
    poster.sim.patch(api, {"thinking_tokens": 50})
    status, answer = await poster.post(api, request(api, [user(api, "Why?")], **more))
    assert status == 200, answer
    assert thinking_tokens(api, answer) == tokens
    _, usual = await poster.post(api, request(api, [user(api, "Why?")]))
    assert thinking_tokens(api, usual) == 50


async def test_anthropic_s_thinking_is_a_block_of_its_own_with_a_signature(sim: SimulatorProcess) -> None:
    at_once = await ask(sim, "anthropic", **BUDGET)
    thinking, text = at_once.content
    assert (thinking.type, text.type) == ("thinking", "text")
    seen: list[Any] = []

    async def read(events: Any) -> None:
        seen.extend([event async for event in events])

    await ask(sim, "anthropic", stream=True, read=read, **BUDGET)
    deltas = [event.delta for event in seen if event.type == "content_block_delta"]
    assert "".join(delta.thinking for delta in deltas if delta.type == "thinking_delta") == thinking.thinking
    assert [d.signature for d in deltas if d.type == "signature_delta"] == [thinking.signature]
    assert [e.index for e in seen if e.type == "content_block_stop"] == [0, 1]
    omitted = {"thinking": {"type": "adaptive", "display": "omitted"}}
    hidden = (await ask(sim, "anthropic", **omitted)).content[0]
    assert (hidden.thinking, bool(hidden.signature)) == ("", True)


async def test_gemini_streams_its_thoughts_first(raw_stream: RawStream) -> None:
    events = [data for _, data in await raw_stream.events("gemini", **THOUGHTS)]
    parts = [part for event in events for part in event["candidates"][0]["content"]["parts"]]
    kinds = [bool(part.get("thought")) for part in parts]
    assert kinds == sorted(kinds, reverse=True)
    assert len("".join(part["text"] for part in parts if part.get("thought"))) == 400


@pytest.mark.parametrize("api", API_FORMATS)
async def test_an_agent_that_thinks_goes_on_with_what_it_got(poster: Poster, api: str) -> None:
    more = {"tools": tools(api), **SHOWN.get(api, {"reasoning_effort": "low"})}
    turns = [user(api, "call get_time, then call get_weather")]
    for _ in range(2):
        status, answer = await poster.post(api, request(api, turns, **more))
        assert status == 200, answer
        turns.append(answer_turn(api, answer))
        turns += results(api, *((i, name, "42") for i, name, _ in calls_in(api, answer)))
    status, answer = await poster.post(api, request(api, turns, **more))
    assert (status, bool(text_in(api, answer))) == (200, True), answer


# -- what is refused --


async def thought(poster: Poster, text: str = "call get_time") -> list[dict[str, Any]]:
    body = request("anthropic", [user("anthropic", text)], tools=tools("anthropic"), **BUDGET)
    _, answer = await poster.post("anthropic", body)
    made = [(i, name, "42") for i, name, _ in calls_in("anthropic", answer)]
    return [user("anthropic", text), answer_turn("anthropic", answer), *results("anthropic", *made)]


async def test_thinking_must_come_back_untouched_to_the_model_that_wrote_it(poster: Poster) -> None:
    async def post(turns: Any, **more: Any) -> tuple[int, Any]:
        body = request("anthropic", turns, tools=tools("anthropic"), **{**BUDGET, **more})
        return await poster.post("anthropic", body)

    turns = await thought(poster)
    assert (await post(turns))[0] == 200
    status, answer = await post(turns, model="another")
    assert (status, "Invalid `signature` in `thinking` block" in answer["error"]["message"]) == (400, True)
    block = turns[1]["content"][0]
    block["thinking"] += " "
    assert (await post(turns))[0] == 400
    del turns[1]["content"][0]
    status, answer = await post(turns)
    assert (status, "Expected `thinking` or `redacted_thinking`" in answer["error"]["message"]) == (400, True)
    del turns[1]["content"][0]["type"]
    assert (await post(turns))[0] == 400


async def test_gemini_3_wants_its_signature_with_the_first_call(poster: Poster) -> None:
    async def post(model: str) -> tuple[int, Any]:
        body = request("gemini", turns, tools=tools("gemini"))
        return await poster.post("gemini", body, f"/v1beta/models/{model}:generateContent")

    first = await poster.answer("gemini", "call get_time and get_weather")
    turns = [user("gemini", "call get_time and get_weather"), answer_turn("gemini", first)]
    turns += results("gemini", ("", "get_time", "12"), ("", "get_weather", "sun"))
    assert (await post("gemini-3.8-flash"))[0] == 200
    part = next(part for part in turns[1]["parts"] if "functionCall" in part)
    words = b"skip_thought_signature_validator"  # google-genai sends bytes as base64, in its other alphabet
    own = part["thoughtSignature"].replace("+", "-").replace("/", "_")
    for signed in (own, base64.urlsafe_b64encode(words).decode(), words.decode()):
        part["thoughtSignature"] = signed
        assert (await post("gemini-3.8-flash"))[0] == 200
    part["thoughtSignature"] = "AAAA"
    status, answer = await post("gemini-3.8-flash")
    assert (status, answer["error"]["message"]) == (400, "Corrupted thought signature.")
    del part["thoughtSignature"]
    status, answer = await post("gemini-3.8-flash")
    message = answer["error"]["message"]
    assert (status, "function call `default_api:get_time` , position 2" in message) == (400, True), answer
    assert (await post("gemini-2.5-flash"))[0] == 200
    turns += [{"role": "model", "parts": [{"text": "Noon."}]}, user("gemini", "Thanks")]  # it is past
    assert (await post("gemini-3.8-flash"))[0] == 200


@pytest.mark.parametrize(
    ("api", "more", "message"),
    [
        ("anthropic", {"thinking": {"type": "on"}}, "Input tag 'on'"),
        ("anthropic", {"thinking": {"type": "enabled"}}, "budget_tokens: Field required"),
        (
            "anthropic",
            {"thinking": {"type": "enabled", "budget_tokens": 512}},
            "greater than or equal to 1024",
        ),
        ("anthropic", {**BUDGET, "max_tokens": 1_024}, "must be greater than `thinking.budget_tokens`"),
        ("anthropic", {**BUDGET, "temperature": 0.5}, "`temperature` may only be set to 1"),
        ("anthropic", {**BUDGET, "top_k": 5}, "`top_k` must be unset"),
        ("anthropic", {**BUDGET, "top_p": 0.5}, "`top_p` must be greater"),
        (
            "anthropic",
            {**BUDGET, "tools": tools("anthropic"), **choice("anthropic", "any")},
            "Thinking may not be enabled when tool_choice forces tool use",
        ),
        ("anthropic", {"output_config": {"effort": "huge"}}, "output_config.effort: Input should be"),
        ("openai", {"reasoning_effort": "huge"}, "Invalid value: 'huge'"),
        (
            "gemini",
            {"generationConfig": {"thinkingConfig": {"thinkingBudget": 5, "thinkingLevel": "LOW"}}},
            "only one of thinking budget and thinking level",
        ),
        ("gemini", {"generationConfig": {"thinkingConfig": {"thinkingLevel": "vast"}}}, "thinking_level"),
        ("gemini", {"generationConfig": {"thinkingConfig": {"thinkingBudget": -5}}}, "thinking_budget"),
    ],
)
async def test_what_the_api_does_not_take(
    poster: Poster, api: str, more: dict[str, Any], message: str
) -> None:
    status, answer = await poster.post(api, request(api, [user(api, "Why?")], **more))
    assert (status, message in answer["error"]["message"]) == (400, True), answer


async def test_a_model_without_reasoning_refuses_the_effort(poster: Poster) -> None:
    poster.sim.patch("openai", {"refuses_effort": ["m"]})
    body = request("openai", [user("openai", "Why?")], reasoning_effort="low")
    status, answer = await poster.post("openai", body)
    assert (status, answer["error"]["param"]) == (400, "reasoning_effort")
