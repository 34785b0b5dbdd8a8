"""`POST /v1/embeddings` through the real SDK: passed on, limited and booked like every call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from src.config import load_settings
from src.gateway.formats.base import FormatError
from src.gateway.names import choose_embedder
from src.simulator.process import SimulatorProcess
from tests.helpers import live_environment

from .conftest import Served, started
from .http_client import send

SMALL, LARGE = "text-embedding-3-small", "text-embedding-3-large"


@pytest.fixture
def client(gateway: Served, simulator: SimulatorProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("given", ["a text", ["two", "texts"], [1, 2, 3], [[1, 2], [3]]], ids=str)
@pytest.mark.parametrize("encoding", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
def test_embeddings_are_those_of_the_provider(
    client: openai.OpenAI, simulator: SimulatorProcess, given: Any, encoding: Any
) -> None:
    asked = {"model": SMALL, "input": given, "dimensions": 16, **encoding}
    found = client.embeddings.create(**asked)
    with openai.OpenAI(
        base_url=simulator.base_urls["openai"], api_key="sk-live-openai", max_retries=0
    ) as direct:
        assert found == direct.embeddings.create(**asked)


def test_an_answer_says_who_embedded_at_what_cost(client: openai.OpenAI, gateway: Served) -> None:
    text = "word " * 2_000
    answer = client.embeddings.with_raw_response.create(model=f"openai/{LARGE}", input=[text, "x"])
    headers, found = answer.headers, answer.parse()
    assert headers["x-orchestrator-provider"] == "openai" and headers["x-orchestrator-model"] == LARGE
    assert headers["x-orchestrator-attempts"] == "1"
    cost = float(headers["x-orchestrator-cost-usd"])
    assert cost == pytest.approx(found.usage.prompt_tokens * 0.13e-6) and found.usage.prompt_tokens > 2_000
    task = send(gateway.url, f"/v1/tasks/{headers['x-orchestrator-task-id']}").json
    assert task["status"] == "succeeded" and task["batch"] == "gateway/local"
    assert task["cost_usd"] == pytest.approx(cost) and task["provider"] == "openai"


def test_many_inputs_are_passed_on(client: openai.OpenAI) -> None:
    found = client.embeddings.create(model=SMALL, input=[f"text {n}" for n in range(2_048)])
    assert [each.index for each in found.data] == list(range(2_048))
    assert len(found.data[-1].embedding) == 1_536


BAD: dict[str, tuple[dict[str, Any], type[openai.APIStatusError], str]] = {
    "no such provider": ({"model": "voyage-4"}, openai.NotFoundError, "openai/MODEL"),
    "a provider without embeddings": ({"model": "anthropic/x"}, openai.NotFoundError, "openai/MODEL"),
    "a tier": ({"model": "economy"}, openai.NotFoundError, "openai/MODEL"),
    "no model": ({"model": "openai/"}, openai.NotFoundError, "openai/MODEL"),
    "a model for text": ({"model": "openai/gpt-6-luna"}, openai.NotFoundError, "writes text"),
    "no input": ({"input": []}, openai.BadRequestError, "1 to 2048"),
    "mixed inputs": ({"input": ["x", [1]]}, openai.BadRequestError, "arrays of tokens"),
    "an encoding": ({"encoding_format": "hex"}, openai.BadRequestError, "'float', 'base64'"),
    "too many dimensions": ({"dimensions": 9_999}, openai.BadRequestError, "dimensions"),
    "an idempotency key": ({"extra_headers": {"Idempotency-Key": "k"}}, openai.BadRequestError, "not stored"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_raise_the_sdks_own_classes(client: openai.OpenAI, case: str) -> None:
    changes, kind, text = BAD[case]
    with pytest.raises(kind, match=text) as raised:
        client.embeddings.create(**{"model": SMALL, "input": "x", **changes})
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert raised.value.body["type"] == "invalid_request_error"  # type: ignore[index]


NAMED: dict[str, tuple[str, ...]] = {
    "text-embedding-3-small": ("openai", "text-embedding-3-small"),
    "openai/text-embedding-ada-002": ("openai", "text-embedding-ada-002"),
    "local/nomic-embed-text": ("local", "nomic-embed-text"),
    "local/BAAI/bge-m3": ("local", "BAAI/bge-m3"),
    "local/llama": (),  # writes text
    "BAAI/bge-m3": (),
    "anthropic/text-embedding-3-small": (),
    "off/bge-m3": (),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_name_means_one_provider_or_is_an_error(name: str, tmp_path: Path) -> None:
    server = 'api_format = "openai"\nweight = 1\nbase_url = "http://127.0.0.1:1/v1"\n'
    models = 'models = { economy = "llama", standard = "llama", premium = "llama" }\n'
    toml = "".join(f"[providers.{each}]\n{server}{models}" for each in ("local", "off"))
    (tmp_path / "own.toml").write_text(toml)
    settings, called = load_settings(tmp_path / "own.toml", {}), ("anthropic", "openai", "local")
    if NAMED[name]:
        found = choose_embedder(name, settings, called)
        assert (*found.providers, *found.models) == NAMED[name]
    else:
        with pytest.raises(FormatError, match="no provider has embeddings of"):
            choose_embedder(name, settings, called)


def test_a_failing_provider_is_asked_again_and_no_other(tmp_path: Path) -> None:
    limited = {"openai": {"faults": {"rate_limit": 0.5}, "retry_after_s": 0.05}, "anthropic": {}}
    with (
        SimulatorProcess.start({"providers": limited}) as failing,
        started(tmp_path, live_environment(failing.base_urls)) as served,
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as client,
    ):
        ask = client.embeddings.with_raw_response.create
        answers = [ask(model=SMALL, input="x").headers for _ in range(8)]
    assert {each["x-orchestrator-provider"] for each in answers} == {"openai"}
    assert max(int(each["x-orchestrator-attempts"]) for each in answers) > 1


def test_a_provider_without_a_key_is_named(simulator: SimulatorProcess, tmp_path: Path) -> None:
    environ = live_environment(simulator.base_urls, only=["anthropic"])
    with started(tmp_path, environ) as served:
        found = send(served.url, "/v1/embeddings", method="POST", body={"model": SMALL, "input": "x"})
    assert found.status == 404 and "no key in OPENAI_API_KEY" in found.json["error"]["message"]


def test_a_spent_budget_answers_at_once(simulator: SimulatorProcess, tmp_path: Path) -> None:
    environ = live_environment(simulator.base_urls)
    with (
        started(tmp_path, environ, toml="[gateway]\ndaily_usd = 0.0001") as served,
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as client,
    ):
        client.embeddings.create(model=SMALL, input="word " * 500)
        with pytest.raises(openai.RateLimitError) as raised:
            client.embeddings.create(model=SMALL, input="word " * 2_000)
        assert raised.value.code == "insufficient_quota"
