"""Where the gateway listens, when it serves, and whom it lets in."""

from __future__ import annotations

import re
import socket
import sys
import threading
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from src.simulator.process import SimulatorProcess
from tests.helpers import Script, live_environment, run_script

from .conftest import Served, started
from .http_client import send

TOKEN, OTHER = "a-token-of-alice-0123", "a-token-of-bob-012345"


# ------------------------------------------------------------------ port


def test_a_taken_port_is_an_error_and_never_the_next_one(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        for options, environ in (
            (["--gateway-port", str(taken)], {}),
            ([], {"ORCHESTRATOR_GATEWAY_PORT": str(taken)}),
        ):
            done = run_script(*options, cwd=tmp_path, env=environ)
            assert done.process.returncode == 2
            assert f"gateway: port {taken} is taken" in done.err and "--gateway-port" in done.err


@pytest.mark.parametrize("port", ["abc", "-1", "65536"])
def test_a_port_that_is_none_is_refused(tmp_path: Path, port: str) -> None:
    done = run_script("status", cwd=tmp_path, env={"ORCHESTRATOR_GATEWAY_PORT": port})
    assert done.process.returncode == 2
    assert f"ORCHESTRATOR_GATEWAY_PORT must be a number from 0 to 65535, not '{port}'" in done.err


@pytest.mark.parametrize("options", [["--no-gateway"], ["--once"]])
def test_without_a_gateway_no_port_is_taken(tmp_path: Path, options: list[str]) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = str(holder.getsockname()[1])
        with Script(*options, "--gateway-port", taken, cwd=tmp_path) as script:
            script.wait_for("served 0 tasks" if options == ["--once"] else "serving the queue")
            assert "gateway:" not in script.err
            script.interrupt()
            assert script.wait() == 0, script.err


def test_another_address_than_loopback_needs_a_token(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('[gateway]\nhost = "0.0.0.0"\n')
    done = run_script("--config", "own.toml", cwd=tmp_path)
    assert done.process.returncode == 2 and "ORCHESTRATOR_TOKEN" in done.err


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_a_provider_whose_address_is_the_gateway_is_refused(tmp_path: Path, host: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        free = holder.getsockname()[1]
    environ = {"OPENAI_API_KEY": "test-key", "OPENAI_BASE_URL": f"http://{host}:{free}/v1"}
    done = run_script("--yes", "--gateway-port", str(free), cwd=tmp_path, env=environ)
    assert done.process.returncode == 2
    assert "OPENAI_BASE_URL" in done.err and "this gateway" in done.err


# ------------------------------------------------------------------ leading


@pytest.mark.skipif(sys.platform == "win32", reason="one lock file")
def test_a_standby_is_not_ready_until_it_leads(tmp_path: Path, simulator: SimulatorProcess) -> None:
    environ = live_environment(simulator.base_urls)
    with started(tmp_path, environ) as leader:
        assert send(leader.url, "/readyz").status == 200
        with Script("--yes", "--standby", "--config", "own.toml", cwd=tmp_path, env=environ) as standby:
            standby.wait_for("gateway: base URL ")
            url = standby.err.split("gateway: base URL ")[1].split("/v1 ")[0]
            assert send(url, "/healthz").status == 200
            waiting = send(url, "/readyz")
            assert waiting.status == 503 and int(waiting.headers["retry-after"]) > 0
            leader.script.interrupt()
            leader.script.wait()
            standby.wait_for("serving the queue")
            while send(url, "/readyz").status != 200:
                assert standby.process.poll() is None, standby.err
                standby.pause()
            standby.interrupt()
            assert standby.wait() == 0, standby.err


@pytest.mark.skipif(sys.platform == "win32", reason="one lock file")
def test_a_standby_takes_over_the_port_of_the_leader_on_its_machine(
    tmp_path: Path, simulator: SimulatorProcess
) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = str(holder.getsockname()[1])
    environ = live_environment(simulator.base_urls)
    with (
        started(tmp_path, environ, "--gateway-port", port) as leader,
        Script("--yes", "--standby", "--gateway-port", port, cwd=tmp_path, env=environ) as standby,
    ):
        standby.wait_for("stand")
        assert "gateway: base URL" not in standby.err
        leader.script.interrupt()
        leader.script.wait()
        standby.wait_for(f"gateway: base URL http://127.0.0.1:{port}/v1")
        standby.wait_for("serving the queue")
        assert send(leader.url, "/healthz").status == 200
        standby.interrupt()
        assert standby.wait() == 0, standby.err


# ------------------------------------------------------------------ who may come in

REFUSED = {
    "a page of another site": ("/v1/models", {"Origin": "https://evil.example"}, 403),
    "a page without an origin": ("/v1/models", {"Origin": "null"}, 403),
    "a page of this host": ("/v1/models", {"Origin": "http://127.0.0.1"}, 403),
    "a name that leads here": ("/v1/models", {"Host": "evil.example"}, 403),
    "an address of another network": ("/v1/models", {"Host": "192.168.1.5"}, 403),
    "no route": ("/v1/nothing", {}, 404),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_what_is_refused_gets_an_error_of_its_api(gateway: Served, case: str, api: str) -> None:
    path, headers, status = REFUSED[case]
    version = {"anthropic-version": "2023-06-01"} if api == "anthropic" else {}
    found = send(gateway.url, path, headers=headers | version)
    assert found.status == status
    assert found.headers["x-should-retry"] == "false"
    if api == "anthropic":
        assert found.json["type"] == "error" and found.json["error"]["message"]
        assert found.headers["request-id"]
    else:
        assert {"message", "type", "param", "code"} == found.json["error"].keys()
        assert found.headers["x-request-id"]
    assert "access-control-allow-origin" not in found.headers


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST:1"])
def test_names_of_this_machine_are_known(gateway: Served, host: str) -> None:
    assert send(gateway.url, "/v1/models", headers={"Host": host}).status == 200


@pytest.mark.parametrize("port", ["0", "free"])
def test_status_and_help_say_where_clients_connect(tmp_path: Path, port: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = port if port == "0" else str(holder.getsockname()[1])
    with started(tmp_path, {}, "--gateway-port", port) as served:  # `status` has to find it
        found = run_script("status", cwd=tmp_path)
        assert f"clients connect to {served.url};" in " ".join(found.out.split())
    assert "clients connect" not in run_script("status", cwd=tmp_path).out
    assert "http://127.0.0.1:5001" in run_script("--help", cwd=tmp_path).out


def test_a_configured_page_may_come_in_and_read_the_answer(tmp_path: Path) -> None:
    toml = '[gateway]\nallowed_origins = ["https://app.example"]\nallowed_hosts = ["pool.example"]\n'
    with started(tmp_path, {}, toml=toml) as served:
        asked = {"Origin": "https://app.example", "Access-Control-Request-Headers": "x-stainless-os, x-evil"}
        before = send(served.url, "/v1/chat/completions", method="OPTIONS", headers=asked)
        assert before.status == 204
        assert before.headers["access-control-allow-origin"] == "https://app.example"
        allowed = before.headers["access-control-allow-headers"]
        assert "x-stainless-os" in allowed and "x-evil" not in allowed
        headers = {"Origin": "https://app.example", "Host": "pool.example"}
        found = send(served.url, "/v1/models", headers=headers)
        assert found.status == 200
        assert found.headers["access-control-allow-origin"] == "https://app.example"


def test_without_tokens_any_key_is_taken_and_none_is_logged(gateway: Served) -> None:
    for headers in ({"x-api-key": "sk-secret-1"}, {"Authorization": "Bearer sk-secret-1"}, {}):
        assert send(gateway.url, "/v1/models", headers=headers).status == 200
    assert "sk-secret" not in gateway.script.err + gateway.script.out


def test_with_tokens_every_request_needs_one_in_either_header(tmp_path: Path) -> None:
    environ = {"ORCHESTRATOR_TOKENS": f"alice:{TOKEN},bob:{OTHER}:read"}
    with started(tmp_path, environ) as served:
        for headers in ({"x-api-key": TOKEN}, {"Authorization": f"Bearer {TOKEN}"}):
            assert send(served.url, "/v1/models", headers=headers).status == 200
        assert send(served.url, "/metrics", headers={"x-api-key": TOKEN}).status == 403
        assert send(served.url, "/metrics", headers={"x-api-key": OTHER}).status == 200
        assert send(served.url, "/healthz").status == send(served.url, "/readyz").status == 200
        with openai.OpenAI(base_url=f"{served.url}/v1", api_key="wrong") as client:
            with pytest.raises(openai.AuthenticationError):
                client.models.list()
            assert client.with_options(api_key=TOKEN).models.retrieve("auto").id == "auto"
        with anthropic.Anthropic(base_url=served.url, api_key="wrong") as other:
            with pytest.raises(anthropic.AuthenticationError):
                other.models.list()
            assert other.with_options(api_key=TOKEN).models.retrieve("auto").id == "auto"
        guesses = [{"x-api-key": f"guess {n}"} for n in range(9)]
        statuses = [send(served.url, "/v1/models", headers=guess).status for guess in guesses]
        assert statuses[-1] == 429, "guesses are slowed down"
        assert send(served.url, "/v1/models", headers={"x-api-key": TOKEN}).status == 200
        assert TOKEN not in served.script.err + served.script.out


# ------------------------------------------------------------------ models


def test_both_sdks_list_tiers_models_and_pairs(gateway: Served) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any") as client:
        names = [model.id for model in client.models.list()]
        assert names[:4] == ["auto", "economy", "standard", "premium"]
        assert any(name.startswith("gemini/") for name in names)
        with pytest.raises(openai.NotFoundError, match="did you mean 'premium'"):
            client.models.retrieve("premum")
    with anthropic.Anthropic(base_url=gateway.url, api_key="any") as other:
        assert [model.id for model in other.models.list()] == names
        with pytest.raises(anthropic.NotFoundError):
            other.models.retrieve("nothing-like-it")


def test_a_simulated_answer_says_so_and_counts_as_served(tmp_path: Path) -> None:
    body = {"model": "economy", "max_tokens": 9, "messages": [{"role": "user", "content": "Name a colour."}]}
    with started(tmp_path, {}) as served:
        for stream in (False, True):
            answer = send(served.url, "/v1/messages", method="POST", body={**body, "stream": stream})
            assert answer.status == 200 and answer.headers["x-orchestrator-simulated"] == "true"
            task_id = answer.headers["x-orchestrator-task-id"]
            assert send(served.url, f"/v1/tasks/{task_id}").json["simulated"] is True
    assert "served 2 tasks" in served.script.err and ": 2 answered, $0.0" in served.script.err


def test_metrics_are_those_of_the_pages(gateway: Served) -> None:
    found = send(gateway.url, "/metrics")
    assert found.status == 200 and found.headers["content-type"].startswith("text/plain")
    assert b"orchestrator_leader 1.0" in found.body


# ------------------------------------------------------------------ money


def test_without_budgets_requests_have_one_of_their_own_that_survives_a_restart(
    tmp_path: Path, simulator: SimulatorProcess
) -> None:
    environ = live_environment(simulator.base_urls)
    message: Any = [{"role": "user", "content": "Name a colour."}]
    toml = "[gateway]\ndaily_usd = 0.0002\n"
    for _ in range(2):
        with started(tmp_path, environ, toml=toml) as served:
            assert "requests stop at $0.0002 a day" in served.script.err
            with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any") as client:
                with pytest.raises(openai.RateLimitError) as raised:
                    for _ in range(50):
                        client.chat.completions.create(model="economy", messages=message, max_tokens=100)
                assert raised.value.code == "insufficient_quota"
                assert raised.value.response.headers["x-should-retry"] == "false"
                assert "[gateway] daily_usd" in raised.value.message
            with anthropic.Anthropic(base_url=served.url, api_key="any") as other:
                with pytest.raises(anthropic.APIStatusError) as refused:
                    other.messages.create(model="economy", messages=message, max_tokens=100)
                assert refused.value.status_code == 402
    with started(tmp_path, environ, toml='[gateway]\ndaily_usd = "none"\n') as served:
        assert "a day" not in served.script.err
        with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any") as client:
            client.chat.completions.create(model="economy", messages=message, max_tokens=100)


def test_the_cap_of_a_run_holds_after_a_kill_for_requests_that_name_none(
    tmp_path: Path, simulator: SimulatorProcess
) -> None:
    environ = live_environment(simulator.base_urls)
    body = {"model": "economy", "messages": [{"role": "user", "content": "Why?"}], "max_tokens": 100}
    run = {"x-orchestrator-run-id": "job 1"}
    capped = {**run, "x-orchestrator-run-max-cost-usd": "0.0002"}
    with Script("--yes", cwd=tmp_path, env=environ) as first:
        first.wait_for("serving the queue")
        found = re.search(r"base URL (http://\S+)/v1 ", first.err)
        assert found, first.err
        ask = partial(send, path="/v1/chat/completions", method="POST", body=body)
        assert ask(found[1], headers=capped).status == 200
        first.kill()
    with started(tmp_path, environ) as again:
        answers = [ask(again.url, headers=run) for _ in range(20)]
        refused = next(each for each in answers if each.status != 200)
        assert refused.status == 429 and refused.json["error"]["code"] == "insufficient_quota"
        assert "cap of run local/job 1" in refused.json["error"]["message"]
        assert ask(again.url).status == 200, "the others go on"


def test_budgets_of_ones_own_replace_the_gateways(tmp_path: Path, simulator: SimulatorProcess) -> None:
    toml = "[budgets]\nmonthly_usd = 5.0\n"
    with started(tmp_path, live_environment(simulator.base_urls), toml=toml) as served:
        assert "a day" not in served.script.err


# ------------------------------------------------------------------ loops, keys


class Forwarder:
    """A port that leads to another one: a provider's address that no look-up shows to be the gateway."""

    def __init__(self) -> None:
        self.port_to = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near = self._listener.accept()[0]
                threading.Thread(target=self._forward, args=(near,), daemon=True).start()

    def _forward(self, near: socket.socket) -> None:
        with near, suppress(OSError), socket.create_connection(("127.0.0.1", self.port_to)) as far:
            back = threading.Thread(target=self._pass, args=(far, near), daemon=True)
            back.start()
            self._pass(near, far)
            far.shutdown(socket.SHUT_RDWR)
            back.join()

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(65_536):
                target.sendall(content)
            target.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()


def test_a_provider_that_leads_back_here_is_a_loop_that_ends_at_once(tmp_path: Path) -> None:
    with closing(Forwarder()) as forwarder:
        environ = {"OPENAI_API_KEY": "test-key-of-openai", "OPENAI_BASE_URL": forwarder.url}
        with started(tmp_path, environ) as served:
            forwarder.port_to = int(served.url.rpartition(":")[2])
            body = {"model": "openai/economy", "messages": [{"role": "user", "content": "Hi"}]}
            headers = {"x-orchestrator-timeout": "3"}
            found = send(served.url, "/v1/chat/completions", method="POST", body=body, headers=headers)
            assert found.status in (502, 504), found.body
            figures = send(served.url, "/metrics").body.decode()
            assert "orchestrator_tasks_waiting" in figures


def test_an_idempotency_key_returns_the_answer_once_more_without_a_call(
    tmp_path: Path, simulator: SimulatorProcess
) -> None:
    toml = '[gateway]\nstore_content = "all"\n'
    body = {"model": "economy", "messages": [{"role": "user", "content": "Name a colour."}], "max_tokens": 60}
    headers = {"Idempotency-Key": "one"}
    with started(tmp_path, live_environment(simulator.base_urls), toml=toml) as served:
        found = [
            send(served.url, "/v1/chat/completions", method="POST", body=each, headers=headers)
            for each in (body, body, {**body, "max_tokens": 61})
        ]
        streamed = send(
            served.url, "/v1/chat/completions", method="POST", body={**body, "stream": True}, headers=headers
        )
    first, again, other = found
    assert first.status == again.status == 200
    text = [each.json["choices"][0]["message"]["content"] for each in (first, again)]
    assert text[0] == text[1] and again.headers["x-orchestrator-cost-usd"] == "0"
    assert other.status == 409
    assert streamed.status in (200, 409)


def test_an_idempotency_key_is_refused_where_no_answers_are_stored(gateway: Served) -> None:
    body = {"model": "economy", "messages": [{"role": "user", "content": "Name a colour."}]}
    headers = {"Idempotency-Key": "one"}
    found = send(gateway.url, "/v1/chat/completions", method="POST", body=body, headers=headers)
    assert found.status == 400 and "store_content" in found.json["error"]["message"]


def test_a_request_that_comes_while_the_pool_starts_waits_for_it(
    simulator: SimulatorProcess, tmp_path: Path
) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "Name a colour."}]}
    environ = live_environment(simulator.base_urls)
    with Script("--yes", cwd=tmp_path, env=environ) as script:
        script.wait_for("base URL")
        found = re.search(r"base URL (http://\S+)/v1 ", script.err)
        assert found, script.err
        assert send(found[1], "/v1/chat/completions", method="POST", body=body).status == 200
        script.interrupt()
        assert script.wait() == 0, script.err
