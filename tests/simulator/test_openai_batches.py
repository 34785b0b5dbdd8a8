"""OpenAI's batches and files through the openai SDK."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types import Batch

from src.simulator import SimulatorProcess

from .batches import DAY_S, EXACT, TAKES_S, chat, jsonl, line, questions
from .histories import WEATHER
from .sdks import MODELS

CHAT = "/v1/chat/completions"


class Client:
    """The SDK, and the steps of a batch."""

    def __init__(self, sim: SimulatorProcess, sdk: openai.OpenAI) -> None:
        self.sim, self.sdk = sim, sdk

    def settings(self, **batches: Any) -> None:
        self.sim.patch("openai", {"batches": {**EXACT, **batches}})

    def upload(self, rows: list[Any]) -> str:
        return self.sdk.files.create(file=("in.jsonl", jsonl(rows)), purpose="batch").id

    def create(self, rows: list[Any], endpoint: Any = CHAT, **more: Any) -> Batch:
        ident = self.upload(rows)
        return self.sdk.batches.create(
            input_file_id=ident, endpoint=endpoint, completion_window="24h", **more
        )

    def after(self, seconds: float, batch: Batch) -> Batch:
        self.sim.batch_clock(advance_s=seconds)
        return self.sdk.batches.retrieve(batch.id)

    def run(self, rows: list[Any], endpoint: Any = CHAT) -> Batch:
        return self.after(TAKES_S, self.create(rows, endpoint))

    def rows(self, ident: str | None) -> dict[str, Any]:
        """The rows of a file by their ids, {} without a file."""
        if ident is None:
            return {}
        lines = [json.loads(each) for each in self.sdk.files.content(ident).text.splitlines()]
        assert len({each["id"] for each in lines}) == len(lines)
        return {each["custom_id"]: each for each in lines}


@pytest.fixture
def client(sim: SimulatorProcess) -> Iterator[Client]:
    with openai.OpenAI(base_url=sim.base_urls["openai"], api_key="key", max_retries=0) as sdk:
        found = Client(sim, sdk)
        found.settings()
        sim.batch_clock(factor=0)
        yield found


def test_a_batch_goes_from_validation_to_its_output_file(client: Client) -> None:
    batch = client.create(questions(10), metadata={"batch": "mine"})
    assert (batch.status, batch.endpoint, batch.completion_window) == ("validating", CHAT, "24h")
    assert batch.metadata == {"batch": "mine"}
    assert batch.expires_at == batch.created_at + DAY_S
    assert (batch.output_file_id, batch.error_file_id, batch.errors, batch.in_progress_at) == (None,) * 4

    batch = client.after(50, batch)
    counts = batch.request_counts
    assert batch.status == "in_progress"
    assert counts is not None and (counts.total, counts.completed) == (10, 5)
    assert batch.output_file_id is None, "output is not shown before the batch is over"

    batch = client.after(42, batch)
    assert batch.status == "finalizing"
    batch = client.after(8, batch)
    assert (batch.status, batch.model) == ("completed", MODELS["openai"])
    assert batch.request_counts is not None and batch.request_counts.completed == 10
    assert batch.error_file_id is None, "no row failed"
    assert batch.completed_at is not None and batch.finalizing_at is not None
    assert (
        batch.in_progress_at is not None and batch.in_progress_at < batch.finalizing_at < batch.completed_at
    )

    rows = client.rows(batch.output_file_id)
    assert set(rows) == {f"row-{i}" for i in range(10)}
    assert list(rows) != sorted(rows), "rows come as they end, not in the order of the input"
    for row in rows.values():
        assert (row["response"]["status_code"], row["error"]) == (200, None)
        completion = openai.types.chat.ChatCompletion.model_validate(row["response"]["body"])
        assert completion.choices[0].message.content and completion.usage
    assert batch.usage is not None
    assert batch.usage.total_tokens == sum(
        row["response"]["body"]["usage"]["total_tokens"] for row in rows.values()
    )


def test_a_row_is_answered_like_a_live_call(client: Client) -> None:
    body = chat("Hello?", seed=1)
    live = client.sdk.chat.completions.create(**body)
    rows = client.rows(client.run([line("a", body)]).output_file_id)
    answer = rows["a"]["response"]["body"]
    assert answer["choices"][0]["message"]["content"] == live.choices[0].message.content
    assert live.usage is not None and answer["usage"]["total_tokens"] == live.usage.total_tokens


def test_tools_structured_output_and_images_travel_too(client: Client) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    looked = [{"role": "user", "content": [{"type": "text", "text": "Look"}, image]}]
    batch = client.run(
        [
            line("schema", chat("Where?", response_format=form)),
            line("tool", chat("call get_weather", tools=[tool])),
            line("image", {**chat(""), "messages": looked}),
        ]
    )
    said = {key: row["response"]["body"] for key, row in client.rows(batch.output_file_id).items()}
    assert set(json.loads(said["schema"]["choices"][0]["message"]["content"])) == {"city"}
    assert said["tool"]["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "get_weather"
    assert said["image"]["usage"]["prompt_tokens"] > 1_000


@pytest.mark.parametrize(
    ("endpoint", "body", "kind"),
    [
        pytest.param("/v1/responses", {"model": "gpt-6-luna", "input": "Hi"}, "response", id="responses"),
        pytest.param(
            "/v1/embeddings", {"model": "text-embedding-3-small", "input": "Hi"}, "list", id="embeddings"
        ),
    ],
)
def test_other_endpoints(client: Client, endpoint: str, body: dict[str, Any], kind: str) -> None:
    batch = client.run([line("a", body, url=endpoint)], endpoint)
    assert client.rows(batch.output_file_id)["a"]["response"]["body"]["object"] == kind


def test_a_row_that_the_model_refuses_is_in_the_error_file(client: Client) -> None:
    rows = [
        line("good", chat("Hi")),
        line("bad", chat("Hi", temperature=9)),
        line("s", chat("", stream=True)),
    ]
    batch = client.run(rows)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 2)
    assert set(client.rows(batch.output_file_id)) == {"good"}
    failed = client.rows(batch.error_file_id)
    assert set(failed) == {"bad", "s"}
    assert failed["bad"]["error"] is None
    assert failed["bad"]["response"]["status_code"] == 400
    assert failed["bad"]["response"]["body"]["error"]["param"] == "temperature"


def test_a_batch_without_a_sound_answer_has_no_output_file(client: Client) -> None:
    client.settings(row_faults={"server_error": 1.0})
    batch = client.run(questions(3))
    assert (batch.status, batch.output_file_id) == ("completed", None)
    assert {row["response"]["status_code"] for row in client.rows(batch.error_file_id).values()} == {500}


_OTHER = {**chat("b"), "model": "gpt-6.1-sol"}


@pytest.mark.parametrize(
    ("rows", "code", "number"),
    [
        pytest.param([line("a", chat("")), "no object"], "invalid_json_line", 2, id="no object"),
        pytest.param([line("a", chat("")), line("a", chat("b"))], "duplicate_custom_id", 2, id="twice"),
        pytest.param([line("a", chat("")), line("b", _OTHER)], "model_mismatch", 2, id="two models"),
        pytest.param([line("a", chat(""), url="/v1/responses")], "url_mismatch", 1, id="endpoint"),
        pytest.param([line("a", chat(""), method="GET")], "invalid_method", 1, id="method"),
        pytest.param([{"method": "POST"}], "missing_required_parameter", 1, id="no custom_id"),
        pytest.param([line("a", {"messages": []})], "missing_required_parameter", 1, id="no model"),
        pytest.param([], "empty_file", None, id="empty"),
    ],
)
def test_a_wrong_file_fails_the_batch_after_its_creation(
    client: Client, rows: list[Any], code: str, number: int | None
) -> None:
    batch = client.create(rows)
    assert (batch.status, batch.errors) == ("validating", None)
    batch = client.after(TAKES_S, batch)
    assert batch.status == "failed" and batch.failed_at is not None
    assert batch.errors is not None and batch.errors.data is not None
    assert (batch.errors.data[0].code, batch.errors.data[0].line) == (code, number)
    assert batch.output_file_id is None and batch.error_file_id is None


def test_a_model_that_is_not_there_fails_the_batch(client: Client) -> None:
    client.sim.patch("openai", {"models": ["gpt-6.1-sol"]})
    batch = client.run(questions(1))
    assert batch.errors is not None and batch.errors.data is not None
    assert batch.errors.data[0].code == "model_not_found"


def test_more_rows_than_allowed_fail_the_batch(client: Client) -> None:
    client.settings(max_rows=3)
    batch = client.run(questions(4))
    assert batch.errors is not None and batch.errors.data is not None
    assert batch.errors.data[0].code == "too_many_tasks"


def test_a_full_queue_of_tokens_fails_the_batch_until_others_have_ended(client: Client) -> None:
    client.settings(enqueued_tokens={MODELS["openai"]: 100})
    first = client.create(questions(8))  # 8 tokens a row
    second = client.create(questions(8, start=8))
    second = client.after(20, second)
    assert second.status == "failed"
    assert second.errors is not None and second.errors.data is not None
    assert second.errors.data[0].code == "token_limit_exceeded"
    assert client.after(TAKES_S, first).status == "completed"
    assert client.run(questions(8, start=8)).status == "completed"


def test_an_expired_batch_gives_what_was_answered(client: Client) -> None:
    client.settings(expiring=1.0)
    batch = client.after(DAY_S, client.create(questions(20)))
    assert batch.status == "expired" and batch.expired_at == batch.expires_at
    answered, missing = client.rows(batch.output_file_id), client.rows(batch.error_file_id)
    assert answered and missing and set(answered) | set(missing) == {f"row-{i}" for i in range(20)}
    assert {row["error"]["code"] for row in missing.values()} == {"batch_expired"}
    assert {row["response"] for row in missing.values()} == {None}
    billed = client.sim.stats()["openai"]["batches"]["billed"][MODELS["openai"]]
    assert billed["answers"] == len(answered)


def test_cancellation_takes_time_and_keeps_what_was_answered(client: Client) -> None:
    batch = client.after(40, client.create(questions(20)))
    batch = client.sdk.batches.cancel(batch.id)
    assert batch.status == "cancelling" and batch.cancelling_at is not None
    with pytest.raises(openai.ConflictError):
        client.sdk.batches.cancel(batch.id)
    assert client.after(29, batch).status == "cancelling"
    batch = client.after(2, batch)
    assert batch.status == "cancelled" and batch.cancelled_at is not None
    answered, missing = client.rows(batch.output_file_id), client.rows(batch.error_file_id)
    assert len(answered) == 15, "rows went on while it was being cancelled"
    assert {row["error"]["code"] for row in missing.values()} == {"batch_cancelled"}
    with pytest.raises(openai.ConflictError, match="'cancelled'"):
        client.sdk.batches.cancel(batch.id)


def test_lists_go_from_new_to_old_in_pages(client: Client) -> None:
    made = [client.create(questions(1, start=i)).id for i in range(5)]
    first = client.sdk.batches.list(limit=2)
    assert [batch.id for batch in first.data] == made[:2:-1]
    assert first.has_more
    assert [batch.id for batch in client.sdk.batches.list(limit=2)] == made[::-1]
    files = [each.id for each in client.sdk.files.list(limit=2, purpose="batch")]
    assert len(files) == 5


def test_a_listing_can_lag_behind(client: Client) -> None:
    client.settings(listing_lag_s=60)
    batch = client.create(questions(1))
    assert list(client.sdk.batches.list()) == []
    assert client.sdk.batches.retrieve(batch.id).id == batch.id
    client.sim.batch_clock(advance_s=60)
    assert [each.id for each in client.sdk.batches.list()] == [batch.id]


def test_files_are_shown_read_and_deleted(client: Client) -> None:
    rows = questions(2)
    ident = client.upload(rows)
    found = client.sdk.files.retrieve(ident)
    assert (found.bytes, found.filename, found.purpose) == (len(jsonl(rows)), "in.jsonl", "batch")
    assert client.sdk.files.content(ident).content == jsonl(rows)
    assert client.sdk.files.delete(ident).deleted
    with pytest.raises(openai.NotFoundError, match="No such File object"):
        client.sdk.files.content(ident)


def test_a_file_can_expire_earlier(client: Client) -> None:
    found = client.sdk.files.create(
        file=("in.jsonl", b"{}"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3_600}
    )
    assert found.expires_at == found.created_at + 3_600


def test_files_that_are_too_large_or_no_jsonl_are_refused(client: Client) -> None:
    client.settings(max_bytes=1_000)
    with pytest.raises(openai.BadRequestError, match="too large"):
        client.upload(questions(50))
    with pytest.raises(openai.BadRequestError, match="jsonl"):
        client.sdk.files.create(file=("in.txt", b"{}"), purpose="batch")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        pytest.param({"endpoint": "/v1/chat"}, "endpoint", id="endpoint"),
        pytest.param({"completion_window": "1h"}, "completion_window", id="window"),
        pytest.param({"input_file_id": "file-none"}, "input_file_id", id="file"),
        pytest.param({"metadata": {"a": "b" * 513}}, "metadata.a", id="metadata"),
        pytest.param({"metadata": {str(i): "" for i in range(17)}}, "metadata", id="too much metadata"),
    ],
)
def test_creations_that_are_refused(client: Client, change: dict[str, Any], param: str) -> None:
    wanted: dict[str, Any] = {"input_file_id": client.upload(questions(1))}
    wanted |= {"endpoint": CHAT, "completion_window": "24h", **change}
    with pytest.raises(openai.BadRequestError) as raised:
        client.sdk.batches.create(**wanted)
    assert raised.value.param == param
    assert client.sim.stats()["openai"]["batches"]["created"] == 0


def test_a_batch_that_is_not_there_is_not_found(client: Client) -> None:
    with pytest.raises(openai.NotFoundError):
        client.sdk.batches.retrieve("batch_none")


def test_a_wrong_key_is_refused(client: Client) -> None:
    client.sim.patch("openai", {"keys": ["other"]})
    with pytest.raises(openai.AuthenticationError):
        client.sdk.batches.list()


def test_embeddings_of_a_batch_cost_input_only(client: Client) -> None:
    client.run([line("a", {"model": "e", "input": "Hi"}, url="/v1/embeddings")], "/v1/embeddings")
    billed = client.sim.stats()["openai"]["batches"]["billed"]["e"]
    assert billed["output_tokens"] == 0 < billed["input_tokens"]
