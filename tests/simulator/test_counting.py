"""Counts of tokens and embeddings, through the real SDKs."""

from __future__ import annotations

import math
from typing import Any

import anthropic
import openai
import pytest

from src.simulator import SimulatorProcess
from src.simulator.config import API_FORMATS

from .histories import Poster, request, tools, user
from .media import b64, png
from .sdks import MODELS, gemini_sdk

COUNTS = {
    "anthropic": ("/v1/messages/count_tokens", "input_tokens"),
    "openai": ("/responses/input_tokens", "input_tokens"),
    "gemini": ("/v1beta/models/gemini-3.8-flash:countTokens", "totalTokens"),
}


def counted(api: str, **more: Any) -> dict[str, Any]:
    """A request that only counts."""
    if api == "openai":
        return {"model": "m", "input": "Explain the tides", **more}
    body = request(api, [user(api, "Explain the tides")], **more)
    body.pop("max_tokens", None)
    return body


@pytest.mark.parametrize("api", API_FORMATS)
async def test_a_count_is_what_the_call_is_charged(poster: Poster, api: str) -> None:
    path, name = COUNTS[api]
    given: Any = tools(api)
    if api == "openai":
        given = [{"type": "function", **each["function"]} for each in given]
    status, answer = await poster.post(api, counted(api, tools=given), path)
    assert status == 200, answer
    body = counted(api, tools=given)
    if api == "anthropic":
        body["max_tokens"] = 20
    assert (await poster.post(api, body, "/responses" if api == "openai" else None))[0] == 200
    stats = poster.sim.stats()[api]
    assert stats["admitted_input_tokens"] == answer[name]
    assert (stats["calls"], stats["count_calls"]) == (1, 1)


async def test_the_sdks_count(sim: SimulatorProcess) -> None:
    image: Any = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": b64(png(256, 256))},
    }
    http = anthropic.DefaultAsyncHttpxClient(verify=False)
    async with anthropic.AsyncAnthropic(
        base_url=sim.base_urls["anthropic"], api_key="k", http_client=http
    ) as claude:
        turns: Any = [{"role": "user", "content": [image, {"type": "text", "text": "What?"}]}]
        assert (await claude.messages.count_tokens(model="m", messages=turns)).input_tokens == 100 + 2 + 4
    genai = gemini_sdk()
    options = {"api_endpoint": sim.base_urls["gemini"]}
    genai.configure(api_key="k", transport="rest", client_options=options)
    found = genai.GenerativeModel(MODELS["gemini"]).count_tokens("What?", request_options={"timeout": 5})
    assert found.total_tokens == 2 + 4


@pytest.mark.parametrize("api", API_FORMATS)
async def test_counting_is_free_of_limits_and_checks_the_request(poster: Poster, api: str) -> None:
    path, _ = COUNTS[api]
    poster.sim.patch(api, {"limits": {"requests_per_minute": 1}, "faults": {"rate_limit": 0.99}})
    statuses = [(await poster.post(api, counted(api), path))[0] for _ in range(3)]
    assert statuses == [200, 200, 200]
    assert (await poster.post(api, counted(api, nonsense=1), path))[0] == 400
    poster.sim.patch(api, {"faults": {"server_error": 1.0}})
    assert (await poster.post(api, counted(api), path))[0] == 500


async def test_embeddings_are_unit_vectors_that_depend_on_the_text(sim: SimulatorProcess) -> None:
    http = openai.DefaultAsyncHttpxClient(verify=False)
    async with openai.AsyncOpenAI(
        base_url=sim.base_urls["openai"], api_key="k", max_retries=0, http_client=http
    ) as gpt:
        model = "text-embedding-3-small"
        found = await gpt.embeddings.create(model=model, input=["abcd", "efgh", "abcd"])
        floats = await gpt.embeddings.create(model=model, input="abcd", encoding_format="float", dimensions=8)
        tokens = await gpt.embeddings.create(model=model, input=[[1, 2, 3], [4]])
    first, second, third = (each.embedding for each in found.data)
    assert len(first) == 1_536
    assert first == third != second
    assert math.hypot(*first) == pytest.approx(1, abs=1e-3)
    assert len(floats.data[0].embedding) == 8
    assert (found.usage.prompt_tokens, tokens.usage.prompt_tokens) == (3, 4)
    stats = sim.stats()["openai"]
    assert (stats["calls"], stats["admitted_input_tokens"], stats["output_tokens"]) == (3, 8, 0)


async def test_embeddings_have_limits_and_faults(poster: Poster) -> None:
    body = {"model": "m", "input": "x" * 400}
    poster.sim.patch("openai", {"limits": {"tokens_per_minute": 150}})
    statuses = [(await poster.post("openai", body, "/embeddings"))[0] for _ in range(2)]
    assert statuses == [200, 429]
    poster.sim.patch("openai", {"limits": None, "faults": {"overloaded": 1.0}})
    assert (await poster.post("openai", body, "/embeddings"))[0] == 503


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"input": None}, "you must provide a input parameter"),
        ({"input": ""}, "'$.input' is invalid"),
        ({"input": []}, "'$.input' is invalid"),
        ({"input": ["x", ""]}, "'$.input' is invalid"),
        ({"input": {"text": "x"}}, "'$.input' is invalid"),
        ({"input": ["x"] * 2_049}, "maximum length 2048"),
        ({"input": "x" * 40_000}, "maximum context length is 8192 tokens"),
        ({"encoding_format": "hex"}, "Invalid value: 'hex'"),
        ({"dimensions": 4_000}, "less than or equal to 1536"),
    ],
)
async def test_what_embeddings_do_not_take(poster: Poster, more: dict[str, Any], message: str) -> None:
    status, answer = await poster.post("openai", {"model": "m", "input": "x", **more}, "/embeddings")
    assert (status, message in answer["error"]["message"]) == (400, True), answer
