"""Clients that go away, read slowly, or wait long."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from src.gateway.time_limits import STANDARD, TimeLimits
from src.simulator.process import SimulatorProcess
from tests.core.direct_pool import settings_for
from tests.core.pools import new_store
from tests.helpers import KEYS, live_environment, run_script

from .conftest import Served, started
from .http_client import send
from .in_process import in_process

MESSAGES: Any = [{"role": "user", "content": "Name a colour."}]
BODY = {"model": "economy", "messages": MESSAGES, "max_tokens": 50}


@contextmanager
def sent(url: str, body: Mapping[str, Any], path: str = "/v1/chat/completions") -> Iterator[socket.socket]:
    """A request whose answer is not read yet."""
    place = urlsplit(url)
    with socket.create_connection((str(place.hostname), int(place.port or 0)), timeout=60) as connection:
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        yield connection


SLOW_S = 2.0


@pytest.fixture(scope="module")
def slow_simulator() -> Iterator[SimulatorProcess]:
    """Providers that take 2 s for their first token."""
    config = {"latency": {"first_token_s": SLOW_S, "per_token_s": 0.0, "jitter": 0.0}}
    providers = dict.fromkeys(("anthropic", "openai", "gemini"), config)
    with SimulatorProcess.start({"providers": providers}) as simulator:
        yield simulator


@pytest.fixture
def silent() -> Iterator[SimulatorProcess]:
    """Providers whose first token comes when the client has long left."""
    config = {"latency": {"first_token_s": 600.0, "per_token_s": 0.0}}
    with SimulatorProcess.start({"providers": dict.fromkeys(KEYS, config)}) as simulator:
        yield simulator


@pytest.fixture
def silent_gateway(silent: SimulatorProcess, tmp_path: Path) -> Iterator[Served]:
    with started(tmp_path, live_environment(silent.base_urls)) as served:
        yield served


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_ends_its_call_which_is_booked_as_uncertain(
    silent: SimulatorProcess, silent_gateway: Served, stream: bool
) -> None:
    with sent(silent_gateway.url, {**BODY, "stream": stream}):
        while not any(each["in_flight"] for each in silent.stats().values()):
            silent_gateway.script.pause()
    end, booked = time.monotonic() + 60, 0
    while not booked:
        assert time.monotonic() < end
        silent_gateway.script.pause()
        figures = send(silent_gateway.url, "/metrics").body.decode()
        found = re.findall(r'outcome="uncertain".* (\d+)\.0$', figures, re.MULTILINE)
        booked = sum(int(calls) for calls in found)
    assert booked == 1, figures


def test_clients_that_go_away_while_their_streams_are_written_leave_no_error_in_the_log(
    tmp_path: Path,
) -> None:
    config = {"latency": {"first_token_s": 0.0, "per_token_s": 0.0005}, "chunk_tokens": 1}
    providers = dict.fromkeys(("anthropic", "openai", "gemini"), config)
    body = {**BODY, "model": "openai/economy", "max_tokens": 400, "stream": True}
    with (
        SimulatorProcess.start({"providers": providers}) as simulator,
        started(tmp_path, live_environment(simulator.base_urls)) as served,
    ):
        for _ in range(10):
            with ExitStack() as stack:
                connections = [stack.enter_context(sent(served.url, body)) for _ in range(8)]
                for connection in connections:
                    assert connection.recv(64).startswith(b"HTTP/1.1 200")
                    # closing it sends a reset, while the next chunk may be on its way
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert send(served.url, "/v1/chat/completions", method="POST", body=BODY).status == 200
    assert "error:" not in served.script.err


def test_a_request_is_found_by_its_id_while_it_runs_and_afterwards(
    gateway: Served, simulator: SimulatorProcess
) -> None:
    answer = send(gateway.url, "/v1/chat/completions", method="POST", body=BODY)
    found = send(gateway.url, f"/v1/tasks/{answer.headers['x-orchestrator-task-id']}").json
    assert found["status"] == "succeeded" and found["provider"] == answer.headers["x-orchestrator-provider"]
    assert found["cost_usd"] == pytest.approx(float(answer.headers["x-orchestrator-cost-usd"]))
    assert len(found["attempts"]) == 1 and "colour" not in json.dumps(found)
    assert send(gateway.url, "/v1/tasks/req_none").status == 404


def test_tokens_are_estimated_without_a_call(gateway: Served) -> None:
    body = {"model": "claude-sonnet-5-5", "messages": [{"role": "user", "content": "word " * 1000}]}
    found = send(gateway.url, "/v1/messages/count_tokens", method="POST", body=body)
    assert found.status == 200 and 800 < found.json["input_tokens"] < 2_000
    assert found.headers["x-orchestrator-estimated"] == "true"


def test_a_client_that_waits_for_100_continue_is_told_to_send_only_after_the_checks(gateway: Served) -> None:
    place = urlsplit(gateway.url)
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n"
    for host, expected in (("evil.example", b"HTTP/1.1 403"), ("127.0.0.1", b"HTTP/1.1 100")):
        with socket.create_connection((str(place.hostname), int(place.port or 0)), timeout=20) as connection:
            connection.sendall(
                (head.format(host) + "Content-Length: 9\r\nExpect: 100-continue\r\n\r\n").encode()
            )
            assert connection.recv(12) == expected


@pytest.mark.parametrize("client", ["openai", "anthropic", "claude-code"])
def test_the_settings_of_a_client_are_lines_for_a_shell(tmp_path: Path, client: str) -> None:
    environ = {"ORCHESTRATOR_GATEWAY_PORT": "5001"}
    done = run_script("env", client, cwd=tmp_path, env=environ)
    url = "http://127.0.0.1:5001" + ("/v1" if client == "openai" else "")
    assert done.process.returncode == 0, done.err
    lines = done.out.splitlines()
    assert len(lines) == 2 and lines[0].endswith(f"_BASE_URL={url}") and lines[1].endswith("=any")
    token = {"ORCHESTRATOR_TOKEN": "a-secret-token-of-mine"}
    hidden = run_script("env", client, cwd=tmp_path, env=environ | token)
    assert "a-secret" not in hidden.out and "YOUR_TOKEN" in hidden.out


def test_fallbacks_answer_while_the_named_model_is_down(tmp_path: Path) -> None:
    providers: dict[str, Any] = {
        "anthropic": {"faults": {"outage": 1.0}},
        "openai": {},
        "gemini": {},
    }
    toml = '[gateway.fallbacks]\n"claude-sonnet-5-5" = ["gpt-6.1-terra"]\n'
    with (
        SimulatorProcess.start({"providers": providers}) as simulator,
        started(tmp_path, live_environment(simulator.base_urls), toml=toml) as served,
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="any") as client,
    ):
        found = client.chat.completions.create(model="claude-sonnet-5-5", messages=MESSAGES)
        assert found.model == "gpt-6.1-terra"


WAITING: dict[str, tuple[dict[str, Any], bytes, bytes]] = {  # by path: body, keep-alive, last event
    "/v1/chat/completions": ({"messages": MESSAGES}, b": keep-alive", b"[DONE]"),
    "/v1/responses": ({"input": MESSAGES}, b": keep-alive", b"response.completed"),
    "/v1/messages": ({"messages": MESSAGES, "max_tokens": 50}, b"event: ping", b"message_stop"),
}


@pytest.mark.parametrize("path", WAITING)
async def test_a_stream_that_waits_is_kept_open_and_then_answered(
    slow_simulator: SimulatorProcess, tmp_path: Path, path: str
) -> None:
    """Its status is there after a while although no provider has answered yet."""
    body, keep_alive, last_event = WAITING[path]
    times = TimeLimits(status_s=0.5, keep_alive_s=0.2)
    with new_store(tmp_path) as store:
        async with (
            in_process(store, slow_simulator.base_urls, settings_for(), times) as gateway,
            gateway.sent(path, {**body, "model": "openai/economy", "stream": True}) as client,
        ):
            began = time.monotonic()
            found = head = await asyncio.to_thread(client.recv, 65_536)
            assert time.monotonic() - began >= times.status_s - 0.05
            while b": provider=openai" not in found:
                part = await asyncio.to_thread(client.recv, 65_536)
                assert part, found
                found += part
            await gateway.served.drain()
    assert head.startswith(b"HTTP/1.1 200") and b"content-type: text/event-stream" in head
    assert b"x-orchestrator-task-id" in head and last_event not in head
    assert found.count(keep_alive) >= 2 and last_event in found


async def test_a_connection_that_was_just_accepted_is_answered_before_the_end(
    simulator: SimulatorProcess, tmp_path: Path
) -> None:
    times = TimeLimits(first_s=30.0)
    with new_store(tmp_path) as store:
        async with in_process(store, simulator.base_urls, settings_for(), times) as gateway:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            url = f"http://127.0.0.1:{gateway.port}"
            await asyncio.to_thread(send, url, "/healthz")  # over a later connection: the first is accepted
            began = time.monotonic()
            asyncio.get_running_loop().call_later(
                0.3, writer.write, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            )
        assert 0.3 <= time.monotonic() - began < times.first_s
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_a_request_whose_body_is_on_its_way_is_answered_at_the_end(
    simulator: SimulatorProcess, tmp_path: Path
) -> None:
    content = json.dumps({**BODY, "model": "openai/economy"}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    with new_store(tmp_path) as store:
        async with in_process(store, simulator.base_urls, settings_for()) as gateway:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content[:9])
            url = f"http://127.0.0.1:{gateway.port}"
            await asyncio.to_thread(send, url, "/healthz")  # sent later: the head above has come
            asyncio.get_running_loop().call_later(0.3, writer.write, content[9:])
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()


def test_a_reader_that_takes_nothing_holds_back_its_own_stream_alone(
    gateway: Served, simulator: SimulatorProcess
) -> None:
    body = {"model": "economy", "messages": MESSAGES, "max_tokens": 4_000, "stream": True}
    with sent(gateway.url, body), sent(gateway.url, body):
        for _ in range(5):
            assert send(gateway.url, "/v1/chat/completions", method="POST", body=BODY).status == 200


def test_the_documentation_states_the_time_limits() -> None:
    text = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text()
    for found in (
        f"no request within {STANDARD.head_s:g} s",
        f"takes nothing of its answer for {STANDARD.read_s:g} s",
        f"after {STANDARD.status_s:g} s at the latest",
    ):
        assert found in text
