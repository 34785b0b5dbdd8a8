"""The batches at providers: their page and its JSON, and what tasks and their batches say of them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask.testing import FlaskClient

from src.core.store import DEFERS, NewBatch, PlannedRow, ProviderBatch, RowEnd, Store
from src.formatting import money
from src.messages import Message
from src.records import BATCH as IN_A_BATCH
from src.records import Attempt, Outcome, Result, Task, TaskStatus
from src.web.template_filters import batch_url

from .conftest import AppMaker, csrf_of
from .filled import SCRIPT, FilledState

NAME = "nightly <b>reviews</b>.jsonl"
HOUR_S = 3_600.0
RESERVED, COST = 2_000_000, 1_500_000


def deferring(store: Store, now: float, count: int = 6) -> None:
    store.intake.create_batch(NAME, now=now, options={DEFERS: 24 * HOUR_S}, output_path="out.jsonl")
    tasks = [
        Task(
            f"n-{n}", NAME, (Message("user", f"Review {n}"),), max_tokens=60, deadline_at=now + 24 * HOUR_S,
            created_at=now,
        )
        for n in range(count)
    ]  # fmt: skip
    store.intake.add_tasks(tasks, now=now)


def intended(store: Store, at: float, limit: int = 100, provider: str = "openai") -> ProviderBatch:
    (group, *_) = store.deferrals.groups()
    planned = [PlannedRow(task, RESERVED, 60, "economy") for task in store.deferrals.oldest(group.id, limit)]
    marker = f"ao{len(store.provider_batches.newest(1000)):016}"
    batch = store.provider_batches.intend(NewBatch(provider, "gpt-6-luna", marker), planned, at)
    assert batch is not None
    return batch


def submitted(store: Store, at: float, **options: Any) -> ProviderBatch:
    batch = intended(store, at, **options)
    store.provider_batches.creating(batch.id, at)
    store.provider_batches.submitted(batch.id, f"batch_{batch.id}", [], at)
    return batch


def with_every_kind_of_row(store: Store, at: float, limit: int = 100) -> ProviderBatch:
    """A closed batch: two answered, one failed, one pulled back and paid for, one pulled back, one left."""
    batch = submitted(store, at, limit=limit)
    store.provider_batches.ended(batch.id, [], at + 600)
    tasks = store.provider_batches.tasks(batch.id)
    attempt = Attempt(
        1,
        "openai",
        "gpt-6-luna",
        "",
        Outcome.OK,
        at,
        600.0,
        IN_A_BATCH,
        (),
        cost_nanos=COST,
        discount_nanos=COST,
    )
    ends = [
        RowEnd(
            each.place, attempt, Result(each.task, TaskStatus.SUCCEEDED, at + 600, (attempt,), output="Yes")
        )
        for each in tasks
    ]
    store.batch_results.collect(batch.id, [*ends[:2], RowEnd(tasks[2].place, attempt)], at + 600)
    store.batch_results.pull(batch.id, at + 600)
    store.batch_results.collect(batch.id, [ends[3]], at + 600)
    store.batch_results.collected(batch.id, at + 600)
    return batch


def listed(client: FlaskClient, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"/api/provider-batches{query}").json["provider_batches"]
    return found


def test_without_any_the_page_says_how_rows_get_there(client: FlaskClient) -> None:
    assert "No batch was sent to a provider yet" in client.get("/provider-batches").text
    assert listed(client) == []
    assert "No batch matches." in client.get("/provider-batches?provider=openai").text
    assert 'role="alert"' in client.get("/provider-batches?state=closed").text


def test_a_batch_in_progress_has_its_counts_age_expected_end_and_money(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    deferring(store, filled.now - 300)
    batch = submitted(store, filled.now - 300)
    (found,) = listed(client)
    assert (found["state"], found["rows"], found["waiting"], found["age_s"]) == ("submitted", 6, 6, 300.0)
    assert (found["reserved_usd"], found["cost_usd"]) == (6 * RESERVED / 1e9, 0)
    assert found["expected_at"] == pytest.approx(filled.now - 300 + 420), "the assumed median"
    assert (found["batch"], found["is_late"], found["can_cancel"]) == (NAME, False, True)
    page = client.get("/provider-batches").text
    assert f'id="provider-batch-{batch.id}"' in page and "In progress" in page and "gpt-6-luna" in page
    assert "5 min" in page and "$0.0120" in page
    assert NAME not in page and "nightly &lt;b&gt;reviews&lt;/b&gt;.jsonl" in page


@pytest.mark.parametrize(
    ("age_s", "left_s"), [(0, 420), (500, 3_100), (3_700, None)], ids=["at first", "past the median", "late"]
)
def test_the_expected_end_moves_from_the_median_to_nine_of_ten_and_then_it_is_late(
    age_s: float, left_s: float | None, client: FlaskClient, store: Store, filled: FilledState
) -> None:
    deferring(store, filled.now - age_s)
    submitted(store, filled.now - age_s)
    (found,) = listed(client)
    expected = None if left_s is None else pytest.approx(filled.now + left_s, abs=1)
    assert (found["expected_at"], found["is_late"]) == (expected, left_s is None)
    assert ("later than nine of ten" in client.get("/provider-batches").text) is (left_s is None)


def test_a_closed_batch_says_what_became_of_each_row(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    deferring(store, filled.now - 900)
    with_every_kind_of_row(store, filled.now - 900)
    (found,) = listed(client)
    counts = {
        name: found[name]
        for name in ("waiting", "answered", "failed", "pulled_back", "paid_late", "not_done")
    }
    assert counts == {
        "waiting": 0,
        "answered": 2,
        "failed": 1,
        "pulled_back": 3,
        "paid_late": 1,
        "not_done": 2,
    }
    assert (found["state"], found["age_s"], found["expected_at"]) == ("collected", 600.0, None)
    assert (found["cost_usd"], found["reserved_usd"]) == (4 * COST / 1e9, 0)
    assert found["paid_late_usd"] == COST / 1e9
    assert f"{money(COST)} paid late" in client.get("/provider-batches").text
    assert (found["is_open"], found["is_late"], found["can_cancel"]) == (False, False, False)
    assert listed(client, "?state=open") == []


def test_batches_are_paged_and_filtered(client: FlaskClient, store: Store, filled: FilledState) -> None:
    deferring(store, filled.now - 60, count=60)
    for n in range(60):
        intended(store, filled.now - 60 + n, limit=1, provider="gemini" if n % 2 else "openai")
    seen: list[int] = []
    query = ""
    while True:
        page = client.get(f"/provider-batches{query}").text
        seen += [int(number) for number in re.findall(r'id="provider-batch-(\d+)"', page)]
        more = re.search(r'rel="next" href="[^"?]+(\?[^"]+)"', page)
        if more is None:
            break
        query = more[1].replace("&amp;", "&")
    assert len(seen) == 60 and seen == sorted(seen, reverse=True)
    assert {row["provider"] for row in listed(client, "?provider=gemini&limit=500")} == {"gemini"}
    assert client.get("/api/provider-batches?limit=0").status_code == 422


def test_a_task_and_its_batch_say_where_its_row_is(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    deferring(store, filled.now - 60)
    row = store.tasks.find(NAME, "n-0")
    assert row is not None
    number = row.row.row
    waiting = client.get(f"/rows/{number}").text
    assert "a provider's batch" in waiting.replace("&#39;", "'")
    batch = submitted(store, filled.now - 60)
    page = " ".join(client.get(f"/rows/{number}").text.split())
    assert re.search(r"In a batch at</dt><dd>openai / gpt-6-luna since <time.+?expected by <time", page)
    assert client.get(f"/api/rows/{number}").json["provider_batch"]["id"] == batch.id
    of_batch = client.get(batch_url(NAME)).text
    assert "Batches at providers" in of_batch and f'id="provider-batch-{batch.id}"' in of_batch
    store.batch_results.pull(batch.id, filled.now)
    assert client.get(f"/api/rows/{number}").json["provider_batch"] is None
    assert "In a batch at" not in client.get(f"/rows/{number}").text


def test_an_error_of_a_provider_is_never_markup(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    deferring(store, filled.now - 60)
    batch = intended(store, filled.now - 60)
    store.batch_results.failed(batch.id, SCRIPT, now=filled.now)
    page = client.get("/provider-batches").text
    assert SCRIPT not in page and "&lt;script&gt;" in page
    assert listed(client)[0]["error"] == SCRIPT


def test_the_button_asks_the_orchestrator_to_cancel(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    deferring(store, filled.now - 60)
    batch = submitted(store, filled.now - 60)
    done = client.post(f"/provider-batches/{batch.id}/cancel", data={"csrf": csrf_of(client)})
    assert done.status_code == 303
    assert (store.provider_batches.find(batch.id) or batch).cancel_asked_at == filled.now
    page = client.get("/provider-batches").text
    assert "is being cancelled" in page and f"/provider-batches/{batch.id}/cancel" not in page
    (event, *_) = store.events.recent(1)
    assert (event.event.kind, event.event.provider) == ("batch_cancel_asked", "openai")
    store.provider_batches.ended(batch.id, [], filled.now)
    assert client.post(f"/api/provider-batches/{batch.id}/cancel", json={}).status_code == 409
    assert client.post(f"/api/provider-batches/{2**70}/cancel", json={}).status_code == 404


def test_a_submitter_sees_where_own_rows_are_but_not_the_page_of_all(
    make_app: AppMaker, store: Store, filled: FilledState
) -> None:
    deferring(store, filled.now - 60)
    submitted(store, filled.now - 60)
    client = make_app({"ORCHESTRATOR_TOKENS": "alice:alices-long-token-1"}).test_client()
    headers = {"Authorization": "Bearer alices-long-token-1"}
    assert client.get("/provider-batches", headers=headers).status_code == 403
    assert client.get("/api/provider-batches", headers=headers).status_code == 403
    assert "/provider-batches" not in client.get("/provider-status", headers=headers).text
