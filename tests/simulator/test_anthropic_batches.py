"""Anthropic's message batches through the anthropic SDK."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types.messages import MessageBatch

from src.simulator import SimulatorProcess

from .batches import DAY_S, EXACT, TAKES_S, message, messages
from .histories import WEATHER
from .sdks import MODELS


class Client:
    """The SDK, and the steps of a batch."""

    def __init__(self, sim: SimulatorProcess, sdk: anthropic.Anthropic) -> None:
        self.sim, self.sdk, self.batches = sim, sdk, sdk.messages.batches

    def settings(self, **batches: Any) -> None:
        self.sim.patch("anthropic", {"batches": {**EXACT, **batches}})

    def after(self, seconds: float, batch: MessageBatch) -> MessageBatch:
        self.sim.batch_clock(advance_s=seconds)
        return self.batches.retrieve(batch.id)

    def run(self, requests: list[Any]) -> dict[str, Any]:
        """The results by their ids."""
        return self.results(self.after(TAKES_S, self.batches.create(requests=requests)))

    def results(self, batch: MessageBatch) -> dict[str, Any]:
        return {each.custom_id: each.result for each in self.batches.results(batch.id)}


@pytest.fixture
def client(sim: SimulatorProcess) -> Iterator[Client]:
    with anthropic.Anthropic(base_url=sim.base_urls["anthropic"], api_key="key", max_retries=0) as sdk:
        found = Client(sim, sdk)
        found.settings()
        sim.batch_clock(factor=0)
        yield found


def counts(batch: MessageBatch) -> dict[str, int]:
    return {name: number for name, number in batch.request_counts.model_dump().items() if number}


def test_a_batch_shows_counts_and_results_only_when_it_has_ended(client: Client) -> None:
    batch = client.batches.create(requests=messages(10))
    assert (batch.type, batch.processing_status) == ("message_batch", "in_progress")
    assert (batch.expires_at - batch.created_at).total_seconds() == DAY_S
    assert (batch.ended_at, batch.results_url, batch.archived_at, batch.cancel_initiated_at) == (None,) * 4
    for _ in range(3):
        assert counts(batch) == {"processing": 10}
        batch = client.after(30, batch)
    with pytest.raises(anthropic.AnthropicError):
        client.results(batch)

    batch = client.after(10, batch)
    assert (batch.processing_status, counts(batch)) == ("ended", {"succeeded": 10})
    assert batch.ended_at is not None and batch.results_url is not None
    assert (batch.ended_at - batch.created_at).total_seconds() == TAKES_S
    results = client.results(batch)
    assert set(results) == {f"row-{i}" for i in range(10)}
    assert list(results) != sorted(results), "results have any order"
    for result in results.values():
        assert result.type == "succeeded"
        assert result.message.content[0].text and result.message.usage.output_tokens


def test_results_before_the_end_are_not_found(client: Client) -> None:
    batch = client.batches.create(requests=messages(1))
    url = f"{client.sim.base_urls['anthropic']}/v1/messages/batches/{batch.id}/results"
    assert httpx2.get(url, headers={"x-api-key": "key"}).status_code == 404


def test_tools_structured_output_and_images_travel_too(client: Client) -> None:
    tools = [{"name": "get_weather", "input_schema": WEATHER}]
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    schema["additionalProperties"] = False
    form = {"format": {"type": "json_schema", "schema": schema}}
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    looked = [{"role": "user", "content": [image, {"type": "text", "text": "Look"}]}]
    requests = [
        message("tool", "call get_weather", tools=tools),
        message("schema", "Where?", output_config=form),
        message("image", ""),
    ]
    requests[2]["params"]["messages"] = looked
    results = client.run(requests)
    assert results["tool"].message.content[-1].name == "get_weather"
    assert '"city"' in results["schema"].message.content[0].text
    assert results["image"].message.usage.input_tokens > 1_000


def test_params_are_checked_row_by_row(client: Client) -> None:
    requests = [message("good", "Hi"), message("hot", "Hi", temperature=7), message("s", "Hi", stream=True)]
    results = client.run(requests)
    assert {key: result.type for key, result in results.items()} == {
        "good": "succeeded",
        "hot": "errored",
        "s": "errored",
    }
    assert results["hot"].error.error.type == "invalid_request_error"
    assert results["hot"].error.request_id


def test_rows_fail_in_the_share_that_was_asked_for(client: Client) -> None:
    client.settings(row_faults={"overloaded": 0.1, "server_error": 0.1})
    results = client.run(messages(200))
    errors = Counter(each.error.error.type for each in results.values() if each.type == "errored")
    assert set(errors) == {"overloaded_error", "api_error"}
    assert 25 <= errors.total() <= 55


def test_a_batch_that_expires_ends_with_expired_rows(client: Client) -> None:
    client.settings(expiring=1.0)
    batch = client.after(DAY_S, client.batches.create(requests=messages(20)))
    assert batch.ended_at == batch.expires_at
    assert set(counts(batch)) == {"succeeded", "expired"}
    types = Counter(result.type for result in client.results(batch).values())
    assert types == counts(batch)


def test_cancellation_takes_time_and_is_final(client: Client) -> None:
    batch = client.after(40, client.batches.create(requests=messages(20)))
    batch = client.batches.cancel(batch.id)
    assert (batch.processing_status, counts(batch)) == ("canceling", {"processing": 20})
    assert batch.cancel_initiated_at is not None
    assert client.batches.cancel(batch.id).cancel_initiated_at == batch.cancel_initiated_at
    assert client.after(29, batch).processing_status == "canceling"
    batch = client.after(1, batch)
    assert (batch.processing_status, counts(batch)) == ("ended", {"succeeded": 15, "canceled": 5})
    assert Counter(result.type for result in client.results(batch).values()) == counts(batch)
    with pytest.raises(anthropic.BadRequestError):
        client.batches.cancel(batch.id)


def test_a_batch_that_is_stuck_outlives_its_window_until_it_is_cancelled(client: Client) -> None:
    client.settings(stuck=1.0)
    batch = client.after(2 * DAY_S, client.batches.create(requests=messages(3)))
    assert batch.processing_status == "in_progress"
    client.batches.cancel(batch.id)
    assert counts(client.after(30, batch)) == {"canceled": 3}


def test_a_batch_is_deleted_only_after_its_end(client: Client) -> None:
    batch = client.batches.create(requests=messages(1))
    with pytest.raises(anthropic.BadRequestError):
        client.batches.delete(batch.id)
    client.after(TAKES_S, batch)
    assert client.batches.delete(batch.id).type == "message_batch_deleted"
    with pytest.raises(anthropic.NotFoundError):
        client.batches.retrieve(batch.id)
    assert list(client.batches.list()) == []


def test_results_are_archived_after_29_days(client: Client) -> None:
    batch = client.after(29 * DAY_S, client.batches.create(requests=messages(1)))
    assert batch.archived_at is not None and batch.results_url is None


def test_lists_go_from_new_to_old_in_pages_of_both_directions(client: Client) -> None:
    made = [client.batches.create(requests=messages(1, start=i)).id for i in range(5)][::-1]
    first = client.batches.list(limit=2)
    assert ([batch.id for batch in first.data], first.has_more) == (made[:2], True)
    assert (first.first_id, first.last_id) == (made[0], made[1])
    assert [batch.id for batch in client.batches.list(limit=2)] == made
    before = client.batches.list(limit=2, before_id=made[3])
    assert ([batch.id for batch in before.data], before.has_more) == (made[1:3], True)


@pytest.mark.parametrize(
    ("requests", "message_part"),
    [
        pytest.param([], "at least 1 item", id="none"),
        pytest.param(messages(1) * 2, "requests.1.custom_id", id="twice"),
        pytest.param([message("a b", "")], "match pattern", id="space in the id"),
        pytest.param([message("", "")], "match pattern", id="no id"),
        pytest.param([message("x" * 65, "")], "match pattern", id="id too long"),
        pytest.param([message("a\n", "")], "match pattern", id="id with a line break"),
        pytest.param([{"custom_id": "a"}], "requests.0.params", id="no params"),
        pytest.param(messages(6), "at most 5 items", id="too many"),
    ],
)
def test_creations_that_are_refused(client: Client, requests: list[Any], message_part: str) -> None:
    client.settings(max_rows=5)
    with pytest.raises(anthropic.BadRequestError, match=message_part):
        client.batches.create(requests=requests)
    assert client.sim.stats()["anthropic"]["batches"]["created"] == 0


def test_a_batch_that_is_too_large_is_refused(client: Client) -> None:
    client.settings(max_bytes=10_000)
    with pytest.raises(anthropic.RequestTooLargeError):
        client.batches.create(requests=messages(200))


def test_the_queue_takes_so_many_rows_and_has_room_when_a_batch_has_ended(client: Client) -> None:
    client.settings(max_queued_rows=10)
    batch = client.batches.create(requests=messages(8))
    with pytest.raises(anthropic.RateLimitError):
        client.batches.create(requests=messages(3, start=8))
    client.batches.create(requests=messages(2, start=8))
    client.after(TAKES_S, batch)
    client.batches.create(requests=messages(10, start=20))


def test_the_model_of_a_row_has_the_rules_of_live_calls(client: Client) -> None:
    client.sim.patch("anthropic", {"models": ["claude-opus-5-5"]})
    result = client.run(messages(1))["row-0"]
    assert (result.type, result.error.error.type) == ("errored", "not_found_error")
    assert MODELS["anthropic"] in result.error.error.message
