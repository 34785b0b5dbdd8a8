"""Batches of all three APIs, over the real SDKs and the simulator, whose clock of batches stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from src.errors import BadRequest, Overloaded, ProviderError, RateLimited, ServerError
from src.messages import Image, Message, Text, Tool, tool_calls_in
from src.providers.base import ProviderAdapter
from src.providers.batch_adapter import number_of, row_id
from src.providers.batch_api import BatchApi, RemoteBatch, RemoteState, RowAnswer
from src.providers.factory import build_adapter, build_batch_api
from src.records import Completion, CompletionRequest
from src.simulator.process import SimulatorProcess

from ..simulator.media import b64, png
from .conftest import API_FORMATS, FAST, SLOTS, access_to, ask

pytestmark = pytest.mark.asyncio(loop_scope="module")

MARKER = "marker0001"
TAKES_S = 100.0
EXACT = {"turnaround": {"median_s": TAKES_S, "p90_s": TAKES_S}}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
LOOK_UP = Tool("look_up", "Looks a city up.", {"type": "object", "properties": {"city": {"type": "string"}}})


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorProcess]:
    config = {"batch_clock_factor": 0, "providers": {api: {**FAST, "batches": EXACT} for api in API_FORMATS}}
    with SimulatorProcess.start(config) as found:
        yield found


@pytest.fixture
def patched(simulator: SimulatorProcess) -> Iterator[SimulatorProcess]:
    """The simulator, whose batches may be patched."""
    yield simulator
    for api in API_FORMATS:
        simulator.patch(api, {"batches": None})
        simulator.patch(api, {"batches": EXACT})


@dataclass
class Provider:
    """One provider: its batches, and the live calls that they are compared with."""

    api: str
    live: ProviderAdapter
    batches: BatchApi

    async def create(self, *requests: CompletionRequest, marker: str = MARKER) -> RemoteBatch:
        return await self.batches.create(marker, requests[0].model, await self.rows(*requests, marker=marker))

    async def rows(self, *requests: CompletionRequest, marker: str = MARKER) -> list[bytes]:
        rendered = [await self.batches.render(marker, number, each) for number, each in enumerate(requests)]
        return [row.content for row in rendered]

    async def answers(self, batch: RemoteBatch, marker: str = MARKER) -> dict[int, RowAnswer]:
        return {answer.number: answer async for answer in self.batches.results(batch, marker)}

    async def ended(self, batch: RemoteBatch, simulator: SimulatorProcess) -> RemoteBatch:
        await asyncio.to_thread(simulator.batch_clock, advance_s=2 * TAKES_S)
        return await self.batches.status(batch.id)


@pytest_asyncio.fixture(params=API_FORMATS, loop_scope="module")
async def provider(request: pytest.FixtureRequest, simulator: SimulatorProcess) -> AsyncIterator[Provider]:
    api = request.param
    access = access_to(api, simulator.base_urls[api])
    adapter = build_adapter(access, SLOTS)
    yield Provider(api, adapter, build_batch_api(access, adapter))
    await adapter.close()


def requests_of(api: str) -> list[CompletionRequest]:
    """One of each kind that a batch takes."""
    image = Message("user", (Text("What is it?"), Image("image/png", data=b64(png(8, 8)))))
    return [
        ask(api),
        ask(api, temperature=0.0, top_p=None, stop=("END",)),
        ask(api, response_schema=PERSON),
        ask(api, tools=(LOOK_UP,), tool_choice="required"),
        ask(api, messages=(image,)),
        ask(api, "Ünïcode: 雪 and \u2028 a line separator"),
    ]


def same(one: Completion, other: Completion) -> bool:
    """Whether two answers to one prompt say the same. Ids are those of each."""
    calls = [[(call.name, call.arguments) for call in tool_calls_in(each.parts)] for each in (one, other)]
    return (one.text, one.finish_reason, one.usage) == (
        other.text,
        other.finish_reason,
        other.usage,
    ) and calls[0] == calls[1]


async def test_rows_are_answered_like_live_calls(provider: Provider, simulator: SimulatorProcess) -> None:
    requests = requests_of(provider.api)
    batch = await provider.create(*requests)
    assert batch.state is RemoteState.IN_PROGRESS
    assert batch.id
    ended = await provider.ended(batch, simulator)
    assert (ended.state, ended.rows, ended.done, ended.failed) == (
        RemoteState.ENDED,
        len(requests),
        len(requests),
        0,
    )
    answers = await provider.answers(ended)
    assert sorted(answers) == list(range(len(requests)))
    for number, request in enumerate(requests):
        assert same(provider.batches.read(answers[number], request), await provider.live.complete(request))


async def test_errors_of_rows_are_those_of_live_calls(provider: Provider, patched: SimulatorProcess) -> None:
    cases: dict[str, type[ProviderError]] = {
        "rate_limit": RateLimited,
        "server_error": ServerError,
        "overloaded": Overloaded,
        "bad_request": BadRequest,
    }
    for fault, cls in cases.items():
        marker = f"marker{fault.replace('_', '')}"
        await asyncio.to_thread(patched.patch, provider.api, {"batches": {"row_faults": None}})
        await asyncio.to_thread(patched.patch, provider.api, {"batches": {"row_faults": {fault: 1.0}}})
        batch = await provider.ended(await provider.create(ask(provider.api), marker=marker), patched)
        assert batch.state is RemoteState.ENDED
        answers = await provider.answers(batch, marker)
        with pytest.raises(cls) as caught:
            provider.batches.read(answers[0], ask(provider.api))
        assert caught.value.provider == provider.api


@pytest.mark.parametrize("fault", ["create_reset", "create_error"])
async def test_a_batch_is_found_again_where_its_creation_was_not_answered(
    provider: Provider, patched: SimulatorProcess, fault: str
) -> None:
    marker = f"marker{fault.replace('_', '')}"
    await provider.create(ask(provider.api, "another"), marker="another00")
    await asyncio.to_thread(patched.batch_fault, provider.api, fault)
    with pytest.raises(ProviderError):
        await provider.create(*requests_of(provider.api), marker=marker)
    since = (await asyncio.to_thread(patched.batch_clock))["now"]
    running, undecided = await provider.batches.find(marker, len(requests_of(provider.api)), since, ())
    assert undecided is (provider.api == "anthropic") is (running is None), "it shows ids at the end"
    await asyncio.to_thread(patched.batch_clock, advance_s=2 * TAKES_S)
    found, undecided = await provider.batches.find(marker, len(requests_of(provider.api)), since, ())
    assert found is not None and not undecided
    assert running is None or running.id == found.id
    answers = await provider.answers(found, marker)
    assert len(answers) == len(requests_of(provider.api))


async def test_a_batch_that_never_arrived_is_not_found(provider: Provider, patched: SimulatorProcess) -> None:
    await asyncio.to_thread(patched.batch_fault, provider.api, "create_refused")
    with pytest.raises(ServerError):
        await provider.create(*[ask(provider.api)] * 17, marker="never0000")
    since = (await asyncio.to_thread(patched.batch_clock))["now"]
    assert await provider.batches.find("never0000", 17, since, ()) == (None, False)


async def test_a_running_batch_of_another_program_is_not_taken_for_ours(
    provider: Provider, simulator: SimulatorProcess
) -> None:
    since = (await asyncio.to_thread(simulator.batch_clock))["now"]
    theirs = await provider.create(*[ask(provider.api)] * 13, marker="theirs013")
    found, _ = await provider.batches.find("ours00013", 13, since, ())
    assert found is None
    await provider.ended(theirs, simulator)
    assert await provider.batches.find("ours00013", 13, since, ()) == (None, False)


async def test_a_cancelled_batch_ends_and_rows_that_were_not_done_say_so(
    provider: Provider, simulator: SimulatorProcess
) -> None:
    batch = await provider.create(*requests_of(provider.api), marker="cancelled")
    await provider.batches.cancel(batch.id)
    ended = await provider.ended(batch, simulator)
    assert ended.state is RemoteState.ENDED
    answers = await provider.answers(ended, "cancelled")
    done = [answer for answer in answers.values() if answer.body is not None]
    assert len(done) <= ended.done < len(requests_of(provider.api))  # Gemini keeps none of them
    assert all(answer.error is None for answer in answers.values())
    await provider.batches.cancel(batch.id)  # nothing is left to cancel, which is no error


async def test_cleaning_up_leaves_nothing_to_read(provider: Provider, simulator: SimulatorProcess) -> None:
    batch = await provider.ended(await provider.create(ask(provider.api), marker="cleaned00"), simulator)
    await provider.batches.clean_up(batch)
    with suppress(ProviderError):
        assert not await provider.answers(await provider.batches.status(batch.id), "cleaned00")


async def test_rows_of_another_batch_are_not_read(provider: Provider, simulator: SimulatorProcess) -> None:
    batch = await provider.ended(await provider.create(ask(provider.api), marker="theirs000"), simulator)
    assert await provider.answers(batch, "ours00000") == {}


@pytest.mark.parametrize("api", ["openai", "gemini"])
async def test_too_much_in_the_queue_is_no_fault_of_the_rows(patched: SimulatorProcess, api: str) -> None:
    await asyncio.to_thread(patched.patch, api, {"batches": {"enqueued_tokens": 1}})
    access = access_to(api, patched.base_urls[api])
    adapter = build_adapter(access, SLOTS)
    found = Provider(api, adapter, build_batch_api(access, adapter))
    if api == "openai":  # it accepts the file, and says so later
        batch = await found.create(ask(api), marker="full00000")
        batch = await found.ended(batch, patched)
        assert (batch.state, batch.is_full) == (RemoteState.FAILED, True)
    else:
        with pytest.raises(RateLimited):
            await found.create(ask(api), marker="full00000")
    await adapter.close()


@pytest.mark.parametrize(
    ("id", "marker", "number"),
    [
        (row_id("abcdefgh", 0), "abcdefgh", 0),
        (row_id("abcdefgh", 99_999), "abcdefgh", 99_999),
        (row_id("abcdefgh", 1), "other000", None),
        ("abcdefgh-", "abcdefgh", None),
        ("abcdefgh-1x", "abcdefgh", None),
        ("", "abcdefgh", None),
        (None, "abcdefgh", None),
        (7, "abcdefgh", None),
    ],
)
async def test_ids_of_rows(id: Any, marker: str, number: int | None) -> None:
    assert number_of(id, marker) == number
