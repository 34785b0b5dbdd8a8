"""Prompts and answers are purged from the pages, by operators, after a page that asks."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from src.core.store import Store
from src.web.template_filters import batch_url

from .conftest import AppMaker, csrf_of
from .filled import BATCH, FilledState

TOKENS = ",".join(f"{role}:a-long-random-word-{role}:{role}" for role in ("submit", "read", "operate"))


def bearer(role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer a-long-random-word-{role}"}


def test_an_operator_purges_a_batch_after_a_question(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    csrf = csrf_of(client, batch_url(BATCH))
    assert "Purge contents" in client.get(batch_url(BATCH)).text
    asked = client.post("/batches/purge", data={"csrf": csrf, "batch": BATCH})
    assert "Prompts and answers of 7 ended tasks are deleted" in asked.text
    assert sum(store.contents.purgeable(filled.now + 1, BATCH).values()) == 7, "nothing is deleted yet"
    done = client.post(
        "/batches/purge", data={"csrf": csrf, "batch": BATCH, "confirmed": "yes"}, follow_redirects=True
    )
    assert "Purged prompts and answers of 7 tasks." in done.text
    assert not store.contents.purgeable(filled.now + 1, BATCH)
    page = client.get(f"/rows/{filled.failed_row}").text
    assert "The prompt is not stored." in page and "overheated" in page
    assert f"/rows/{filled.failed_row}/retry" not in page
    again = client.post("/batches/purge", data={"csrf": csrf, "batch": BATCH})
    assert "No ended task of this batch has a prompt" in again.text
    (event,) = store.events.recent(1)
    assert event.event.message == f"local purged prompts and answers of 7 tasks of {BATCH}"
    assert event.event.fields == {"tasks": 7, "batch": BATCH}


def test_the_api_says_what_is_purged(client: FlaskClient, filled: FilledState) -> None:
    path = "/api/batches/purge"
    counted = client.post(path, json={"batch": BATCH, "dry_run": True}).json
    assert (counted["purged"], counted["left"]) == (0, 7)
    younger = client.post(path, json={"batch": BATCH, "older_than_days": 1.0}).json
    assert (younger["purged"], younger["left"]) == (0, 0)
    done = client.post(path, json={"batch": BATCH}).json
    assert done == {"batch": BATCH, "purged": 7, "left": 0, "simulated": True}
    task = client.get(f"/api/rows/{filled.failed_row}").json
    assert task["purged"] is True and task["messages"] == []
    assert client.get(f"/api/rows/{filled.queued_row}").json["purged"] is False
    refused = client.post(f"/api/rows/{filled.failed_row}/retry")
    assert (refused.status_code, refused.json["error"]["code"]) == (409, "purged")


@pytest.mark.parametrize(("role", "status"), [("submit", 403), ("read", 403), ("operate", 200)])
def test_only_operators_purge(role: str, status: int, make_app: AppMaker) -> None:
    client = make_app({"ORCHESTRATOR_TOKENS": TOKENS}).test_client()
    answer = client.post("/api/batches/purge", json={"batch": BATCH}, headers=bearer(role))
    assert answer.status_code == status
    page = client.get(batch_url(BATCH), headers=bearer(role)).text
    assert ("Purge contents" in page) == (status == 200)
