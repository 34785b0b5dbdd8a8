"""Gemini's batches and files through google-genai, which only tests use."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from src.simulator import SimulatorProcess

from .batches import DAY_S, EXACT, TAKES_S, content, jsonl
from .histories import WEATHER

genai = pytest.importorskip("google.genai")
MODEL = "gemini-3.8-flash"


class Client:
    """The SDK, and the steps of a batch."""

    def __init__(self, sim: SimulatorProcess, sdk: Any) -> None:
        self.sim, self.sdk, self.batches = sim, sdk, sdk.batches

    def settings(self, **batches: Any) -> None:
        self.sim.patch("gemini", {"batches": {**EXACT, **batches}})

    def inline(self, count: int, start: int = 0, **more: Any) -> list[dict[str, Any]]:
        return [
            {**content(f"Question {i}?"), "metadata": {"key": f"row-{i}"}, **more}
            for i in range(start, start + count)
        ]

    def create(self, source: Any, name: str = "mine", model: str = MODEL) -> Any:
        return self.batches.create(model=model, src=source, config={"display_name": name})

    def upload(self, rows: list[Any], **config: Any) -> str:
        data = io.BytesIO(jsonl(rows))
        return str(self.sdk.files.upload(file=data, config={"mime_type": "jsonl", **config}).name)

    def after(self, seconds: float, batch: Any) -> Any:
        self.sim.batch_clock(advance_s=seconds)
        return self.batches.get(name=batch.name)

    def run(self, source: Any) -> Any:
        return self.after(TAKES_S, self.create(source))

    def rows(self, batch: Any) -> dict[str, Any]:
        """The rows of the output file by their keys."""
        data = self.sdk.files.download(file=batch.dest.file_name)
        return {row["key"]: row for row in map(json.loads, data.splitlines())}


@pytest.fixture
def client(sim: SimulatorProcess) -> Iterator[Client]:
    with genai.Client(api_key="key", http_options={"base_url": sim.base_urls["gemini"]}) as sdk:
        found = Client(sim, sdk)
        found.settings()
        sim.batch_clock(factor=0)
        yield found


def state(batch: Any) -> str:
    return str(batch.state.name).removeprefix("JOB_STATE_")


def test_inline_requests_are_answered_inside_the_batch_in_their_order(client: Client) -> None:
    batch = client.create(client.inline(10))
    assert (state(batch), batch.display_name, batch.model) == ("PENDING", "mine", f"models/{MODEL}")
    assert batch.dest is None and not batch.done
    batch = client.after(50, batch)
    assert state(batch) == "RUNNING" and batch.dest is None
    batch = client.after(50, batch)
    assert state(batch) == "SUCCEEDED" and batch.done
    assert (batch.end_time - batch.create_time).total_seconds() == TAKES_S
    answers = batch.dest.inlined_responses
    assert [each.metadata["key"] for each in answers] == [f"row-{i}" for i in range(10)]
    assert all(each.response.text and each.response.usage_metadata.total_token_count for each in answers)
    assert all(each.error is None for each in answers)


def test_a_file_is_answered_in_a_file_with_the_keys(client: Client) -> None:
    rows = [{"key": f"row-{i}", "request": content(f"Question {i}?")} for i in range(10)]
    name = client.upload(rows, display_name="questions")
    shown = client.sdk.files.get(name=name)
    assert (shown.display_name, shown.size_bytes, shown.state.name) == (
        "questions",
        len(jsonl(rows)),
        "ACTIVE",
    )
    batch = client.run(name)
    assert state(batch) == "SUCCEEDED" and batch.dest.inlined_responses is None
    found = client.rows(batch)
    assert list(found) == [f"row-{i}" for i in range(10)]
    for row in found.values():
        answer = genai.types.GenerateContentResponse.model_validate(row["response"])
        assert answer.text


def test_a_row_is_answered_like_a_live_call(client: Client) -> None:
    live = client.sdk.models.generate_content(model=MODEL, contents="Hello?")
    row = client.run([content("Hello?")]).dest.inlined_responses[0]
    assert row.response.text == live.text
    assert row.response.usage_metadata.total_token_count == live.usage_metadata.total_token_count
    assert row.metadata is None


def test_tools_structured_output_and_images_travel_too(client: Client) -> None:
    declared = {"name": "get_weather", "parameters_json_schema": WEATHER}
    schema = {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}, "required": ["city"]}
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    image = {"inline_data": {"mime_type": "image/png", "data": pixel}}
    rows = [
        {**content("call get_weather"), "config": {"tools": [{"function_declarations": [declared]}]}},
        {
            **content("Where?"),
            "config": {"response_mime_type": "application/json", "response_schema": schema},
        },
        {"contents": [{"role": "user", "parts": [image, {"text": "Look"}]}]},
    ]
    tool, form, seen = client.run(rows).dest.inlined_responses
    assert tool.response.function_calls[0].name == "get_weather"
    assert set(json.loads(form.response.text)) == {"city"}
    assert seen.response.usage_metadata.prompt_token_count > 1_000


def test_rows_fail_with_codes_while_the_batch_succeeds(client: Client) -> None:
    hot = {"generationConfig": {"temperature": 9}}
    rows = [
        {"key": "good", "request": content("Hi")},
        {"key": "bad", "request": content("Hi", **hot)},
    ]
    batch = client.run(client.upload(rows))
    assert state(batch) == "SUCCEEDED"
    found = client.rows(batch)
    assert "response" in found["good"]
    assert found["bad"]["error"]["code"] == 3 and found["bad"]["error"]["message"]
    client.settings(row_faults={"unavailable": 1.0})
    failed = client.run(client.inline(2)).dest.inlined_responses
    assert [(each.response, each.error.code) for each in failed] == [(None, 14)] * 2


def test_a_file_with_a_bad_line_fails_the_batch(client: Client) -> None:
    batch = client.run(client.upload([{"key": "a", "request": content("Hi")}, {"key": "b"}]))
    assert state(batch) == "FAILED" and batch.dest is None


def test_an_expired_batch_has_no_answers_and_costs_nothing(client: Client) -> None:
    client.settings(expiring=1.0)
    batch = client.after(2 * DAY_S, client.create(client.inline(20)))
    assert state(batch) == "EXPIRED" and batch.dest is None
    stats = client.sim.stats()["gemini"]["batches"]
    assert (stats["billed"], stats["rows_by_end"]) == ({}, {"expired": 20})


def test_a_batch_that_is_cancelled_before_it_runs_ends_as_cancelled(client: Client) -> None:
    client.settings(cancel_s=2)
    batch = client.create(client.inline(20))
    client.batches.cancel(name=batch.name)
    assert state(client.after(1, batch)) == "RUNNING"
    batch = client.after(1, batch)
    assert state(batch) == "CANCELLED" and batch.dest is None


def test_a_batch_that_is_cancelled_while_it_runs_succeeds_with_cancelled_rows(client: Client) -> None:
    batch = client.after(40, client.create(client.inline(20)))
    client.batches.cancel(name=batch.name)
    assert state(client.after(29, batch)) == "RUNNING"
    batch = client.after(1, batch)
    assert state(batch) == "SUCCEEDED"
    codes = [each.error and each.error.code for each in batch.dest.inlined_responses]
    assert (codes.count(None), codes.count(1)) == (15, 5)
    assert client.sim.stats()["gemini"]["batches"]["rows_by_end"]["canceled"] == 5


def test_a_batch_that_is_deleted_while_it_runs_is_gone_and_billed(client: Client) -> None:
    batch = client.create(client.inline(3))
    client.batches.delete(name=batch.name)
    with pytest.raises(genai.errors.ClientError, match="404"):
        client.batches.get(name=batch.name)
    client.sim.batch_clock(advance_s=TAKES_S)
    assert client.sim.stats()["gemini"]["batches"]["billed"][MODEL]["answers"] == 3


def test_lists_go_from_new_to_old_in_pages(client: Client) -> None:
    made = [client.create(client.inline(1, start=i), name=f"batch {i}").name for i in range(5)]
    assert [batch.name for batch in client.batches.list(config={"page_size": 2})] == made[::-1]
    names = {batch.display_name for batch in client.batches.list()}
    assert names == {f"batch {i}" for i in range(5)}, "by which a client finds its batch again"


def test_a_listing_can_lag_behind(client: Client) -> None:
    client.settings(listing_lag_s=60)
    client.create(client.inline(1))
    assert list(client.batches.list()) == []
    client.sim.batch_clock(advance_s=60)
    assert len(list(client.batches.list())) == 1


def test_files_are_listed_and_deleted_and_only_output_can_be_downloaded(client: Client) -> None:
    name = client.upload([{"request": content("Hi")}])
    assert [each.name for each in client.sdk.files.list()] == [name]
    with pytest.raises(genai.errors.ClientError, match="400"):
        client.sdk.files.download(file=name)
    client.sdk.files.delete(name=name)
    with pytest.raises(genai.errors.ClientError, match="403"):
        client.sdk.files.get(name=name)


def test_a_file_arrives_in_pieces(client: Client) -> None:
    rows = [{"key": "a", "request": content("x" * (9 * 1024 * 1024))}]
    name = client.upload(rows)
    assert client.sdk.files.get(name=name).size_bytes == len(jsonl(rows)) > 8 * 1024 * 1024


def test_creations_that_are_refused(client: Client) -> None:
    with pytest.raises(genai.errors.ClientError, match="403"):
        client.create("files/none")
    client.settings(max_inline_bytes=1_000)
    with pytest.raises(genai.errors.ClientError, match="1000 bytes"):
        client.create(client.inline(20))
    client.sim.patch("gemini", {"models": ["gemini-4-argon"]})
    with pytest.raises(genai.errors.ClientError, match="404"):
        client.create(client.inline(1))
    assert client.sim.stats()["gemini"]["batches"]["created"] == 0


def test_a_file_that_is_too_large_is_refused(client: Client) -> None:
    client.settings(max_bytes=1_000)
    with pytest.raises(genai.errors.ClientError, match="limit of 1000 bytes"):
        client.upload([{"request": content("x" * 2_000)}])


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param({"max_active_batches": 1}, id="batches"),
        pytest.param({"enqueued_tokens": 50}, id="tokens"),
        pytest.param({"enqueued_tokens": {MODEL: 50}}, id="tokens of the model"),
    ],
)
def test_a_full_queue_refuses_a_creation_until_a_batch_has_ended(
    client: Client, limits: dict[str, Any]
) -> None:
    client.settings(**limits)
    batch = client.create(client.inline(5))  # 8 tokens a row
    with pytest.raises(genai.errors.ClientError, match="429 RESOURCE_EXHAUSTED"):
        client.create(client.inline(5, start=5))
    client.after(TAKES_S, batch)
    client.create(client.inline(5, start=5))


def test_a_key_is_needed(client: Client) -> None:
    client.sim.patch("gemini", {"keys": ["other"]})
    with pytest.raises(genai.errors.ClientError, match="API key not valid"):
        list(client.batches.list())


def test_a_lost_upload_and_a_lost_answer(client: Client) -> None:
    client.sim.batch_fault("gemini", "upload_error")
    with pytest.raises(genai.errors.ClientError, match="already been terminated"):
        client.upload([{"request": content("Hi")}])  # the SDK sends the end of the file again
    assert len(list(client.sdk.files.list())) == 1
    client.sim.batch_fault("gemini", "create_error")
    with pytest.raises(genai.errors.ServerError):
        client.create(client.inline(1), name="lost")
    assert [batch.display_name for batch in client.batches.list()] == ["lost"]
