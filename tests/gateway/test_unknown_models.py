"""Names of models that exist nowhere: only the provider can tell, and it is not asked again and again."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from src.simulator.process import SimulatorProcess
from tests.helpers import live_environment

from .conftest import Served, started
from .http_client import Answer, send

NAME, MEANT = "gpt-6.1-tera", "did you mean 'gpt-6.1-terra'?"
QUESTION: Any = [{"role": "user", "content": "Name a colour."}]
REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": QUESTION},
    "/v1/responses": {"input": QUESTION},
    "/v1/messages": {"messages": QUESTION, "max_tokens": 50},
}
AT_ONCE = 8  # requests; those of the first moment are all tried


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, SimulatorProcess]]:
    """A gateway without budgets, before a provider that serves no model."""
    config = {"latency": {"first_token_s": 0.01, "per_token_s": 0.0}, "faults": {"model_not_found": 1.0}}
    with (
        SimulatorProcess.start({"providers": {"openai": config}}) as simulator,
        started(
            tmp_path_factory.mktemp("without"),
            live_environment(simulator.base_urls),
            toml='[gateway]\ndaily_usd = "none"\n',
        ) as served,
    ):
        yield served, simulator


def check_form(found: Answer, path: str) -> None:
    """The error of the API that was called, with the name that was meant, and not to be repeated."""
    error = found.json["error"]
    assert MEANT in error["message"], error
    assert ("type" in found.json) == (path == "/v1/messages")
    assert found.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", REQUESTS)
def test_a_model_that_its_provider_lacks_is_a_404_with_the_name_that_was_meant(
    without: tuple[Served, SimulatorProcess], path: str, stream: bool
) -> None:
    served, _ = without
    body = {**REQUESTS[path], "model": NAME, "stream": stream}
    found = send(served.url, path, method="POST", body=body)
    assert found.status == 404, found
    check_form(found, path)


@pytest.mark.parametrize("path", REQUESTS)
def test_a_model_that_its_provider_lacks_is_not_tried_for_each_request(
    without: tuple[Served, SimulatorProcess], path: str
) -> None:
    served, simulator = without
    name = f"{NAME}-{path.rsplit('/', 1)[1]}"  # no earlier test has asked for it
    before = simulator.stats()["openai"]["calls"]
    ask = partial(send, served.url, path, method="POST", body={**REQUESTS[path], "model": name})
    with ThreadPoolExecutor(AT_ONCE) as threads:
        found = list(threads.map(lambda _: ask(), range(1_000)))
    assert {each.status for each in found} == {404}
    check_form(found[-1], path)
    assert simulator.stats()["openai"]["calls"] - before <= 2 * AT_ONCE


@pytest.mark.parametrize("path", REQUESTS)
def test_a_model_without_a_price_says_which_name_was_meant(
    gateway: Served, simulator: SimulatorProcess, path: str
) -> None:
    found = send(gateway.url, path, method="POST", body={**REQUESTS[path], "model": NAME})
    assert found.status == 400 and "price is unknown" in found.json["error"]["message"]
    check_form(found, path)
    assert sum(each["calls"] for each in simulator.stats().values()) == 0
