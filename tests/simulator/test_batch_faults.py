"""Faults of the batch endpoints: what a client does not learn has happened all the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import aiohttp
import anthropic
import openai
import pytest

from src.simulator import SimulatorProcess
from src.simulator.batches.faults import BATCH_FAULTS
from src.simulator.config import API_FORMATS

from .batches import EXACT, TAKES_S, content, jsonl, messages, questions
from .conftest import INSTANT

KEYS = {"x-api-key": "k", "Authorization": "Bearer k", "x-goog-api-key": "k"}
MODEL = "gemini-3.8-flash"
LISTS = {"anthropic": "/v1/messages/batches", "openai": "/batches", "gemini": "/v1beta/batches"}


class Raw:
    """Plain HTTP to the batch endpoints of one API, where the SDK would be in the way."""

    def __init__(self, sim: SimulatorProcess, session: aiohttp.ClientSession, api: str) -> None:
        self.sim, self._session, self.api = sim, session, api
        self._base = sim.base_urls[api]

    async def call(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        headers = {**KEYS, **more.pop("headers", {})}
        async with self._session.request(method, self._base + path, headers=headers, **more) as response:
            data = await response.read()
            is_json = response.content_type == "application/json" and data
            return response.status, json.loads(data) if is_json else data

    async def upload(self) -> str:
        form = aiohttp.FormData({"purpose": "batch"})
        form.add_field("file", jsonl(questions(2)), filename="in.jsonl")
        return (await self.call("POST", "/files", data=form))[1]["id"]

    async def create(self) -> tuple[int, Any]:
        if self.api == "anthropic":
            return await self.call("POST", "/v1/messages/batches", json={"requests": messages(2)})
        if self.api == "gemini":
            rows = {"requests": [{"request": content("Hi"), "metadata": {"key": "a"}}]}
            batch = {"displayName": "mine", "inputConfig": {"requests": rows}}
            return await self.call(
                "POST", f"/v1beta/models/{MODEL}:batchGenerateContent", json={"batch": batch}
            )
        wanted = {"input_file_id": await self.upload(), "endpoint": "/v1/chat/completions"}
        return await self.call("POST", "/batches", json={**wanted, "completion_window": "24h"})

    async def listed(self) -> list[Any]:
        body = (await self.call("GET", LISTS[self.api]))[1]
        return list(body.get("data", body.get("operations", [])))

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = self.sim.stats()[self.api]["batches"]
        return found


@pytest.fixture(params=API_FORMATS)
def raw(request: pytest.FixtureRequest, sim: SimulatorProcess, session: aiohttp.ClientSession) -> Raw:
    sim.batch_clock(factor=0)
    sim.patch(request.param, {"batches": EXACT})
    return Raw(sim, session, request.param)


async def test_a_creation_whose_answer_is_lost_leaves_a_batch(raw: Raw) -> None:
    raw.sim.batch_fault(raw.api, "create_reset")
    with pytest.raises(aiohttp.ClientError):
        await raw.create()
    assert len(await raw.listed()) == 1
    assert (await raw.create())[0] == 200, "only the next request was ordered to fail"
    assert (raw.stats()["created"], raw.stats()["by_fault"]) == (2, {"create_reset": 1})


async def test_a_creation_that_answers_500_leaves_a_batch(raw: Raw) -> None:
    raw.sim.batch_fault(raw.api, "create_error")
    assert (await raw.create())[0] == 500
    assert len(await raw.listed()) == 1


@pytest.mark.parametrize(("effect", "status"), [("refused", 500), ("limited", 429)])
async def test_a_creation_that_is_refused_leaves_none(raw: Raw, effect: str, status: int) -> None:
    raw.sim.batch_fault(raw.api, f"create_{effect}", times=2)
    assert [(await raw.create())[0] for _ in range(3)] == [status, status, 200]
    assert len(await raw.listed()) == 1


async def test_a_creation_can_be_swallowed(raw: Raw) -> None:
    raw.sim.batch_fault(raw.api, "create_silence")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await raw.create()
    assert len(await raw.listed()) == 1


async def test_a_share_of_requests_meets_a_fault(raw: Raw) -> None:
    raw.sim.patch(raw.api, {"batches": {"faults": {"list_refused": 0.5}}})
    failed = 0
    for _ in range(40):
        failed += (await raw.call("GET", LISTS[raw.api]))[0] == 500
    assert 8 <= failed <= 32
    assert raw.stats()["by_fault"] == {"list_refused": failed}


async def test_the_batch_endpoints_have_a_rate_limit_of_their_own(raw: Raw) -> None:
    raw.sim.patch(raw.api, {"batches": {"requests_per_minute": 30}})
    answers = [await raw.call("GET", LISTS[raw.api]) for _ in range(8)]
    statuses = [status for status, _ in answers]
    assert statuses.count(200) in (5, 6) and statuses[-1] == 429
    assert "error" in answers[-1][1]
    assert raw.sim.stats()[raw.api]["calls"] == 0, "not a live call"


@pytest.mark.parametrize("fault", ["outage", "server_error"])
async def test_a_provider_that_is_out_answers_no_batch_request(raw: Raw, fault: str) -> None:
    raw.sim.patch(raw.api, {"faults": {fault: 1.0}})
    if fault == "outage":
        with pytest.raises(aiohttp.ClientError):
            await raw.listed()
    else:
        assert (await raw.call("GET", LISTS[raw.api]))[0] == 500
    raw.sim.patch(raw.api, {"faults": None})
    assert await raw.listed() == []


async def test_faults_of_live_calls_leave_batches_alone(raw: Raw) -> None:
    raw.sim.patch(raw.api, {"faults": {"rate_limit": 1.0}, "limits": {"requests_per_minute": 1}})
    assert (await raw.create())[0] == 200
    raw.sim.batch_clock(advance_s=TAKES_S)
    await raw.listed()
    assert raw.stats()["rows_by_end"]["succeeded"] == raw.stats()["rows"]


async def test_a_server_without_batches_has_no_such_page(raw: Raw) -> None:
    raw.sim.patch(raw.api, {"batches": {"available": False}})
    assert (await raw.call("GET", LISTS[raw.api]))[0] == 404


async def test_reset_forgets_batches_files_and_ordered_faults(raw: Raw) -> None:
    await raw.create()
    raw.sim.batch_fault(raw.api, "create_error")
    raw.sim.reset()
    assert (await raw.create())[0] == 200
    assert (len(await raw.listed()), raw.stats()["created"]) == (1, 1)


def test_control_refuses_faults_and_clocks_that_there_are_not(sim: SimulatorProcess) -> None:
    with pytest.raises(RuntimeError, match="did you mean 'create_reset'"):
        sim.batch_fault("openai", "create_rest")
    with pytest.raises(RuntimeError, match="unknown_provider"):
        sim.batch_fault("opnai", "create_reset")
    with pytest.raises(RuntimeError, match="advance_s: expected a number of at least 0"):
        sim.batch_clock(advance_s=-1)


def test_the_clock_of_batches_runs_faster_and_jumps(sim: SimulatorProcess) -> None:
    start = sim.batch_clock(factor=0)["now"]
    assert sim.batch_clock(advance_s=3_600)["now"] == pytest.approx(start + 3_600)
    assert sim.batch_clock(factor=100_000)["now"] == pytest.approx(start + 3_600)
    assert sim.batch_clock()["now"] > start + 3_600
    sim.reset()
    assert sim.batch_clock()["now"] < start + 3_600


# -- OpenAI: files, and results in a file --


@pytest.fixture
def gpt(sim: SimulatorProcess) -> Iterator[openai.OpenAI]:
    sim.batch_clock(factor=0)
    sim.patch("openai", {"batches": EXACT})
    with openai.OpenAI(base_url=sim.base_urls["openai"], api_key="key", max_retries=0) as sdk:
        yield sdk


def _upload(sdk: openai.OpenAI) -> Any:
    return sdk.files.create(file=("in.jsonl", jsonl(questions(3))), purpose="batch")


@pytest.mark.parametrize(
    ("effect", "error", "kept"),
    [
        pytest.param("error", openai.InternalServerError, 1, id="500 after"),
        pytest.param("reset", openai.APIConnectionError, 1, id="reset after"),
        pytest.param("refused", openai.InternalServerError, 0, id="500 before"),
    ],
)
def test_an_upload_that_fails_may_have_stored_the_file(
    sim: SimulatorProcess, gpt: openai.OpenAI, effect: str, error: type[Exception], kept: int
) -> None:
    sim.batch_fault("openai", f"upload_{effect}")
    with pytest.raises(error):
        _upload(gpt)
    assert len(list(gpt.files.list())) == kept


def test_a_cancellation_that_answers_500_was_begun(sim: SimulatorProcess, gpt: openai.OpenAI) -> None:
    batch = gpt.batches.create(
        input_file_id=_upload(gpt).id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    sim.batch_fault("openai", "cancel_error")
    with pytest.raises(openai.InternalServerError):
        gpt.batches.cancel(batch.id)
    assert gpt.batches.retrieve(batch.id).status == "cancelling"


def test_results_can_break_in_the_middle_and_be_read_again(sim: SimulatorProcess) -> None:
    sim.batch_clock(factor=0)
    sim.patch("anthropic", {"batches": EXACT})
    with anthropic.Anthropic(base_url=sim.base_urls["anthropic"], api_key="key", max_retries=0) as sdk:
        batch = sdk.messages.batches.create(requests=messages(20))
        sim.batch_clock(advance_s=TAKES_S)
        sim.batch_fault("anthropic", "results_reset")
        seen = []
        with pytest.raises(Exception, match=r"(?i)connection|closed|read|incomplete|reset"):
            seen.extend(each.custom_id for each in sdk.messages.batches.results(batch.id))
        assert len(list(sdk.messages.batches.results(batch.id))) == 20


def test_results_can_lack_lines_without_any_sign_of_it(sim: SimulatorProcess) -> None:
    sim.batch_clock(factor=0)
    sim.patch("anthropic", {"batches": EXACT})
    with anthropic.Anthropic(base_url=sim.base_urls["anthropic"], api_key="key", max_retries=0) as sdk:
        batch = sdk.messages.batches.create(requests=messages(20))
        sim.batch_clock(advance_s=TAKES_S)
        sim.batch_fault("anthropic", "results_cut")
        assert [len(list(sdk.messages.batches.results(batch.id))) for _ in range(2)] == [10, 20]


def test_every_fault_says_what_it_does() -> None:
    assert len(BATCH_FAULTS) == 50
    assert all(BATCH_FAULTS.values())


@pytest.mark.parametrize("raw", ["anthropic"], indirect=True)
async def test_live_calls_are_answered_while_a_large_batch_is(raw: Raw) -> None:
    rows = messages(3_000)
    status, batch = await raw.call("POST", LISTS[raw.api], json={"requests": rows})
    assert status == 200
    raw.sim.patch(raw.api, {"latency": INSTANT})
    raw.sim.batch_clock(advance_s=TAKES_S)
    ending = asyncio.create_task(raw.call("GET", f"{LISTS[raw.api]}/{batch['id']}"))
    answered = 0
    while not ending.done():
        assert (await raw.call("POST", "/v1/messages", json=rows[0]["params"]))[0] == 200
        answered += 1
    assert (await ending)[1]["processing_status"] == "ended"
    assert answered > 5, "live calls take turns with the rows"
