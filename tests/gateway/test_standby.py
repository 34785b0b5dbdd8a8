"""A standby passes requests on to the leader, as they are and to the leader alone."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anthropic
import openai
import pytest

from src.core.store import Leader, Store
from src.gateway.forwarding import usable_address
from src.messages import Message
from src.records import Task
from src.simulator.process import SimulatorProcess
from tests.databases import rows_of
from tests.helpers import Script, live_environment

from .conftest import Served, started
from .http_client import Answer, send

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="one lock file")
TOKEN, OTHER = "a-token-of-alice-0123", "a-token-of-bob-012345"
PROMPT: Any = [{"role": "user", "content": "Name three rivers."}]
BODY = {"model": "economy", "max_tokens": 40, "messages": PROMPT}
PATIENT = {"x-orchestrator-timeout": "60"}  # else the gateway answers before the client leaves
PROVIDERS = ("openai", "anthropic", "gemini")
GRACE_S, ROWS = 12, 12
LIVE = Path("state", "live.db")
SLOW = {"latency": {"first_token_s": 0.05, "per_token_s": 0.1}}


@pytest.fixture
def slow() -> Iterator[SimulatorProcess]:
    """Providers that write 10 tokens a second; not the shared ones, since a test may patch them."""
    with SimulatorProcess.start({"providers": dict.fromkeys(PROVIDERS, SLOW)}) as simulator:
        yield simulator


@contextmanager
def standing_by(folder: Path, environ: dict[str, str]) -> Iterator[Served]:
    """A standby on a port of its own, in the folder of a leader."""
    with Script("--yes", "--standby", "--config", "own.toml", cwd=folder, env=environ) as script:
        script.wait_for("gateway: base URL ")
        script.wait_for("standby: waiting")
        yield Served(address_of(script), script)


def address_of(script: Script) -> str:
    """Where its gateway is."""
    found = re.search(r"base URL (http://\S+)/v1 ", script.err)
    assert found, script.err
    return found[1]


@pytest.fixture(scope="module")
def pair(
    _shared_simulator: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Served, Served]]:
    """A leader with tokens, and its standby."""
    tokens = {"ORCHESTRATOR_TOKENS": f"alice:{TOKEN},bob:{OTHER}:read"}
    environ = {**live_environment(_shared_simulator.base_urls), **tokens}
    folder = tmp_path_factory.mktemp("pair")
    with started(folder, environ) as leader, standing_by(folder, environ) as standby:
        yield leader, standby
        standby.script.interrupt()  # first, or it would take over
        standby.script.wait()


def test_both_sdks_are_answered_streamed_and_not(pair: tuple[Served, Served]) -> None:
    _, standby = pair
    with openai.OpenAI(base_url=f"{standby.url}/v1", api_key=TOKEN, max_retries=0) as client:
        answer = client.chat.completions.create(model="economy", messages=PROMPT, max_tokens=40)
        chunks = list(
            client.chat.completions.create(model="economy", messages=PROMPT, max_tokens=40, stream=True)
        )
        assert client.models.retrieve("auto").id == "auto"
    assert answer.choices[0].message.content
    assert len(chunks) > 2 and chunks[-1].choices[0].finish_reason
    with (
        anthropic.Anthropic(base_url=standby.url, api_key=TOKEN, max_retries=0) as other,
        other.messages.stream(model="economy", messages=PROMPT, max_tokens=40) as stream,
    ):
        assert stream.get_final_message().stop_reason


def test_the_answer_is_the_leaders_with_its_headers(pair: tuple[Served, Served]) -> None:
    leader, standby = pair
    found = send(standby.url, "/v1/messages", method="POST", body=BODY, headers={"x-api-key": TOKEN})
    assert found.status == 200 and found.headers["x-orchestrator-provider"]
    path = f"/v1/tasks/{found.headers['x-orchestrator-task-id']}"
    at_leader = send(leader.url, path, headers={"x-api-key": TOKEN})
    assert at_leader.status == 200
    assert send(standby.url, path, headers={"x-api-key": TOKEN}).json == at_leader.json


@pytest.mark.parametrize("key", ["", "wrong", OTHER], ids=["no key", "an unknown key", "a key that may not"])
def test_a_key_that_may_not_is_refused(pair: tuple[Served, Served], key: str) -> None:
    _, standby = pair
    headers = {"x-api-key": key} if key else {}
    found = send(standby.url, "/v1/messages", method="POST", body=BODY, headers=headers)
    assert found.status == (403 if key == OTHER else 401)


def test_errors_of_the_leader_are_passed_on(pair: tuple[Served, Served]) -> None:
    _, standby = pair
    headers = {"x-api-key": TOKEN}
    body = {**BODY, "model": "nothing-like-it"}
    found = send(standby.url, "/v1/messages", method="POST", body=body, headers=headers)
    assert found.status == 404 and found.json["type"] == "error"
    assert send(standby.url, "/v1/nothing", headers=headers).status == 404


def test_what_is_about_the_process_is_answered_by_it(pair: tuple[Served, Served]) -> None:
    leader, standby = pair
    assert send(standby.url, "/healthz").status == 200
    assert [send(each.url, "/readyz").status for each in pair] == [200, 503]
    headers = {"x-api-key": OTHER}
    assert b"orchestrator_leader 0.0" in send(standby.url, "/metrics", headers=headers).body
    assert b"orchestrator_leader 1.0" in send(leader.url, "/metrics", headers=headers).body


def test_a_request_is_passed_on_once(pair: tuple[Served, Served]) -> None:
    _, standby = pair
    headers = {"x-api-key": TOKEN, "Via": "1.1 another-gateway (standby)"}
    found = send(standby.url, "/v1/messages", method="POST", body=BODY, headers=headers)
    assert found.status == 421
    headers["Via"] += ", 1.1 a-gateway-that-took-it-for-a-provider"
    assert send(standby.url, "/v1/messages", method="POST", body=BODY, headers=headers).status == 200


@pytest.mark.parametrize("path", ["//evil.example/v1/models", "/v1/models?at=http://evil.example"])
def test_nothing_of_a_request_says_where_it_goes(pair: tuple[Served, Served], path: str) -> None:
    _, standby = pair
    headers = {
        "x-api-key": TOKEN, "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example",
        "Connection": "close, x-api-key-of-hop", "x-api-key-of-hop": "1", "Proxy-Authorization": "Basic abc",
    }  # fmt: skip
    found = send(standby.url, path, headers=headers)
    assert found.status == (404 if path.startswith("//") else 200)


def test_a_body_that_waits_for_100_continue_is_asked_for(pair: tuple[Served, Served]) -> None:
    _, standby = pair
    body = b'{"model": "economy", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}'
    connection = http.client.HTTPConnection(urlsplit(standby.url).netloc, timeout=20)
    connection.putrequest("POST", "/v1/messages")
    for name, value in {
        "content-type": "application/json", "content-length": str(len(body)), "x-api-key": TOKEN,
        "expect": "100-continue",
    }.items():  # fmt: skip
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.sock.recv(1_000).startswith(b"HTTP/1.1 100")
    connection.send(body)
    assert b" 200 " in connection.sock.recv(1_000).splitlines()[0]
    connection.close()


def test_a_compressed_body_is_passed_on(pair: tuple[Served, Served]) -> None:
    _, standby = pair
    headers = {"x-api-key": TOKEN, "content-type": "application/json", "content-encoding": "gzip"}
    body = gzip.compress(json.dumps(BODY).encode())
    found = send(standby.url, "/v1/messages", method="POST", body=body, headers=headers)
    assert found.status == 200, found.body


# ------------------------------------------------------------------ while no leader can be reached


class Asked:
    """A request on a thread of its own, which is not repeated. `answer` waits for its end."""

    def __init__(self, url: str, *, stream: bool = False, **headers: str) -> None:
        self._pool = ThreadPoolExecutor(1)
        body = {**BODY, "stream": stream}
        self._sent = self._pool.submit(
            send, url, "/v1/messages", method="POST", body=body, headers={"x-api-key": TOKEN, **headers}
        )

    @property
    def answer(self) -> Answer:
        self._pool.shutdown(wait=False)
        return self._sent.result(90)

    @property
    def waits(self) -> bool:
        return not self._sent.done()


def is_whole(answer: Answer) -> bool:
    """Whether it is an answer, or a stream to its end."""
    return (
        answer.status == 200
        and re.search(rb'"stop_reason": ?"(end_turn|max_tokens)"', answer.body) is not None
    )


@contextmanager
def unreachable(folder: Path, simulator: SimulatorProcess, toml: str = "") -> Iterator[tuple[Script, Served]]:
    """A leader without a gateway, and its standby: requests that come to that one wait."""
    environ = live_environment(simulator.base_urls)
    (folder / "own.toml").write_text(toml)
    with Script("--yes", "--no-gateway", "--config", "own.toml", cwd=folder, env=environ) as leader:
        leader.wait_for("serving the queue")
        with standing_by(folder, environ) as standby:
            yield leader, standby


def test_requests_wait_at_a_standby_until_it_leads(tmp_path: Path, slow: SimulatorProcess) -> None:
    with unreachable(tmp_path, slow) as (leader, standby):
        held = [Asked(standby.url, stream=n % 2 == 0) for n in range(6)]
        late = send(
            standby.url, "/v1/messages", method="POST", body=BODY, headers={"x-orchestrator-timeout": "1"}
        )
        assert late.status == 529 and late.headers["x-should-retry"] == "false"
        with (
            openai.OpenAI(base_url=f"{standby.url}/v1", api_key="any", max_retries=0, timeout=1) as client,
            pytest.raises(openai.APITimeoutError),
        ):
            client.chat.completions.create(model="economy", messages=PROMPT, extra_headers=PATIENT)
        assert all(each.waits for each in held)
        leader.kill()
        assert all(is_whole(each.answer) for each in held)
        assert is_whole(Asked(standby.url).answer)
    assert sum(each["calls"] for each in slow.stats().values()) == 7  # none for those that had left


def test_as_many_requests_wait_at_a_standby_as_at_a_leader(tmp_path: Path, slow: SimulatorProcess) -> None:
    with unreachable(tmp_path, slow, "[gateway]\nmax_waiting = 2\n") as (leader, standby):
        asked = [Asked(standby.url) for _ in range(3)]
        while all(each.waits for each in asked):
            leader.pause()
        [refused] = [each for each in asked if not each.waits]
        assert refused.answer.status == 503 and int(refused.answer.headers["retry-after"]) > 0
        leader.terminate()
        assert leader.wait() == 0, leader.err
        assert all(is_whole(each.answer) for each in asked if each is not refused)


def test_a_planned_change_of_the_leader_refuses_no_request(tmp_path: Path, slow: SimulatorProcess) -> None:
    limits = "requests_per_minute = 60\nburst_s = 1\n"  # most requests wait
    environ = live_environment(slow.base_urls)
    toml = "".join(f"[providers.{name}.limits]\n{limits}" for name in PROVIDERS)
    (tmp_path / "own.toml").write_text(toml)
    with Script("--yes", "--config", "own.toml", cwd=tmp_path, env=environ) as leader:
        leader.wait_for("serving the queue")
        url = address_of(leader)
        with standing_by(tmp_path, environ) as standby:
            asked = [Asked(at, stream=n % 2 == 0) for n in range(5) for at in (url, standby.url)]
            while not any(each["in_flight"] for each in slow.stats().values()):
                leader.pause()
            leader.terminate()
            leader.wait_for("waiting up to 30 s for running calls")
            asked += [Asked(at, stream=n % 2 == 0) for n in range(2) for at in (url, standby.url)]
            assert all(is_whole(each.answer) for each in asked)
            assert leader.wait() == 0, leader.err
    assert sum(each["calls"] for each in slow.stats().values()) == len(asked)


def test_a_rolling_update_under_load_breaks_only_streams_that_outlast_it(
    tmp_path: Path, slow: SimulatorProcess, database_env: dict[str, str]
) -> None:
    for name in PROVIDERS:
        slow.patch(name, {"output_tokens": {"mean": 400}})  # as many as a request allows
    environ = {**live_environment(slow.base_urls), **database_env}
    limits = "requests_per_minute = 60\nburst_s = 1\n"  # most requests wait
    toml = f"[pool]\nlease_s = 2.0\nshutdown_grace_s = {GRACE_S}\n"
    (tmp_path / "own.toml").write_text(toml + "".join(f"[providers.{n}.limits]\n{limits}" for n in PROVIDERS))
    with ExitStack() as stack:
        leader = stack.enter_context(Script("--yes", "--config", "own.toml", cwd=tmp_path, env=environ))
        leader.wait_for("serving the queue")
        standby = stack.enter_context(standing_by(tmp_path, environ))
        urls = (address_of(leader), standby.url)
        begun = [stack.enter_context(streamed(url)) for url in urls]
        assert all(b" 200 " in each.recv(1_000) for each in begun)
        tasks = [Task(f"t{n}", "rows", (Message("user", "Why?"),), max_tokens=10) for n in range(ROWS)]
        with Store.open(database_env.get("DATABASE_URL") or tmp_path / LIVE, simulated=False) as store:
            store.intake.add_tasks(tasks, now=time.time())
        asked = [Asked(url, stream=n % 2 == 0) for n in range(4) for url in urls]
        while sum(each["in_flight"] for each in slow.stats().values()) < len(begun) + 3:
            leader.pause()
        leader.terminate()
        leader.wait_for(f"waiting up to {GRACE_S} s for running calls")
        asked += [Asked(url, stream=n % 2 == 0) for n in range(2) for url in urls]
        assert [is_whole(each.answer) for each in asked] == [True] * len(asked)
        leader.wait()
        assert not any(b"message_stop" in to_the_end(each) for each in begun)
        query = "SELECT count(*) FROM tasks WHERE status = 'succeeded' AND id LIKE 't%'"
        while rows_of(environ, tmp_path, query) != [(ROWS,)]:
            standby.script.pause()
    calls = sum(each["calls"] for each in slow.stats().values())
    assert calls == len(begun) + len(asked) + ROWS, "none was made twice"


def to_the_end(client: socket.socket) -> bytes:
    """What is still to come on a connection, until it ends or is reset."""
    found = b""
    with suppress(ConnectionResetError):
        while part := client.recv(65_536):
            found += part
    return found


@contextmanager
def streamed(url: str, *, http: str = "1.1", model: str = "economy") -> Iterator[socket.socket]:
    """A stream that takes longer than a leader waits at its end. In HTTP/1.0 its connection ends with it."""
    place = urlsplit(url)
    body = json.dumps({**BODY, "model": model, "max_tokens": 400, "stream": True}).encode()
    head = f"POST /v1/messages HTTP/{http}\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
    with socket.create_connection((str(place.hostname), int(place.port or 0)), timeout=60) as client:
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        yield client


def test_a_stream_breaks_with_its_leader_and_the_standby_serves_the_next_request(
    tmp_path: Path, slow: SimulatorProcess
) -> None:
    environ = live_environment(slow.base_urls)
    (tmp_path / "own.toml").write_text("")
    with Script("--yes", "--config", "own.toml", cwd=tmp_path, env=environ) as leader:
        leader.wait_for("serving the queue")
        with (
            standing_by(tmp_path, environ) as standby,
            openai.OpenAI(base_url=f"{standby.url}/v1", api_key="any", max_retries=0) as client,
            streamed(standby.url, http="1.0") as old_client,
        ):
            assert b" 200 " in old_client.recv(1_000)
            with pytest.raises(openai.APIConnectionError):
                for number, _ in enumerate(
                    client.chat.completions.create(
                        model="economy", messages=PROMPT, max_tokens=400, stream=True
                    )
                ):
                    if number == 2:
                        leader.kill()
            with pytest.raises(ConnectionResetError):  # its end would look like that of the answer
                while old_client.recv(1_000):
                    pass
            leader.wait()
            answer = client.chat.completions.create(model="economy", messages=PROMPT, max_tokens=40)
            assert answer.choices[0].message.content


def test_a_client_that_leaves_ends_its_request_at_the_leader(tmp_path: Path, slow: SimulatorProcess) -> None:
    environ = live_environment(slow.base_urls)
    slow.patch("openai", {"latency": {"first_token_s": 600.0, "per_token_s": 0.0}})
    with started(tmp_path, environ) as leader, standing_by(tmp_path, environ) as standby:
        with streamed(standby.url, model="openai/economy"):
            while not slow.stats()["openai"]["in_flight"]:
                standby.script.pause()
        end = time.monotonic() + 60
        while b'outcome="uncertain",provider="openai"} 1.0' not in send(leader.url, "/metrics").body:
            assert time.monotonic() < end
            time.sleep(0.1)
        standby.script.interrupt()
        standby.script.wait()


@pytest.mark.parametrize(
    ("url", "host", "alive", "usable"),
    [
        ("http://127.0.0.1:5001", "here", True, True),
        ("http://127.0.0.1:5001", "there", True, False),
        ("http://10.0.0.5:5001", "there", True, True),
        ("http://10.0.0.5:5001", "there", False, False),
        ("", "here", True, False),
    ],
    ids=["its own loopback", "loopback of another", "another machine", "a dead leader", "no gateway"],
)
def test_which_addresses_are_used(url: str, host: str, alive: bool, usable: bool) -> None:
    leader = Leader(1, "a", 1, host, 10.0, 1, alive=alive, one_host=False)
    assert usable_address(url, leader, "here") == (url if usable else "")
