"""Where the requests go: past the environment's proxy on this machine, through it elsewhere."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from src.errors import Unreachable
from src.providers.network import is_loopback
from src.simulator.process import SimulatorProcess

from ..helpers import ROOT, child_environment
from .conftest import API_FORMATS, SLOTS, Builder, Canned, access_to, ask, in_flight
from .test_odd_answers import claude, gemini, gpt

ANSWERS = {"anthropic": claude(), "openai": gpt(), "gemini": gemini()}


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://127.8.9.1", True),
        ("http://localhost:11434", True),
        ("http://api.localhost", True),
        ("http://[::1]:80", True),
        ("https://api.openai.com/v1", False),
        ("http://10.0.0.1", False),
        ("http://localhost.example.com", False),
    ],
)
def test_loopback(url: str, found: bool) -> None:
    assert is_loopback(url) is found


@pytest.fixture
def dead_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


@pytest.mark.usefixtures("dead_proxy")
@pytest.mark.parametrize("api", API_FORMATS)
async def test_a_server_on_this_machine_is_reached_past_the_proxy(
    faulty: SimulatorProcess, adapter_for: Builder, api: str
) -> None:
    adapter = adapter_for(access_to(api, faulty.base_urls[api]))
    assert (await adapter.complete(ask(api))).text
    assert await adapter.list_models(2.0)


@pytest.mark.parametrize("api", API_FORMATS)
async def test_a_server_elsewhere_is_reached_through_the_proxy(
    canned: Canned, adapter_for: Builder, api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", canned.base_url)
    monkeypatch.setenv("http_proxy", canned.base_url)
    canned.body = ANSWERS[api]
    adapter = adapter_for(access_to(api, "http://provider.invalid/v1"))
    assert (await adapter.complete(ask(api))).text == "Elbe."
    assert canned.seen[0]["url"].startswith("http://provider.invalid/v1/")


@pytest.mark.usefixtures("dead_proxy")
@pytest.mark.parametrize("api", API_FORMATS)
async def test_a_dead_proxy_is_unreachable_and_nothing_was_sent(adapter_for: Builder, api: str) -> None:
    adapter = adapter_for(access_to(api, "http://provider.invalid"))
    with pytest.raises(Unreachable) as caught:
        await adapter.complete(ask(api))
    assert caught.value.sent is False


async def test_two_providers_of_the_gemini_api_do_not_mix(
    canned: Canned, faulty: SimulatorProcess, adapter_for: Builder
) -> None:
    canned.body = gemini("from the other one")
    one = adapter_for(access_to("gemini", faulty.base_urls["gemini"]))
    two = adapter_for(access_to("gemini", canned.base_url, key="another-key"))
    await asyncio.gather(one.warm_up(), two.warm_up())
    answers = await asyncio.gather(*(a.complete(ask("gemini")) for a in (one, two, one, two)))
    assert [answer.text == "from the other one" for answer in answers] == [False, True, False, True]
    assert {seen["headers"]["x-goog-api-key"] for seen in canned.seen} == {"another-key"}


async def test_a_path_in_the_base_url_is_kept(canned: Canned, adapter_for: Builder) -> None:
    for api, path in (
        ("anthropic", "/proxy/v1/messages"),
        ("openai", "/proxy/chat/completions"),
        ("gemini", "/proxy/v1beta/models/gemini-3.5-flash-lite:generateContent"),
    ):
        canned.body = ANSWERS[api]
        await adapter_for(access_to(api, f"{canned.base_url}/proxy")).complete(ask(api))
        assert canned.seen[-1]["path"] == path


async def test_as_many_calls_as_slots_go_at_once(faulty: SimulatorProcess, adapter_for: Builder) -> None:
    for api in API_FORMATS:
        faulty.patch(api, {"faults": {"silence": 1.0}})
        adapter = adapter_for(access_to(api, faulty.base_urls[api]))
        calls = [asyncio.create_task(adapter.complete(ask(api, timeout_s=300.0))) for _ in range(SLOTS)]
        await in_flight(faulty, api, SLOTS)
        await asyncio.to_thread(faulty.reset)  # ends them
        assert {type(one) for one in await asyncio.gather(*calls, return_exceptions=True)} == {Unreachable}


LAZY = """
import sys
from tests.providers.conftest import access_to
from src.providers.factory import build_adapter

for api_format in ("anthropic", "openai", "gemini"):
    build_adapter(access_to(api_format, "http://127.0.0.1:9"), 4)
loaded = {name.split(".")[0] for name in sys.modules} & {"anthropic", "openai", "httpx2", "requests", "grpc"}
print(sorted(loaded), "google.generativeai" in sys.modules)
"""


def test_building_an_adapter_imports_no_sdk() -> None:
    lazy = LAZY.replace("from tests.providers.conftest import access_to", ACCESS)
    command = [sys.executable, "-W", "error", "-c", lazy]
    environ = child_environment()
    environ["PYTHONPATH"] += f":{ROOT}"
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("[] False", "")


ACCESS = """
from pydantic import SecretStr
from src.config import ProviderAccess
from src.settings import ProviderConfig, TierModels

def access_to(api_format, url):
    models = TierModels(economy="m", standard="m", premium="m")
    config = ProviderConfig(api_format=api_format, weight=1.0, base_url=url, models=models)
    return ProviderAccess(api_format, config, url, SecretStr("k"), "")
"""
