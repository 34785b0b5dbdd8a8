"""The simulator as a process: addresses, control, limits and headers over HTTP, windows, and its end."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from src.simulator import SimulatorProcess, process
from src.simulator.config import API_FORMATS
from src.simulator.openai_format import duration
from src.simulator.process import PROJECT_ROOT

from .conftest import INSTANT
from .sdks import MODELS, PROMPT, ask, list_models

PATHS = {
    "anthropic": "/v1/messages",
    "openai": "/chat/completions",
    "gemini": "/v1beta/models/gemini-3.8-flash:generateContent",
}
LISTS = {"anthropic": "/v1/models", "openai": "/models", "gemini": "/v1beta/models"}
KEYS = {"x-api-key": "k", "Authorization": "Bearer k", "x-goog-api-key": "k"}


def body(api: str, prompt: str = PROMPT, max_tokens: int = 50) -> dict[str, Any]:
    if api == "gemini":
        contents = [{"role": "user", "parts": [{"text": prompt}]}]
        return {"contents": contents, "generationConfig": {"maxOutputTokens": max_tokens}}
    messages = [{"role": "user", "content": prompt}]
    return {"model": MODELS[api], "max_tokens": max_tokens, "messages": messages}


class Raw:
    """Plain HTTP, where the SDK would be in the way."""

    def __init__(self, sim: SimulatorProcess, session: aiohttp.ClientSession) -> None:
        self.sim, self.session = sim, session

    def open(self, api: str, **more: Any) -> Any:
        url = self.sim.base_urls[api] + PATHS[api]
        return self.session.post(url, json=body(api, **more), headers=KEYS)

    async def post(self, api: str, **more: Any) -> tuple[int, Any, Any]:
        async with self.open(api, **more) as response:
            return response.status, await response.json(), response.headers

    async def statuses(self, api: str, calls: int, **more: Any) -> list[int]:
        answers = await asyncio.gather(*(self.post(api, **more) for _ in range(calls)))
        return [status for status, _, _ in answers]

    async def list_models(self, api: str) -> int:
        async with self.session.get(self.sim.base_urls[api] + LISTS[api], headers=KEYS) as response:
            await response.read()
            return response.status


@pytest_asyncio.fixture
async def raw(sim: SimulatorProcess) -> AsyncIterator[Raw]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield Raw(sim, session)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.01)


# -- limits and headers --


@pytest.mark.parametrize("api", API_FORMATS)
async def test_exactly_the_burst_passes_when_all_come_at_once(raw: Raw, api: str) -> None:
    raw.sim.patch(api, {"limits": {"requests_per_minute": 3, "burst_s": 200}})
    statuses = await raw.statuses(api, 25)
    assert (statuses.count(200), statuses.count(429)) == (10, 15)
    stats = raw.sim.stats()[api]
    assert stats["by_status"] == {"200": 10, "429": 15}
    assert stats["limited_by"] == {"requests": 15}
    assert stats["by_fault"] == {}


async def test_anthropic_s_headers_have_limit_remaining_and_reset(raw: Raw) -> None:
    limits = {"requests_per_minute": 60, "input_tokens_per_minute": 20_000, "output_tokens_per_minute": 8_000}
    raw.sim.patch("anthropic", {"limits": limits})
    status, _, headers = await raw.post("anthropic", prompt="x" * 40_000)
    assert status == 200
    shown = {
        k.removeprefix("anthropic-ratelimit-"): v for k, v in headers.items() if "ratelimit" in k.lower()
    }
    assert {k: v for k, v in shown.items() if not k.endswith("reset")} == {
        "requests-limit": "60",
        "requests-remaining": "59",
        "input-tokens-limit": "20000",
        "input-tokens-remaining": "10000",
        "output-tokens-limit": "8000",
        "output-tokens-remaining": "8000",
        "tokens-limit": "28000",
        "tokens-remaining": "18000",
    }
    full_in = datetime.fromisoformat(shown["input-tokens-reset"]) - datetime.now(UTC)
    assert 27 < full_in.total_seconds() < 31
    assert shown["requests-reset"].endswith("Z")


async def test_openai_s_headers_have_limit_remaining_and_time_to_full(raw: Raw) -> None:
    raw.sim.patch(
        "openai", {"limits": {"requests_per_minute": 500, "tokens_per_minute": 60_000, "burst_s": 60}}
    )
    status, _, headers = await raw.post("openai", max_tokens=1_000)
    assert status == 200
    shown = {k.removeprefix("x-ratelimit-"): v for k, v in headers.items() if k.startswith("x-ratelimit-")}
    assert shown == {
        "limit-requests": "500",
        "remaining-requests": "499",
        "reset-requests": "120ms",
        "limit-tokens": "60000",
        "remaining-tokens": "59000",
        "reset-tokens": "1s",
    }


async def test_openai_shows_the_daily_limit_when_that_is_nearer_its_end(raw: Raw) -> None:
    raw.sim.patch("openai", {"limits": {"requests_per_minute": 600, "burst_s": 60, "requests_per_day": 100}})
    await raw.post("openai")
    _, _, headers = await raw.post("openai")
    assert headers["x-ratelimit-limit-requests"] == "100"
    assert headers["x-ratelimit-remaining-requests"] == "98"
    assert headers["x-ratelimit-reset-requests"].startswith("28m")  # (100 - 98) * 86,400 / 100 = 1,728 s


async def test_gemini_sends_no_limit_headers_and_others_none_if_configured_so(raw: Raw) -> None:
    for api in API_FORMATS:
        raw.sim.patch(api, {"limits": {"requests_per_minute": 60}, "headers": api == "gemini"})
        _, _, headers = await raw.post(api)
        assert not [name for name in headers if "ratelimit" in name.lower()]


async def test_a_refusal_by_limit_says_how_long_to_wait(raw: Raw) -> None:
    for api in API_FORMATS:
        raw.sim.patch(api, {"limits": {"requests_per_minute": 6}})
        assert (await raw.post(api))[0] == 200
    _, claude, headers = await raw.post("anthropic")
    assert headers["retry-after"] in ("9", "10")
    assert claude["error"]["type"] == "rate_limit_error"
    assert "rate limit of 6 requests per minute" in claude["error"]["message"]
    _, gpt, headers = await raw.post("openai")
    assert headers["retry-after"] in ("9", "10")
    assert int(headers["retry-after-ms"]) <= 10_000
    assert (gpt["error"]["type"], gpt["error"]["code"]) == ("requests", "rate_limit_exceeded")
    _, gemini, _ = await raw.post("gemini")
    quota, retry = gemini["error"]["details"]
    assert quota["violations"][0]["quotaId"] == "GenerateRequestsPerMinutePerProjectPerModel"
    assert quota["violations"][0]["quotaValue"] == "6"
    assert retry["retryDelay"] in ("9s", "10s")


async def test_openai_says_when_a_request_can_never_fit(raw: Raw) -> None:
    raw.sim.patch("openai", {"limits": {"tokens_per_minute": 1_000}})
    status, gpt, headers = await raw.post("openai", max_tokens=1_001)
    assert status == 429
    assert gpt["error"]["message"].startswith("Request too large for gpt-6-luna")
    assert gpt["error"]["type"] == "tokens"
    assert "retry-after" not in headers


async def test_a_client_that_leaves_has_its_output_counted_all_the_same(raw: Raw) -> None:
    raw.sim.patch("anthropic", {"latency": {"first_token_s": 30}})
    leaving = asyncio.create_task(raw.post("anthropic", max_tokens=5))
    await until(lambda: raw.sim.stats()["anthropic"]["in_flight"] == 1)
    leaving.cancel()
    await until(lambda: raw.sim.stats()["anthropic"]["in_flight"] == 0)
    stats = raw.sim.stats()["anthropic"]
    assert stats["by_status"] == {"gone": 1}
    assert stats["output_tokens"] == 5


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.12, "120ms"),
        (1, "1s"),
        (8.64, "8.64s"),
        (59.9999, "1m0s"),
        (360, "6m0s"),
        (432, "7m12s"),
        (3_600.5, "1h0m0.5s"),
        (86_400, "24h0m0s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


async def test_a_call_that_did_not_enter_writes_no_cache(raw: Raw) -> None:
    raw.sim.patch("openai", {"caching": True, "faults": {"server_error": 1.0}})
    long = "x" * 6_000
    assert (await raw.post("openai", prompt=long))[0] == 500
    raw.sim.patch("openai", {"faults": None, "limits": {"tokens_per_minute": 1_000}})
    assert (await raw.post("openai", prompt=long))[0] == 429
    raw.sim.patch("openai", {"limits": None})
    used = [(await raw.post("openai", prompt=long))[1]["usage"]["prompt_tokens_details"] for _ in range(2)]
    assert [details["cached_tokens"] for details in used] == [0, 11 * 128]


# -- what is not a good request --


@pytest.mark.parametrize(
    ("api", "sent"),
    [
        pytest.param(
            "anthropic", {"model": "m", "messages": [{"role": "user", "content": "x"}]}, id="no max_tokens"
        ),
        pytest.param("anthropic", {"model": "m", "max_tokens": 5, "messages": []}, id="no messages"),
        pytest.param("anthropic", {**body("anthropic"), "messages": [{"role": "system"}]}, id="role"),
        pytest.param("anthropic", {**body("anthropic"), "output_config": [1]}, id="list for an object"),
        pytest.param("anthropic", {**body("anthropic"), "temperature": 1.5}, id="temperature too high"),
        pytest.param("anthropic", {**body("anthropic"), "seed": 7}, id="a seed for Claude"),
        pytest.param("openai", {**body("openai"), "seed": "7"}, id="a seed in words"),
        pytest.param("openai", {"model": "m"}, id="openai without messages"),
        pytest.param("openai", {**body("openai"), "max_tokens": 0}, id="max_tokens of 0"),
        pytest.param("openai", {**body("openai"), "temperature": "hot"}, id="temperature in words"),
        pytest.param(
            "openai", {**body("openai"), "messages": [{"role": "robot", "content": ""}]}, id="openai role"
        ),
        pytest.param("gemini", {}, id="no contents"),
        pytest.param("gemini", {"contents": [{"role": "assistant", "parts": []}]}, id="gemini role"),
        pytest.param("gemini", [], id="a list"),
    ],
)
async def test_a_bad_request_is_answered_400_in_the_form_of_its_api(raw: Raw, api: str, sent: Any) -> None:
    url = raw.sim.base_urls[api] + PATHS[api]
    async with raw.session.post(url, json=sent, headers=KEYS) as response:
        found = await response.json()
    assert response.status == 400
    assert found["error"]["message"]
    assert found["error"].get("type", found["error"].get("status")) in (
        "invalid_request_error",
        "INVALID_ARGUMENT",
    )


@pytest.mark.parametrize("api", API_FORMATS)
async def test_broken_json_unknown_pages_and_missing_keys_have_their_status(raw: Raw, api: str) -> None:
    url = raw.sim.base_urls[api] + PATHS[api]
    async with raw.session.post(url, data=b'{"model', headers=KEYS) as response:
        assert (response.status, "error" in await response.json()) == (400, True)
    async with raw.session.get(raw.sim.base_urls[api] + "/nothing", headers=KEYS) as response:
        assert (response.status, "error" in await response.json()) == (404, True)
    async with raw.session.post(url, json=body(api)) as response:
        assert (response.status, "error" in await response.json()) == (
            403 if api == "gemini" else 401,
            True,
        )


# -- windows, and faults of the whole provider --


@pytest.mark.parametrize("api", API_FORMATS)
async def test_a_trickle_gives_a_byte_at_a_time(raw: Raw, api: str) -> None:
    raw.sim.patch(api, {"faults": {"trickle": 1.0}})
    async with raw.open(api) as response:
        assert response.status == 200
        assert await response.content.readany() == b"{"


@pytest.mark.parametrize("fault", ["server_error", "outage", "down", "silence"])
@pytest.mark.parametrize("api", API_FORMATS)
async def test_a_failing_provider_does_not_list_its_models_until_it_is_healed(
    sim: SimulatorProcess, api: str, fault: str
) -> None:
    sim.patch(api, {"faults": {fault: 1.0}})
    with pytest.raises(Exception):  # noqa: B017 - which class it is, the contract tests say
        await list_models(sim, api, timeout_s=0.2)
    sim.patch(api, {"faults": None})
    assert len(await list_models(sim, api)) == 3
    await ask(sim, api)
    assert sim.stats()[api]["model_list_calls"] >= 1


async def test_faults_of_single_calls_leave_the_model_list_alone(raw: Raw) -> None:
    raw.sim.patch("openai", {"faults": {"server_error": 0.99, "reset": 0.01}})
    assert await raw.list_models("openai") == 200


async def test_a_closed_port_opens_again_by_itself_when_its_window_ends(raw: Raw) -> None:
    async def answers() -> bool:
        try:
            return (await raw.post("gemini"))[0] == 200
        except aiohttp.ClientConnectorError:
            return False

    for to_s in (0.3, 3.0, 30.0):  # a busy machine may ask when the window is over
        raw.sim.patch("gemini", {"schedule": [{"from_s": 0.0, "to_s": to_s, "fault": "down"}]})
        raw.sim.reset()
        if not await answers():
            break
    async with asyncio.timeout(60):
        while not await answers():
            await asyncio.sleep(0.02)
    assert raw.sim.stats()["gemini"]["by_status"] == {"200": 1}


async def test_a_request_into_a_silence_is_never_answered_though_its_window_ends(raw: Raw) -> None:
    raw.sim.patch("openai", {"schedule": [{"to_s": 600.0, "fault": "silence"}]})
    raw.sim.reset()
    hanging = asyncio.create_task(raw.post("openai"))
    await until(lambda: raw.sim.stats()["openai"]["in_flight"] == 1)
    raw.sim.patch("openai", {"schedule": [{"to_s": 0.001, "fault": "silence"}]})
    assert (await raw.post("openai"))[0] == 200
    assert not hanging.done()
    raw.sim.reset()  # drops what hangs
    with pytest.raises(aiohttp.ClientConnectionError):
        await hanging


# -- control --


async def test_an_answer_given_twice_is_counted_wherever_it_was_given_first(raw: Raw) -> None:
    for api in API_FORMATS:
        await raw.post(api)
    await raw.post("openai")
    await raw.post("openai", prompt="Something else")
    found = {api: stats["answered_duplicates"] for api, stats in raw.sim.stats().items()}
    assert found == {"anthropic": 0, "openai": 2, "gemini": 1}


async def test_sound_answers_are_counted_by_model_with_their_tokens(raw: Raw) -> None:
    raw.sim.patch("openai", {"faults": {"empty": 1.0}})
    await raw.post("openai")
    raw.sim.patch("openai", {"faults": {"empty": None}})
    bodies = [(await raw.post("openai", prompt=f"Question {n}"))[1] for n in range(3)]
    usages = [body["usage"] for body in bodies]
    assert raw.sim.stats()["openai"]["answered"] == {
        bodies[0]["model"]: {
            "answers": 3,
            "input_tokens": sum(usage["prompt_tokens"] for usage in usages),
            "output_tokens": sum(usage["completion_tokens"] for usage in usages),
        }
    }


async def test_statistics_add_up_and_reset_clears_them(raw: Raw) -> None:
    raw.sim.patch("openai", {"faults": {"overloaded": 1.0}})
    await raw.statuses("openai", 3)
    raw.sim.patch("openai", {"faults": {"overloaded": None}})
    _, answer, _ = await raw.post("openai")
    stats = raw.sim.stats()["openai"]
    assert stats["calls"] == 4
    assert stats["by_status"] == {"503": 3, "200": 1}
    assert stats["by_fault"] == {"overloaded": 3}
    assert stats["max_in_flight"] <= 3
    assert stats["admitted_input_tokens"] == answer["usage"]["prompt_tokens"]
    assert stats["output_tokens"] == answer["usage"]["completion_tokens"]
    totals = {
        key: sum(row[key] for row in stats["timeline"]) for key in ("calls", "ok", "status_429", "other")
    }
    assert totals == {"calls": 4, "ok": 1, "status_429": 0, "other": 3}
    raw.sim.reset()
    stats = raw.sim.stats()["openai"]
    assert (stats["calls"], stats["by_status"], stats["timeline"]) == (0, {}, [])


async def test_the_same_seed_meets_the_same_faults_in_the_same_order(raw: Raw) -> None:
    raw.sim.patch("gemini", {"faults": {"server_error": 0.3, "rate_limit": 0.2}})
    runs = []
    for _ in range(2):
        raw.sim.reset()
        runs.append([(await raw.post("gemini"))[0] for _ in range(30)])
    assert runs[0] == runs[1]
    assert {200, 500, 429} == set(runs[0])


async def test_a_patch_that_is_wrong_changes_nothing(raw: Raw) -> None:
    before = raw.sim.config()
    for provider, change, message in (
        ("openai", {"echo": True, "limits": {"burst": 1}}, "did you mean 'burst_s'"),
        ("openai", {"port": 5000}, "can't be changed"),
        ("open", {}, "did you mean 'openai'"),
    ):
        with pytest.raises(RuntimeError, match=message):
            raw.sim.patch(provider, change)
    assert raw.sim.config() == before


async def test_control_errors_have_one_shape(raw: Raw) -> None:
    async with raw.session.get(raw.sim.control_url + "/nothing") as response:
        assert response.status == 404
        assert await response.json() == {"error": {"code": "not_found", "message": "GET /nothing: Not Found"}}
    async with raw.session.patch(raw.sim.control_url + "/providers/openai", data=b"{") as response:
        assert response.status == 400
        assert (await response.json())["error"]["code"] == "invalid_json"


async def test_keys_are_not_shown(raw: Raw) -> None:
    raw.sim.patch("openai", {"keys": ["sk-very-secret"]})
    assert "secret" not in json.dumps(raw.sim.config())


# -- the process --


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "src.simulator", *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=PROJECT_ROOT,
        stdin=subprocess.DEVNULL,
        timeout=20,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--config-json", '{"providers": {"openai": {"limts": {}}}}'],
            "unknown key 'limts', did you mean 'limits'?",
        ),
        (["--config-json", "{"], "--config-json: not JSON"),
        (["--config", "no-such-file.json"], "no-such-file.json: can't be read"),
    ],
)
def test_a_bad_configuration_is_one_line_and_exit_2(arguments: list[str], message: str) -> None:
    ended = run(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_busy_port_is_one_line_and_exit_2(sim: SimulatorProcess) -> None:
    port = int(sim.base_urls["gemini"].rpartition(":")[2])
    ended = run("--config-json", json.dumps({"providers": {"gemini": {"port": port}}}))
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "can't listen" in ended.stderr


@pytest.fixture
def _started_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the program starts it: the other tests may fork it."""
    monkeypatch.setattr(process, "_launch", inspect.unwrap(process._launch))


@pytest.mark.usefixtures("_started_afresh")
def test_the_start_of_a_bad_configuration_fails_with_what_it_said() -> None:
    with pytest.raises(RuntimeError, match="expected one of anthropic, openai"):
        SimulatorProcess.start({"providers": {"x": {"api_format": "openia"}}})


@pytest.mark.usefixtures("_started_afresh")
async def test_a_set_port_several_of_an_api_format_and_the_end_with_a_request_hanging() -> None:
    config = {
        "providers": {
            "groq": {"api_format": "openai", "faults": {"silence": 1.0}},
            "gemini": {"latency": INSTANT},
        }
    }
    with SimulatorProcess.start(config) as first:
        assert set(first.base_urls) == {"groq", "gemini"}
        assert first.base_urls["groq"].endswith("/v1")
        port = int(first.base_urls["groq"].split(":")[2].split("/")[0])
        async with aiohttp.ClientSession() as session:
            url = first.base_urls["groq"] + "/chat/completions"
            hanging = asyncio.create_task(session.post(url, json=body("openai"), headers=KEYS))
            await until(lambda: first.stats()["groq"]["in_flight"] == 1)
            await asyncio.to_thread(first.close)
            with pytest.raises(aiohttp.ClientConnectionError):
                await hanging
    assert "ended with 0" in repr(first), "by itself: it does not wait for calls until it is killed"
    with SimulatorProcess.start({"providers": {"groq": {"api_format": "openai", "port": port}}}) as second:
        assert second.base_urls == {"groq": f"http://127.0.0.1:{port}/v1"}


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0(number: int) -> None:
    command = [sys.executable, "-m", "src.simulator"]
    with subprocess.Popen(
        command,
        cwd=PROJECT_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert set(json.loads(child.stdout.readline())) == {"control", "providers"}
        child.send_signal(number)
        assert child.wait(60) == 0
        assert child.stderr.read() == ""


@pytest.mark.skipif(os.name != "posix", reason="process groups")
def test_ctrl_c_in_the_parent_s_terminal_does_not_reach_it(sim: SimulatorProcess) -> None:
    assert os.getpgid(sim._child.pid) == sim._child.pid != os.getpgid(0)


@pytest.mark.skipif(os.name != "posix", reason="process groups")
@pytest.mark.usefixtures("_started_afresh")
def test_a_fresh_one_is_a_group_of_its_own_and_not_a_fork() -> None:
    with SimulatorProcess.start() as fresh:
        assert os.getpgid(fresh._child.pid) == fresh._child.pid
        assert isinstance(fresh._child, subprocess.Popen)


def test_it_is_light_to_import_and_knows_nothing_of_the_rest() -> None:
    code = (
        "import sys; import src.simulator; loaded = set(sys.modules); "
        "print([m for m in loaded if m.startswith(('aiohttp', 'src.')) and m[:13] != 'src.simulator'])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT_ROOT, check=True
    )
    assert ended.stdout.strip() == "[]"


def test_the_seed_of_a_configuration_is_kept_unless_another_is_given() -> None:
    gemini: dict[str, Any] = {"providers": {"gemini": {}}}
    with SimulatorProcess.start({"seed": 5, **gemini}) as first:
        assert first.config()["seed"] == 5
    with SimulatorProcess.start({"seed": 5, **gemini}, seed=7) as second:
        assert second.config()["seed"] == 7
